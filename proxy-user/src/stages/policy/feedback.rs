//! Kernel feedback: what a policy decided about a source is written to the kernel by this worker, now, before the
//! answer is sent. Such verdicts hold for Tidegate's own listeners only, never for a source that an allow rule
//! covers, and at most `gate.max_pushes_per_second` a second are written by each worker.

use std::net::IpAddr;
use std::time::Instant;

use proxy_core::policy::{Push, RequestView};

use crate::shared::Snapshot;
use crate::stages::Flow;
use crate::stages::exchange::Exchange;
use crate::stats::bump;
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// Writes the verdicts that were decided.
pub(super) fn push(exchange: &mut Exchange) -> Flow {
    let pushes = &exchange.decision.pushes;
    if !pushes.is_empty() {
        let source = exchange.connection.client.ip();
        write(&exchange.worker, &exchange.live.snapshot, source, pushes, exchange.started);
    }
    Flow::Continue
}

/// A client has done something to wear the server down: writes the verdicts that policies want for that.
pub(crate) fn abused(connection: &Connection, snapshot: &Snapshot) {
    let (worker, policies, source) = (&connection.worker, &snapshot.policies, connection.client.ip());
    let over = (connection.listener.tls, connection.link.is_quic());
    let known = connection.view(policies);
    let name = &connection.listener.name;
    let view = RequestView {
        wall_ms: super::wall_ms(policies),
        ..RequestView::of_connection(source, connection.local, name, over, known)
    };
    let now = Instant::now();
    let pushes = policies.evaluate_abuse(&view, worker.monotonic_ns(now));
    write(worker, snapshot, source, &pushes, now);
}

/// Writes the verdicts that a decision about `source` wants.
pub(crate) fn write(worker: &Worker, snapshot: &Snapshot, source: IpAddr, pushes: &[Push], now: Instant) {
    let Some(kernel) = &worker.shared.kernel else { return };
    let now_in_force = worker.shared.snapshot.load();
    // A request may have been judged by policies that are gone by now, and their verdicts with them.
    let outlived = now_in_force.generation != snapshot.generation;
    let kept = outlived.then(|| now_in_force.policies.keeps_verdicts_of(&snapshot.policies));
    for push in pushes {
        let allowed = snapshot.policies.allows_source(source);
        let gone = kept.as_ref().is_some_and(|kept| !kept.contains(&push.rule));
        if allowed || gone || !worker.may_push(now, snapshot.config.gate.max_pushes_per_second) {
            bump(&worker.stats.push_refused, 1);
            continue;
        }
        match kernel.push_verdict(source, push, true) {
            Ok(true) => bump(&worker.stats.pushed, 1),
            Ok(false) => bump(&worker.stats.push_refused, 1),
            Err(error) => {
                bump(&worker.stats.push_refused, 1);
                tracing::warn!(%source, error = format!("{error:#}"), "the verdict could not be written to the kernel");
            }
        }
    }
}
