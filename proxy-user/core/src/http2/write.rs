//! Frames as they are sent (RFC 9113 sections 4.1 and 6).

use http::{HeaderName, HeaderValue, StatusCode};

use super::hpack::encode::Encoder;
use super::{Code, FRAME_MOST, HEAD, flag, kind};

/// A PING's payload.
pub type Payload = [u8; 8];

/// Writes what stands before a payload of so many bytes, which are fewer than 2^24.
pub fn head(kind: u8, flags: u8, stream: u32, length: usize, out: &mut Vec<u8>) {
    out.extend(head_bytes(kind, flags, stream, length));
}

fn head_bytes(kind: u8, flags: u8, stream: u32, length: usize) -> [u8; HEAD] {
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    let [first, second, third, fourth] = stream.to_be_bytes();
    [high, middle, low, kind, flags, first, second, third, fourth]
}

/// Writes a frame with a payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    head(kind, flags, stream, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Writes SETTINGS.
pub fn settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    super::settings::put(settings, &mut payload);
    frame(kind::SETTINGS, 0, 0, &payload, out);
}

/// Acknowledges SETTINGS.
pub fn settings_ack(out: &mut Vec<u8>) {
    head(kind::SETTINGS, flag::ACK, 0, 0, out);
}

/// Writes a PING, or the answer to one.
pub fn ping(payload: Payload, answer: bool, out: &mut Vec<u8>) {
    frame(kind::PING, if answer { flag::ACK } else { 0 }, 0, &payload, out);
}

/// Tells which stream was the last that is answered, and why there will be no more.
pub fn goaway(last: u32, code: Code, out: &mut Vec<u8>) {
    let mut payload = [0; 8];
    let (stream, error) = payload.split_at_mut(4);
    stream.copy_from_slice(&last.to_be_bytes());
    error.copy_from_slice(&(code as u32).to_be_bytes());
    frame(kind::GOAWAY, 0, 0, &payload, out);
}

/// Ends a stream.
pub fn reset(stream: u32, code: Code, out: &mut Vec<u8>) {
    frame(kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes(), out);
}

/// Opens a stream's window, or with stream 0 the connection's.
pub fn window(stream: u32, by: u32, out: &mut Vec<u8>) {
    frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes(), out);
}

/// Writes a header, or trailers where there is no status; in as many frames as it takes.
pub fn header<'h>(
    stream: u32,
    status: Option<StatusCode>,
    headers: impl IntoIterator<Item = (&'h HeaderName, &'h HeaderValue)>,
    ends: bool,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD]);
    encoder.encode(status, headers, out);
    let length = out.len() - begin - HEAD;
    let flags = if ends { flag::END_STREAM } else { 0 };
    let whole = if length <= FRAME_MOST { flag::END_HEADERS } else { 0 };
    if let Some(place) = out.get_mut(begin..begin + HEAD) {
        place.copy_from_slice(&head_bytes(kind::HEADERS, flags | whole, stream, length.min(FRAME_MOST)));
    }
    if length > FRAME_MOST {
        // So long a block is rare.
        let rest = out.split_off(begin + HEAD + FRAME_MOST);
        let mut pieces = rest.chunks(FRAME_MOST).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
            frame(kind::CONTINUATION, flags, stream, piece, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::super::hpack::decode::Decoder;
    use super::*;

    #[test]
    fn frames_as_the_standard_has_them() {
        let mut out = Vec::new();
        settings(&[(3, 100)], &mut out);
        settings_ack(&mut out);
        ping([7; 8], true, &mut out);
        goaway(5, Code::EnhanceYourCalm, &mut out);
        reset(3, Code::Cancel, &mut out);
        window(0, 9, &mut out);
        let expected = [
            &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100][..],
            &[0, 0, 0, 4, 1, 0, 0, 0, 0],
            &[0, 0, 8, 6, 1, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7],
            &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 11],
            &[0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 8],
            &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        ];
        assert_eq!(out, expected.concat());
    }

    proptest! {
        #[test]
        fn a_block_of_any_length_is_put_together(length in 0_usize..60_000, ends in any::<bool>()) {
            let headers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_str(&"~".repeat(length)).unwrap())]);
            let mut out = Vec::from(b"before");
            header(3, None, &headers, ends, &mut Encoder::default(), &mut out);
            let mut rest = &out[6..];
            let (mut block, mut count, mut last) = (Vec::new(), 0, 0);
            while let [_, a, b, kind, flags, 0, 0, 0, 3, behind @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*a, *b]));
                prop_assert!(length <= FRAME_MOST);
                prop_assert_eq!((*kind, last), (if count == 0 { 1 } else { 9 }, 0));
                prop_assert_eq!(flags & 1, u8::from(ends && count == 0));
                block.extend_from_slice(&behind[..length]);
                (rest, count, last) = (&behind[length..], count + 1, flags & 4);
            }
            prop_assert!(rest.is_empty() && last == 4);
            prop_assert_eq!(Decoder::default().trailers(&block, 1 << 20).unwrap(), headers);
        }
    }
}
