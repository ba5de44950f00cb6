//! What `front` asks of a packet beyond its verdict, as global functions: the verifier checks each once, for any arguments.
//! What they decide is in `proxy_common::{checks, sanity, hosts}`.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use proxy_common::abi::{HostLine, REASONS, Reason};
use proxy_common::decide::is_for_a_service;
use proxy_common::parse::Packet as IpPacket;
use proxy_common::{checks, hosts, sanity};

use crate::count;
use crate::frame::Anywhere;
use crate::maps::{HOSTS, WOULD};
use crate::tables::Maps;

/// Counts the checks that are only counted.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_checks(checks: u64, length: u64) -> u32 {
    let mut reason = Reason::TcpNull as u32;
    while reason < REASONS {
        if (checks >> reason) & 1 != 0 {
            count::add(WOULD.get_ptr_mut(reason), length);
        }
        reason += 1;
    }
    0
}

/// [`checks::run`] as a global function: the verifier checks it once, for any arguments.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn check_packet(ctx: *mut xdp_md, packet: *const IpPacket, found: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: the one caller passes a reference. The verifier, which does not know, wants the check for null.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    checks::run(&Anywhere(&ctx), packet, &Maps::new(ctx.ctx), found)
}

/// [`sanity::examine`], likewise.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn examine(packet: *const IpPacket, quic: u32, fact: u64) -> u64 {
    // SAFETY: as in `check_packet`.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    sanity::examine(packet, quic != 0, fact)
}

/// [`checks::look_up`], likewise.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look_up(ctx: *mut xdp_md, packet: *const IpPacket) -> u64 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: as in `check_packet`.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    checks::look_up(&Anywhere(&ctx), packet, &Maps::new(ctx.ctx))
}

/// [`is_for_a_service`], likewise.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn for_a_service(packet: *const IpPacket) -> u32 {
    // SAFETY: as in `check_packet`.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    // It reads no packet: a context that it does not use is one that the caller does not pass.
    u32::from(is_for_a_service(packet, &Maps::new(core::ptr::null_mut())))
}

/// [`checks::note_fragment`], likewise.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note_fragment(ctx: *mut xdp_md, packet: *const IpPacket, passed: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: as in `check_packet`.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    checks::note_fragment(&Anywhere(&ctx), packet, &Maps::new(ctx.ctx), passed != 0);
    0
}

/// [`hosts::find`] on the packet's source, packed; likewise.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_host(packet: *const IpPacket, side: u32) -> u64 {
    // SAFETY: as in `check_packet`.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    let line = |line| {
        // SAFETY: a line is these words and nothing else.
        HOSTS.get_value(side, &line).map(|words| unsafe { &*(&raw const *words).cast::<HostLine>() })
    };
    hosts::find(packet.src, line).pack()
}
