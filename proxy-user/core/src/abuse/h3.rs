//! HTTP/3 frames on one stream of a client (RFC 9114 section 7.1), followed beside the implementation, which puts together whatever
//! is not DATA before it looks at it: how long such a frame may be; and QPACK's instructions (RFC 9204 section 4), which it does not
//! read at all. Bytes in, a refusal out; nothing is kept of what frames carry.

/// Frames whose payload goes on as it comes.
const DATA: u64 = 0;
/// Type of the control stream (section 6.2.1), the only one towards us that carries frames.
const CONTROL: u64 = 0;

/// Types of QPACK's streams (RFC 9204 section 4.2).
const ENCODER: u64 = 2;
const DECODER: u64 = 3;
/// The one instruction for a dynamic table of no bytes: that it has none (RFC 9204 section 4.3.1).
const NO_TABLE: u8 = 0x20;
/// Most bytes of a stream's number behind its first (RFC 7541 section 5.1; stream numbers have 62 bits).
const NUMBER_BYTES: u8 = 9;

/// What a stream must not bring; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A frame is longer than the bound.
    TooLarge,
    /// An instruction for a dynamic table, of which none was offered (RFC 9204 section 3.2.3).
    Encoder,
    /// An instruction about field blocks that refer to a dynamic table, of which none was sent (RFC 9204 section 4.4).
    Decoder,
}

/// Follows what one stream brings.
#[derive(Debug)]
pub struct Frames {
    state: State,
    number: Number,
    bound: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A stream's type comes first, unless requests come on it.
    Stream,
    Type,
    /// Of a frame whose type this is.
    Length(u64),
    /// So many bytes of a payload are left.
    Payload(u64),
    /// Of QPACK, about our decoder's table.
    Encoder,
    /// Of QPACK, about our encoder's; so many bytes more may belong to the instruction.
    Decoder(u8),
    /// It carries no frames.
    Other,
}

/// A number of variable length (RFC 9000 section 16), as far as it has come.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    value: u64,
    /// Bytes that are to come.
    left: u8,
    begun: bool,
}

impl Number {
    /// Takes a byte; the number if it is whole.
    fn take(&mut self, byte: u8) -> Option<u64> {
        if self.begun {
            self.value = self.value << 8 | u64::from(byte);
            self.left -= 1;
        } else {
            *self = Self { value: u64::from(byte & 0x3f), left: (1 << (byte >> 6)) - 1, begun: true };
        }
        (self.left == 0).then(|| std::mem::take(self).value)
    }
}

impl Frames {
    /// A stream of a request, whose frames but for DATA have at most `bound` bytes.
    pub fn of_request(bound: u64) -> Self {
        Self { state: State::Type, number: Number::default(), bound }
    }

    /// A stream that goes one way, which says first what it is.
    pub fn of_one_way(bound: u64) -> Self {
        Self { state: State::Stream, ..Self::of_request(bound) }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// They announce a frame beyond the bound, or say what QPACK does not allow here.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        loop {
            match self.state {
                State::Other => return Ok(()),
                State::Encoder => {
                    let none = bytes.iter().all(|byte| *byte == NO_TABLE);
                    return if none { Ok(()) } else { Err(Refused::Encoder) };
                }
                State::Decoder(more) => {
                    let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
                    bytes = rest;
                    self.state = State::Decoder(cancellation(*byte, more).ok_or(Refused::Decoder)?);
                }
                State::Payload(left) => {
                    let taken = left.min(bytes.len() as u64);
                    bytes = bytes.get(taken as usize..).unwrap_or_default();
                    self.state = if taken == left { State::Type } else { State::Payload(left - taken) };
                    if bytes.is_empty() {
                        return Ok(());
                    }
                }
                State::Stream | State::Type | State::Length(_) => {
                    let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
                    bytes = rest;
                    if let Some(number) = self.number.take(*first) {
                        self.state = self.next(number)?;
                    }
                }
            }
        }
    }

    /// Whether the stream is one of QPACK's.
    pub fn is_instructions(&self) -> bool {
        matches!(self.state, State::Encoder | State::Decoder(_))
    }

    fn next(&self, number: u64) -> Result<State, Refused> {
        Ok(match self.state {
            State::Stream if number == CONTROL => State::Type,
            State::Stream if number == ENCODER => State::Encoder,
            State::Stream if number == DECODER => State::Decoder(0),
            State::Stream => State::Other,
            State::Length(kind) if kind != DATA && number > self.bound => return Err(Refused::TooLarge),
            State::Length(_) => State::Payload(number),
            _ => State::Length(number),
        })
    }
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
    fn judged(frames: fn(u64) -> Frames, wire: &[u8]) -> Result<(), Refused> {
        let (whole, mut split) = (frames(100).feed(wire), frames(100));
        let split = wire.iter().try_for_each(|byte| split.feed(std::slice::from_ref(byte)));
        assert_eq!(whole, split, "{wire:?}");
        whole
    }

    #[test]
    fn what_is_put_together_has_a_bound() {
        let block = |length: u8| [&[1, 0x40, length][..], &vec![7; length.into()]].concat();
        assert_eq!(judged(Frames::of_request, &block(100)), Ok(()));
        assert_eq!(judged(Frames::of_request, &[1, 0x40, 101]), Err(Refused::TooLarge));
        // Eight bytes of length; an unknown type of four.
        assert_eq!(judged(Frames::of_request, &[1, 0xc0, 0, 0, 0, 0, 0, 1, 0]), Err(Refused::TooLarge));
        assert_eq!(judged(Frames::of_request, &[0x80, 0, 0x77, 0x21, 0x41, 0]), Err(Refused::TooLarge));
        let data = [&[0, 0x44, 0][..], &[1; 1_024]].concat();
        assert_eq!(judged(Frames::of_request, &[block(3), data.clone(), block(3)].concat()), Ok(()));
        assert_eq!(judged(Frames::of_request, &[block(3), data, vec![1, 0x40, 101]].concat()), Err(Refused::TooLarge));
        assert_eq!(
            judged(Frames::of_request, &[1, 0, 0, 0, 0x21, 0, 1, 0x40, 101]),
            Err(Refused::TooLarge),
            "empty ones before"
        );
    }

    #[test]
    fn streams_say_what_they_are() {
        assert_eq!(judged(Frames::of_one_way, &[0, 4, 0x40, 101]), Err(Refused::TooLarge));
        assert_eq!(judged(Frames::of_one_way, &[0, 4, 1, 9, 7, 0]), Ok(()));
        assert_eq!(judged(Frames::of_one_way, &[0x21, 4, 0x40, 101]), Ok(()), "of unknown ones nothing");
    }

    #[test]
    fn instructions_are_for_tables_that_there_are() {
        let (encoder, decoder) = (Err(Refused::Encoder), Err(Refused::Decoder));
        for (wire, expected) in [
            (&[2][..], Ok(())),
            (&[0x40, 2, 0x20, 0x20], Ok(())),
            (&[2, 0x3f, 0xe1, 0x1f], encoder),
            (&[2, 0x20, 0x00], encoder),
            (&[2, 0x46, b'x'], encoder),
            (&[3, 0x40, 0x7e, 0x7f, 0, 0x7f, 0x80, 1, 0x44], Ok(())),
            (&[3, 0x44, 0x84], decoder),
            (&[3, 0], decoder),
            (&[3, 0x01], decoder),
            (&[3, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x40], Ok(())),
            (&[3, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], decoder),
        ] {
            assert_eq!(judged(Frames::of_one_way, wire), expected, "{wire:?}");
        }
    }

    proptest::proptest! {
        /// Any bytes, in any pieces: no panic, and the pieces do not matter.
        #[test]
        fn pieces_do_not_matter(wire in proptest::collection::vec(0_u8..0x48, 0..300), cut in 1_usize..40) {
            for frames in [Frames::of_request, Frames::of_one_way] {
                let (mut whole, mut split) = (frames(20), frames(20));
                let pieces = wire.chunks(cut).try_for_each(|piece| split.feed(piece));
                proptest::prop_assert_eq!(whole.feed(&wire), pieces);
            }
        }
    }
}
