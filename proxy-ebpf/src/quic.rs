//! `steer_quic`: the worker's UDP socket for a datagram, by its destination connection id.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::SkReuseportContext;
use proxy_common::abi::{MAX_GENERATIONS, MAX_WORKERS, QuicKey, Reason, Service, proto};
use proxy_common::cid::{CID_LEN, decode};
use proxy_common::siphash::siphash24;

use crate::maps::{BINDINGS, QUIC_KEY, QUIC_SOCKS, SERVICES};
use crate::{address, count};

/// The context starts at the UDP header.
const UDP_HEADER: u32 = 8;
/// RFC 9000 section 17.2: first byte, version, length of the destination connection id.
const LONG_HEADER_ID: u32 = 6;
const SHORT_HEADER_ID: u32 = 1;
const LONG_HEADER_BIT: u8 = 0x80;

/// Selects a socket; without one the kernel's own hash over the group decides.
#[inline(always)]
pub fn select(ctx: &SkReuseportContext) {
    // SAFETY: the kernel passes a valid context.
    let length = unsafe { (*ctx.md).len };
    count::reason(place(ctx).unwrap_or(Reason::QuicStray), length.into());
}

#[inline(always)]
fn place(ctx: &SkReuseportContext) -> Option<Reason> {
    let (index, service) = service(ctx)?;
    let key: QuicKey = QUIC_KEY.get(0).copied()?;
    let [first] = load::<1>(ctx, UDP_HEADER)?;
    let long = first & LONG_HEADER_BIT != 0;
    let at = if long { LONG_HEADER_ID } else { SHORT_HEADER_ID };
    let base = index * MAX_GENERATIONS * MAX_WORKERS;
    let id = load::<CID_LEN>(ctx, UDP_HEADER + at);
    if let Some(id) = id
        && let Some(place) = decode(key, id)
    {
        let slot = base + place.generation * MAX_WORKERS + place.worker;
        if QUIC_SOCKS.select_reuseport(ctx, slot).is_ok() {
            return Some(Reason::QuicCid);
        }
    }
    if !long || service.workers == 0 {
        return None;
    }
    // Initial and 0-RTT carry the client's random id: its first eight bytes keep the datagrams of one handshake together.
    let random: [u8; 8] = load(ctx, UDP_HEADER + LONG_HEADER_ID)?;
    let hash = siphash24(key.k0, key.k1, u64::from_le_bytes(random)) as u32;
    let first_choice = ((hash >> 16) * service.workers) >> 16;
    let base = base + (service.generation % MAX_GENERATIONS) * MAX_WORKERS;
    let mut step = 0;
    while step < MAX_WORKERS && step < service.workers {
        let mut worker = first_choice + step;
        if worker >= service.workers {
            worker -= service.workers;
        }
        if QUIC_SOCKS.select_reuseport(ctx, base + worker).is_ok() {
            return Some(Reason::QuicInitial);
        }
        step += 1;
    }
    None
}

/// The service of the group's socket, by the address it is bound to.
#[inline(always)]
fn service(ctx: &SkReuseportContext) -> Option<(u32, Service)> {
    let sock = ctx.sk().sock;
    // SAFETY: the kernel passes the group's socket; the verifier checks each field's access.
    let (local, port) = unsafe {
        let local = address::addr((*sock).family, &raw const (*sock).src_ip4, &raw const (*sock).src_ip6);
        (local, (*sock).src_port as u16)
    };
    let binding = BINDINGS.get_ptr(&local.service_key(proto::UDP, port))?;
    // SAFETY: a value of `BINDINGS`, valid for the length of the program.
    let index = unsafe { (*binding).service };
    SERVICES.get(index).map(|service| (index, *service))
}

/// `N` bytes at `offset` from the UDP header. Only eight bytes are sure to be linear, hence the helper.
#[inline(always)]
fn load<const N: usize>(ctx: &SkReuseportContext, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    // SAFETY: the helper writes `N` bytes to a buffer of `N`, or fails.
    let result = unsafe { bpf_skb_load_bytes(ctx.as_ptr(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    (result == 0).then_some(bytes)
}
