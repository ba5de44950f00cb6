//! Where a verdict stands in `VERDICTS`: an array of slots of one cache line, found by the address itself.
//!
//! The kernel's hash table takes two look-ups in memory, one after the other, for its bucket and for the entry; here it is
//! one. A verdict stands in the first slot from its home on that was free when it was written (linear probing, Knuth 6.4
//! algorithm L), at most [`PROBES`] further on. The table has two slots for each verdict that it may hold, so that chains
//! stay short. The home is a keyed hash: who does not know the key cannot crowd a part of the table.

use crate::abi::{PREFIX_MARK, VERDICT_TAKEN};
use crate::addr::Addr;

/// Slots that a look-up tries. In a table half full the chance that an entry finds no place in them is below one in 10^9.
pub const PROBES: u32 = 128;

/// Binary logarithm of the slots, from the `verdict_bits` of [`crate::abi::GateConfig`]: a quarter of the filter's bits.
#[inline(always)]
pub const fn slot_bits(verdict_bits: u32) -> u32 {
    verdict_bits.wrapping_sub(2)
}

/// Multipliers of xxHash64's final mix (Collet): odd, their bits evenly set.
const MIX: u64 = 0xc2b2_ae3d_27d4_eb4f;
const MIX_AGAIN: u64 = 0x1656_67b1_9e37_79f9;

/// The first slot of a key in a table of `1 << bits`.
#[inline(always)]
pub const fn home(key: Addr, seed: u64, bits: u32) -> u32 {
    let Addr { hi, lo } = key;
    let mut mixed = (lo ^ seed).wrapping_mul(MIX);
    mixed ^= mixed >> 29;
    ((mixed ^ hi).wrapping_mul(MIX_AGAIN) >> (64_u32.wrapping_sub(bits) & 63)) as u32
}

/// Whether a verdict with this key is one on a source.
#[inline(always)]
pub const fn is_on(key: Addr, source: Addr, v6_mask: u64) -> bool {
    if key.hi == source.hi && key.lo == source.lo {
        return true;
    }
    if source.is_v4() {
        return match key.v4_prefix_bits() {
            Some(bits) => key.lo == source.v4_network(bits).lo,
            None => false,
        };
    }
    key.hi == u64::from_ne_bytes(PREFIX_MARK) && key.lo == source.hi & v6_mask.to_be()
}

/// What is looked at in a slot.
#[derive(Clone, Copy)]
pub struct Head {
    /// Its key, a [`crate::abi::HostKey`] in words.
    pub key: Addr,
    /// [`crate::abi::VerdictValue::flags`].
    pub flags: u32,
}

/// The slot that holds `key`, which may have expired or been removed since. `head` reads a slot.
#[inline(always)]
pub fn find(wanted: Addr, seed: u64, bits: u32, head: impl Fn(u32) -> Option<Head>) -> Option<u32> {
    let mask = (1_u32 << (bits & 31)) - 1;
    let mut slot = home(wanted, seed, bits);
    let mut tried = 0;
    while tried < PROBES {
        let Head { key, flags } = head(slot)?;
        if key.lo == wanted.lo && key.hi == wanted.hi && flags & VERDICT_TAKEN != 0 {
            return Some(slot);
        }
        if flags & VERDICT_TAKEN == 0 {
            return None;
        }
        slot = (slot + 1) & mask;
        tried += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_on_the_host_or_on_its_prefix() {
        let mask = 0xffff_ffff_ffff_0000;
        let host = Addr { hi: 0x2001_0db8_0000_1234_u64.to_be(), lo: 7 };
        let other = Addr { hi: 0x2001_0db9_0000_1234_u64.to_be(), lo: 7 };
        let v4 = Addr::from_v4_word(9);
        for key in [host.host_key(), host.prefix_key(mask)] {
            let on = Addr::from_bytes(key.addr);
            assert!(is_on(on, host, mask) && !is_on(on, other, mask) && !is_on(on, v4, mask));
        }
        assert!(is_on(v4, v4, mask) && !is_on(v4, host, mask));
        let (one, other) = (0xc000_0209_u32, 0xc000_0309_u32);
        let [one, other] = [one, other].map(|number| Addr::from_v4_word(number.to_be()));
        let net = Addr::from_bytes(one.v4_prefix_key(24).addr);
        assert!(is_on(net, one, mask) && !is_on(net, other, mask) && !is_on(net, host, mask));
        // An IPv6 prefix whose bits are those of an IPv4 prefix is another one.
        let alike = Addr { hi: one.v4_network(24).lo, lo: 0 };
        assert!(!is_on(net, alike, u64::MAX) && !is_on(Addr::from_bytes(alike.prefix_key(u64::MAX).addr), one, mask));
    }

    #[test]
    fn words_and_back() {
        let host = Addr::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]).host_key();
        let Addr { hi, lo } = Addr::from_bytes(host.addr);
        assert_eq!(Addr { hi, lo }.host_key(), host);
        assert_eq!(
            (hi, lo),
            (u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]), { u64::from_ne_bytes([9, 10, 11, 12, 13, 14, 15, 16]) })
        );
    }

    /// Neighbouring sources, IPv4 hosts and IPv6 prefixes, spread: 4,096 of them in 8,192 slots leave no long chain, and
    /// another seed puts them elsewhere.
    #[test]
    fn neighbours_spread() {
        const BITS: u32 = 13;
        for seed in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            for v6 in [false, true] {
                let mut taken = [false; 1 << BITS];
                let mut longest = 0;
                let mut moved = 0;
                for n in 0..1_u32 << (BITS - 1) {
                    let host = Addr::from_v4_word((0x2000_0000 + n).to_be());
                    let prefix = Addr { hi: (0x2001_0db8_0000_0000 | u64::from(n)).to_be(), lo: 0 };
                    let key = if v6 { Addr::from_bytes(prefix.prefix_key(u64::MAX).addr) } else { host };
                    let mut slot = home(key, seed, BITS) as usize;
                    moved += u32::from(home(key, seed ^ 0x55, BITS) as usize != slot);
                    let mut chain = 0;
                    while taken[slot] {
                        slot = (slot + 1) % taken.len();
                        chain += 1;
                    }
                    taken[slot] = true;
                    longest = longest.max(chain);
                }
                assert!(longest < PROBES / 2, "a chain of {longest} with seed {seed:#x}");
                assert!(moved > 4_000, "only {moved} of 4,096 stand elsewhere under another seed");
            }
        }
    }

    #[test]
    fn a_look_up_ends_at_the_first_free_slot_and_after_its_probes() {
        let (host, other) = (Addr::from_v4_word(7), Addr::from_v4_word(8));
        let start = home(host, 3, 13);
        let at = |distance: u32, free: u32| {
            find(host, 3, 13, |slot| {
                let place = slot.wrapping_sub(start) & 0x1fff;
                let key = if place == distance { host } else { other };
                Some(Head { key, flags: if place == free { 0 } else { VERDICT_TAKEN } })
            })
        };
        assert_eq!(at(0, 9), Some(start));
        assert_eq!(at(5, 9), Some((start + 5) & 0x1fff));
        assert_eq!(at(PROBES - 1, 8_000), Some((start + PROBES - 1) & 0x1fff));
        assert_eq!(at(PROBES, 8_000), None);
        assert_eq!(at(9, 5), None);
        assert_eq!(at(5, 5), None, "a free slot holds nothing, whatever its key says");
    }
}
