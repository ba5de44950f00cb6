//! A client's streams that go one way (RFC 9114 section 6.2): what each says that it is, the frames of the control stream, and QPACK's
//! instructions (RFC 9204 section 4), of which there are few without a dynamic table. Bytes in; what they tell, or a refusal, out.

use super::number::{Number, take};
use super::{Code, kind};
use crate::http2::priority::Urgency;

/// Types of streams.
const CONTROL: u64 = 0;
const PUSH: u64 = 1;
const ENCODER: u64 = 2;
const DECODER: u64 = 3;

/// The one instruction for a dynamic table of no bytes: that it has none (RFC 9204 section 4.3.1).
const NO_TABLE: u8 = 0x20;
/// Most bytes of a stream's number behind its first (RFC 7541 section 5.1; stream numbers have 62 bits).
const NUMBER_BYTES: u8 = 9;
/// Settings of HTTP/2 that mean nothing here (RFC 9114 section 7.2.4.1).
const SETTINGS_OF_HTTP2: [u64; 5] = [0, 2, 3, 4, 5];

/// What a stream says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Of which each client has one, for as long as the connection lives.
    Control,
    /// The same.
    Encoder,
    /// The same.
    Decoder,
    /// A type that nobody knows; what it carries is not read.
    Other,
}

/// What is learned of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// What it is.
    Type(Type),
    /// How urgent a request is by now: its stream, and that (RFC 9218 section 7.2).
    Priority(u64, Urgency),
    /// The client is about to leave (RFC 9114 section 5.2).
    Leaves,
}

/// What a stream must not bring; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A frame is longer than the bound.
    TooLarge,
    /// Any other reason.
    Wrong(Code),
}

impl Refused {
    /// What the client is told of it.
    pub fn code(self) -> Code {
        match self {
            Self::TooLarge => Code::ExcessiveLoad,
            Self::Wrong(code) => code,
        }
    }
}

/// Follows what one stream brings.
#[derive(Debug)]
pub struct OneWay {
    state: State,
    number: Number,
    bound: u64,
    settled: bool,
    /// The least that a client has given up so far, and the most pushes that it has allowed.
    goaway: Option<u64>,
    pushes: Option<u64>,
    /// Of a frame that means something.
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The stream's type comes first.
    Stream,
    Type,
    /// Of a frame whose type this is.
    Length(u64),
    /// Of a frame of that type, so many bytes are left.
    Payload(u64, u64),
    /// Of QPACK, about our decoder's table.
    Encoder,
    /// Of QPACK, about our encoder's; so many bytes more may belong to the instruction.
    Decoder(u8),
    /// It is not read.
    Other,
}

impl OneWay {
    /// A stream of which nothing has come, whose frames have at most `bound` bytes.
    pub fn new(bound: u64) -> Self {
        Self {
            state: State::Stream,
            number: Number::default(),
            bound,
            settled: false,
            goaway: None,
            pushes: None,
            payload: Vec::new(),
        }
    }

    /// Takes the next bytes, and tells what they say.
    ///
    /// # Errors
    /// They say what may not be said.
    pub fn feed(&mut self, mut bytes: &[u8], tell: &mut dyn FnMut(Told)) -> Result<(), Refused> {
        loop {
            match self.state {
                State::Other => return Ok(()),
                State::Encoder => {
                    let none = bytes.iter().all(|byte| *byte == NO_TABLE);
                    return if none { Ok(()) } else { Err(Refused::Wrong(Code::EncoderStreamError)) };
                }
                State::Decoder(more) => {
                    let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
                    bytes = rest;
                    let more = cancellation(*byte, more).ok_or(Refused::Wrong(Code::DecoderStreamError))?;
                    self.state = State::Decoder(more);
                }
                State::Payload(kind, 0) => {
                    self.frame(kind, tell).map_err(Refused::Wrong)?;
                    self.payload.clear();
                    self.state = State::Type;
                }
                State::Payload(kind, left) => {
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    let (piece, rest) = bytes.split_at(left.min(bytes.len() as u64) as usize);
                    bytes = rest;
                    if has_meaning(kind) {
                        self.payload.extend_from_slice(piece);
                    }
                    self.state = State::Payload(kind, left - piece.len() as u64);
                }
                State::Stream | State::Type | State::Length(_) => {
                    let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
                    bytes = rest;
                    if let Some(number) = self.number.take(*first) {
                        self.state = self.next(number, tell)?;
                    }
                }
            }
        }
    }

    fn next(&mut self, number: u64, tell: &mut dyn FnMut(Told)) -> Result<State, Refused> {
        match self.state {
            State::Stream => {
                let (kind, state) = match number {
                    CONTROL => (Type::Control, State::Type),
                    ENCODER => (Type::Encoder, State::Encoder),
                    DECODER => (Type::Decoder, State::Decoder(0)),
                    // Only servers push.
                    PUSH => return Err(Refused::Wrong(Code::StreamCreationError)),
                    _ => (Type::Other, State::Other),
                };
                tell(Told::Type(kind));
                Ok(state)
            }
            State::Length(_) if number > self.bound => Err(Refused::TooLarge),
            State::Length(kind) => Ok(State::Payload(kind, number)),
            _ => self.begin(number).map_err(Refused::Wrong),
        }
    }

    /// A frame of this type comes.
    fn begin(&mut self, number: u64) -> Result<State, Code> {
        if !std::mem::replace(&mut self.settled, true) {
            return if number == kind::SETTINGS { Ok(State::Length(number)) } else { Err(Code::MissingSettings) };
        }
        match number {
            kind::DATA | kind::HEADERS | kind::SETTINGS | kind::PUSH_PROMISE => Err(Code::FrameUnexpected),
            other if kind::OF_HTTP2.contains(&other) => Err(Code::FrameUnexpected),
            other => Ok(State::Length(other)),
        }
    }

    /// A frame of this type has come whole.
    fn frame(&mut self, kind: u64, tell: &mut dyn FnMut(Told)) -> Result<(), Code> {
        let mut rest = &*self.payload;
        let mut alone = || take(&mut rest).filter(|_| rest.is_empty()).ok_or(Code::FrameError);
        match kind {
            kind::SETTINGS => settings(&self.payload),
            kind::GOAWAY => {
                let id = alone()?;
                let before = self.goaway.replace(id);
                if before.is_some_and(|before| before < id) {
                    return Err(Code::IdError);
                }
                tell(Told::Leaves);
                Ok(())
            }
            kind::MAX_PUSH_ID => {
                let id = alone()?;
                let before = self.pushes.replace(id);
                if before.is_some_and(|before| before > id) { Err(Code::IdError) } else { Ok(()) }
            }
            // Nothing was ever pushed.
            kind::CANCEL_PUSH => alone().and(Err(Code::IdError)),
            update if update == kind::PRIORITY_UPDATE.0 => {
                let stream = take(&mut rest).ok_or(Code::FrameError)?;
                // Streams of requests are those that clients open both ways (RFC 9000 section 2.1).
                if stream & 3 != 0 {
                    return Err(Code::IdError);
                }
                tell(Told::Priority(stream, Urgency::of(rest)));
                Ok(())
            }
            update if update == kind::PRIORITY_UPDATE.1 => Err(Code::IdError),
            _ => Ok(()),
        }
    }
}

fn has_meaning(kind: u64) -> bool {
    matches!(kind, kind::SETTINGS | kind::GOAWAY | kind::MAX_PUSH_ID | kind::CANCEL_PUSH)
        || kind == kind::PRIORITY_UPDATE.0
}

/// Whether settings may be so; what they say matters to none of ours: there is no dynamic table, no push, and answers are not so long.
fn settings(mut payload: &[u8]) -> Result<(), Code> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let id = take(&mut payload).ok_or(Code::FrameError)?;
        take(&mut payload).ok_or(Code::FrameError)?;
        seen.push(id);
    }
    seen.sort_unstable();
    let twice = seen.windows(2).any(|two| matches!(two, [one, other] if one == other));
    let wrong = twice || seen.iter().any(|id| SETTINGS_OF_HTTP2.contains(id));
    if wrong { Err(Code::SettingsError) } else { Ok(()) }
}

/// Takes a byte of the one instruction to an encoder that refers to nothing, Stream Cancellation (RFC 9204 section 4.4.2); `more`
/// bytes of it may be to come, and that is the answer.
fn cancellation(byte: u8, more: u8) -> Option<u8> {
    match (more, byte) {
        (0, 0x40..0x7f) => Some(0),
        (0, 0x7f) => Some(NUMBER_BYTES),
        (0, _) | (1, 0x80..) => None,
        (_, 0..0x80) => Some(0),
        (more, _) => Some(more - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of bytes at once and byte by byte, which must agree.
    fn judged(wire: &[u8]) -> Result<Vec<Told>, Refused> {
        let feed = |cut: usize| {
            let (mut stream, mut told) = (OneWay::new(100), Vec::new());
            wire.chunks(cut).try_for_each(|piece| stream.feed(piece, &mut |one| told.push(one))).map(|()| told)
        };
        let whole = feed(999);
        assert_eq!(feed(1), whole, "{wire:?}");
        whole
    }

    #[test]
    fn streams_say_what_they_are() {
        for (wire, kind) in [
            (&[0][..], Type::Control),
            (&[0x40, 2], Type::Encoder),
            (&[3], Type::Decoder),
            (&[0x21, 4, 0x40, 101], Type::Other),
        ] {
            assert_eq!(judged(wire), Ok(vec![Told::Type(kind)]), "{wire:?}");
        }
        assert_eq!(judged(&[1]), Err(Refused::Wrong(Code::StreamCreationError)));
    }

    #[test]
    fn the_control_stream_has_its_rules() {
        let wrong = |wire: &[u8]| judged(wire).err().map(Refused::code);
        for (wire, code) in [
            (&[0, 4, 0][..], None),
            (&[0, 4, 1, 9], Some(Code::FrameError)),
            (&[0, 4, 4, 6, 0x44, 0, 9, 1], Some(Code::FrameError)),
            (&[0, 4, 4, 6, 7, 0x33, 1, 0x21, 2, 7, 7], None),
            (&[0, 4, 0x40, 101], Some(Code::ExcessiveLoad)),
            (&[0, 4, 0, 0x21, 0x40, 101], Some(Code::ExcessiveLoad)),
            (&[0, 0x21, 0, 4, 0], Some(Code::MissingSettings)),
            (&[0, 7, 1, 0], Some(Code::MissingSettings)),
            (&[0, 4, 0, 4, 0], Some(Code::FrameUnexpected)),
            (&[0, 4, 0, 0, 0], Some(Code::FrameUnexpected)),
            (&[0, 4, 0, 1, 0], Some(Code::FrameUnexpected)),
            (&[0, 4, 0, 6, 0], Some(Code::FrameUnexpected)),
            (&[0, 4, 2, 2, 0], Some(Code::SettingsError)),
            (&[0, 4, 4, 6, 0, 6, 1], Some(Code::SettingsError)),
            (&[0, 4, 0, 7, 1, 8, 7, 1, 4, 7, 1, 4], None),
            (&[0, 4, 0, 7, 1, 4, 7, 1, 8], Some(Code::IdError)),
            (&[0, 4, 0, 7, 0], Some(Code::FrameError)),
            (&[0, 4, 0, 7, 2, 4, 4], Some(Code::FrameError)),
            (&[0, 4, 0, 13, 1, 4, 13, 1, 8], None),
            (&[0, 4, 0, 13, 1, 8, 13, 1, 4], Some(Code::IdError)),
            (&[0, 4, 0, 3, 1, 0], Some(Code::IdError)),
            (&[0, 4, 0, 0x80, 0x0f, 0x07, 0x01, 1, 0], Some(Code::IdError)),
            (&[0, 4, 0, 0x80, 0x0f, 0x07, 0x00, 1, 2], Some(Code::IdError)),
        ] {
            assert_eq!(wrong(wire), code, "{wire:?}");
        }
        let told = judged(&[0, 4, 0, 0x80, 0x0f, 0x07, 0x00, 4, 8, b'u', b'=', b'1']);
        assert_eq!(told, Ok(vec![Told::Type(Type::Control), Told::Priority(8, Urgency::of(b"u=1"))]));
        assert_eq!(judged(&[0, 4, 0, 7, 1, 0]), Ok(vec![Told::Type(Type::Control), Told::Leaves]));
    }

    #[test]
    fn instructions_are_for_tables_that_there_are() {
        let (encoder, decoder) = (Some(Code::EncoderStreamError), Some(Code::DecoderStreamError));
        for (wire, expected) in [
            (&[2][..], None),
            (&[0x40, 2, 0x20, 0x20], None),
            (&[2, 0x3f, 0xe1, 0x1f], encoder),
            (&[2, 0x20, 0x00], encoder),
            (&[2, 0x46, b'x'], encoder),
            (&[3, 0x40, 0x7e, 0x7f, 0, 0x7f, 0x80, 1, 0x44], None),
            (&[3, 0x44, 0x84], decoder),
            (&[3, 0], decoder),
            (&[3, 0x01], decoder),
            (&[3, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x40], None),
            (&[3, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], decoder),
        ] {
            assert_eq!(judged(wire).err().map(Refused::code), expected, "{wire:?}");
        }
    }

    proptest::proptest! {
        /// Any bytes: no panic, and the pieces do not matter.
        #[test]
        fn any_bytes_will_do(wire in proptest::collection::vec(0_u8..0x48, 0..300)) {
            let _ = judged(&wire);
        }
    }
}
