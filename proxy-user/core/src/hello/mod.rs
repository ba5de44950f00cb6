//! What a TLS client says of itself before anything is agreed: its ClientHello (RFC 8446 section 4.1.2), from the records
//! of a TCP stream or from the Initial packets of QUIC, and its fingerprint. Reads bytes and decides nothing; decrypting
//! an Initial is the caller's, as are sockets.
//!
//! Everything is bounded by [`MAX_HELLO_BYTES`]. GREASE (RFC 8701) is left out of every list.

mod assembly;
mod cursor;
mod initial;
mod ja4;
mod parse;
mod record;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use assembly::{Assembly, MAX_PIECES};
pub use initial::{Frames, Initial, MAX_CID_BYTES, Version, initials};
pub use parse::{MAX_PROTOCOLS, parse};
pub use record::{MAX_STREAM_BYTES, from_stream};

/// Longest ClientHello that is read, with its handshake header. Those with post-quantum key shares have about 2 KiB.
pub const MAX_HELLO_BYTES: usize = 16_384;

/// What the hello came over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// TLS over TCP.
    #[default]
    Tcp,
    /// QUIC.
    Quic,
}

/// A ClientHello. Lists are in the client's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Bytes of the handshake message, its header included.
    pub length: u32,
    /// Host of `server_name` (RFC 6066 section 3), lower case, without the root dot.
    pub sni: Option<Box<[u8]>>,
    /// Protocols of ALPN (RFC 7301), at most [`MAX_PROTOCOLS`].
    pub alpn: Vec<Box<[u8]>>,
    /// `supported_versions`; without that extension the one version of the message.
    pub versions: Vec<u16>,
    /// Cipher suites.
    pub ciphers: Vec<u16>,
    /// Types of the extensions.
    pub extensions: Vec<u16>,
    /// `supported_groups`.
    pub groups: Vec<u16>,
    /// `signature_algorithms`.
    pub signature_algorithms: Vec<u16>,
    /// Its JA4 fingerprint.
    pub ja4: String,
}

/// What bytes from a client come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The ClientHello is not whole yet.
    More,
    /// A whole one.
    Hello(Box<ClientHello>),
    /// No ClientHello, and why.
    Not(&'static str),
    /// Longer than [`MAX_HELLO_BYTES`], or spread over more bytes than any client does.
    TooLarge,
}

/// Why a message is no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Values that clients send to keep servers tolerant (RFC 8701 section 2): `0x0a0a`, `0x1a1a`, … `0xfafa`.
pub const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// Name of a TLS version, as OpenSSL and Cloudflare write it; four hex digits for others.
pub fn version_name(version: u16) -> std::borrow::Cow<'static, str> {
    match version {
        0x0304 => "TLSv1.3".into(),
        0x0303 => "TLSv1.2".into(),
        0x0302 => "TLSv1.1".into(),
        0x0301 => "TLSv1".into(),
        0x0300 => "SSLv3".into(),
        other => format!("{other:04x}").into(),
    }
}

/// The version of such a name.
pub fn version_by_name(name: &str) -> Option<u16> {
    let known = [0x0304, 0x0303, 0x0302, 0x0301, 0x0300].into_iter().find(|version| version_name(*version) == name);
    known.or_else(|| code_by_name(name))
}

/// A cipher suite, an extension, a group or a signature algorithm as four lower-case hex digits, as IANA's tables and JA4
/// have them.
pub fn code_name(code: u16) -> [u8; 4] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [12, 8, 4, 0].map(|shift| DIGITS.get(usize::from(code >> shift) & 15).copied().unwrap_or(b'0'))
}

/// The code of four lower-case hex digits.
pub fn code_by_name(name: &str) -> Option<u16> {
    let plain = name.len() == 4 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    u16::from_str_radix(name, 16).ok().filter(|_| plain)
}

/// The handshake message at the start of `bytes`: whether it is whole, and what it says.
fn message(bytes: &[u8], transport: Transport) -> Found {
    /// `client_hello` (RFC 8446 section 4).
    const CLIENT_HELLO: u8 = 1;
    /// Type and length.
    const HEADER: usize = 4;
    if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Found::Not("another message than a ClientHello");
    }
    let Some(&[_, high, middle, low]) = bytes.get(..HEADER) else { return Found::More };
    let length = HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > MAX_HELLO_BYTES {
        return Found::TooLarge;
    }
    match bytes.get(HEADER..length) {
        None => Found::More,
        Some(body) => match parse(body, transport) {
            Ok(hello) => Found::Hello(Box::new(hello)),
            Err(Malformed(why)) => Found::Not(why),
        },
    }
}
