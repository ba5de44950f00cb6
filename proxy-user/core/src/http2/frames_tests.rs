//! Frames as clients send them: what they say, what they may not be, and that pieces do not matter.

use super::*;

const BOUND: usize = 40_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// What a connection brings that begins as it should, content of a stream put together; and how it ends.
fn said(wire: &[u8], cut: usize) -> (Vec<Frame>, bool, Option<Broken>) {
    let wire = [&PREFACE[..], &frame(kind::SETTINGS, 0, 0, &[]), wire].concat();
    let (mut found, in_block, broken) = read(&wire, cut);
    assert!(!found.is_empty(), "its settings");
    found.remove(0);
    (found, in_block, broken)
}

fn read(wire: &[u8], cut: usize) -> (Vec<Frame>, bool, Option<Broken>) {
    let now = Instant::now();
    let mut frames = Frames::new(BOUND, Flood::new(10, now));
    let mut found: Vec<Frame> = Vec::new();
    for piece in wire.chunks(cut) {
        let mut bytes = Bytes::copy_from_slice(piece);
        loop {
            match frames.take(&mut bytes, now) {
                Ok(None) => break,
                Ok(Some(Frame::Data { stream, piece, counts, ends })) => match found.last_mut() {
                    Some(Frame::Data { stream: last, piece: so_far, counts: counted, ends: ended })
                        if *last == stream && !*ended =>
                    {
                        *so_far = [&so_far[..], &piece].concat().into();
                        *counted += counts;
                        *ended = ends;
                    }
                    _ => found.push(Frame::Data { stream, piece, counts, ends }),
                },
                Ok(Some(frame)) => found.push(frame),
                Err(broken) => return (found, false, Some(broken)),
            }
        }
        assert!(bytes.is_empty());
    }
    (found, frames.in_block(), None)
}

fn broken(wire: &[u8]) -> Option<Code> {
    said(wire, 7).2.map(|broken| broken.code)
}

#[test]
fn each_says_what_it_is() {
    let wire = [
        frame(kind::HEADERS, 0x4, 1, b"whole"),
        frame(kind::HEADERS, 0x2d, 3, b"\x02\x80\0\0\x01\x10block\0\0"),
        frame(kind::HEADERS, 0x1, 5, b"in "),
        frame(kind::CONTINUATION, 0, 5, b""),
        frame(kind::CONTINUATION, 0x4, 5, b"pieces"),
        frame(kind::DATA, 0, 1, b"some "),
        frame(kind::DATA, 0x9, 1, b"\x03content\0\0\0"),
        frame(kind::DATA, 0x1, 3, b""),
        frame(kind::PRIORITY, 0, 1, &[0; 5]),
        frame(kind::PRIORITY, 0, 1, &[0; 4]),
        frame(kind::RST_STREAM, 0, 5, &[0, 0, 0, 8]),
        frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9]),
        frame(kind::SETTINGS, 1, 0, &[]),
        frame(kind::PING, 0, 0, b"12345678"),
        frame(kind::PING, 1, 0, b"87654321"),
        frame(kind::GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0why"),
        frame(kind::WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 9]),
        frame(kind::WINDOW_UPDATE, 0, 7, &[0; 4]),
        frame(kind::PRIORITY_UPDATE, 0, 0, b"\0\0\0\x05u=1"),
        frame(0x77, 0xff, 9, b"grease"),
        frame(kind::HEADERS, 0, 7, b"open"),
    ]
    .concat();
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let expected = [
        Frame::Headers { stream: 1, block: text("whole"), ends: false },
        Frame::Headers { stream: 3, block: text("block"), ends: true },
        Frame::Headers { stream: 5, block: text("in pieces"), ends: true },
        Frame::Data { stream: 1, piece: text("some content"), counts: 16, ends: true },
        Frame::Data { stream: 3, piece: text(""), counts: 0, ends: true },
        Frame::Wrong { stream: 1, code: Code::FrameSizeError },
        Frame::Reset { stream: 5, code: 8 },
        Frame::Settings(Settings { window: Some(9), ..Settings::default() }),
        Frame::Ping(*b"12345678"),
        Frame::Pong(*b"87654321"),
        Frame::Leaves,
        Frame::Window { stream: 0, by: 9 },
        Frame::Wrong { stream: 7, code: Code::ProtocolError },
        Frame::Urgency { stream: 5, urgency: Urgency::of(b"u=1") },
    ];
    for cut in [1, 2, 3, 5, 8, 13, 999] {
        assert_eq!(said(&wire, cut), (expected.to_vec(), true, None), "by {cut}");
    }
}

#[test]
fn errors_have_their_code() {
    let open = frame(kind::HEADERS, 0, 1, b"x");
    for (name, wire, code) in [
        ("a frame too long", frame(0x77, 0, 0, &vec![0; FRAME_MOST + 1]), Code::FrameSizeError),
        ("a ping of 6 bytes", frame(kind::PING, 0, 0, &[0; 6]), Code::FrameSizeError),
        ("an acknowledgment with payload", frame(kind::SETTINGS, 1, 0, &[0; 6]), Code::FrameSizeError),
        ("half a setting", frame(kind::SETTINGS, 0, 0, &[0; 3]), Code::FrameSizeError),
        ("a reset of 3 bytes", frame(kind::RST_STREAM, 0, 1, &[0; 3]), Code::FrameSizeError),
        ("a window of 3 bytes", frame(kind::WINDOW_UPDATE, 0, 1, &[0; 3]), Code::FrameSizeError),
        ("an urgency of nothing", frame(kind::PRIORITY_UPDATE, 0, 0, &[0; 3]), Code::FrameSizeError),
        ("the urgency of no stream", frame(kind::PRIORITY_UPDATE, 0, 0, &[0; 4]), Code::ProtocolError),
        ("half a priority", frame(kind::HEADERS, 0x24, 1, &[0; 4]), Code::FrameSizeError),
        ("no length of padding", frame(kind::HEADERS, 0xc, 1, &[]), Code::FrameSizeError),
        ("more padding than header", frame(kind::HEADERS, 0xc, 1, &[3, 1, 2]), Code::ProtocolError),
        ("more padding than data", frame(kind::DATA, 0x8, 1, &[3, 1, 2]), Code::ProtocolError),
        ("no length of padding of data", frame(kind::DATA, 0x8, 1, &[]), Code::FrameSizeError),
        ("data of the connection", frame(kind::DATA, 0, 0, &[0]), Code::ProtocolError),
        ("headers of the connection", frame(kind::HEADERS, 4, 0, &[0]), Code::ProtocolError),
        ("settings of a stream", frame(kind::SETTINGS, 0, 1, &[]), Code::ProtocolError),
        ("a ping of a stream", frame(kind::PING, 0, 1, &[0; 8]), Code::ProtocolError),
        ("a window that does not open", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), Code::ProtocolError),
        ("a window of 2^31", frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]), Code::FlowControlError),
        ("a promise", frame(kind::PUSH_PROMISE, 4, 1, &[0; 5]), Code::ProtocolError),
        ("more of nothing", frame(kind::CONTINUATION, 4, 1, b"x"), Code::ProtocolError),
        ("a ping within a block", [open.clone(), frame(kind::PING, 0, 0, &[0; 8])].concat(), Code::ProtocolError),
        ("more of another", [open.clone(), frame(kind::CONTINUATION, 4, 3, b"x")].concat(), Code::ProtocolError),
        (
            "a block too long",
            [open.clone(), frame(9, 0, 1, &[0; FRAME_MOST]).repeat(3)].concat(),
            Code::EnhanceYourCalm,
        ),
        ("a block of too many pieces", [open, frame(9, 0, 1, b"x").repeat(65)].concat(), Code::EnhanceYourCalm),
        ("nothing, often", frame(kind::DATA, 0, 1, b"").repeat(101), Code::EnhanceYourCalm),
    ] {
        assert_eq!(broken(&wire), Some(code), "{name}");
    }
    let settings = frame(kind::SETTINGS, 0, 0, &[]);
    for (wire, fine) in [
        ([&PREFACE[..], &settings].concat(), true),
        ([&PREFACE[..], &frame(kind::SETTINGS, 1, 0, &[])].concat(), false),
        ([&PREFACE[..], &frame(kind::PING, 0, 0, &[0; 8])].concat(), false),
        (settings, false),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
    ] {
        assert_eq!(read(&wire, 5).2.map(|broken| broken.code), (!fine).then_some(Code::ProtocolError), "{wire:?}");
    }
}

proptest::proptest! {
    /// Any bytes, in any pieces: no panic, and the pieces do not matter.
    #[test]
    fn pieces_do_not_matter(
        parts in proptest::collection::vec((0_u8..20, 0_u8..0x30, 0_u32..6, proptest::collection::vec(0_u8..9, 0..14)), 0..60),
        cut in 1_usize..40,
    ) {
        let wire: Vec<u8> = parts.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)).collect();
        proptest::prop_assert_eq!(said(&wire, 9_999), said(&wire, cut));
    }
}
