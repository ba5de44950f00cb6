//! The policies: one stage asks them, another gives the blocked answer, so that what follows from a decision
//! (kernel feedback) can stand between the two.

use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::CONTENT_LENGTH;
use proxy_core::policy::{Action, RequestView};

use super::exchange::Exchange;
use super::{Flow, Stage, path};
use crate::stats::bump;

pub(super) struct Evaluate;

impl Stage for Evaluate {
    fn on_request(&self, exchange: &mut Exchange) -> Flow {
        let request = &exchange.request;
        let view = RequestView {
            src: exchange.connection.client.ip(),
            dst: exchange.connection.local,
            listener: &exchange.connection.listener.name,
            scheme: exchange.connection.listener.scheme(),
            version: request.version,
            method: &request.method,
            host: exchange.host.as_str(),
            path: path(request),
            query: request.uri.query(),
            headers: &request.headers,
            body_size: body_size(exchange),
            wall_ms: if exchange.live.snapshot.policies.wants_wall_clock() { wall_ms() } else { 0 },
        };
        let now_ns = exchange.worker.monotonic_ns(exchange.started);
        exchange.decision = exchange.live.snapshot.policies.evaluate(&view, now_ns);
        Flow::Continue
    }
}

pub(super) struct Enforce;

impl Stage for Enforce {
    fn on_request(&self, exchange: &mut Exchange) -> Flow {
        let Action::Block { status, .. } = exchange.decision.action else { return Flow::Continue };
        bump(&exchange.worker.stats.blocked, 1);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        Flow::Respond(exchange.answer(status, "blocked by policy"))
    }
}

/// As the client declares it; None where it only ends the body.
fn body_size(exchange: &Exchange) -> Option<u64> {
    match exchange.request.headers.get(CONTENT_LENGTH) {
        Some(length) => length.to_str().ok()?.parse().ok(),
        None => exchange.body.is_none().then_some(0),
    }
}

/// Milliseconds since 1970.
fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
