//! `steer`: the listening socket for a new TCP connection, by service and load.

use aya_ebpf::bindings::BPF_SK_LOOKUP_F_NO_REUSEPORT;
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::programs::SkLookupContext;
use aya_log_ebpf::debug;
use proxy_common::abi::{MAX_WORKERS, Reason, proto};
use proxy_common::steer::{busyness, less_busy, two_of};

use crate::maps::{BINDINGS, LISTENERS, SERVICES, WORKERS};
use crate::{count, local};

/// Assigns a worker's socket; on a miss the kernel's own look-up goes on.
#[inline(always)]
pub fn assign(ctx: &SkLookupContext) {
    count::reason(place(ctx), 0);
}

#[inline(always)]
fn place(ctx: &SkLookupContext) -> Reason {
    // SAFETY: the kernel passes a valid context, and the verifier checks each field's access.
    let (family, protocol, port) = unsafe { ((*ctx.lookup).family, (*ctx.lookup).protocol, (*ctx.lookup).local_port) };
    if protocol != u32::from(proto::TCP) {
        return Reason::SteerMiss;
    }
    // SAFETY: as above.
    let local = unsafe { local::addr(family, &raw const (*ctx.lookup).local_ip4, &raw const (*ctx.lookup).local_ip6) };
    let exact = BINDINGS.get_ptr(&local.service_key(proto::TCP, port as u16));
    let Some(binding) = exact.or_else(|| BINDINGS.get_ptr(&local.any().service_key(proto::TCP, port as u16))) else {
        return Reason::SteerMiss;
    };
    // SAFETY: a value of `BINDINGS`, valid for the length of the program.
    let service = unsafe { (*binding).service };
    let workers = SERVICES.get(service).map_or(0, |s| s.workers);
    // SAFETY: a helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let (first, second) = two_of(workers, random);
    let chosen = less_busy(load(first), load(second)).unwrap_or(first);
    let base = service * MAX_WORKERS;
    if LISTENERS.redirect_sk_lookup(ctx, base + chosen, u64::from(BPF_SK_LOOKUP_F_NO_REUSEPORT)).is_ok() {
        assigned(chosen);
        debug!(ctx, "steer service {} worker {}", service, chosen);
        return Reason::Steered;
    }
    // The chosen worker's socket is gone from its slot: any that stands will do.
    let mut step = 1;
    while step < MAX_WORKERS && step < workers {
        let mut other = chosen + step;
        if other >= workers {
            other -= workers;
        }
        if load(other).2
            && LISTENERS.redirect_sk_lookup(ctx, base + other, u64::from(BPF_SK_LOOKUP_F_NO_REUSEPORT)).is_ok()
        {
            assigned(other);
            return Reason::Steered;
        }
        step += 1;
    }
    Reason::SteerDead
}

#[inline(always)]
fn load(worker: u32) -> (u32, u32, bool) {
    WORKERS.get(worker).map_or((worker, 0, false), |w| (worker, busyness(w), w.accepting != 0))
}

/// Counts the connection as on its way to the worker.
#[inline(always)]
fn assigned(worker: u32) {
    if let Some(load) = WORKERS.get_ptr_mut(worker) {
        // SAFETY: a value of an array. CPUs that steer at the same moment may count once, which only blurs the choice.
        unsafe { (*load).assigned = (*load).assigned.wrapping_add(1) };
    }
}
