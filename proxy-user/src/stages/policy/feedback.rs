//! Kernel feedback: what a policy decided about a source is written to the kernel by this worker, now, before the
//! answer is sent. Such verdicts hold for Tidegate's own listeners only, never for a source that an allow rule
//! covers, and at most `gate.max_pushes_per_second` a second are written by each worker.

use crate::stages::Flow;
use crate::stages::exchange::Exchange;
use crate::stats::bump;

/// Writes the verdicts that were decided.
pub(super) fn push(exchange: &mut Exchange) -> Flow {
    if exchange.decision.pushes.is_empty() {
        return Flow::Continue;
    }
    let worker = &exchange.worker;
    let Some(kernel) = &worker.shared.kernel else { return Flow::Continue };
    let snapshot = &exchange.live.snapshot;
    let source = exchange.connection.client.ip();
    for push in &exchange.decision.pushes {
        let allowed = snapshot.policies.allows_source(source);
        if allowed || !worker.may_push(exchange.started, snapshot.config.gate.max_pushes_per_second) {
            bump(&worker.stats.push_refused, 1);
            continue;
        }
        match kernel.push_verdict(source, push.rule, push.ttl, true) {
            Ok(true) => bump(&worker.stats.pushed, 1),
            Ok(false) => bump(&worker.stats.push_refused, 1),
            Err(error) => {
                bump(&worker.stats.push_refused, 1);
                tracing::warn!(%source, error = format!("{error:#}"), "the verdict could not be written to the kernel");
            }
        }
    }
    Flow::Continue
}
