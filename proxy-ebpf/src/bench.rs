//! Programs of the benches, never part of the daemon: a source randomiser in front of the program under test, and an
//! empty program to subtract.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros generate undocumented entry points")]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, ProgramArray};
use aya_ebpf::helpers::bpf_tail_call;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

/// Entry 0: how many sources. Entry 1: state of the generator.
#[btf_map]
static STATE: Array<u64, 2> = Array::new();

/// Slot 0: the program under test.
#[btf_map]
static NEXT: ProgramArray<1> = ProgramArray::new();

/// Offset of the IPv4 source address behind an Ethernet header.
const SOURCE: usize = 26;
/// 32.0.0.0: the first source; the others count up from it.
const FIRST_SOURCE: u32 = 0x2000_0000;

#[xdp]
pub fn empty(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[xdp]
pub fn randomize(ctx: XdpContext) -> u32 {
    let at = ctx.data() + SOURCE;
    if at + 4 > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    let (Some(count), Some(state)) = (STATE.get(0), STATE.get_ptr_mut(1)) else { return xdp_action::XDP_ABORTED };
    // SAFETY: a value of `STATE`; one bench runs at a time.
    let word = unsafe {
        // xorshift64, Marsaglia 2003.
        let mut x = *state;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        *state = x;
        x >> 32
    };
    let source = FIRST_SOURCE + ((word * *count) >> 32) as u32;
    // SAFETY: `[at, at + 4)` lies inside the packet, checked above.
    unsafe { (at as *mut u32).write_unaligned(source.to_be()) };
    // SAFETY: the context and the map are live; on success the call does not return.
    unsafe { bpf_tail_call(ctx.ctx.cast(), (&raw const NEXT).cast_mut().cast(), 0) };
    xdp_action::XDP_ABORTED
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
