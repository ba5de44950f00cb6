//! What an answer is made of on its stream: HEADERS with its header or its trailers, and what stands before its content.

use bytes::{BufMut as _, BytesMut};
use http::{HeaderMap, StatusCode};

use super::{kind, lines, number, qpack};
use crate::fields::Fields;

/// Bytes of a frame's type and length that hold for most blocks of fields.
const SMALL: usize = 3;
/// Longest block whose length they can say (RFC 9000 section 16).
const SMALL_MOST: usize = (1 << 14) - 1;
/// Most bytes of what stands before content.
pub const DATA_HEAD: usize = 9;

/// Writes a HEADERS frame with an answer's header.
pub fn put_header(status: StatusCode, headers: &Fields, out: &mut BytesMut) {
    put(out, |out| {
        qpack::put_status(status, out);
        headers.put_block(out, lines::put);
    });
}

/// Writes a HEADERS frame with trailers.
pub fn put_trailers(headers: &HeaderMap, out: &mut BytesMut) {
    put(out, |out| headers.iter().for_each(|(name, value)| lines::put(name, value, out)));
}

/// Writes what stands before so many bytes of content.
pub fn put_data_head(length: usize, out: &mut BytesMut) {
    out.put_u8(kind::DATA as u8);
    number::put(length as u64, out);
}

fn put(out: &mut BytesMut, fields: impl FnOnce(&mut BytesMut)) {
    let begin = out.len();
    out.extend_from_slice(&[0; SMALL]);
    qpack::put_begin(out);
    fields(out);
    let length = out.len() - begin - SMALL;
    if length <= SMALL_MOST
        && let Some([frame, high, low]) = out.get_mut(begin..begin + SMALL)
    {
        let said = (1 << 14 | length as u16).to_be_bytes();
        (*frame, *high, *low) = (kind::HEADERS as u8, said[0], said[1]);
        return;
    }
    // So long a block is rare: it is written again behind its length.
    let block = out.split_off(begin + SMALL);
    out.truncate(begin);
    out.put_u8(kind::HEADERS as u8);
    number::put(length as u64, out);
    out.unsplit(block);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;

    use super::super::frames::{Frames, Part};
    use super::*;

    #[test]
    fn frames_say_how_long_they_are() {
        for length in [0, 20, 70_000] {
            let mut headers = HeaderMap::new();
            headers.insert("x-long", HeaderValue::from_str(&"~".repeat(length)).unwrap());
            headers.append("x-long", HeaderValue::from_static("more"));
            let mut out = BytesMut::from(&b"before"[..]);
            put_trailers(&headers, &mut out);
            put_data_head(length, &mut out);
            assert!(out.starts_with(b"before"));
            let mut wire: Bytes = out.freeze().slice(6..);
            let mut frames = Frames::new(1 << 20);
            let Ok(Some(Part::Header(block))) = frames.take(&mut wire) else { panic!("{length}") };
            assert_eq!(qpack::trailers(&block, u64::MAX).unwrap(), headers);
            assert_eq!(number::take(&mut &wire[1..]), Some(length as u64));
            assert_eq!(wire[0], 0);
        }
    }

    #[test]
    fn a_status_stands_first() {
        let mut out = BytesMut::new();
        put_header(StatusCode::OK, &Fields::from_iter([(http::header::DATE, HeaderValue::from_static(""))]), &mut out);
        assert_eq!(&*out, [1, 0x40, 4, 0, 0, 0xd9, 0xc6]);
        out.clear();
        put_header(StatusCode::IM_A_TEAPOT, &Fields::new(), &mut out);
        assert_eq!(&*out, b"\x01\x40\x08\0\0\x5f\x09\x03418");
    }
}
