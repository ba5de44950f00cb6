//! How the daemon stands, put together from the workers, the kernel half and the policies in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proxy_common::abi::Counter;
use proxy_core::policy::PolicySet;

use super::asking::with_kernel;
use super::refusals::unreadable;
use crate::control::api::Refusal;
use crate::control::wire::{
    Count, Counters, GateState, ListenerState, SameHostState, Sent, ServerState, Status, UpstreamState, Verdicts,
    WorkerState,
};
use crate::kernel::{Kernel, SameHost};
use crate::shared::Shared;
use crate::stats::{HttpVersion, WorkerStats};

/// The standing verdicts, at most so many.
pub(super) fn list(kernel: &Kernel, limit: usize) -> anyhow::Result<Verdicts> {
    let mut verdicts = kernel.verdicts()?;
    let total = verdicts.len();
    verdicts.sort_unstable_by(|a, b| a.source.cmp(&b.source));
    verdicts.truncate(limit);
    Ok(Verdicts { truncated: verdicts.len() < total, total: total as u64, verdicts })
}

/// What the gate has counted.
pub(super) fn count(kernel: &Kernel) -> anyhow::Result<Counters> {
    let as_count = |c: Counter| Count { packets: c.packets, bytes: c.bytes };
    let reasons = kernel.counters()?.into_iter().map(|(name, c)| (name.to_owned(), as_count(c))).collect();
    let rules = kernel.rule_hits()?.into_iter().map(|(name, c)| (name, as_count(c))).collect();
    let would = kernel.shadow_hits()?.into_iter().map(|(name, c)| (name, as_count(c))).collect();
    let checks = kernel.would_counters()?.into_iter().map(|(name, c)| (name.to_owned(), as_count(c))).collect();
    Ok(Counters { reasons, rules, would, checks })
}

/// The answer to `GET /v1/status`.
pub(super) async fn status(shared: &Arc<Shared>) -> Result<Status, Refusal> {
    let snapshot = shared.snapshot.load_full();
    let kept = shared.kept.load_full();
    let verdicts = match &shared.kernel {
        Some(_) => Some(with_kernel(shared, unreadable, |kernel| Ok(kernel.verdicts()?.len() as u64)).await?),
        None => None,
    };
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: shared.started.elapsed().as_secs_f64(),
        generation: snapshot.generation,
        kernel: shared.kernel.as_ref().map(|kernel| GateState {
            rates: snapshot.config.gate.rates.iter().map(ToString::to_string).collect(),
            ..GateState::from(kernel.status())
        }),
        kernel_missing: shared.kernel_missing.clone(),
        listeners: snapshot.config.listeners.iter().map(listener).collect(),
        workers: workers(shared),
        upstreams: upstreams(shared),
        same_host: snapshot.same_host.as_ref().map(same_host),
        verdicts,
        policies: snapshot.config.policies.clone(),
        revision: kept.current.revision,
        held: kept.current.held,
        aborted: aborted(&snapshot.policies),
        not_kept: kept.missing.clone(),
    })
}

fn aborted(policies: &PolicySet) -> Vec<String> {
    policies.rule_counts().into_iter().filter(|rule| rule.aborted).map(|rule| rule.rule).collect()
}

fn listener(listener: &proxy_core::config::Listener) -> ListenerState {
    ListenerState {
        name: listener.name.clone(),
        address: listener.address.to_string(),
        protocol: listener.protocol.name().to_owned(),
        http3: listener.http3,
    }
}

/// What the workers see of the upstreams, put together.
fn upstreams(shared: &Shared) -> Vec<UpstreamState> {
    let mut all: BTreeMap<String, UpstreamState> = BTreeMap::new();
    for seen in shared.stats.iter().flat_map(|stats| stats.upstreams()) {
        let upstream = all.entry(seen.name).or_insert_with_key(|name| UpstreamState {
            name: name.clone(),
            waiting: 0,
            servers: Vec::new(),
        });
        upstream.waiting += seen.waiting;
        for seen in seen.servers {
            let place = upstream.servers.iter().position(|server| server.server == seen.server);
            let place = place.unwrap_or_else(|| {
                let server = seen.server;
                upstream.servers.push(ServerState { server, standing: BTreeMap::new(), requests: 0, connections: 0 });
                upstream.servers.len() - 1
            });
            if let Some(server) = upstream.servers.get_mut(place) {
                *server.standing.entry(seen.standing.name().to_owned()).or_default() += 1;
                server.requests += seen.requests;
                server.connections += seen.connections;
            }
        }
    }
    all.into_values().collect()
}

/// What became of responses of servers on this host. Counters that cannot be read are left out.
fn same_host(host: &Result<Arc<SameHost>, Arc<str>>) -> SameHostState {
    let host = match host {
        Ok(host) => host,
        Err(why) => return SameHostState { missing: Some(why.to_string()), ..SameHostState::default() },
    };
    let sent = |(way, counter): (String, Counter)| (way, Sent { messages: counter.packets, bytes: counter.bytes });
    SameHostState {
        missing: None,
        cgroup: Some(host.cgroup().display().to_string()),
        connections: host.connections() as u64,
        sent: host.counters().unwrap_or_default().into_iter().map(sent).collect(),
    }
}

/// What each worker does.
pub(super) fn workers(shared: &Shared) -> Vec<WorkerState> {
    (0..).zip(&shared.stats).map(|(number, stats)| worker(number, stats)).collect()
}

fn worker(worker: u32, stats: &WorkerStats) -> WorkerState {
    let requests = HttpVersion::ALL.iter().zip(&stats.requests);
    WorkerState {
        worker,
        accepting: stats.accepting.load(Ordering::Relaxed),
        accepted: stats.accepted.load(Ordering::Relaxed),
        active: stats.active.load(Ordering::Relaxed),
        requests: requests.map(|(version, n)| (version.name().to_owned(), n.load(Ordering::Relaxed))).collect(),
        forwarded: stats.forwarded.load(Ordering::Relaxed),
    }
}
