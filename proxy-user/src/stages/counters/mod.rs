//! The worker's own counters. Plain stores: nobody else writes them.

use std::time::Duration;

use super::Stage;
use super::exchange::{Exchange, Summary};
use super::hooks::{self, Hooks, Site};
use crate::http::fault::Source;
use crate::stats::bump;

pub(super) struct Count;

impl Stage for Count {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn join(&self, _: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        hooks.log(count);
        Ok(())
    }
}

fn count(exchange: &Exchange, summary: &Summary) {
    let stats = &exchange.worker.stats;
    bump(&stats.requests[exchange.version as usize], 1);
    stats.finish(summary.status, Duration::from_micros(summary.duration_us));
    if summary.fault.is_some_and(|fault| fault.source == Source::Upstream) {
        bump(&stats.upstream_errors, 1);
    }
}
