//! Frames of HTTP/2 and HTTP/3, and the blocks of fields in them: what is said of a connection must not hang on how its bytes were cut.

use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use proxy_core::abuse::frames::Flood;
use proxy_core::fields::Refused;
use proxy_core::http2::hpack::decode::Decoder;
use proxy_core::http2::{Broken, frames as http2};
use proxy_core::http3::frames::{self, Frames, Part};
use proxy_core::http3::one_way::{OneWay, Told};
use proxy_core::http3::qpack;

/// Resets a second that are allowed.
const RESETS: u32 = 4;
/// Longest frame of HTTP/3 other than DATA.
const LONGEST: u64 = 64;
/// What a message's fields may count for.
const FIELDS: u64 = 256;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

pub(super) fn of_http2() -> Vec<Vec<u8>> {
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

/// What a connection's frames say, content put together, and how it ends. Blocks of fields are read too.
fn said(bytes: &[u8], size: usize) -> (Vec<http2::Frame>, bool, Option<Broken>) {
    let now = Instant::now();
    let mut frames = http2::Frames::new(LONGEST as usize, Flood::new(RESETS, now));
    let (mut decoder, mut said) = (Decoder::default(), Vec::new());
    for piece in bytes.chunks(size) {
        let mut piece = Bytes::copy_from_slice(piece);
        loop {
            match (frames.take(&mut piece, now), said.last_mut()) {
                (Ok(None), _) => break,
                (
                    Ok(Some(http2::Frame::Data { stream, piece, counts, ends })),
                    Some(http2::Frame::Data { stream: last, piece: so_far, counts: counted, ends: ended }),
                ) if stream == *last && !*ended => {
                    *so_far = [&so_far[..], &piece].concat().into();
                    (*counted, *ended) = (*counted + counts, ends);
                }
                (Ok(Some(frame)), _) => {
                    if let http2::Frame::Headers { block, .. } = &frame {
                        // Whatever it says, reading it must end.
                        let _ = decoder.header(block, FIELDS);
                    }
                    said.push(frame);
                }
                (Err(broken), _) => return (said, false, Some(broken)),
            }
        }
    }
    (said, frames.in_block(), None)
}

pub(super) fn follow_http2(bytes: &[u8]) -> Result<()> {
    let whole = said(bytes, usize::MAX);
    for size in [1, 3, 17] {
        let pieces = said(bytes, size);
        ensure!(pieces == whole, "in pieces of {size} bytes it is {pieces:?}, not {whole:?}");
    }
    Ok(())
}

pub(super) fn hpack() -> Vec<Vec<u8>> {
    // Blocks of one connection, each behind its length.
    [
        &[&[0x0e][..], b"\x82\x86\x84\x41\x09example.a", &[4, 0x82, 0x86, 0x84, 0xbe]].concat()[..],
        &[0x11, 0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
        b"\x0c\x40\x04x-up\x03one\x10\x01\x04\xbe\x3f\x00\xbe",
        b"\x08\x3f\xe1\x1f\x20\x40\x01a\x00\x02\xbe\xbe",
        b"\x05\x40\x01X\x01v\x01\xbe\x06\x41\x04a b\x7f\x01\xbe",
    ]
    .map(<[u8]>::to_vec)
    .into()
}

/// Blocks are read as headers and as trailers, and what one way leaves in the table is what the other does.
pub(super) fn read_hpack(bytes: &[u8]) -> Result<()> {
    let (mut headers, mut trailers) = (Decoder::default(), Decoder::default());
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first() {
        let (block, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        let over = [headers.header(block, FIELDS).err(), trailers.trailers(block, FIELDS).err()]
            .map(|refused| matches!(refused, Some(Refused::Unreadable | Refused::Bomb)));
        ensure!(over[0] == over[1], "it can be read one way only");
        if over[0] {
            break;
        }
        ensure!(format!("{headers:?}") == format!("{trailers:?}"), "{headers:?} is not {trailers:?}");
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
        &[1, 0, 4, 0, 0x80, 0x0f, 0x07, 0x00, 4, 8, b'u', b'=', b'1', 13, 1, 7],
        b"\x00\x01\x22\0\0\xcf\x2f\x00\xb9\x5d\x87\x49\xc8\x7a\x3f\x87\xf0\x58\xd0\x72\x75\x2a\x7f\xd7\x51\x02\x2f\x78\x50\x87\x94\xd6\x21\x2b\xa4\xa8\x4f",
        b"\x00\x01\x14\0\0\xd1\xd7\x50\x01a\xc1\x23abc\x82\x64\x02\x57\x01x\0\x02hi",
    ]
    .map(<[u8]>::to_vec)
    .into()
}

pub(super) fn follow_http3(bytes: &[u8]) -> Result<()> {
    let Some((kind, bytes)) = bytes.split_first() else { return Ok(()) };
    for size in [1, 3, 17] {
        if *kind == 0 {
            let (whole, pieces) = (parts(bytes, usize::MAX), parts(bytes, size));
            ensure!(pieces == whole, "in pieces of {size} bytes it is {pieces:?}, not {whole:?}");
        } else {
            let (whole, pieces) = (told(bytes, usize::MAX), told(bytes, size));
            ensure!(pieces == whole, "in pieces of {size} bytes it is {pieces:?}, not {whole:?}");
        }
    }
    Ok(())
}

/// What a request's stream brings: the blocks of fields, which are read too, the length of its content, and how it ended.
fn parts(bytes: &[u8], size: usize) -> (Vec<Bytes>, usize, Result<bool, frames::Refused>) {
    let (mut frames, mut blocks, mut content) = (Frames::new(LONGEST), Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut piece = Bytes::copy_from_slice(piece);
        loop {
            match frames.take(&mut piece) {
                Ok(None) => break,
                Ok(Some(Part::Data(data))) => content += data.len(),
                Ok(Some(Part::Header(block) | Part::Trailers(block))) => {
                    // Whatever it says, reading it must end.
                    let _ = (qpack::header(&block, FIELDS), qpack::trailers(&block, FIELDS));
                    blocks.push(block);
                }
                Err(refused) => return (blocks, content, Err(refused)),
            }
        }
    }
    (blocks, content, Ok(frames.may_end()))
}

/// What a stream that goes one way tells, and why it was refused.
fn told(bytes: &[u8], size: usize) -> (Vec<Told>, Option<u16>) {
    let (mut stream, mut told) = (OneWay::new(LONGEST), Vec::new());
    let fed = bytes.chunks(size).try_for_each(|piece| stream.feed(piece, &mut |one| told.push(one)));
    (told, fed.err().map(|refused| refused.code() as u16))
}
