//! Look-ups in `VERDICTS`, whose slots the daemon writes while packets pass, and the counting of drops in them. Where a
//! verdict stands is decided in `proxy_common::slots`.

use core::ptr::NonNull;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use proxy_common::abi::{GateConfig, HostKey, VERDICT_TAKEN, VerdictSlot};
use proxy_common::addr::Addr;
use proxy_common::slots::{self, Head};

use crate::maps::{GATE, VERDICTS};

/// The slot of a verdict that stands, expired or not. Nearly always the first that is looked at.
#[inline(always)]
pub fn find(key: &HostKey, gate: &GateConfig) -> Option<NonNull<VerdictSlot>> {
    let wanted = Addr::from_bytes(key.addr);
    let home = slots::home(wanted, gate.verdict_seed, slots::slot_bits(gate.verdict_bits));
    let mut slot = VERDICTS.get_ptr_mut(home)?;
    let Head { key, flags } = head(slot);
    if flags & VERDICT_TAKEN == 0 {
        return None;
    }
    if key != wanted {
        slot = VERDICTS.get_ptr_mut(find_verdict(wanted.hi, wanted.lo))?;
    }
    // SAFETY: a slot of `VERDICTS`, aligned words that the daemon may write meanwhile: each field is one load.
    let expires_ns = unsafe { (&raw const (*slot).value.expires_ns).read_volatile() };
    if expires_ns == 0 { None } else { NonNull::new(slot) }
}

/// The verdict on a host with its `(expires_ns, rule, flags)`, where it stands in the first slot that is looked at: that slot is
/// gone through once.
#[inline(always)]
pub fn at_home(source: Addr, gate: &GateConfig) -> Option<(NonNull<VerdictSlot>, (u64, u32, u32))> {
    let slot = VERDICTS.get_ptr_mut(slots::home(source, gate.verdict_seed, slots::slot_bits(gate.verdict_bits)))?;
    // SAFETY: as in `find`. The expiry is cleared before the slot is given away and written last: where it is the same before
    // and after, what was read between is of one verdict.
    let (key, terms, after) = unsafe {
        let value = &raw const (*slot).value;
        let expires_ns = (&raw const (*value).expires_ns).read_volatile();
        let rule = (&raw const (*value).rule).read_volatile();
        let Head { key, flags } = head(slot);
        (key, (expires_ns, rule, flags), (&raw const (*value).expires_ns).read_volatile())
    };
    // A free slot may hold any key, and has no expiry.
    if key != source || terms.0 == 0 || terms.0 != after {
        return None;
    }
    NonNull::new(slot).map(|slot| (slot, terms))
}

/// `(expires_ns, rule, flags)` of a verdict on `source`; zeros where the slot was given to another source since.
#[inline(always)]
pub fn terms(verdict: NonNull<VerdictSlot>, source: Addr, v6_mask: u64) -> (u64, u32, u32) {
    let slot = verdict.as_ptr();
    // SAFETY: as in `find`. Prolonged meanwhile, it is a mix of old and new terms on the same source.
    let terms = unsafe {
        let value = &raw const (*slot).value;
        (
            (&raw const (*value).expires_ns).read_volatile(),
            (&raw const (*value).rule).read_volatile(),
            (&raw const (*value).flags).read_volatile(),
        )
    };
    // Read after the terms, which are written after the key.
    if slots::is_on(head(slot).key, source, v6_mask) { terms } else { (0, 0, 0) }
}

/// Counts the drop on the verdict, and notes the time of the first.
#[inline(always)]
pub fn mark_drop(verdict: NonNull<VerdictSlot>, length: u64) {
    // SAFETY: a slot of `VERDICTS`, which stays memory for the length of the program. The BPF target has no stable atomic
    // add: two CPUs that drop the same source at the same moment may count once. `RULE_HITS` is per CPU and exact.
    unsafe {
        let value = &mut (*verdict.as_ptr()).value;
        if value.drops == 0 {
            value.first_drop_ns = bpf_ktime_get_ns();
        }
        value.drops += 1;
        value.drop_bytes += length;
    }
}

/// The slot of a verdict, or one beyond the table. A global function: a loop that the verifier goes through once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_verdict(hi: u64, lo: u64) -> u32 {
    let Some(gate) = GATE.get(0) else { return u32::MAX };
    let bits = slots::slot_bits(gate.verdict_bits);
    let wanted = Addr { hi, lo };
    let found = slots::find(wanted, gate.verdict_seed, bits, |slot| VERDICTS.get_ptr(slot).map(|slot| head(slot)));
    found.unwrap_or(u32::MAX)
}

/// What a look-up goes by in a slot.
#[inline(always)]
fn head(slot: *const VerdictSlot) -> Head {
    // SAFETY: as in `find`.
    unsafe {
        let key: *const u64 = (&raw const (*slot).key).cast();
        let flags = (&raw const (*slot).value.flags).read_volatile();
        Head { key: Addr { hi: key.read_volatile(), lo: key.add(1).read_volatile() }, flags }
    }
}
