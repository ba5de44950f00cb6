//! Frames as clients send them: which floods are named, which errors told apart, and that pieces do not matter.

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn begun(now: Instant) -> Frames {
    let mut frames = Frames::new(10, now);
    assert_eq!(frames.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now), None);
    frames
}

/// How many of a frame pass at once.
fn passing(wire: &[u8]) -> (usize, Option<Kind>) {
    let now = Instant::now();
    let mut frames = begun(now);
    for count in 0..10_000 {
        if let Some(kind) = frames.feed(wire, now) {
            return (count, Some(kind));
        }
    }
    (10_000, None)
}

#[test]
fn floods_are_named() {
    for (wire, count, kind) in [
        (frame(kind::RST_STREAM, 0, 1, &[0; 4]), 20, Kind::Resets),
        (frame(kind::SETTINGS, 0, 0, &[]), 40, Kind::Settings),
        (frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9, 0, 4, 0, 0, 0, 9]), 40, Kind::Settings),
        (frame(kind::PING, 0, 0, &[0; 8]), 1_000, Kind::Ping),
        (frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), 2_000, Kind::Window),
        (frame(kind::PRIORITY, 0, 1, &[0; 5]), 400, Kind::Priority),
        (frame(0x77, 0, 1, b"grease"), 400, Kind::Priority),
        (frame(kind::DATA, 0, 1, &[]), 100, Kind::EmptyFrames),
        (frame(kind::CONTINUATION, 0, 1, b"x"), 65, Kind::Continuation),
        (frame(kind::PUSH_PROMISE, 0, 1, &[0; 5]), 0, Kind::Malformed),
    ] {
        assert_eq!(passing(&wire), (count, Some(kind)), "{wire:?}");
    }
    assert_eq!(passing(&frame(kind::DATA, 0, 1, b"x")).1, None);
}

#[test]
fn what_was_sent_accounts_for_window_updates() {
    let now = Instant::now();
    let mut frames = begun(now);
    for _ in 0..20_000 {
        assert_eq!(frames.feed(&frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), now), None);
        frames.sent(1_500);
    }
}

#[test]
fn errors_have_their_code() {
    let get = frame(kind::HEADERS, 0x5, 1, b"x");
    let post = frame(kind::HEADERS, 0x4, 1, b"x");
    let data = |flags, stream| frame(kind::DATA, flags, stream, b"x");
    for (name, wire, code) in [
        ("a ping of 6 bytes", vec![frame(kind::PING, 0, 0, &[0; 6])], Some(Code::FrameSize)),
        ("an acknowledgment with payload", vec![frame(kind::SETTINGS, 1, 0, &[0; 6])], Some(Code::FrameSize)),
        ("a window of 2^31", vec![frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])], Some(Code::FlowControl)),
        ("a window of 2^31 - 1", vec![frame(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 255, 255, 255])], None),
        ("data behind the end", vec![post.clone(), data(1, 1), data(0, 1)], Some(Code::StreamClosed)),
        ("a header block", vec![get.clone()], None),
        ("data of a GET", vec![get.clone(), data(0, 1)], Some(Code::StreamClosed)),
        ("headers behind the end", vec![get.clone(), get.clone()], Some(Code::StreamClosed)),
        (
            "data behind a reset",
            vec![post.clone(), frame(kind::RST_STREAM, 0, 1, &[0; 4]), data(0, 1)],
            Some(Code::StreamClosed),
        ),
        ("data of an idle stream", vec![post.clone(), data(0, 3)], None),
        ("headers of a stream that was left out", vec![frame(kind::HEADERS, 0x5, 5, b"x"), get.clone()], None),
        (
            "a ping within a header block",
            vec![frame(kind::HEADERS, 0, 1, b"x"), frame(kind::PING, 0, 0, &[0; 6])],
            None,
        ),
        ("a body with trailers", vec![post.clone(), data(0, 1), get, frame(kind::PING, 0, 0, &[0; 8])], None),
    ] {
        let now = Instant::now();
        let (mut whole, mut split) = (begun(now), begun(now));
        assert_eq!(whole.feed(&wire.concat(), now), None);
        for byte in wire.concat() {
            assert_eq!(split.feed(&[byte], now), None);
        }
        assert_eq!((whole.code(), split.code()), (code, code), "{name}");
    }
}

#[test]
fn a_header_block_is_seen_while_it_lasts() {
    let now = Instant::now();
    let mut frames = begun(now);
    frames.feed(&frame(kind::HEADERS, 0, 1, b"x"), now);
    assert!(frames.in_block());
    frames.feed(&frame(kind::CONTINUATION, 0, 1, b"x"), now);
    assert!(frames.in_block());
    frames.feed(&frame(kind::CONTINUATION, 4, 1, b"x"), now);
    assert!(!frames.in_block());
}

proptest::proptest! {
    /// Any bytes, in any pieces: no panic, and the pieces do not matter.
    #[test]
    fn pieces_do_not_matter(
        parts in proptest::collection::vec((0_u8..12, 0_u8..6, 0_u32..6, proptest::collection::vec(0_u8..5, 0..14)), 0..60),
        cut in 1_usize..40,
    ) {
        let wire: Vec<u8> = parts.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)).collect();
        let now = Instant::now();
        let (mut whole, mut split) = (begun(now), begun(now));
        let found = whole.feed(&wire, now);
        let pieces = wire.chunks(cut).find_map(|piece| split.feed(piece, now));
        proptest::prop_assert_eq!((found, whole.code()), (pieces, split.code()));
    }
}
