//! Programs for servers on the same host: their responses are handed over to the daemon's socket without the way through TCP.
//! An object of its own, which is loaded only where an upstream asks for it. When a message may go that way is decided in
//! [`proxy_common::same_host`].
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros generate undocumented entry points")]

mod address;
mod object;

use core::ptr;

use aya_ebpf::bindings::{
    BPF_ANY, BPF_F_INGRESS, BPF_F_MMAPABLE, BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, SkStorage, SockHash};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sk_storage_get};
use aya_ebpf::macros::{btf_map, sk_msg, sock_ops};
use aya_ebpf::programs::{SkMsgContext, SockOpsContext};
use proxy_common::abi::{Counter, Credit, Flow, Ticket};
use proxy_common::addr::Addr;
use proxy_common::same_host::{MAX_SAME_HOST, WAYS, Way};

/// Connections that the daemon makes, before it makes them.
#[btf_map]
static EXPECTED: HashMap<Flow, Ticket, { MAX_SAME_HOST as usize }> = HashMap::new();

/// The daemon's ends, by their cookies.
#[btf_map]
static ENDS: SockHash<u64, { MAX_SAME_HOST as usize }> = SockHash::new();

/// The servers' ends, by the cookies of ours: `hand_over` sees what is sent there.
#[btf_map]
static SERVERS: SockHash<u64, { MAX_SAME_HOST as usize }> = SockHash::new();

/// What each of these leads to.
#[btf_map]
static TICKETS: SkStorage<Ticket> = SkStorage::new();

/// What may still be handed over; mapped into the daemon, which gives new credit by a store.
#[btf_map]
static CREDITS: Array<Credit, { MAX_SAME_HOST as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Messages and bytes by the way that they took.
#[btf_map]
static BY_WAY: PerCpuArray<Counter, { WAYS as usize }> = PerCpuArray::new();

/// `sk_msg`: go on, to where it was redirected or through TCP.
const SK_PASS: u32 = 1;

/// A server has accepted a connection: one of ours?
#[sock_ops]
pub fn join(ctx: SockOpsContext) -> u32 {
    if ctx.op() == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        joined(&ctx);
    }
    1
}

#[inline(always)]
fn joined(ctx: &SockOpsContext) -> Option<()> {
    let ops = ctx.ops;
    // SAFETY: the kernel passes a valid context, and the verifier checks each field's access.
    let (client, server, sk, ports) = unsafe {
        let family = (*ops).family;
        let client = address::addr(family, &raw const (*ops).remote_ip4, &raw const (*ops).remote_ip6);
        let server = address::addr(family, &raw const (*ops).local_ip4, &raw const (*ops).local_ip6);
        (client, server, (*ops).__bindgen_anon_2.sk, ((*ops).remote_port, (*ops).local_port))
    };
    if !Addr::is_loopback(client) || sk.is_null() {
        return None;
    }
    let flow = Flow {
        // SAFETY: the context is live.
        netns: unsafe { bpf_get_netns_cookie(ops.cast()) },
        client: client.to_bytes(),
        server: server.to_bytes(),
        // The one in network order, the other in the host's (struct bpf_sock_ops in include/uapi/linux/bpf.h).
        client_port: u32::from_be(ports.0) as u16,
        server_port: ports.1 as u16,
        pad: 0,
    };
    // SAFETY: an entry is written once, before the connection is made.
    let mut ticket = *unsafe { EXPECTED.get(&flow) }?;
    // SAFETY: the map and the socket are live; the value is copied.
    let kept = unsafe {
        let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        bpf_sk_storage_get((&raw const TICKETS).cast_mut().cast(), sk.cast(), (&raw mut ticket).cast(), create)
    };
    if kept.is_null() {
        return None;
    }
    // SAFETY: the context is live, and nobody else has it.
    SERVERS.update(ticket.end, unsafe { &mut *ops }, u64::from(BPF_ANY)).ok()
}

/// A server sends something to the daemon.
#[sk_msg]
pub fn hand_over(ctx: SkMsgContext) -> u32 {
    let bytes = ctx.size();
    let way = if handed(&ctx, bytes).is_some() { Way::Handed } else { Way::Tcp };
    if let Some(counter) = BY_WAY.get_ptr_mut(way as u32) {
        // SAFETY: a value of this CPU's.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(bytes);
        }
    }
    SK_PASS
}

#[inline(always)]
fn handed(ctx: &SkMsgContext, bytes: u32) -> Option<()> {
    // SAFETY: the kernel passes a valid context with the socket that is sent on; nothing is made here.
    let ticket = unsafe {
        let sk = (*ctx.msg).__bindgen_anon_3.sk;
        if sk.is_null() {
            return None;
        }
        bpf_sk_storage_get((&raw const TICKETS).cast_mut().cast(), sk.cast(), ptr::null_mut(), 0).cast::<Ticket>()
    };
    if ticket.is_null() {
        return None;
    }
    // SAFETY: not null, of the map's type, and written only when the socket was joined.
    let Ticket { end, slot, .. } = unsafe { *ticket };
    let credit = CREDITS.get_ptr_mut(slot)?;
    // SAFETY: a value of `CREDITS`. The kernel holds the socket's lock: no other message of the connection comes between. The
    // daemon writes only when the response is over.
    unsafe {
        match (*credit).after(end, bytes) {
            Some(rest) if ENDS.redirect_msg(ctx, end, u64::from(BPF_F_INGRESS)) == i64::from(SK_PASS) => {
                (*credit).left = rest;
                return Some(());
            }
            // From here on through TCP, until the daemon has read it all.
            _ => {
                if (*credit).end == end {
                    (*credit).left = 0;
                }
            }
        }
    }
    None
}
