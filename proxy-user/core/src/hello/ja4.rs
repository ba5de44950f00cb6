//! JA4, the fingerprint of a TLS client by `FoxIO` (`technical_details/JA4.md` of `FoxIO-LLC/ja4`, under BSD-3-Clause). The other
//! methods of that family are under another licence and are not here.

use super::parse::extension;
use super::{ClientHello, Transport, code_name};
use crate::digest::{Digest, SHORT_DIGITS};

/// Digits of a hash that are kept: as many as people are shown.
const _: () = assert!(SHORT_DIGITS == 12);
/// What stands for the hash of an empty list.
const NOTHING: &str = "000000000000";
/// Counts have two digits.
const MAX_COUNT: usize = 99;

/// The fingerprint of a hello whose lists are read.
pub(super) fn fingerprint(hello: &ClientHello, transport: Transport) -> String {
    let protocol = match transport {
        Transport::Tcp => 't',
        Transport::Quic => 'q',
    };
    let version = match hello.versions.iter().max() {
        Some(0x0304) => "13",
        Some(0x0303) => "12",
        Some(0x0302) => "11",
        Some(0x0301) => "10",
        Some(0x0300) => "s3",
        Some(0x0002) => "s2",
        _ => "00",
    };
    let server = if hello.extensions.contains(&extension::SERVER_NAME) { 'd' } else { 'i' };
    let (ciphers, extensions) = (hello.ciphers.len().min(MAX_COUNT), hello.extensions.len().min(MAX_COUNT));
    let [first, last] = protocol_ends(hello.alpn.first().map_or(&[][..], |name| name));
    format!(
        "{protocol}{version}{server}{ciphers:02}{extensions:02}{first}{last}_{}_{}",
        cipher_hash(hello),
        extension_hash(hello)
    )
}

/// First and last character of the first protocol, or of its hex digits where those are neither digits nor letters.
fn protocol_ends(protocol: &[u8]) -> [char; 2] {
    let (Some(first), Some(last)) = (protocol.first(), protocol.last()) else { return ['0', '0'] };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)];
    }
    let [_, _, high, _] = code_name((*first).into());
    let [_, _, _, low] = code_name((*last).into());
    [char::from(high), char::from(low)]
}

fn cipher_hash(hello: &ClientHello) -> String {
    let mut ciphers = hello.ciphers.clone();
    ciphers.sort_unstable();
    if ciphers.is_empty() { NOTHING.to_owned() } else { Digest::of(&list(&ciphers)).short() }
}

fn extension_hash(hello: &ClientHello) -> String {
    let told = [extension::SERVER_NAME, extension::ALPN];
    let mut extensions: Vec<u16> = hello.extensions.iter().copied().filter(|kind| !told.contains(kind)).collect();
    extensions.sort_unstable();
    if extensions.is_empty() {
        return NOTHING.to_owned();
    }
    let mut text = list(&extensions);
    if !hello.signature_algorithms.is_empty() {
        text.push(b'_');
        text.extend(list(&hello.signature_algorithms));
    }
    Digest::of(&text).short()
}

fn list(codes: &[u16]) -> Vec<u8> {
    codes.iter().map(|code| code_name(*code)).collect::<Vec<_>>().join(&b',')
}
