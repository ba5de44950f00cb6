//! Sampled packets to the ring buffer `EVENTS`. Never waits: a full ring is counted and the packet goes its way.
//!
//! Only packets that something applied to come here; while nobody reads, that costs one load.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use aya_ebpf::programs::XdpContext;
use proxy_common::abi::Reason;
use proxy_common::decide::Decision;
use proxy_common::event::{EVENT_SNAP, NO_RULE, pause, wanted};
use proxy_common::parse::Frame;

use crate::frame::Packet;
use crate::maps::{EVENT_CONTROL, EVENT_COUNTS, EVENTS, GATE};

/// Bytes that are copied at a time.
const WORD: usize = 8;

/// Writes an event of this packet, if it is one to be sampled.
#[inline(always)]
pub fn sample<V>(ctx: &XdpContext, decision: &Decision<V>, length: u64) {
    if decision.reason == Reason::Pass {
        return;
    }
    let Some(control) = EVENT_CONTROL.get(0) else { return };
    if wanted(control, decision.reason) {
        let dropped = u32::from(decision.reason.drops());
        write_event(ctx.ctx, decision.reason as u32, decision.rule.unwrap_or(NO_RULE), dropped, length);
    }
}

/// Counts down to the next sample and writes it. A global function: the verifier checks it once, for any arguments.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_event(ctx: *mut xdp_md, reason: u32, rule: u32, dropped: u32, length: u64) -> u32 {
    let (Some(control), Some(counts)) = (EVENT_CONTROL.get(0), EVENT_COUNTS.get_ptr_mut(0)) else { return 0 };
    let every = control.every;
    if every == 0 {
        return 0;
    }
    // SAFETY: a value of a per-CPU array that only this program on this CPU writes; helpers without arguments.
    let now = unsafe {
        // A pause that was drawn at a slower rate is cut to this one's longest.
        let left = (*counts).left.min(2 * u64::from(every) - 1);
        if left > 1 {
            (*counts).left = left - 1;
            return 0;
        }
        let now = bpf_ktime_get_ns();
        if now >= control.until_ns {
            return 0;
        }
        (*counts).left = pause(every, bpf_get_prandom_u32());
        now
    };
    let Some(mut entry) = EVENTS.reserve(0) else {
        // SAFETY: as above.
        unsafe { (*counts).lost += 1 };
        return 0;
    };
    let context = XdpContext::new(ctx);
    let packet = Packet(&context);
    let event = entry.as_mut_ptr();
    // SAFETY: `event` is the record that was reserved, of the size of an `Event` and aligned to eight bytes; all indexes
    // are below `EVENT_SNAP`. `ctx` is the context that the kernel passed in.
    unsafe {
        (*event).time_ns = now;
        (*event).length = length as u32;
        (*event).ifindex = (*ctx).ingress_ifindex;
        (*event).reason = reason;
        (*event).rule = rule;
        (*event).revision = GATE.get(0).map_or(0, |gate| gate.revision);
        (*event).dropped = dropped;
        (*event).sample = every;
        let snap = (&raw mut (*event).snap).cast::<u8>();
        let mut at = 0;
        while at + WORD <= EVENT_SNAP && copy::<WORD>(&packet, at, snap) {
            at += WORD;
        }
        if at > 0 && at < EVENT_SNAP {
            // What is left is less than a word: by halves, which the verifier follows sooner than byte by byte.
            at += copy::<4>(&packet, at, snap) as usize * 4;
            at += copy::<2>(&packet, at, snap) as usize * 2;
            at += copy::<1>(&packet, at, snap) as usize;
        }
        (*event).captured = at as u32;
        (*counts).written += 1;
    }
    entry.submit(0);
    1
}

/// Copies `N` bytes at `at`; false where the packet has fewer.
///
/// # Safety
/// `snap` has room for `N` bytes at `at`.
#[inline(always)]
unsafe fn copy<const N: usize>(packet: &Packet<'_>, at: usize, snap: *mut u8) -> bool {
    let Some(bytes) = packet.bytes::<N>(at) else { return false };
    // SAFETY: the caller's promise.
    unsafe { snap.add(at).cast::<[u8; N]>().write_unaligned(bytes) };
    true
}
