//! The PROXY protocol, versions 1 and 2: what a balancer in front says of a connection, and what Tidegate says to an origin.
//! Follows `HAProxy`'s `doc/proxy-protocol.txt` (2020/03/05). The reader is strict: a header is either exactly what the text
//! describes or an error, and never longer than [`MAX_HEADER`]. Pure: bytes in, addresses out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest header that is read: the 16 bytes of version 2 and what it lets follow here. Longer ones are refused.
pub const MAX_HEADER: usize = 16 + MAX_BEHIND;
/// Most bytes of addresses and extensions (TLVs) behind the first 16 of version 2.
const MAX_BEHIND: usize = 1_024;
/// Longest line of version 1, its end included (section 2.1).
const MAX_LINE: usize = 107;
/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const LINE: &[u8] = b"PROXY ";

/// A version to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The beginning of a header: more bytes are needed.
    More,
    /// A header of so many bytes, and whom it is about; nobody else than who sent it where there are no addresses.
    Header {
        /// Bytes of the header.
        length: usize,
        /// The client, and the address that it reached.
        about: Option<(SocketAddr, SocketAddr)>,
    },
    /// No header.
    Not(&'static str),
}

/// Looks at the first bytes of a connection.
pub fn parse(bytes: &[u8]) -> Found {
    if begins_like(bytes, SIGNATURE) {
        binary(bytes)
    } else if begins_like(bytes, LINE) {
        line(bytes)
    } else {
        Found::Not("neither version of the PROXY protocol begins like this")
    }
}

/// Whether the bytes begin with `mark`, or could if there were more.
fn begins_like(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.iter().zip(mark).all(|(byte, mark)| byte == mark)
}

fn line(bytes: &[u8]) -> Found {
    let seen = bytes.get(..bytes.len().min(MAX_LINE)).unwrap_or(bytes);
    let Some(end) = seen.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < MAX_LINE { Found::More } else { Found::Not("a line of version 1 that is too long") };
    };
    let length = end + 2;
    let text = seen.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let Some(text) = text else { return Found::Not("a line of version 1 that is not ASCII") };
    let mut words = text.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // What follows is to be ignored (section 2.1).
        return Found::Header { length, about: None };
    }
    let words: Vec<&str> = words.collect();
    let &[source, destination, source_port, destination_port] = words.as_slice() else {
        return Found::Not("a line of version 1 without two addresses and two ports");
    };
    let about = match family {
        Some("TCP4") => {
            addresses::<Ipv4Addr>(source, destination).map(|(one, other)| (IpAddr::V4(one), IpAddr::V4(other)))
        }
        Some("TCP6") => {
            addresses::<Ipv6Addr>(source, destination).map(|(one, other)| (IpAddr::V6(one), IpAddr::V6(other)))
        }
        _ => None,
    };
    match (about, port(source_port), port(destination_port)) {
        (Some((source, destination)), Some(from), Some(to)) => {
            Found::Header { length, about: Some((SocketAddr::new(source, from), SocketAddr::new(destination, to))) }
        }
        _ => Found::Not("a line of version 1 with an address or port that is none"),
    }
}

fn addresses<T: std::str::FromStr>(source: &str, destination: &str) -> Option<(T, T)> {
    Some((source.parse().ok()?, destination.parse().ok()?))
}

/// A port as the text has it: digits without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn binary(bytes: &[u8]) -> Found {
    let Some(&[kind, family, high, low]) = bytes.get(SIGNATURE.len()..SIGNATURE.len() + 4) else { return Found::More };
    let behind = usize::from(u16::from_be_bytes([high, low]));
    let local = match kind {
        0x20 => true,
        0x21 => false,
        _ => return Found::Not("version 2 with a version or command that is not known"),
    };
    if behind > MAX_BEHIND {
        return Found::Not("version 2 that is longer than is taken");
    }
    let length = SIGNATURE.len() + 4 + behind;
    let Some(body) = bytes.get(SIGNATURE.len() + 4..length) else { return Found::More };
    // LOCAL: the balancer itself; whatever addresses there are must be ignored (section 2.2).
    if local || family == 0 {
        return Found::Header { length, about: None };
    }
    let about = match family {
        0x11 => body.get(..12).map(|body| both::<4>(body, |ip| Ipv4Addr::from(ip).into())),
        0x21 => body.get(..36).map(|body| both::<16>(body, |ip| Ipv6Addr::from(ip).into())),
        _ => return Found::Not("version 2 about something else than TCP over IP"),
    };
    match about {
        Some(about) if extensions_are_whole(body.get(if family == 0x11 { 12 } else { 36 }..).unwrap_or_default()) => {
            Found::Header { length, about }
        }
        _ => Found::Not("version 2 whose length does not fit its contents"),
    }
}

/// Two addresses of `N` bytes each and their ports.
fn both<const N: usize>(body: &[u8], ip: fn([u8; N]) -> IpAddr) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let to = rest.first_chunk::<2>()?;
    let address = |address: &[u8; N], port: &[u8; 2]| SocketAddr::new(ip(*address), u16::from_be_bytes(*port));
    Some((address(source, from), address(destination, to)))
}

/// Whether what follows the addresses is a row of types, lengths and values (section 2.2.1).
fn extensions_are_whole(mut rest: &[u8]) -> bool {
    while let Some((&[_, high, low], behind)) = rest.split_first_chunk::<3>() {
        let Some(next) = behind.get(usize::from(u16::from_be_bytes([high, low]))..) else { return false };
        rest = next;
    }
    rest.is_empty()
}

/// The header that tells an origin who the client is, and which address it reached.
pub fn write(version: Version, client: SocketAddr, reached: SocketAddr) -> Vec<u8> {
    let (source, destination) = match (client.ip().to_canonical(), reached.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (IpAddr::V4(source), IpAddr::V4(destination)),
        // Both or none: the mapped form is how IPv6 writes the other one.
        (source, destination) => (IpAddr::V6(as_v6(source)), IpAddr::V6(as_v6(destination))),
    };
    let (from, to) = (client.port(), reached.port());
    match version {
        Version::V1 => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {source} {destination} {from} {to}\r\n").into_bytes()
        }
        Version::V2 => {
            let mut bytes = SIGNATURE.to_vec();
            bytes.extend_from_slice(if source.is_ipv4() { &[0x21, 0x11, 0, 12] } else { &[0x21, 0x21, 0, 36] });
            for ip in [source, destination] {
                match ip {
                    IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
                }
            }
            bytes.extend_from_slice(&from.to_be_bytes());
            bytes.extend_from_slice(&to.to_be_bytes());
            bytes
        }
    }
}

/// The header of a connection that is Tidegate's own.
pub fn write_own(version: Version) -> Vec<u8> {
    match version {
        Version::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        Version::V2 => [SIGNATURE.as_slice(), &[0x20, 0, 0, 0]].concat(),
    }
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests;
