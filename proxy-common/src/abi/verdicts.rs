//! The ABI of verdicts: keys, slots, and the sizes of what `gate.max_verdicts` asks for.

use super::DEFAULT_MAX_VERDICTS;

/// First eight bytes of a [`HostKey`] that names an IPv6 prefix. One that names an IPv4 prefix has its length in the last of
/// them, 1 to 32.
pub const PREFIX_MARK: [u8; 8] = [0xff, 0, 0, 0, 0, 0, 0, 0];

/// Key of an entry of `VERDICTS`: a host, an IPv6 prefix of `gate.ipv6_prefix` bits, or an IPv4 prefix.
///
/// IPv4 hosts are `::ffff:a.b.c.d`, IPv6 hosts their address. A prefix stands behind [`PREFIX_MARK`], as `ff00::` with the
/// prefix in its last eight bytes: a multicast address, which no host has (RFC 4291 section 2.7). An IPv4 prefix of 24 bits
/// is `ff00:0:0:18:0:ffff:a.b.c.0`. Aligned, so that it is hashed and compared in words.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HostKey {
    /// Address in network order, or the marked prefix.
    pub addr: [u8; 16],
}

/// [`VerdictValue::flags`]: applies to Tidegate's own listeners only, whatever `gate.scope` says.
pub const VERDICT_OWN_ONLY: u32 = 1;
/// [`VerdictValue::flags`]: the slot is or was in use, so that a look-up goes on behind it; see [`crate::slots`].
pub const VERDICT_TAKEN: u32 = 2;

/// An entry of `VERDICTS`: a cache line. Without [`VERDICT_TAKEN`] nothing else in it counts.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VerdictSlot {
    /// Whom the verdict is on.
    pub key: HostKey,
    /// The verdict.
    pub value: VerdictValue,
}

/// A verdict. Times are `CLOCK_MONOTONIC` nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VerdictValue {
    /// The verdict drops while the clock is below this; 0 once it was removed. Written last and cleared first: before, the
    /// rest is not to be relied on.
    pub expires_ns: u64,
    /// When the decision was taken.
    pub created_ns: u64,
    /// When the first packet was dropped; 0 until then. Written by the kernel.
    pub first_drop_ns: u64,
    /// Packets dropped. Written by the kernel without a lock: CPUs that drop at the same moment may count once.
    pub drops: u64,
    /// Rule slot that pushed it; 0 for the operator.
    pub rule: u32,
    /// [`VERDICT_OWN_ONLY`] and [`VERDICT_TAKEN`].
    pub flags: u32,
    /// Bytes of those packets, counted like `drops`.
    pub drop_bytes: u64,
}

/// Binary logarithm of the bits in `VERDICT_HINT` for a table of `max_verdicts`: at least eight bits an entry, and a
/// page at least.
pub const fn verdict_bits(max_verdicts: u32) -> u32 {
    let bits = max_verdicts.next_power_of_two().trailing_zeros() + 3;
    if bits < MIN_VERDICT_BITS { MIN_VERDICT_BITS } else { bits }
}

/// Words of `VERDICT_HINT` for a table of `max_verdicts`.
pub const fn verdict_words(max_verdicts: u32) -> u32 {
    1 << (verdict_bits(max_verdicts) - 6)
}

/// Slots of `VERDICTS` for a table of `max_verdicts`: two for each, and more in a small one.
pub const fn verdict_slots(max_verdicts: u32) -> u32 {
    1 << crate::slots::slot_bits(verdict_bits(max_verdicts))
}

/// Slots of `VERDICTS` for [`DEFAULT_MAX_VERDICTS`].
pub const DEFAULT_VERDICT_SLOTS: u32 = verdict_slots(DEFAULT_MAX_VERDICTS);

/// Words of `VERDICT_HINT` for [`DEFAULT_MAX_VERDICTS`].
pub const DEFAULT_VERDICT_WORDS: u32 = verdict_words(DEFAULT_MAX_VERDICTS);

/// A page of bits, the least that can be mapped.
const MIN_VERDICT_BITS: u32 = 15;

#[cfg(test)]
mod tests {
    use super::super::MAX_VERDICTS;
    use super::*;

    #[test]
    fn the_filter_has_eight_bits_a_verdict_and_the_table_two_slots() {
        for (max, bits) in [(1, 15), (4_096, 15), (4_097, 16), (DEFAULT_MAX_VERDICTS, 21), (MAX_VERDICTS, 23)] {
            assert_eq!(verdict_bits(max), bits, "{max}");
            assert!(verdict_slots(max) >= 2 * max, "{max}");
        }
    }
}
