//! `steer`: the listening socket for a new TCP connection, by service and load; by hash while SYN cookies are on.

use aya_ebpf::bindings::BPF_SK_LOOKUP_F_NO_REUSEPORT;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use aya_ebpf::programs::SkLookupContext;
use aya_log_ebpf::debug;
use proxy_common::abi::{MAX_WORKERS, Reason, proto, syn_policy};
use proxy_common::addr::Addr;
use proxy_common::steer::{busyness, by_hash, connection_hash, less_busy, two_of};

use crate::maps::{GATE, LISTENERS, QUIC_KEY, SERVICES, SYN_STATE, WORKERS};
use crate::{address, count, local};

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
    let local =
        unsafe { address::addr(family, &raw const (*ctx.lookup).local_ip4, &raw const (*ctx.lookup).local_ip6) };
    let Some(service) = local::tcp_service(local, port as u16) else { return Reason::SteerMiss };
    let workers = SERVICES.get(service).map_or(0, |s| s.workers);
    let cookies = cookies_on(service);
    let stable = if cookies { by_hash(workers, hash(ctx, local)) } else { MAX_WORKERS };
    // A worker that drains takes nothing new, whatever the hash says.
    let chosen = if cookies && load(stable).2 { stable } else { by_load(workers) };
    let base = service * MAX_WORKERS;
    if LISTENERS.redirect_sk_lookup(ctx, base + chosen, u64::from(BPF_SK_LOOKUP_F_NO_REUSEPORT)).is_ok() {
        if !cookies {
            assigned(chosen);
        }
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
            if !cookies {
                assigned(other);
            }
            return Reason::Steered;
        }
        step += 1;
    }
    Reason::SteerDead
}

/// The less busy of two picked at random.
#[inline(always)]
fn by_load(workers: u32) -> u32 {
    // SAFETY: a helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let (first, second) = two_of(workers, random);
    less_busy(load(first), load(second)).unwrap_or(first)
}

/// Whether the service answers SYNs with cookies. While it does not, this look-up is for a SYN: it is counted, and may be
/// the one that turns cookies on. While it does, `front_syn` counts, and this may be its look-up or the kernel's.
#[inline(always)]
fn cookies_on(service: u32) -> bool {
    let Some(state) = SYN_STATE.get_ptr_mut(service) else { return false };
    // SAFETY: a value of an array. CPUs that count at the same moment may count once, see `SynMeter`.
    unsafe {
        if (*state).settings.policy == syn_policy::OFF {
            return false;
        }
        if (*state).meter.cookies == 0 {
            let accepted = (*state).accepted;
            let settings = (*state).settings;
            (*state).meter = (*state).meter.on_syn(bpf_ktime_get_coarse_ns(), accepted, &settings);
        }
        if (*state).meter.cookies == 0 {
            return false;
        }
        // The daemon may write the settings of the gate at the same moment: the next SYN puts it right.
        if let Some(gate) = GATE.get_ptr_mut(0)
            && (*gate).cookies == 0
        {
            (*gate).cookies = 1;
        }
    }
    true
}

/// Hash of the connection's addresses and ports. Both families' fields are read, without a branch on the family: those of
/// the other are zero, and the verifier refuses the one read at a chosen offset that the compiler would make of two.
#[inline(always)]
fn hash(ctx: &SkLookupContext, local: Addr) -> u64 {
    let key = QUIC_KEY.get(0).copied().unwrap_or_default();
    let lookup = ctx.lookup;
    // SAFETY: the kernel passes a valid context, and the verifier checks each field's access.
    let (remote, ports) = unsafe {
        let word = |index: usize| u64::from((&raw const (*lookup).remote_ip6[index]).read_volatile());
        let v4 = u64::from((&raw const (*lookup).remote_ip4).read_volatile());
        let remote = Addr { hi: word(0) | (word(1) << 32), lo: (word(2) | (word(3) << 32)) ^ v4 };
        (remote, (u32::from((*lookup).remote_port) << 16) | ((*lookup).local_port & 0xffff))
    };
    connection_hash(key, remote, local, ports)
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
