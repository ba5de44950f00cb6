//! Probes: what is asked of the packet's bytes, of rules that are candidates after everything else: bits at a place, and the
//! fingerprint of a SYN.

use core::hint::black_box;

use super::{RowTable, word};
use crate::abi::proto;
use crate::fingerprint::{PATTERN_WORDS, READ, Syn, SynPattern, UNREAD};
use crate::parse::{Frame, Packet};

/// Words of a probe.
pub const PROBE_WORDS: usize = PATTERN_WORDS;
/// Most probes of one rule.
pub const MAX_PROBES: usize = 8;
/// Most bytes that one probe looks at.
pub const PROBE_BYTES: u8 = 8;
/// Largest [`Bits::offset`]: with the headers before it, what a probe reads lies in the first page of the frame.
pub const MAX_PROBE_OFFSET: u16 = 1_024;

/// In the low byte of a probe: it asks for a SYN, not for bits.
const SYN: u64 = 1;
/// In the low byte of a probe: it holds where the packet does not fit.
const NEGATED: u64 = 2;
/// In the low byte of a probe: another one of the same rule follows.
const MORE: u64 = 4;

/// What a probe's offset counts from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Base {
    /// The IP header.
    Network = 0,
    /// The TCP, UDP or ICMP header.
    Upper = 1,
    /// Behind it.
    Payload = 2,
}

/// Bits at a place: the big-endian number of `length` bytes, masked, lies in a range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bits {
    /// Packets of this protocol only, [`proto::ICMP`] for either; 0 for all.
    pub proto: u8,
    /// What `offset` counts from.
    pub base: Base,
    /// Bytes, at most [`MAX_PROBE_OFFSET`].
    pub offset: u16,
    /// Bytes, 1 to [`PROBE_BYTES`].
    pub length: u8,
    /// Bits that count.
    pub mask: u64,
    /// Least masked number.
    pub low: u64,
    /// Largest masked number.
    pub high: u64,
}

impl Bits {
    /// Whether the packet has these bytes, and they fit. What is cut short, of another protocol, or behind the end of the IP
    /// packet is missing, and does not.
    #[inline(always)]
    pub fn hold<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet) -> bool {
        let icmp = self.proto == proto::ICMP && packet.proto == proto::ICMPV6;
        if self.proto != 0 && self.proto != packet.proto && !icmp {
            return false;
        }
        let start = match self.base {
            Base::Network => packet.network,
            Base::Upper => packet.upper,
            Base::Payload => packet.payload,
        };
        let at = usize::from(start) + usize::from(self.offset);
        let length = usize::from(self.length);
        if start == 0 || at + length > packet.end() {
            return false;
        }
        match number(frame, at, length) {
            Some(number) => self.low <= number & self.mask && number & self.mask <= self.high,
            None => false,
        }
    }
}

/// `length` bytes at `at`, big-endian: the last of the eight bytes that end there. What precedes them is a header at least.
/// In one read, and never of a single byte: the verifier takes no bound from "a byte before the end".
#[inline(always)]
fn number<F: Frame + ?Sized>(frame: &F, at: usize, length: usize) -> Option<u64> {
    const WHOLE: usize = PROBE_BYTES as usize;
    let behind = at + length;
    if length == 0 || length > WHOLE || behind < WHOLE {
        return None;
    }
    // Unknown to the compiler, which would compare the end of the bytes and read from there back.
    let bytes: [u8; WHOLE] = frame.bytes(black_box(behind - WHOLE))?;
    Some(u64::from_be_bytes(bytes) & (u64::MAX >> (8 * (WHOLE - length))))
}

/// One question, and whether the answer is to be no.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Probe {
    /// The rule wants what does not fit, and what is missing.
    pub negated: bool,
    /// What is asked.
    pub question: Question,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Question {
    /// For bits.
    Bits(Bits),
    /// For a SYN that looks like this.
    Syn(SynPattern),
}

impl Probe {
    /// As it stands in the row table; `more` where another probe of the same rule follows.
    pub const fn words(&self, more: bool) -> [u64; PROBE_WORDS] {
        let (mut words, kind) = match self.question {
            Question::Bits(Bits { proto, base, offset, length, mask, low, high }) => {
                let [first, second] = offset.to_le_bytes();
                ([u64::from_le_bytes([0, proto, base as u8, length, first, second, 0, 0]), mask, low, high], 0)
            }
            Question::Syn(pattern) => (pattern.words(), SYN),
        };
        words[0] |= kind | if self.negated { NEGATED } else { 0 } | if more { MORE } else { 0 };
        words
    }

    /// From the row table.
    #[inline(always)]
    pub const fn of(words: [u64; PROBE_WORDS]) -> Self {
        let [first, second, third, fourth] = words;
        let question = if first & SYN != 0 {
            Question::Syn(SynPattern::of([first & !0xff, second, third, fourth]))
        } else {
            let [_, proto, base, length, low, high, _, _] = first.to_le_bytes();
            let base = match base {
                0 => Base::Network,
                1 => Base::Upper,
                _ => Base::Payload,
            };
            let offset = u16::from_le_bytes([low, high]);
            Question::Bits(Bits { proto, base, offset, length, mask: second, low: third, high: fourth })
        };
        Self { negated: first & NEGATED != 0, question }
    }

    /// Whether the packet answers it as wanted; [`Answer::WantsSyn`] where `syn` has to be read first.
    #[inline(always)]
    pub fn ask<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet, syn: &Syn) -> Answer {
        let fits = match &self.question {
            Question::Bits(bits) => bits.hold(frame, packet),
            Question::Syn(_) if syn.state == UNREAD => return Answer::WantsSyn,
            Question::Syn(pattern) => syn.state == READ && pattern.holds(syn),
        };
        if fits == self.negated { Answer::No } else { Answer::Yes }
    }
}

/// What comes of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Answer {
    /// Not as wanted.
    No = 0,
    /// As wanted.
    Yes = 1,
    /// As wanted, and another probe of the same rule follows.
    YesSoFar = 2,
    /// To be asked again when the SYN was read.
    WantsSyn = 3,
}

/// Asks the probe at `at` of the row table.
#[inline(always)]
pub fn ask<F: Frame + ?Sized>(frame: &F, packet: &Packet, rows: &RowTable, at: u64, syn: &Syn) -> Answer {
    let first = word(rows, at);
    let probe = Probe::of([first, word(rows, at + 1), word(rows, at + 2), word(rows, at + 3)]);
    match probe.ask(frame, packet, syn) {
        Answer::Yes if first & MORE != 0 => Answer::YesSoFar,
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::frag;
    use crate::parse::{Parsed, parse};

    /// IPv4 and UDP with eight bytes of payload, and six of padding behind the packet.
    const FRAME: [u8; 14 + 20 + 8 + 8 + 6] = {
        let mut frame = [0xee; 56];
        (frame[12], frame[13]) = (8, 0);
        (frame[14], frame[15], frame[16], frame[17]) = (0x45, 0, 0, 36);
        (frame[20], frame[21], frame[22], frame[23]) = (0, 0, 64, proto::UDP);
        (frame[38], frame[39]) = (0, 16);
        (frame[42], frame[43], frame[44], frame[45]) = (0x12, 0x34, 0x56, 0x78);
        (frame[46], frame[47], frame[48], frame[49]) = (0x9a, 0xbc, 0xde, 0xf0);
        frame
    };

    const BITS: Bits = Bits {
        proto: proto::UDP,
        base: Base::Payload,
        offset: 0,
        length: 8,
        mask: u64::MAX,
        low: 0x1234_5678_9abc_def0,
        high: 0x1234_5678_9abc_def0,
    };

    #[test]
    fn words_are_read_back() {
        for negated in [false, true] {
            for question in [
                Question::Bits(Bits { base: Base::Network, offset: 777, proto: 0, ..BITS }),
                Question::Bits(BITS),
                Question::Syn(SynPattern { mss: Some(536), ..SynPattern::ANY }),
            ] {
                let probe = Probe { negated, question };
                assert_eq!(Probe::of(probe.words(false)), probe);
                assert_eq!(Probe::of(probe.words(true)), probe);
            }
        }
    }

    #[test]
    fn bits_are_read_where_they_are() {
        let Parsed::Ip(packet) = parse(&FRAME[..]) else { panic!("an IP packet") };
        let hold = |bits: Bits, packet: &Packet| bits.hold(&FRAME[..], packet);
        assert!(hold(BITS, &packet));
        assert!(!hold(Bits { low: BITS.low + 1, high: u64::MAX, ..BITS }, &packet));
        assert!(hold(Bits { mask: 0xff00, low: 0xde00, high: 0xde00, ..BITS }, &packet));
        assert!(hold(Bits { offset: 2, length: 3, low: 0x56_789a, high: 0x56_789a, ..BITS }, &packet));
        assert!(hold(Bits { base: Base::Upper, offset: 4, length: 2, low: 16, high: 16, ..BITS }, &packet));
        assert!(hold(Bits { base: Base::Network, offset: 8, length: 1, low: 64, high: 64, ..BITS }, &packet));
        assert!(!hold(Bits { proto: proto::TCP, ..BITS }, &packet), "of another protocol");
        let any = Bits { mask: 0, low: 0, high: 0, ..BITS };
        assert!(hold(Bits { offset: 7, length: 1, ..any }, &packet));
        assert!(!hold(Bits { offset: 7, length: 2, ..any }, &packet), "padding is not the packet's");
        assert!(!hold(any, &Packet { frag: frag::LATER, upper: 0, payload: 0, ..packet }), "a later fragment has none");
        assert!(!any.hold(&FRAME[..46], &packet), "of which the bytes are not known");
    }
}
