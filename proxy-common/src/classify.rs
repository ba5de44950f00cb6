//! Packet rules as grouped bit vectors: which rule comes first for a packet, at a cost that does not grow with their number.
//!
//! Each rule is one bit. Every dimension of a packet (addresses, ports, length, TTL, and fragment state with protocol or
//! TCP flags) is looked up in a table that names a *row*: the rules whose condition on that dimension holds. A row has a
//! summary, one bit for each of its 64-bit words that is not zero. The AND of the summaries says which words can hold a
//! rule that matches, and only those are visited. A bit's place is chosen so that few words survive, and is not the
//! rule's priority: that, action and slot stand in an entry per bit.
//!
//! Fields that few rules look at are no dimensions: such a rule has a record, which is compared when the rule is the first
//! candidate of its word. Where no rule has one, that costs one test of a bit. What a rule wants of the packet's bytes is
//! asked last, of candidates whose record holds.
//!
//! The tables are made by `proxy-core` and are read here, in the kernel and on the host; nothing here writes them. They
//! are one pair of arrays for a revision. Every index is masked to its array: bounds hold whatever the tables say, and the
//! verifier sees that they do.

mod probe;
mod record;

mod work;

pub use probe::{Answer, Base, Bits, MAX_PROBE_OFFSET, MAX_PROBES, PROBE_BYTES, PROBE_WORDS, Probe, Question, ask};
pub use record::Record;
pub use work::{PENDING, Rest, WANTS_SYN, Work, check_pending, check_rule, check_word, find};

use crate::abi::proto;
use crate::addr::Addr;
use crate::parse::Packet;

/// Entries of the class table: 4 MiB, the largest array value that older kernels take (`KMALLOC_MAX_SIZE`).
pub const CLASS_ENTRIES: usize = 1 << 21;
/// Words of the row table: 4 MiB.
pub const ROW_WORDS: usize = 1 << 19;
/// Words of one row: 64 rules each, as many as a summary has bits.
pub const MAX_WORDS: usize = 64;
/// Rows that a class entry can name.
pub const MAX_ROWS: usize = 0x8000;

/// Look-ups of all dimensions: an entry is the number of a row, or with [`NODE`] set the place of a trie node.
pub type ClassTable = [u16; CLASS_ENTRIES];
/// Header, entries by bit, row descriptors and the rows' words.
pub type RowTable = [u64; ROW_WORDS];

/// A class entry with this bit leads on to the node of [`NODE_ENTRIES`] entries at its low bits × `NODE_ENTRIES`.
pub const NODE: u16 = 0x8000;
/// Entries of a trie node, one for each value of an address byte.
pub const NODE_ENTRIES: usize = 256;
/// Low bits of a class entry that place a node.
const NODE_PLACES: u64 = (CLASS_ENTRIES / NODE_ENTRIES - 1) as u64;

/// Where the parts of the class table lie that have a fixed place.
pub mod class_place {
    /// By fragment state (none, first, later), then by protocol, or 256 + flags byte where TCP flags could be read.
    pub const KIND: usize = 0;
    /// Entries of `KIND`.
    pub const KINDS: usize = 3 * 512;
    /// By TTL or hop limit.
    pub const TTL: usize = KIND + KINDS;
    /// One entry for each [`super::dimension`] whose row is the same for all values.
    pub const CONSTANT: usize = TTL + 256;
    /// First entry of the tables whose place and size the header says; a multiple of the nodes' size.
    pub const FREE: usize = 2_048;
}

/// Where the parts of the row table lie.
pub mod row_place {
    /// Fingerprint of the tables' content; 0 for none.
    pub const PRINT: usize = 0;
    /// Place (low half) and mask (high half) of each [`super::dimension`]'s table.
    pub const DIMENSION: usize = 1;
    /// Where the records of rules with rare fields begin.
    pub const RECORDS: usize = 15;
    /// [`super::entry`] of each bit.
    pub const ENTRY: usize = 16;
    /// Two words a row: its summary, and where its words lie less the number of the first that is not zero.
    pub const ROW: usize = ENTRY + super::MAX_WORDS * 64;
}

/// Dimensions whose tables have no fixed place.
pub mod dimension {
    /// Source, upper 16 bits of an IPv4 address.
    pub const SRC4: usize = 0;
    /// Source, upper 16 bits of an IPv6 address.
    pub const SRC6: usize = 1;
    /// Destination, IPv4.
    pub const DST4: usize = 2;
    /// Destination, IPv6.
    pub const DST6: usize = 3;
    /// Source port, or [`super::NO_PORT`].
    pub const SPORT: usize = 4;
    /// Destination port, likewise.
    pub const DPORT: usize = 5;
    /// Length of the IP packet.
    pub const LEN: usize = 6;
    /// How many there are.
    pub const COUNT: usize = 7;
}

/// Index into the port tables of a packet without ports.
pub const NO_PORT: u32 = 0x1_0000;

/// In an entry: the rule is in shadow mode.
const SHADOW: u64 = 1 << 32;
/// In an entry: the rule has a record.
const CHECKED: u64 = 1 << 33;
/// In an entry: where the number of the record stands.
const RECORD_SHIFT: u32 = 34;

/// The entry of a bit: rules that come first have smaller entries. Words hold enforced rules or shadow rules, never both.
pub const fn entry(priority: u16, shadow: bool, action: u32, slot: u32) -> u64 {
    let mark = if shadow { SHADOW } else { 0 };
    ((priority as u64) << 48) | mark | (((action & 0xff) << 16) | (slot & 0xffff)) as u64
}

/// The same for a rule with a record.
pub const fn checked_entry(entry: u64, record: u16) -> u64 {
    entry | CHECKED | ((record as u64 & 0xfff) << RECORD_SHIFT)
}

/// The first rule that matches, if any, and the first shadow rule that does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// One of [`crate::abi::rule_action`]; 0 where no rule matches.
    pub action: u32,
    /// Rule slot.
    pub slot: u32,
    /// As `action`, of the shadow rule.
    pub shadow_action: u32,
    /// Slot of the shadow rule.
    pub shadow_slot: u32,
}

impl Found {
    /// From the word that [`classify`] answers.
    #[inline(always)]
    pub const fn of(word: u64) -> Self {
        Self {
            action: (word >> 16) as u32 & 0xff,
            slot: word as u32 & 0xffff,
            shadow_action: (word >> 48) as u32 & 0xff,
            shadow_slot: (word >> 32) as u32 & 0xffff,
        }
    }
}

/// The first rule for a packet, to be read by [`Found::of`], of all rules without a record; or [`PENDING`], where words are
/// left to look through, which `rest` is told of. One plain loop over at most [`MAX_WORDS`] words.
#[inline(always)]
pub fn classify(packet: &Packet, classes: &ClassTable, rows: &RowTable, rest: &impl Rest) -> u64 {
    let kind = class(classes, class_place::KIND as u64 + kind_of(packet));
    let ttl = class(classes, class_place::TTL as u64 + u64::from(packet.ttl));
    let src = address(packet.src, classes, rows, dimension::SRC4, dimension::SRC6);
    let dst = address(packet.dst, classes, rows, dimension::DST4, dimension::DST6);
    let (mut sport, mut dport) = (NO_PORT, NO_PORT);
    if packet.ports {
        sport = packet.sport.into();
        dport = packet.dport.into();
    }
    let sport = class(classes, place(rows, dimension::SPORT, sport));
    let dport = class(classes, place(rows, dimension::DPORT, dport));
    let len = class(classes, place(rows, dimension::LEN, packet.len.into()));

    let (mut live, kind) = row(rows, kind);
    let (summary, ttl) = row(rows, ttl);
    live &= summary;
    let (summary, src) = row(rows, src);
    live &= summary;
    let (summary, dst) = row(rows, dst);
    live &= summary;
    let (summary, sport) = row(rows, sport);
    live &= summary;
    let (summary, dport) = row(rows, dport);
    live &= summary;
    let (summary, len) = row(rows, len);
    live &= summary;

    let (mut best, mut shadow) = (NOTHING, NOTHING);
    let mut pending = 0_u64;
    let mut visited = 0;
    while visited < MAX_WORDS {
        if live == 0 {
            break;
        }
        let w = lowest_bit(live);
        live &= live - 1;
        let both = word(rows, src + w) & word(rows, dport + w) & word(rows, dst + w) & word(rows, kind + w);
        let word = both & word(rows, sport + w) & word(rows, ttl + w) & word(rows, len + w);
        if word != 0 {
            // Inside a word the bits stand in the order of priority.
            let found = self::word(rows, row_place::ENTRY as u64 + w * 64 + lowest_bit(word));
            if found & CHECKED != 0 {
                rest.put(w, word);
                pending |= 1 << w;
            } else if found & SHADOW != 0 {
                shadow = if found < shadow { found } else { shadow };
            } else {
                best = if found < best { found } else { best };
            }
        }
        visited += 1;
    }
    if pending != 0 {
        rest.begin(pending, best, shadow);
        return PENDING;
    }
    answer(best, shadow)
}

/// As [`Found::of`] reads it.
#[inline(always)]
const fn answer(best: u64, shadow: u64) -> u64 {
    (best & RULE) | ((shadow & RULE) << 32)
}

/// Above every entry, with no rule in it.
const NOTHING: u64 = !RULE;
/// In an entry: action and slot.
const RULE: u64 = 0xffff_ffff & !SHADOW;

#[inline(always)]
fn kind_of(packet: &Packet) -> u64 {
    let what = if packet.proto == proto::TCP && packet.ports {
        256 + u64::from(packet.tcp_flags)
    } else {
        u64::from(packet.proto)
    };
    (u64::from(packet.frag >> 1) << 9) + what
}

#[inline(always)]
fn class(classes: &ClassTable, at: u64) -> u64 {
    u64::from(classes[(at & (CLASS_ENTRIES as u64 - 1)) as usize])
}

#[inline(always)]
fn word(rows: &RowTable, at: u64) -> u64 {
    rows[(at & (ROW_WORDS as u64 - 1)) as usize]
}

/// Summary of a row, and where its words would begin.
#[inline(always)]
fn row(rows: &RowTable, number: u64) -> (u64, u64) {
    let at = row_place::ROW as u64 + number * 2;
    (word(rows, at), word(rows, at + 1))
}

/// Place of a value's entry in a dimension's table. A table of one entry has mask 0.
#[inline(always)]
fn place(rows: &RowTable, dimension: usize, value: u32) -> u64 {
    let of = rows[row_place::DIMENSION + dimension];
    (of & 0xffff_ffff) + (u64::from(value) & (of >> 32))
}

#[inline(always)]
fn is_node(entry: u64) -> bool {
    entry & u64::from(NODE) != 0
}

#[inline(always)]
fn child(classes: &ClassTable, node: u64, byte: u64) -> u64 {
    class(classes, ((node & NODE_PLACES) << 8) | (byte & 0xff))
}

/// Row of an address: by its first 16 bits, and where that does not tell by one byte after the other.
#[inline(always)]
fn address(addr: Addr, classes: &ClassTable, rows: &RowTable, v4: usize, v6: usize) -> u64 {
    if addr.is_v4() {
        let number = u64::from_be(addr.lo) as u32;
        let mut found = class(classes, place(rows, v4, number >> 16));
        if is_node(found) {
            found = child(classes, found, u64::from(number >> 8));
        }
        if is_node(found) {
            found = child(classes, found, u64::from(number));
        }
        return found;
    }
    let (mut high, mut low) = (u64::from_be(addr.hi), u64::from_be(addr.lo));
    let mut found = class(classes, place(rows, v6, (high >> 48) as u32));
    high = (high << 16) | (low >> 48);
    low <<= 16;
    let mut level = 2;
    while level < 16 {
        if !is_node(found) {
            break;
        }
        found = child(classes, found, high >> 56);
        high = (high << 8) | (low >> 56);
        low <<= 8;
        level += 1;
    }
    found
}

/// Number of the lowest bit that is set, by a de Bruijn sequence: BPF has no instruction for it.
#[inline(always)]
fn lowest_bit(word: u64) -> u64 {
    let place = (word & word.wrapping_neg()).wrapping_mul(DE_BRUIJN) >> 58;
    u64::from(BIT_OF[place as usize])
}

const DE_BRUIJN: u64 = 0x03f7_9d71_b4cb_0a89;

static BIT_OF: [u8; 64] = {
    let mut table = [0; 64];
    let mut bit = 0u8;
    while bit < 64 {
        table[((1u64 << bit).wrapping_mul(DE_BRUIJN) >> 58) as usize] = bit;
        bit += 1;
    }
    table
};

const _: () = assert!(class_place::CONSTANT + dimension::COUNT <= class_place::FREE);
const _: () = assert!(class_place::FREE.is_multiple_of(NODE_ENTRIES));
const _: () = assert!(row_place::DIMENSION + dimension::COUNT <= row_place::RECORDS);
const _: () = assert!(row_place::ROW + 2 * MAX_ROWS < ROW_WORDS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_bits() {
        for bit in 0..64 {
            assert_eq!(lowest_bit(1 << bit), bit);
            assert_eq!(lowest_bit(u64::MAX << bit), bit);
        }
    }

    #[test]
    fn entries_order_by_priority_and_carry_the_rule() {
        assert!(entry(1, true, 2, 4_095) < entry(2, false, 1, 0));
        let found = Found { action: 2, slot: 4_095, ..Found::default() };
        assert_eq!(Found::of(entry(4_095, true, 2, 4_095) & RULE), found);
        assert!(NOTHING > entry(4_095, true, 2, 4_095));
        assert_eq!(Found::of(0), Found::default());
    }
}
