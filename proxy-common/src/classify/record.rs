//! Records: the fields that few rules look at, as ranges beside a rule's bit. Read when a rule is a candidate already.

use super::{RowTable, row_place, word};
use crate::parse::Packet;

/// Words of a record.
const RECORD_WORDS: u64 = 2;

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
}

impl Record {
    /// As it stands in the row table.
    pub const fn words(&self) -> [u64; RECORD_WORDS as usize] {
        let [[t, u], [c, d]] = [self.icmp_type, self.icmp_code];
        let first = t as u64 | (u as u64) << 8 | (c as u64) << 16 | (d as u64) << 24;
        [first | pair(self.vlan) << 32, pair(self.window)]
    }
}

const fn pair([low, high]: [u16; 2]) -> u64 {
    low as u64 | (high as u64) << 16
}

/// Whether the packet lies in all ranges of a record.
#[inline(always)]
pub(super) fn holds(packet: &Packet, rows: &RowTable, record: u64) -> bool {
    let at = rows[row_place::RECORDS] + record * RECORD_WORDS;
    let (first, second) = (word(rows, at), word(rows, at + 1));
    let icmp = within(first & 0xff, packet.icmp_type.into(), (first >> 8) & 0xff)
        && within((first >> 16) & 0xff, packet.icmp_code.into(), (first >> 24) & 0xff);
    icmp && within((first >> 32) & 0xffff, packet.vlan.into(), first >> 48)
        && within(second & 0xffff, packet.window.into(), (second >> 16) & 0xffff)
}

#[inline(always)]
fn within(low: u64, value: u64, high: u64) -> bool {
    low <= value && value <= high
}
