//! The packet rules of [`proxy_common::classify`] over their maps. Each loop is a global function, which the verifier checks
//! once, for any arguments. Functions that call each other share half a kilobyte of stack with `front`: what is found on the
//! way is kept in `RULE_WORK`, and the SYN is read from `front` itself, not from where a rule asks for it.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use proxy_common::classify::{self, Found, PENDING, Rest, WANTS_SYN, Work};
use proxy_common::fingerprint;
use proxy_common::parse::Packet as IpPacket;

use crate::frame::Anywhere;
use crate::maps::{RULE_CLASSES, RULE_ROWS, RULE_WORK, SYN_OPTIONS};

/// The first matching rule.
#[inline(always)]
pub fn find(ctx: *mut xdp_md, packet: &IpPacket, side: u32) -> Found {
    let mut found = find_rule(packet, side);
    if found == PENDING {
        found = check_pending(ctx, packet, side);
        if found == WANTS_SYN {
            read_syn(ctx, packet);
            read_options();
            found = check_pending(ctx, packet, side);
        }
    }
    Found::of(found)
}

/// `RULE_WORK` on this CPU.
struct Room;

impl Rest for Room {
    #[inline(always)]
    fn put(&self, w: u64, word: u64) {
        if let Some(work) = RULE_WORK.get_ptr_mut(0) {
            // SAFETY: a value of a per-CPU array: only this run of this program has it.
            unsafe { (*work).put(w, word) };
        }
    }

    #[inline(always)]
    fn begin(&self, live: u64, best: u64, shadow: u64) {
        if let Some(work) = RULE_WORK.get_ptr_mut(0) {
            // SAFETY: as above.
            unsafe { (*work).begin(live, best, shadow) };
        }
    }
}

/// [`classify::classify`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_rule(packet: *const IpPacket, side: u32) -> u64 {
    // SAFETY: the one caller passes a reference. The verifier, which does not know, wants the check for null.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    let (Some(classes), Some(rows)) = (RULE_CLASSES.get(side), RULE_ROWS.get(side)) else { return 0 };
    classify::classify(packet, classes, rows, &Room)
}

/// [`classify::check_pending`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn check_pending(ctx: *mut xdp_md, packet: *const IpPacket, side: u32) -> u64 {
    let Some(work) = work() else { return 0 };
    if classify::check_pending(work.live(), |w| check_word(ctx, packet, side, w)) { work.answer() } else { WANTS_SYN }
}

/// [`classify::check_word`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn check_word(ctx: *mut xdp_md, packet: *const IpPacket, side: u32, w: u64) -> u32 {
    let (Some(work), Some(rows)) = (RULE_WORK.get_ptr_mut(0), RULE_ROWS.get(side)) else { return 0 };
    // SAFETY: a value of a per-CPU array: only this run of this program has it.
    let work = unsafe { &mut *work };
    let entry = classify::check_word(rows, work, w, |entry| check_rule(ctx, packet, side, entry));
    work.take(entry)
}

/// [`classify::check_rule`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn check_rule(ctx: *mut xdp_md, packet: *const IpPacket, side: u32, entry: u64) -> u32 {
    // SAFETY: as in `find_rule`.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    let (Some(work), Some(rows)) = (work(), RULE_ROWS.get(side)) else { return 0 };
    let frame = XdpContext::new(ctx);
    classify::check_rule(&Anywhere(&frame), packet, rows, entry, &work.syn)
}

/// The first half of [`fingerprint::read`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_syn(ctx: *mut xdp_md, packet: *const IpPacket) -> u32 {
    // SAFETY: as in `find_rule`.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    let (Some(work), Some(raw)) = (RULE_WORK.get_ptr_mut(0), SYN_OPTIONS.get_ptr_mut(0)) else { return 0 };
    let frame = XdpContext::new(ctx);
    // SAFETY: values of per-CPU arrays: only this run of this program has them.
    unsafe { fingerprint::headers(&Anywhere(&frame), packet, &mut (*work).syn, &mut *raw) };
    1
}

/// The second half, [`fingerprint::walk`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_options() -> u32 {
    let Some(raw) = SYN_OPTIONS.get(0) else { return 0 };
    fingerprint::walk(raw.length, |at| read_option(at));
    1
}

/// [`fingerprint::read_option`]. What it returns is any number to the verifier, and what it notes stands in a map: so the loop
/// around it is the same at each turn. Kernels before 6.12 would follow every list of options there may be otherwise.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_option(at: u64) -> u64 {
    let (Some(work), Some(raw)) = (RULE_WORK.get_ptr_mut(0), SYN_OPTIONS.get(0)) else { return u64::MAX };
    // SAFETY: as above.
    unsafe { fingerprint::read_option(raw, &mut (*work).syn, at) }
}

#[inline(always)]
fn work() -> Option<&'static Work> {
    RULE_WORK.get(0)
}
