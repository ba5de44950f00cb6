//! `front_syn`: answers SYNs with the kernel's cookies while a service asks for it, and drops acknowledgments of cookies
//! that the kernel never gave. Reached from `front` by a tail call, only while some service has cookies on.
//!
//! The look-up from here runs `steer`, finds the worker's listener, and `bpf_tcp_gen_syncookie` marks its group: the
//! kernel then takes cookies for two minutes, and the raw helpers, which need no socket, make the rest of them.
//! IPv4 options, IPv6 extension headers, fragments and more than two VLAN tags pass to the kernel, which answers with a
//! cookie of its own. Up to two tags are handled: the answer keeps them. Whether the SYN's checksum is right is not looked
//! at: over veth it has none yet, and the kernel looks at that of the acknowledgment.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, xdp_action};
use aya_ebpf::helpers::generated::{
    bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie, bpf_tcp_gen_syncookie, bpf_tcp_raw_gen_syncookie_ipv4,
    bpf_tcp_raw_gen_syncookie_ipv6, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::programs::XdpContext;
use proxy_common::abi::{MAX_VLAN_TAGS, Reason, SynMeter, SynState, proto};
use proxy_common::addr::Addr;
use proxy_common::syn::{MARK_AGAIN_NS, MARK_VALID_NS};
use proxy_common::syn_ack::{Exchange, LONG_HEADER, MAX_OPTIONS, RawOptions, SHORT_HEADER};
use proxy_common::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, ether, tcp_flag};

use crate::maps::{SYN_STATE, SYN_WORK};
use crate::{count, local};

const VLAN_TAG: u32 = 4;
/// TCP counts its header in words.
const WORD: u32 = 4;
/// More fragments, or an offset.
const FRAGMENT: u16 = 0x3fff;
/// `TCP_LISTEN` of the kernel.
const LISTEN: u32 = 10;
/// `BPF_F_CURRENT_NETNS`: the interface's.
const CURRENT_NETNS: u64 = u64::MAX;
const NS_PER_MS: u64 = 1_000_000;

/// A socket's place on the wire, `bpf_sock_tuple` of either family: `bpf_skc_lookup_tcp` tells them apart by the length.
#[repr(C, align(8))]
struct Tuple([u8; TUPLE6]);

const TUPLE4: usize = 12;
const TUPLE6: usize = 36;

/// Answers, drops or passes; counts what it did beyond passing.
#[inline(always)]
pub fn defend(ctx: &XdpContext) -> u32 {
    place(ctx).unwrap_or(xdp_action::XDP_PASS)
}

#[inline(always)]
fn place(ctx: &XdpContext) -> Option<u32> {
    let [_, _, _, _, _, _, _, _, _, _, _, _, high, low] = load::<{ ether::HEADER }>(ctx, 0)?;
    let mut kind = u16::from_be_bytes([high, low]);
    let mut at = ether::HEADER as u32;
    let mut tags = 0;
    while tags < MAX_VLAN_TAGS && (kind == ether::VLAN || kind == ether::QINQ) {
        let [_, _, high, low] = load(ctx, at)?;
        kind = u16::from_be_bytes([high, low]);
        at += VLAN_TAG;
        tags += 1;
    }
    let work = SYN_WORK.get_ptr_mut(0)?;
    // SAFETY: a value of a per-CPU array: only this run of this program has it.
    let work = unsafe { &mut *work };
    if kind == ether::IPV4 {
        fill(ctx, at, &mut work.ip, IPV4_HEADER as u32)?;
        let fragment = u16::from_be_bytes([work.ip[6], work.ip[7]]) & FRAGMENT;
        if work.ip[0] != 0x45 || work.ip[9] != proto::TCP || fragment != 0 {
            return None;
        }
        segment::<false>(ctx, at, work, Addr::from_v4_word(u32::from_ne_bytes(work.destination_v4())))
    } else if kind == ether::IPV6 {
        fill(ctx, at, &mut work.ip, IPV6_HEADER as u32)?;
        if work.ip[0] >> 4 != 6 || work.ip[6] != proto::TCP {
            return None;
        }
        let [.., a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = work.ip;
        let local = Addr::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]);
        segment::<true>(ctx, at, work, local)
    } else {
        None
    }
}

#[inline(always)]
fn segment<const V6: bool>(ctx: &XdpContext, at: u32, work: &mut Exchange, local: Addr) -> Option<u32> {
    let after_ip = at + if V6 { IPV6_HEADER } else { IPV4_HEADER } as u32;
    fill(ctx, after_ip, &mut work.tcp, TCP_HEADER as u32)?;
    let port = u16::from_be_bytes([work.tcp[2], work.tcp[3]]);
    let state = SYN_STATE.get_ptr_mut(local::tcp_service(local, port)?)?;
    // SAFETY: a value of `SYN_STATE`, likewise. Others write it too: any mix of old and new is a state to go on from.
    unsafe {
        if (*state).meter.cookies == 0 {
            return None;
        }
        work.settings = (*state).settings;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let flags = work.tcp[13] & (tcp_flag::SYN | tcp_flag::ACK | tcp_flag::RST | tcp_flag::FIN);
    let is_syn = flags == tcp_flag::SYN;
    let (on, age) = keep(state, now, is_syn);
    if is_syn {
        if !on {
            return None;
        }
        options(ctx, after_ip, work)?;
        prepare(work, u32::from(V6));
        let cookie = cookie::<V6>(ctx, work, state, age, now)?;
        return answer::<V6>(ctx, at, work, cookie);
    }
    if flags & (tcp_flag::SYN | tcp_flag::RST) != 0 || flags & tcp_flag::ACK == 0 || genuine::<V6>(ctx, work) {
        return None;
    }
    count::reason(Reason::SynCookieBad, length(ctx));
    Some(xdp_action::XDP_DROP)
}

/// Has the meter count, and writes back what it decides: whether cookies are on, and how old the listener's mark is.
#[inline(always)]
fn keep(state: *mut SynState, now: u64, is_syn: bool) -> (bool, u64) {
    // SAFETY: a value of `SYN_STATE`; races lose counts, see `SynMeter`.
    unsafe {
        let (meter, settings, accepted) = ((*state).meter, (*state).settings, (*state).accepted);
        let meter =
            if is_syn { meter.on_syn(now, accepted, &settings) } else { meter.on_time(now, accepted, &settings) };
        // The mark has a time of its own.
        let marked_ns = (*state).meter.marked_ns;
        (*state).meter = SynMeter { marked_ns, ..meter };
        (meter.cookies != 0, meter.mark_age_ns(now))
    }
}

/// A cookie for the SYN: from the listener itself where its mark is due, else from the raw helper. None, and the SYN is the
/// kernel's, where the listener does not give one and no mark stands: its cookie would be refused.
#[inline(always)]
fn cookie<const V6: bool>(
    ctx: &XdpContext,
    work: &mut Exchange,
    state: *mut SynState,
    age: u64,
    now: u64,
) -> Option<u32> {
    let ip = work.ip.as_mut_ptr();
    let header = work.cookie_header.as_mut_ptr();
    if age >= MARK_AGAIN_NS {
        let sock = lookup::<V6>(ctx, work);
        if sock.is_null() {
            return None;
        }
        let length = if V6 { IPV6_HEADER } else { IPV4_HEADER } as u32;
        // SAFETY: the socket is referenced until it is released; the headers have the lengths that are passed. The helper
        // itself refuses a socket that does not listen.
        let made = unsafe {
            let made = bpf_tcp_gen_syncookie(sock.cast(), ip.cast(), length, header.cast(), SHORT_HEADER as u32);
            bpf_sk_release(sock.cast());
            made
        };
        if made >= 0 {
            // SAFETY: a value of `SYN_STATE`; one word.
            unsafe { (*state).meter.marked_ns = now };
            return Some(made as u32);
        }
        if age >= MARK_VALID_NS {
            return None;
        }
    }
    // SAFETY: a whole IP header of the family, and a TCP header of the length that is passed.
    let made = unsafe {
        if V6 {
            bpf_tcp_raw_gen_syncookie_ipv6(ip.cast(), header.cast(), SHORT_HEADER as u32)
        } else {
            bpf_tcp_raw_gen_syncookie_ipv4(ip.cast(), header.cast(), SHORT_HEADER as u32)
        }
    };
    (made >= 0).then_some(made as u32)
}

/// Whether an acknowledgment is nobody's to drop: it belongs to a connection or a handshake that the kernel knows, or
/// nobody listens, or its cookie is the kernel's.
#[inline(always)]
fn genuine<const V6: bool>(ctx: &XdpContext, work: &mut Exchange) -> bool {
    let sock = lookup::<V6>(ctx, work);
    if sock.is_null() {
        return true;
    }
    let length = if V6 { IPV6_HEADER } else { IPV4_HEADER } as u32;
    let (ip, tcp) = (work.ip.as_mut_ptr(), work.tcp.as_mut_ptr());
    // SAFETY: the socket is referenced until it is released; the headers have the lengths that are passed.
    unsafe {
        let state = (&raw const (*sock).state).read_volatile();
        let valid = state != LISTEN
            || bpf_tcp_check_syncookie(sock.cast(), ip.cast(), length, tcp.cast(), TCP_HEADER as u32) == 0;
        bpf_sk_release(sock.cast());
        valid
    }
}

/// The socket that the packet is for, referenced; null for none.
#[inline(always)]
fn lookup<const V6: bool>(ctx: &XdpContext, work: &Exchange) -> *mut bpf_sock {
    let mut tuple = Tuple([0; TUPLE6]);
    let (from, addresses) = if V6 { (8, 32) } else { (12, 8) };
    let mut at = 0;
    while at < addresses {
        tuple.0[at] = work.ip[from + at];
        at += 1;
    }
    let mut port = 0;
    while port < 4 {
        tuple.0[addresses + port] = work.tcp[port];
        port += 1;
    }
    let length = if V6 { TUPLE6 } else { TUPLE4 } as u32;
    // SAFETY: the tuple is at least as long as is passed; the context is the program's own.
    unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), (&raw mut tuple).cast(), length, CURRENT_NETNS, 0) }
}

/// Copies the SYN's options, with zeros behind them.
#[inline(always)]
fn options(ctx: &XdpContext, after_ip: u32, work: &mut Exchange) -> Option<()> {
    work.raw = RawOptions { bytes: [0; MAX_OPTIONS] };
    let length = opaque((u32::from(work.tcp[12] >> 4) * WORD).wrapping_sub(TCP_HEADER as u32));
    // Options are whole words. Not "is 0": verifiers before 6.8 learn a least length from a bound alone.
    if length < WORD {
        return Some(());
    }
    fill(ctx, after_ip + TCP_HEADER as u32, &mut work.raw.bytes, length)
}

/// The same number, of which the compiler knows nothing: a bound that it would prove, and leave out, is one that the
/// verifier may not see.
#[inline(always)]
fn opaque(number: u32) -> u32 {
    // SAFETY: a local variable.
    unsafe { (&raw const number).read_volatile() }
}

/// A global function, as is the next: the verifier checks it once, for any SYN.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn prepare(work: *mut Exchange, v6: u32) -> u32 {
    // SAFETY: the one caller passes a reference. The verifier, which does not know, wants the check for null.
    let Some(work) = (unsafe { work.as_mut() }) else { return 0 };
    work.prepare(v6 != 0);
    1
}

/// Writes the answer's headers; returns the length of its TCP header.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_answer(work: *mut Exchange, v6: u32, cookie: u32, now_ms: u32) -> u32 {
    // SAFETY: as above.
    let Some(work) = (unsafe { work.as_mut() }) else { return 0 };
    work.answer(v6 != 0, cookie, now_ms) as u32
}

/// Turns the SYN into its answer and sends it back out of the interface.
#[inline(always)]
fn answer<const V6: bool>(ctx: &XdpContext, at: u32, work: &mut Exchange, cookie: u32) -> Option<u32> {
    // The clock that the kernel reads for the echo: not the coarse one.
    // SAFETY: a helper without arguments.
    let now_ms = (unsafe { bpf_ktime_get_ns() } / NS_PER_MS) as u32;
    let long = write_answer(work, u32::from(V6), cookie, now_ms) == LONG_HEADER as u32;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = load::<{ ether::ADDRESSES }>(ctx, 0)?;
    let back = [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5];

    let ip_length = if V6 { IPV6_HEADER } else { IPV4_HEADER } as u32;
    let tcp_length = if long { LONG_HEADER } else { SHORT_HEADER } as u32;
    let after_ip = at + ip_length;
    let wanted = (after_ip + tcp_length) as i32;
    // The verifier takes the end less the beginning, not the end less anything else.
    let frame = opaque(length(ctx) as u32) as i32;
    // SAFETY: the helper checks what it is asked for; no pointer into the packet is used after it.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, wanted - frame) } != 0 {
        return None;
    }
    // From here on the SYN is no more: what fails now is dropped.
    let stored = store(ctx, 0, &back, ether::ADDRESSES as u32)
        && store(ctx, at, &work.reply_ip, ip_length)
        && if long {
            store(ctx, after_ip, &work.reply_tcp, LONG_HEADER as u32)
        } else {
            store(ctx, after_ip, &work.reply_tcp, SHORT_HEADER as u32)
        };
    if !stored {
        return Some(xdp_action::XDP_DROP);
    }
    count::reason(Reason::SynCookie, length(ctx));
    Some(xdp_action::XDP_TX)
}

/// Bytes of the frame that lie in its first buffer: all of a SYN.
#[inline(always)]
fn length(ctx: &XdpContext) -> u64 {
    (ctx.data_end() - ctx.data()) as u64
}

#[inline(always)]
fn load<const N: usize>(ctx: &XdpContext, at: u32) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    fill(ctx, at, &mut bytes, N as u32)?;
    Some(bytes)
}

/// Copies `length` bytes of the packet to the start of `bytes`; none beyond either's end.
#[inline(always)]
fn fill<const N: usize>(ctx: &XdpContext, at: u32, bytes: &mut [u8; N], length: u32) -> Option<()> {
    if length as usize > N {
        return None;
    }
    // SAFETY: the helper writes `length` bytes, at most the buffer's, or fails.
    let result = unsafe { bpf_xdp_load_bytes(ctx.ctx, at, bytes.as_mut_ptr().cast(), length) };
    (result == 0).then_some(())
}

/// Writes the first `length` of `bytes` into the packet.
#[inline(always)]
fn store<const N: usize>(ctx: &XdpContext, at: u32, bytes: &[u8; N], length: u32) -> bool {
    // SAFETY: the callers pass a length within the buffer; the helper reads it and checks the packet's bounds.
    length as usize <= N && unsafe { bpf_xdp_store_bytes(ctx.ctx, at, bytes.as_ptr().cast_mut().cast(), length) } == 0
}
