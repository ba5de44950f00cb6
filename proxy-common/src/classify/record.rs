//! Records: the fields that few rules look at, as ranges beside a rule's bit, and where its [`super::Probe`]s stand. Read when
//! a rule is a candidate already.

use super::{RowTable, row_place, word};
use crate::parse::{Frame, Packet};

/// Words of a record.
const RECORD_WORDS: u64 = 3;
/// In a record's second word: where the place of its first probe begins.
const PLACE_SHIFT: u32 = 32;
/// Bits of such a place.
const PLACES: u64 = 0xff_ffff;

/// Ranges of the rare fields, both ends included; a field that does not count has its full range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// ICMP or ICMPv6 type.
    pub icmp_type: [u8; 2],
    /// ICMP or ICMPv6 code.
    pub icmp_code: [u8; 2],
    /// VLAN id, or [`crate::parse::NO_VLAN`].
    pub vlan: [u16; 2],
    /// TCP window as sent.
    pub window: [u16; 2],
    /// Index of the interface.
    pub interface: [u32; 2],
    /// Place of its first probe in the row table; 0 for none.
    pub probes: u32,
}

impl Record {
    /// As it stands in the row table.
    pub const fn words(&self) -> [u64; RECORD_WORDS as usize] {
        let [[t, u], [c, d]] = [self.icmp_type, self.icmp_code];
        let first = t as u64 | (u as u64) << 8 | (c as u64) << 16 | (d as u64) << 24;
        let probes = (self.probes as u64 & PLACES) << PLACE_SHIFT;
        let [low, high] = self.interface;
        [first | pair(self.vlan) << 32, pair(self.window) | probes, low as u64 | (high as u64) << 32]
    }
}

const fn pair([low, high]: [u16; 2]) -> u64 {
    low as u64 | (high as u64) << 16
}

/// Whether the packet lies in all ranges of a record: if so, the place of its first probe, 0 for none.
#[inline(always)]
pub(super) fn holds<F: Frame + ?Sized>(frame: &F, packet: &Packet, rows: &RowTable, record: u64) -> Option<u64> {
    let at = rows[row_place::RECORDS] + record * RECORD_WORDS;
    let (first, second, third) = (word(rows, at), word(rows, at + 1), word(rows, at + 2));
    let outside = beyond(first & 0xff, packet.icmp_type.into(), (first >> 8) & 0xff)
        | beyond((first >> 16) & 0xff, packet.icmp_code.into(), (first >> 24) & 0xff)
        | beyond((first >> 32) & 0xffff, packet.vlan.into(), first >> 48)
        | beyond(second & 0xffff, packet.window.into(), (second >> 16) & 0xffff)
        | beyond(third & 0xffff_ffff, frame.interface().into(), third >> 32);
    let here = outside >> 63 == 0;
    here.then_some((second >> PLACE_SHIFT) & PLACES)
}

/// The top bit says whether a value is outside of its range. Numbers of at most 32 bits, and no branch for each of them,
/// which the verifier would follow.
#[inline(always)]
const fn beyond(low: u64, value: u64, high: u64) -> u64 {
    value.wrapping_sub(low) | high.wrapping_sub(value)
}
