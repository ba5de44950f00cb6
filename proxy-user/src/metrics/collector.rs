//! What is measured: reads the workers' counters and the kernel's at each scrape. Keeps nothing, writes nothing.
//!
//! Cardinality is bounded: workers, reasons, HTTP versions and status classes by the ABI, rules by [`MAX_RULES`], routes and
//! upstreams by [`crate::stages::counters::series::MAX_SERIES`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use proxy_common::abi::Counter;
use proxy_core::abuse::Kind;

use crate::shared::Shared;
use crate::stages::counters::series::Registry;
use crate::stages::counters::{ROUTES, UPSTREAMS};
use crate::stages::{Metric, Stages};
use crate::stats::{DURATION_BOUNDS_US, HttpVersion, Outcomes, STATUS_CLASSES, WorkerStats};

/// Most rules listed in a scrape: those with the most packets.
pub const MAX_RULES: usize = 256;

const DURATION_HELP: &str = "From the request's header to the end of the response, by route";
const HEADER_HELP: &str = "From the request's header to the origin's response header, by upstream";
const MICROSECONDS: f64 = 1e6;

#[derive(Debug)]
pub(super) struct Collector {
    shared: Arc<Shared>,
}

/// A counter that each worker has: name, help, where it stands.
type PerWorker = (&'static str, &'static str, fn(&WorkerStats) -> &AtomicU64);

const PER_WORKER: [PerWorker; 14] = [
    ("requests_shed", "Requests turned away for want of memory", |s| &s.shed),
    ("connections_accepted", "Connections accepted, TCP and QUIC", |s| &s.accepted),
    ("blocked", "Requests that a policy blocked", |s| &s.blocked),
    ("verdicts_pushed", "Verdicts that request rules wrote to the kernel", |s| &s.pushed),
    ("push_refused", "Verdicts not written: rate bound, allowed source, or an error", |s| &s.push_refused),
    ("tls_errors", "TLS handshakes that failed", |s| &s.tls_errors),
    ("upstream_errors", "Requests that failed for want of an origin", |s| &s.upstream_errors),
    ("upstream_connects", "Connections opened to origins", |s| &s.upstream_connects),
    ("upstream_reused", "Requests sent on a kept-alive origin connection", |s| &s.upstream_reused),
    ("upstream_hedges", "Requests sent to a second server while the first had not answered", |s| &s.upstream_hedges),
    ("upstream_hedges_won", "Of those the ones whose second server was heard", |s| &s.upstream_hedges_won),
    ("forwarded", "Connections passed through as they are", |s| &s.forwarded),
    ("forwarded_in_bytes", "Bytes from clients of connections passed through", |s| &s.forwarded_in),
    ("forwarded_out_bytes", "Bytes to clients of connections passed through", |s| &s.forwarded_out),
];

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.process(&mut encoder)?;
        self.workers(&mut encoder)?;
        self.durations(&mut encoder)?;
        named(&mut encoder, "route", "duration_seconds", DURATION_HELP, &ROUTES)?;
        named(&mut encoder, "upstream", "header_seconds", HEADER_HELP, &UPSTREAMS)?;
        stages(&mut encoder)?;
        self.same_host(&mut encoder)?;
        self.gate(&mut encoder)
    }
}

impl Collector {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn process(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        encoder.encode_descriptor("build", "Version of tidegate", None, MetricType::Info)?.encode_info(&labels)?;
        let uptime = self.shared.started.elapsed().as_secs_f64();
        encoder
            .encode_descriptor("uptime_seconds", "Seconds since start", None, MetricType::Gauge)?
            .encode_gauge(&uptime)?;
        let generation = self.shared.snapshot.load().generation;
        encoder
            .encode_descriptor("generation", "Generation of config and policies", None, MetricType::Gauge)?
            .encode_gauge(&generation)?;
        let lists = &self.shared.list_files;
        let help = "List files that changed under the daemon, by what became of them";
        let mut family = encoder.encode_descriptor("list_files_read", help, None, MetricType::Counter)?;
        for (outcome, number) in [("taken", &lists.taken), ("refused", &lists.refused)] {
            count(&mut family, &[("outcome", outcome)], number.load(Ordering::Relaxed))?;
        }
        let help = "List files whose newest content was refused: what was in force before stays";
        encoder
            .encode_descriptor("list_files_stale", help, None, MetricType::Gauge)?
            .encode_gauge(&lists.stale.load(Ordering::Relaxed))?;
        let gate = u64::from(self.shared.kernel.is_some());
        encoder
            .encode_descriptor("gate_loaded", "Whether the kernel half is loaded", None, MetricType::Gauge)?
            .encode_gauge(&gate)
    }

    fn workers(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let stats = &self.shared.stats;
        for (name, help, field) in PER_WORKER {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (worker, stats) in stats.iter().enumerate() {
                count(&mut family, &[("worker", worker.to_string())], field(stats).load(Ordering::Relaxed))?;
            }
        }
        let mut family =
            encoder.encode_descriptor("connections_active", "Connections open now", None, MetricType::Gauge)?;
        for (worker, stats) in stats.iter().enumerate() {
            let labels = [("worker", worker.to_string())];
            family.encode_family(&labels)?.encode_gauge(&stats.active.load(Ordering::Relaxed))?;
        }
        let help = "Whether the worker takes new connections";
        let mut family = encoder.encode_descriptor("worker_accepting", help, None, MetricType::Gauge)?;
        for (worker, stats) in stats.iter().enumerate() {
            let labels = [("worker", worker.to_string())];
            family.encode_family(&labels)?.encode_gauge(&u64::from(stats.accepting.load(Ordering::Relaxed)))?;
        }
        let help = "What clients did to wear the server down, by kind";
        let mut family = encoder.encode_descriptor("abuse", help, None, MetricType::Counter)?;
        for (index, kind) in Kind::ALL.iter().enumerate() {
            let of = |stats: &Arc<WorkerStats>| stats.abuse.get(index).map_or(0, |count| count.load(Ordering::Relaxed));
            count(&mut family, &[("kind", kind.name())], stats.iter().map(of).sum())?;
        }
        let mut family = encoder.encode_descriptor("requests", "Requests", None, MetricType::Counter)?;
        for (worker, stats) in stats.iter().enumerate() {
            for (version, number) in HttpVersion::ALL.iter().zip(&stats.requests) {
                let labels = [("worker", worker.to_string()), ("version", version.name().to_owned())];
                count(&mut family, &labels, number.load(Ordering::Relaxed))?;
            }
        }
        let mut family =
            encoder.encode_descriptor("responses", "Responses by class of status", None, MetricType::Counter)?;
        for (worker, stats) in stats.iter().enumerate() {
            for (class, number) in STATUS_CLASSES.iter().zip(&stats.outcomes.status) {
                let labels = [("worker", worker.to_string()), ("class", (*class).to_owned())];
                count(&mut family, &labels, number.load(Ordering::Relaxed))?;
            }
        }
        Ok(())
    }

    /// One histogram over all workers: a histogram a worker would be thirteen series each, and nobody asks for it.
    fn durations(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "From the request's header to the end of the response";
        let mut metric = encoder.encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?;
        histogram(&mut metric, self.shared.stats.iter().map(|stats| &stats.outcomes))
    }

    /// What servers on this host sent, by the way that it took.
    fn same_host(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let snapshot = self.shared.snapshot.load();
        let Some(host) = snapshot.same_host() else { return Ok(()) };
        match host.counters() {
            Ok(counters) => {
                let messages = "Messages from servers on this host, by the way that they took";
                family(encoder, "same_host_messages", messages, "way", &counters, |c| c.packets)?;
                let bytes = "Bytes from servers on this host, by the way that they took";
                family(encoder, "same_host_bytes", bytes, "way", &counters, |c| c.bytes)?;
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the counters of same_host cannot be read"),
        }
        let help = "Open connections to servers on this host whose responses are handed over";
        encoder
            .encode_descriptor("same_host_connections", help, None, MetricType::Gauge)?
            .encode_gauge(&(host.connections() as u64))
    }

    /// The kernel's counters. A scrape without them is still a scrape: what cannot be read is left out and logged.
    fn gate(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Some(kernel) = &self.shared.kernel else { return Ok(()) };
        match kernel.counters() {
            Ok(counters) => {
                let counters: Vec<(String, Counter)> =
                    counters.into_iter().map(|(name, counter)| (name.to_owned(), counter)).collect();
                let packets = "Packets at the gate, by what was decided and why";
                family(encoder, "gate_packets", packets, "reason", &counters, |c| c.packets)?;
                let bytes = "Bytes at the gate, by what was decided and why";
                family(encoder, "gate_bytes", bytes, "reason", &counters, |c| c.bytes)?;
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the gate's counters cannot be read"),
        }
        match kernel.would_counters() {
            Ok(counters) => {
                let counters: Vec<(String, Counter)> =
                    counters.into_iter().map(|(name, counter)| (name.to_owned(), counter)).collect();
                let help = "Packets that a check, were it enforced, would have dropped";
                family(encoder, "gate_would_packets", help, "reason", &counters, |c| c.packets)?;
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the counters of the checks cannot be read"),
        }
        for (name, help, hits) in [
            ("rule_packets", "Packets that a rule decided", kernel.rule_hits()),
            ("shadow_packets", "Packets that a rule in shadow mode would have had otherwise", kernel.shadow_hits()),
        ] {
            match hits {
                Ok(hits) => family(encoder, name, help, "rule", &busiest(hits), |c| c.packets)?,
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the rules' counters cannot be read"),
            }
        }
        Ok(())
    }
}

/// How requests ended by class, and a histogram over all workers, for each series of a kind.
fn named(encoder: &mut DescriptorEncoder, kind: &str, time: &str, time_help: &str, registry: &Registry) -> fmt::Result {
    let all = registry.all();
    let help = format!("Responses by {kind} and class of status");
    let (responses, times) = (format!("{kind}_responses"), format!("{kind}_{time}"));
    let mut family = encoder.encode_descriptor(&responses, &help, None, MetricType::Counter)?;
    for series in &all {
        for (index, class) in STATUS_CLASSES.iter().enumerate() {
            let number = series.each().map(|one| one.status.get(index).map_or(0, |n| n.load(Ordering::Relaxed))).sum();
            count(&mut family, &[(kind, series.label()), ("class", class)], number)?;
        }
    }
    let mut family = encoder.encode_descriptor(&times, time_help, None, MetricType::Histogram)?;
    for series in &all {
        histogram(&mut family.encode_family(&[(kind, series.label())])?, series.each())?;
    }
    Ok(())
}

/// The sum of what several have counted.
fn histogram<'a>(metric: &mut MetricEncoder, parts: impl Iterator<Item = &'a Outcomes>) -> fmt::Result {
    let mut counts = [0_u64; DURATION_BOUNDS_US.len() + 1];
    let mut sum_us = 0_u64;
    for part in parts {
        for (total, bucket) in counts.iter_mut().zip(&part.duration) {
            *total += bucket.load(Ordering::Relaxed);
        }
        sum_us = sum_us.wrapping_add(part.duration_sum_us.load(Ordering::Relaxed));
    }
    let bounds = DURATION_BOUNDS_US.iter().map(|us| seconds(*us)).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    metric.encode_histogram::<NoLabelSet>(seconds(sum_us), counts.iter().sum(), &buckets, None)
}

/// What the stages tell of themselves.
fn stages(encoder: &mut DescriptorEncoder) -> fmt::Result {
    let mut result = Ok(());
    for stage in Stages::installed().iter() {
        stage.metrics(&mut |Metric { name, help, counter, value }| {
            let name = format!("stage_{}_{name}", stage.name());
            let kind = if counter { MetricType::Counter } else { MetricType::Gauge };
            let told = encoder.encode_descriptor(&name, help, None, kind).and_then(|mut metric| {
                if counter {
                    metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
                } else {
                    metric.encode_gauge(&value)
                }
            });
            result = result.and(told);
        });
    }
    result
}

/// The [`MAX_RULES`] rules with the most packets, by name.
fn busiest(mut hits: Vec<(String, Counter)>) -> Vec<(String, Counter)> {
    if hits.len() > MAX_RULES {
        hits.select_nth_unstable_by(MAX_RULES, |(_, a), (_, b)| b.packets.cmp(&a.packets));
        hits.truncate(MAX_RULES);
    }
    hits.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    hits
}

fn family(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &str,
    rows: &[(String, Counter)],
    value: fn(&Counter) -> u64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (row, counter) in rows {
        count(&mut family, &[(label, row.as_str())], value(counter))?;
    }
    Ok(())
}

fn count(family: &mut MetricEncoder, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

/// Microseconds to seconds; exact for every bound and below 2^53 for every sum that can be reached.
#[expect(clippy::cast_precision_loss, reason = "a sum of 2^53 microseconds is 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / MICROSECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_busiest_rules_are_listed() {
        let hits = (0..MAX_RULES as u64 + 10)
            .map(|n| (format!("p/r{n:04}"), Counter { packets: n, bytes: 0 }))
            .collect::<Vec<_>>();
        let listed = busiest(hits);
        assert_eq!(listed.len(), MAX_RULES);
        assert_eq!(listed.first().unwrap().0, "p/r0010");
        assert!(listed.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn bounds_are_whole_in_seconds() {
        assert_eq!(DURATION_BOUNDS_US.map(seconds)[..3], [0.0001, 0.00025, 0.0005]);
    }
}
