//! The frames of one request stream (RFC 9114 section 4.1): a header, content, trailers, and whatever else stands between them and is
//! passed over. Bytes in, a message's parts out; content goes on as it comes, and of the rest a frame has a bound.

use bytes::{Buf as _, Bytes, BytesMut};

use super::number::Number;
use super::{Code, kind};

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The header's block of fields.
    Header(Bytes),
    /// Some of the content.
    Data(Bytes),
    /// The trailers' block of fields.
    Trailers(Bytes),
}

/// What a stream must not bring; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A frame is longer than the bound.
    TooLarge,
    /// A frame stands where it may not.
    Unexpected,
}

impl Refused {
    /// What the client is told of it.
    pub fn code(self) -> Code {
        match self {
            Self::TooLarge => Code::ExcessiveLoad,
            Self::Unexpected => Code::FrameUnexpected,
        }
    }
}

/// Reads what one stream brings.
#[derive(Debug)]
pub struct Frames {
    state: State,
    number: Number,
    bound: u64,
    stage: Stage,
    /// The beginning of a block.
    held: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Type,
    /// Of a frame whose type this is.
    Length(u64),
    /// So many bytes are left of content, of a block, of something else.
    Data(u64),
    Block(u64),
    Other(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    Content,
    Behind,
}

impl Frames {
    /// A stream whose frames but for DATA have at most `bound` bytes.
    pub fn new(bound: u64) -> Self {
        Self { state: State::Type, number: Number::default(), bound, stage: Stage::Header, held: BytesMut::new() }
    }

    /// The next part, whose bytes are taken away; None where more has to come, and all of it was taken.
    ///
    /// # Errors
    /// A frame may not be, or not there.
    pub fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Part>, Refused> {
        loop {
            match self.state {
                State::Type | State::Length(_) => {
                    let Some(first) = bytes.first().copied() else { return Ok(None) };
                    bytes.advance(1);
                    if let Some(number) = self.number.take(first) {
                        self.state = self.next(number)?;
                    }
                }
                State::Data(0) | State::Other(0) => self.state = State::Type,
                State::Data(left) => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let piece = bytes.split_to(left.min(bytes.len() as u64) as usize);
                    self.state = State::Data(left - piece.len() as u64);
                    return Ok(Some(Part::Data(piece)));
                }
                State::Block(left) => {
                    // As a rule it comes whole.
                    let whole = left <= bytes.len() as u64;
                    let piece = bytes.split_to(left.min(bytes.len() as u64) as usize);
                    if !whole {
                        self.held.extend_from_slice(&piece);
                        self.state = State::Block(left - piece.len() as u64);
                        return Ok(None);
                    }
                    self.state = State::Type;
                    return Ok(Some(self.block(piece)));
                }
                State::Other(left) => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let count = left.min(bytes.len() as u64);
                    bytes.advance(count as usize);
                    self.state = State::Other(left - count);
                }
            }
        }
    }

    /// Whether the stream may end here: not within a frame.
    pub fn may_end(&self) -> bool {
        matches!(self.state, State::Type | State::Data(0) | State::Other(0)) && !self.number.is_partial()
    }

    fn block(&mut self, piece: Bytes) -> Part {
        let block = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            std::mem::take(&mut self.held).freeze()
        };
        if self.stage == Stage::Header {
            self.stage = Stage::Content;
            Part::Header(block)
        } else {
            self.stage = Stage::Behind;
            Part::Trailers(block)
        }
    }

    fn next(&self, number: u64) -> Result<State, Refused> {
        let State::Length(kind) = self.state else {
            let allowed = match number {
                kind::DATA => self.stage == Stage::Content,
                kind::HEADERS => self.stage != Stage::Behind,
                kind::CANCEL_PUSH | kind::SETTINGS | kind::PUSH_PROMISE | kind::GOAWAY | kind::MAX_PUSH_ID => false,
                other => {
                    let (request, push) = kind::PRIORITY_UPDATE;
                    !kind::OF_HTTP2.contains(&other) && other != request && other != push
                }
            };
            return if allowed { Ok(State::Length(number)) } else { Err(Refused::Unexpected) };
        };
        match kind {
            kind::DATA => Ok(State::Data(number)),
            _ if number > self.bound => Err(Refused::TooLarge),
            kind::HEADERS => Ok(State::Block(number)),
            _ => Ok(State::Other(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream's parts, content in one piece; whether it may end; what was refused.
    fn parts(wire: &[u8], cut: usize) -> (Vec<Part>, bool, Option<Refused>) {
        let mut frames = Frames::new(100);
        let mut found: Vec<Part> = Vec::new();
        for piece in wire.chunks(cut) {
            let mut bytes = Bytes::copy_from_slice(piece);
            loop {
                match frames.take(&mut bytes) {
                    Ok(None) => break,
                    Ok(Some(Part::Data(more))) => match found.last_mut() {
                        Some(Part::Data(data)) => *data = [&data[..], &more].concat().into(),
                        _ => found.push(Part::Data(more)),
                    },
                    Ok(Some(part)) => found.push(part),
                    Err(refused) => return (found, false, Some(refused)),
                }
            }
            assert!(bytes.is_empty());
        }
        (found, frames.may_end(), None)
    }

    #[test]
    fn a_message_comes_in_parts() {
        let wire = [1, 2, 0, 0, 0x21, 3, 9, 9, 9, 0, 2, 7, 8, 0, 0, 0, 1, 9, 1, 3, 0, 0, 5, 0x21, 0];
        for cut in 1..=wire.len() {
            let (found, may_end, refused) = parts(&wire, cut);
            let content = Bytes::from_static(&[7, 8, 9]);
            let (header, trailers) = (Bytes::from_static(&[0, 0]), Bytes::from_static(&[0, 0, 5]));
            assert_eq!(found, [Part::Header(header), Part::Data(content), Part::Trailers(trailers)], "by {cut}");
            assert_eq!((may_end, refused), (true, None));
        }
        for end in [1, 2, 3, 5, 6, 10, 11, 12, 20] {
            assert!(!parts(&wire[..end], 99).1, "{end}");
        }
    }

    #[test]
    fn frames_have_their_place_and_a_bound() {
        let block = |length: u8| [&[1, 0x40, length][..], &vec![7; length.into()]].concat();
        let refused = |wire: &[u8]| parts(wire, 7).2;
        assert_eq!(refused(&block(100)), None);
        assert_eq!(refused(&[1, 0x40, 101]), Some(Refused::TooLarge));
        // Eight bytes of length; an unknown type of four.
        assert_eq!(refused(&[1, 0xc0, 0, 0, 0, 0, 0, 1, 0]), Some(Refused::TooLarge));
        assert_eq!(refused(&[0x80, 0, 0x77, 0x21, 0x41, 0]), Some(Refused::TooLarge));
        let data = [&[0, 0x44, 0][..], &[1; 1_024]].concat();
        assert_eq!(refused(&[block(3), data.clone(), block(3)].concat()), None);
        assert_eq!(refused(&[block(3), block(3), data.clone()].concat()), Some(Refused::Unexpected), "behind all");
        assert_eq!(refused(&[block(3), data.clone(), block(3), block(3)].concat()), Some(Refused::Unexpected));
        assert_eq!(refused(&data), Some(Refused::Unexpected), "before the header");
        for kind in [2, 3, 4, 5, 6, 7, 8, 9, 13] {
            assert_eq!(refused(&[block(3), vec![kind, 0]].concat()), Some(Refused::Unexpected), "{kind}");
        }
        assert_eq!(refused(&[0x80, 0x0f, 0x07, 0x00, 0]), Some(Refused::Unexpected), "of the control stream");
    }

    proptest::proptest! {
        /// Any bytes, in any pieces: no panic, and the pieces do not matter.
        #[test]
        fn pieces_do_not_matter(wire in proptest::collection::vec(0_u8..0x48, 0..300), cut in 1_usize..40) {
            proptest::prop_assert_eq!(parts(&wire, 999), parts(&wire, cut));
        }
    }
}
