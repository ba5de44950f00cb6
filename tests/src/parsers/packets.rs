//! Parsers of what comes before HTTP: frames, options of SYNs, captured packets, and the ClientHellos of TCP and QUIC.

use std::io::Cursor;

use anyhow::{Context as _, Result, ensure};
use proxy_common::decide::decide;
use proxy_common::parse::{Parsed, parse};
use proxy_common::syn_ack::{Exchange, LONG_HEADER, MAX_OPTIONS, RawOptions, SHORT_HEADER, parse_options};
use proxy_core::hello::{self, Assembly, Found, Frames, MAX_HELLO_BYTES, initials};
use proxy_user::events::packet_file;

use crate::tables::World;
use crate::{check_rows, verdict_table};

/// Largest window scale, RFC 7323 section 2.3.
const MAX_SCALE: u8 = 14;

pub(super) fn packets() -> Vec<Vec<u8>> {
    let rows = verdict_table::rows().into_iter().map(|row| row.frame);
    rows.chain(check_rows::rows().into_iter().map(|row| row.frame)).map(|frame| frame.build()).collect()
}

pub(super) fn packet(bytes: &[u8]) -> Result<()> {
    let parsed = parse(bytes);
    if let Parsed::Ip(packet) = &parsed {
        ensure!(packet.end() <= bytes.len(), "the packet ends at {} of {} bytes", packet.end(), bytes.len());
        ensure!(usize::from(packet.upper) <= packet.end(), "its upper header begins at {}", packet.upper);
        ensure!(packet.ports || (packet.sport, packet.dport) == (0, 0), "ports where there are none");
    }
    let world = World { checked: u64::MAX, ..World::default() };
    let decision = decide(bytes, parsed.as_ref(), &world);
    ensure!(!decision.reason.drops(), "{:?} without a rule or a check that drops", decision.reason);
    Ok(())
}

pub(super) fn options() -> Vec<Vec<u8>> {
    [
        &[2, 4, 5, 180][..],
        &[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
        &[2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2],
        &[1, 1, 8, 10, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 3, 3, 14, 0],
        &[254, 4, 0xf9, 0x89, 34, 2, 2, 4, 0, 0],
    ]
    .map(<[u8]>::to_vec)
    .into()
}

pub(super) fn syn(bytes: &[u8]) -> Result<()> {
    let mut raw = RawOptions { bytes: [0; MAX_OPTIONS] };
    for (to, from) in raw.bytes.iter_mut().zip(bytes) {
        *to = *from;
    }
    let options = parse_options(&raw);
    ensure!(options.scale <= MAX_SCALE, "a window scale of {}", options.scale);
    for v6 in [false, true] {
        let mut exchange = Exchange::EMPTY;
        exchange.raw = RawOptions { bytes: raw.bytes };
        exchange.prepare(v6);
        let length = exchange.answer(v6, 7, 9);
        ensure!(length == SHORT_HEADER || length == LONG_HEADER, "an answer with a header of {length} bytes");
    }
    Ok(())
}

pub(super) fn captures() -> Vec<Vec<u8>> {
    let mut pcap = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0];
    let mut big = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for frame in packets().iter().take(3) {
        let length = frame.len() as u32;
        pcap.extend([[0; 4], [0; 4], length.to_le_bytes(), length.to_le_bytes()].concat());
        pcap.extend(frame);
        big.extend([[0; 4], [0; 4], length.to_be_bytes(), length.to_be_bytes()].concat());
        big.extend(frame);
    }
    // Section header, interface description, one enhanced packet.
    let mut ng = vec![10, 13, 13, 10, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
    ng.extend([[0xff; 8].as_slice(), &[28, 0, 0, 0]].concat());
    ng.extend([1, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 20, 0, 0, 0]);
    ng.extend([6, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 60, 0, 0, 0]);
    ng.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6, 0, 0, 48, 0, 0, 0]);
    vec![pcap, big, ng]
}

pub(super) fn capture(bytes: &[u8]) -> Result<()> {
    if let Ok(packets) = packet_file::read(Cursor::new(bytes)) {
        ensure!(packets.len() <= packet_file::MAX_PACKETS, "{} packets", packets.len());
        let held: usize = packets.iter().map(|packet| packet.bytes.len()).sum();
        ensure!(held <= bytes.len(), "{held} bytes out of {}", bytes.len());
    }
    Ok(())
}

/// A ClientHello's handshake message: server name, ALPN, versions, groups, signature algorithms and values of GREASE.
const HELLO: &[u8] = b"\x01\0\0\x74\x03\x030123456789abcdef0123456789abcdef\0\0\x06\x0a\x0a\x13\x01\x13\x02\x01\0\0\x45\
    \x1a\x1a\0\0\0\0\0\x0b\0\x09\0\0\x06a.test\0\x10\0\x0e\0\x0c\x02h2\x08http/1.1\0\x2b\0\x05\x04\x03\x04\x03\x03\0\x0a\0\x04\0\x02\0\x1d\
    \0\x0d\0\x06\0\x04\x04\x03\x08\x04\xff\x01\0\x01\0";

pub(super) fn hellos() -> Vec<Vec<u8>> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    vec![record(HELLO), HELLO.chunks(20).flat_map(record).collect()]
}

pub(super) fn client_hello(bytes: &[u8]) -> Result<()> {
    let found = hello::from_stream(bytes);
    if let Found::Hello(hello) = &found {
        ensure!(hello.length as usize <= bytes.len().min(MAX_HELLO_BYTES), "{} of {} bytes", hello.length, bytes.len());
        ensure!(hello.ja4.len() >= 36 && hello.ja4.is_ascii(), "the fingerprint {}", hello.ja4);
        let listed = 2 * (hello.ciphers.len() + hello.extensions.len() + hello.groups.len());
        ensure!(listed <= bytes.len(), "{listed} bytes of lists out of {}", bytes.len());
        // A stream is asked about again each time more of it has come.
        ensure!(hello::from_stream(&[bytes, &[22]].concat()) == found, "what follows the hello changes it");
    }
    Ok(())
}

pub(super) fn datagrams() -> Vec<Vec<u8>> {
    let crypto = |offset: u8, part: &[u8]| [&[6, offset, 0x40, part.len() as u8], part].concat();
    let (front, back) = HELLO.split_at(60);
    let frames = [crypto(60, back), vec![1, 0, 0, 2, 5, 0, 0, 0], crypto(0, front)].concat();
    let head = b"\xc1\0\0\0\x01\x08\x83\x94\xc8\xf0\x3e\x51\x57\x08\0\0\x40";
    vec![frames.clone(), [&head[..], &[frames.len() as u8 + 1, 0], &frames].concat()]
}

pub(super) fn initial(bytes: &[u8]) -> Result<()> {
    let mut payloads = vec![bytes];
    for initial in initials(bytes) {
        ensure!(initial.start < initial.number, "a packet number at {} of {}", initial.number, initial.start);
        payloads.push(bytes.get(initial.number..initial.end).context("a packet beyond its datagram")?);
    }
    for payload in payloads {
        let (mut assembly, mut pieces) = (Assembly::default(), 0);
        for (offset, piece) in Frames::new(payload).flatten() {
            pieces += piece.len();
            assembly.add(offset, piece);
        }
        ensure!(pieces <= payload.len(), "{pieces} bytes of pieces out of {}", payload.len());
        if let Found::Hello(hello) = assembly.found() {
            ensure!(hello.ja4.starts_with('q') && hello.length as usize <= MAX_HELLO_BYTES, "{}", hello.ja4);
        }
    }
    Ok(())
}
