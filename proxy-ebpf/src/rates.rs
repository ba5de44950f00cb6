//! The rate limits of `front` as global functions: the verifier checks each once, for any arguments. What they decide is in
//! `proxy_common::rates`.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use proxy_common::parse::Packet as IpPacket;
use proxy_common::rates;

use crate::frame::Anywhere;
use crate::tables::Maps;

/// [`rates::run`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn limit_rates(ctx: *mut xdp_md, packet: *const IpPacket) -> u64 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: the one caller passes a reference. The verifier, which does not know, wants the check for null.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    rates::run(&Anywhere(&ctx), packet, &Maps::new(ctx.ctx))
}

/// [`rates::take`]: it stands in a loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn take_rate(packet: *const IpPacket, index: u32, units: u32, service: u32) -> u32 {
    // SAFETY: as above.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    // It reads no packet: a context that it does not use is one that the caller does not pass.
    rates::take(packet, index, units, service, &Maps::new(core::ptr::null_mut()))
}

/// [`rates::service_of`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn service_of(packet: *const IpPacket) -> u32 {
    // SAFETY: as above.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return rates::NO_SERVICE };
    // As above.
    rates::service_of(packet, &Maps::new(core::ptr::null_mut()))
}
