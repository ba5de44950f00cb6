//! What `h2` says in its last frame, which tells us and the client more than its errors do: why a client shall calm down, and
//! which error the client has made.

use proxy_core::abuse::Kind;
use proxy_core::abuse::frames::Code;

/// A GOAWAY frame without debug data (RFC 9113 section 6.8), as far as its last stream.
const GOAWAY: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
/// Bytes of the whole frame.
const GOAWAY_BYTES: usize = 17;
/// `PROTOCOL_ERROR`
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

/// What the `h2` crate writes behind a GOAWAY of `ENHANCE_YOUR_CALM`, which it tells nobody else.
const CALMED: [(&[u8], Kind); 4] = [
    (b"header_list_way_too_large", Kind::LargeHeader),
    (b"too_many_continuations", Kind::Continuation),
    (b"too_many_data_frames", Kind::EmptyFrames),
    (b"too_many_resets", Kind::Resets),
];

/// Why a client shall calm down, if it is told so here.
pub(super) fn calmed(bytes: &[u8]) -> Option<Kind> {
    CALMED.iter().find(|(mark, _)| bytes.ends_with(mark)).map(|(_, kind)| *kind)
}

/// What is about to be written with `code` in its last frame, if that is a GOAWAY that calls the client's error a protocol error
/// and no more: the `h2` crate does so for frames of wrong size, closed streams and windows beyond the largest (RFC 9113 sections
/// 4.2, 5.1 and 6.5.2 name the codes).
pub(super) fn named(bytes: &[u8], code: Code) -> Option<Vec<u8>> {
    let (_, last) = bytes.split_at_checked(bytes.len().checked_sub(GOAWAY_BYTES)?)?;
    if !last.starts_with(&GOAWAY) || !last.ends_with(&PROTOCOL_ERROR) {
        return None;
    }
    let mut named = bytes.to_vec();
    named.truncate(bytes.len() - PROTOCOL_ERROR.len());
    named.extend((code as u32).to_be_bytes());
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_protocol_error_is_named() {
        let goaway = |code: u8| [&GOAWAY[..], &[0, 0, 0, 5, 0, 0, 0, code]].concat();
        assert_eq!(named(&goaway(1), Code::FrameSize), Some(goaway(6)));
        let behind = [b"before", &goaway(1)[..]].concat();
        assert_eq!(named(&behind, Code::StreamClosed), Some([b"before", &goaway(5)[..]].concat()));
        assert_eq!(named(&goaway(0), Code::FrameSize), None, "a graceful end");
        assert_eq!(named(b"short", Code::FrameSize), None);
        assert_eq!(named(&[&goaway(1)[..], b"behind"].concat(), Code::FrameSize), None);
    }
}
