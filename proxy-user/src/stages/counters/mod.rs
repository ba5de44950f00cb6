//! What is counted of each request: by worker, by route and by upstream. Plain stores: nobody else writes a worker's numbers.

pub mod series;

use std::sync::Arc;
use std::time::Duration;

use proxy_core::abuse::Kind as Abuse;

use super::Stage;
use super::exchange::{Exchange, Summary};
use super::hooks::{self, Hooks, Site};
use crate::http::fault::{Kind, Source};
use crate::stats::bump;
use series::{Registry, Series};

/// Requests of each route: how they ended, and how long they took.
pub static ROUTES: Registry = Registry::new();
/// Requests that went to each upstream: how they ended, and how long it took until the origin's response header.
pub static UPSTREAMS: Registry = Registry::new();

pub(super) struct Count;

impl Stage for Count {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        let Some((index, route)) = site.route else {
            hooks.log(count);
            return Ok(());
        };
        let of_route = ROUTES.of(index, &route.label());
        // In the order of the snapshot's origins: by name.
        let upstreams: Vec<_> =
            site.config.upstreams.keys().enumerate().map(|(index, name)| UPSTREAMS.of(index, name)).collect();
        hooks.log(move |exchange, summary| {
            count(exchange, summary);
            count_for(exchange, summary, &of_route, &upstreams);
        });
        Ok(())
    }
}

fn count(exchange: &Exchange, summary: &Summary) {
    let stats = &exchange.worker.stats;
    bump(&stats.requests[exchange.version as usize], 1);
    stats.outcomes.finish(summary.status, Duration::from_micros(summary.duration_us));
    let Some(fault) = summary.fault else { return };
    if fault.source == Source::Upstream {
        bump(&stats.upstream_errors, 1);
    }
    match fault.kind {
        Kind::BadRequest | Kind::Malformed => exchange.connection.abused(Abuse::Malformed),
        Kind::HeaderTooLarge => exchange.connection.abused(Abuse::LargeHeader),
        Kind::BodyTimeout => exchange.connection.abused(Abuse::SlowBody),
        _ => {}
    }
}

fn count_for(exchange: &Exchange, summary: &Summary, of_route: &Series, upstreams: &[Arc<Series>]) {
    let worker = exchange.worker.index;
    if let Some(outcomes) = of_route.of(worker) {
        outcomes.finish(summary.status, Duration::from_micros(summary.duration_us));
    }
    // A request that a stage answered has its route's upstream, and no server.
    let asked = exchange.server.is_some() || summary.fault.is_some_and(|fault| fault.source == Source::Upstream);
    let upstream = exchange.upstream.filter(|_| asked).and_then(|index| upstreams.get(index)?.of(worker));
    if let Some(outcomes) = upstream {
        outcomes.answered(summary.status);
        if let Some(us) = exchange.upstream_us {
            outcomes.took(Duration::from_micros(us));
        }
    }
}
