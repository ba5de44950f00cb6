//! Frames of HTTP/2 and HTTP/3 as the bounds on abuse follow them: what is said of a connection must not hang on how its bytes
//! were cut.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use proxy_core::abuse::{frames, h3};
use proxy_core::http3::{Start, protocols, start};

/// Resets a second that are allowed.
const RESETS: u32 = 4;
/// Longest frame of HTTP/3 other than DATA.
const LONGEST: u64 = 64;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

pub(super) fn http2() -> Vec<Vec<u8>> {
    let get = frame(1, 5, 1, b"\x82\x86\x84\x41\x01a");
    let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 4, 0x80, 0, 0, 0]);
    [
        vec![settings.clone(), frame(4, 1, 0, &[]), get.clone(), frame(8, 0, 0, &[0, 0, 0, 9])],
        vec![frame(1, 0, 1, b"\x82"), frame(9, 0, 1, b"\x86"), frame(9, 4, 1, b"\x84"), frame(0, 1, 1, b"x")],
        (0..12).flat_map(|n| [frame(1, 4, 2 * n + 1, b"\x82"), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])]).collect(),
        vec![frame(6, 0, 0, &[0; 8]), frame(2, 0, 1, &[0; 5]), frame(7, 0, 0, &[0; 8]), frame(0x77, 0, 3, b"grease")],
        vec![get.clone(), frame(0, 0, 1, b"behind the end"), get, settings],
    ]
    .into_iter()
    .map(|frames| [PREFACE.to_vec(), frames.concat()].concat())
    .collect()
}

pub(super) fn follow_http2(bytes: &[u8]) -> Result<()> {
    let now = Instant::now();
    let mut whole = frames::Frames::new(RESETS, now);
    let found = whole.feed(bytes, now);
    for size in [1, 3, 17] {
        let mut cut = frames::Frames::new(RESETS, now);
        let pieces = bytes.chunks(size).find_map(|piece| cut.feed(piece, now));
        ensure!(pieces == found, "in pieces of {size} bytes it is {pieces:?}, not {found:?}");
        ensure!(cut.code() == whole.code(), "in pieces of {size} bytes: {:?}, not {:?}", cut.code(), whole.code());
        ensure!(cut.in_block() == whole.in_block(), "in pieces of {size} bytes it ends elsewhere");
    }
    Ok(())
}

pub(super) fn http3() -> Vec<Vec<u8>> {
    // The first byte says what kind of stream it is: 0 of a request, else one way.
    [
        &[0, 1, 5, 0, 0, 0xd1, 0xd7, 0xc1, 0, 0x40, 3, b'a', b'b', b'c', 1, 2, 0, 0][..],
        &[0, 0x21, 1, 7, 1, 0x40, 65, 0, 0],
        &[1, 0, 4, 4, 6, 0x80, 0x01, 0, 0, 7, 1, 0],
        &[1, 2, 0x3f, 0xe1, 0x1f],
        &[1, 2, 0x20, 0x20, 0x46, b'x'],
        &[1, 3, 0x44, 0x7f, 0x80, 1, 0x84],
        &[1, 0x40, 0, 0xc0, 0, 0, 0, 0, 0, 0, 4, 0xc0, 0, 0, 0, 1, 0, 0, 0],
    ]
    .map(<[u8]>::to_vec)
    .into()
}

pub(super) fn follow_http3(bytes: &[u8]) -> Result<()> {
    let Some((kind, bytes)) = bytes.split_first() else { return Ok(()) };
    if let Start::Fields(range) = start(bytes) {
        let block = bytes.get(range).context("a block that is not there")?;
        ensure!(protocols(block).all(|(place, _)| place < block.len()), "a name that is not in its block");
    }
    let new = || if *kind == 0 { h3::Frames::of_request(LONGEST) } else { h3::Frames::of_one_way(LONGEST) };
    let whole = new().feed(bytes);
    for size in [1, 3, 17] {
        let mut cut = new();
        let pieces = bytes.chunks(size).try_for_each(|piece| cut.feed(piece));
        ensure!(pieces == whole, "in pieces of {size} bytes it is {pieces:?}, not {whole:?}");
    }
    Ok(())
}
