//! The policies: one stage asks them, another gives the blocked answer, so that what follows from a decision
//! (kernel feedback) can stand between the two.

use http::StatusCode;
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
