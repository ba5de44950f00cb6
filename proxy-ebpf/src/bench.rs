//! Programs of the benches and tests, never part of the daemon: a source randomiser in front of the program under test, an
//! empty program to subtract, one that drops everything, and a generator of mixed packets.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros generate undocumented entry points")]

mod object;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, ProgramArray};
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_redirect, bpf_tail_call};
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

#[xdp(frags)]
pub fn empty(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

// In one array of programs all or none take frames in several buffers, and `front` does.
#[xdp(frags)]
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

/// Bytes of a SYN with one option, the MSS.
const SYN_BYTES: usize = 58;

/// A frame in whole words.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SynFrame([u8; 64]);

/// Entry 0: the SYN that `resyn` writes.
#[btf_map]
static RESYN: Array<SynFrame, 1> = Array::new();

/// Writes a SYN from a random source over the frame, which an answer may have taken the place of, and tail-calls.
#[xdp(frags)]
pub fn resyn(ctx: XdpContext) -> u32 {
    let at = ctx.data();
    if at + SYN_BYTES > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    let Some(syn) = RESYN.get(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: a helper without arguments.
    let source = FIRST_SOURCE + (unsafe { bpf_get_prandom_u32() } & 0x0fff_ffff);
    // SAFETY: `[at, at + SYN_BYTES)` lies inside the packet, checked above, and within the map's value.
    unsafe {
        (at as *mut [u8; SYN_BYTES]).write_unaligned(*syn.0.as_ptr().cast::<[u8; SYN_BYTES]>());
        ((at + SOURCE) as *mut u32).write_unaligned(source.to_be());
    }
    // SAFETY: the context and the map are live; on success the call does not return.
    unsafe { bpf_tail_call(ctx.ctx.cast(), (&raw const NEXT).cast_mut().cast(), 0) };
    xdp_action::XDP_ABORTED
}

/// Drops everything: the far end of a control.
#[xdp(frags)]
pub fn swallow(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Bytes of every frame of the generator.
const FRAME: usize = 64;
/// Templates of the generator; a power of two.
const TEMPLATES: usize = 16;

/// One kind of packet. The sums are over what does not change, source and source port counted as zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Template {
    /// The frame.
    pub frame: [u8; FRAME],
    /// Sum of the IPv4 header's 16-bit words.
    pub ip_sum: u32,
    /// Sum over pseudo-header and TCP; 0 for frames without a TCP checksum.
    pub tcp_sum: u32,
    /// First source address.
    pub source: u32,
    /// Bits of the source that are random.
    pub mask: u32,
}

/// What the generator sends, each as often as the others.
#[btf_map]
static SPRAY: Array<Template, TEMPLATES> = Array::new();

/// Interface that the generator sends on.
#[btf_map]
static SPRAY_TO: Array<u32, 1> = Array::new();

/// Writes a packet of a random template with a random source over the frame, and sends it. Run over live frames.
#[xdp(frags)]
pub fn spray(ctx: XdpContext) -> u32 {
    let at = ctx.data();
    if at + FRAME > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: helpers without arguments.
    let (kind, word, port) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
    let (Some(template), Some(to)) = (SPRAY.get(kind & (TEMPLATES as u32 - 1)), SPRAY_TO.get(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    let source = template.source | (word & template.mask);
    let port = (port & 0xffff) | 0x400;
    let halves = (source >> 16) + (source & 0xffff);
    // SAFETY: `[at, at + FRAME)` lies inside the packet, checked above; all offsets are within it.
    unsafe {
        (at as *mut [u8; FRAME]).write_unaligned(template.frame);
        ((at + SOURCE) as *mut u32).write_unaligned(source.to_be());
        ((at + IP_CHECKSUM) as *mut u16).write_unaligned(fold(template.ip_sum + halves).to_be());
        ((at + SOURCE_PORT) as *mut u16).write_unaligned((port as u16).to_be());
        if template.tcp_sum != 0 {
            ((at + TCP_CHECKSUM) as *mut u16).write_unaligned(fold(template.tcp_sum + halves + port).to_be());
        }
        bpf_redirect(*to, 0) as u32
    }
}

const IP_CHECKSUM: usize = 24;
const SOURCE_PORT: usize = 34;
const TCP_CHECKSUM: usize = 50;

/// RFC 1071.
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    !(twice as u16)
}
