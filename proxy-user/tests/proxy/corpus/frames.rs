//! HTTP/2 and HTTP/3 written frame by frame, whatever the fields are: no library would send these.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::{PATIENCE, Told};
use crate::edge::Edge;
use crate::http3;

type Fields = [(Vec<u8>, Vec<u8>)];

/// A number with a prefix of so many bits (RFC 7541 section 5.1).
fn number(out: &mut Vec<u8>, first: u8, bits: u32, mut value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        out.push(first | value as u8);
        return;
    }
    out.push(first | most as u8);
    value -= most;
    while value >= 128 {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A status that stands in a header block behind the first byte of its field: two cases, a static index that was looked up
/// by the caller, or digits, plain or by Huffman's code.
fn digits(value: &[u8]) -> Told {
    let length = usize::from(value[0] & 0x7f);
    let bytes = &value[1..=length];
    if value[0] & 0x80 == 0 {
        return std::str::from_utf8(bytes).unwrap().parse().unwrap();
    }
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let read = |count: usize| bits[at..at + count].iter().fold(0, |sum, bit| sum << 1 | u16::from(*bit));
        // RFC 7541, appendix B: 0 to 2 have five bits, the others six, from 011001 on.
        let (digit, count) = if read(5) < 3 { (read(5), 5) } else { (read(6) - 0b01_1001 + 3, 6) };
        status = status * 10 + digit;
        at += count;
    }
    status
}

// ---- HTTP/2 (RFC 9113) ----

/// A frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a connection of HTTP/2 begins with: the preface and these settings.
pub fn opening(settings: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, settings)[..]].concat()
}

/// A header block as HEADERS and as many CONTINUATION frames as it takes.
fn block(fields: &Fields, ends: bool) -> Vec<u8> {
    const PIECE: usize = 16_384;
    let mut block = Vec::new();
    for (name, value) in fields {
        // Without indexing, with a name of its own (RFC 7541 section 6.2.2).
        block.push(0);
        for text in [name, value] {
            number(&mut block, 0, 7, text.len());
            block.extend_from_slice(text);
        }
    }
    let pieces = block.chunks(PIECE).count();
    let flags = |at: usize| if at + 1 == pieces { 4 } else { 0 };
    let wire = block.chunks(PIECE).enumerate().map(|(at, piece)| match at {
        0 => frame(1, flags(0) | u8::from(ends), 1, piece),
        _ => frame(9, flags(at), 1, piece),
    });
    wire.collect::<Vec<_>>().concat()
}

/// One request on a connection of its own; what was told.
pub fn over_h2(edge: SocketAddr, headers: &Fields, data: &[Vec<u8>], trailers: &Fields) -> Told {
    let mut stream = TcpStream::connect(edge).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire = opening(&[]);
    wire.extend(block(headers, data.is_empty() && trailers.is_empty()));
    for (at, piece) in data.iter().enumerate() {
        wire.extend(frame(0, u8::from(at + 1 == data.len() && trailers.is_empty()), 1, piece));
    }
    if !trailers.is_empty() {
        wire.extend(block(trailers, true));
    }
    // It may be refused before its end is sent.
    let _ = stream.write_all(&wire);
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        if stream.read_exact(&mut payload).is_err() {
            return 0;
        }
        match head[3] {
            1 => return h2_status(&payload),
            3 | 7 => return 0,
            _ => {}
        }
    }
    0
}

fn h2_status(block: &[u8]) -> Told {
    // Changes of the table's size come first (RFC 7541 section 4.2).
    let block = &block[block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap()..];
    match block[0] {
        // RFC 7541, appendix A.
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        _ => digits(&block[1..]),
    }
}

// ---- HTTP/3 (RFC 9114) ----

/// A number of QUIC (RFC 9000 section 16).
fn varint(value: usize) -> Vec<u8> {
    let value = u32::try_from(value).unwrap();
    if value < 64 { vec![value as u8] } else { (value | 0x8000_0000).to_be_bytes().to_vec() }
}

fn h3_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [vec![kind], varint(payload.len()), payload.to_vec()].concat()
}

/// A HEADERS frame with these fields.
pub fn h3_block(fields: &Fields) -> Vec<u8> {
    let mut block = vec![0, 0];
    for (name, value) in fields {
        // A literal with a name of its own (RFC 9204 section 4.5.6).
        number(&mut block, 0x20, 3, name.len());
        block.extend_from_slice(name);
        number(&mut block, 0, 7, value.len());
        block.extend_from_slice(value);
    }
    h3_frame(1, &block)
}

/// One request on a connection of its own; what was told.
pub async fn over_h3(edge: &Edge, headers: &Fields, data: &[Vec<u8>], trailers: &Fields) -> Told {
    let (_endpoint, quic) = http3::quic(edge, "first.test", None).await.unwrap();
    let mut control = quic.open_uni().await.unwrap();
    control.write_all(&[0, 4, 0]).await.unwrap();
    let (mut send, mut receive) = quic.open_bi().await.unwrap();
    let mut wire = h3_block(headers);
    wire.extend(data.iter().flat_map(|piece| h3_frame(0, piece)));
    if !trailers.is_empty() {
        wire.extend(h3_block(trailers));
    }
    // It may be refused before its end is sent.
    let _ = send.write_all(&wire).await;
    let _ = send.finish();
    let answer = tokio::time::timeout(PATIENCE, receive.read_to_end(1 << 20)).await.expect("an answer in time");
    let Ok(answer) = answer else { return 0 };
    let Some((1, rest)) = answer.split_first() else { return 0 };
    // The length, in one or two bytes, then what the block stands on, then the status.
    let block = &rest[if rest[0] & 0xc0 == 0 { 1 } else { 2 } + 2..];
    match block[0] {
        // RFC 9204, appendix A.
        indexed @ 0xd8..=0xdc => [103, 200, 304, 404, 503][usize::from(indexed - 0xd8)],
        0xff => [100, 204, 206, 302, 400, 403, 421, 425, 500][usize::from(block[1])],
        // With a name of the table, whose number takes two bytes.
        _ => digits(&block[2..]),
    }
}
