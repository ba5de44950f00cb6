//! The policies: they are asked, what follows for the kernel is written there (`feedback`), and then the answer is given
//! or the changes are made that they want (`enforce`). Without request rules none of this is called.

mod enforce;
pub(crate) mod feedback;
pub mod seen;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use proxy_core::policy::{Action, BodyView, HeldRequest, Phase, PolicySet, RequestView, ResponseView};

use super::exchange::Exchange;
use super::hooks::{self, Hooks, Site};
use super::{Flow, Stage, path};
use crate::http::body::RequestBody;
use crate::http::head::ResponseHead;
use crate::worker::hold::hold;

pub(super) struct Policy;

impl Stage for Policy {
    fn name(&self) -> &'static str {
        "policy"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        if site.policies.rules().iter().any(|rule| {
            matches!(
                rule.phase,
                Phase::Request | Phase::RequestBody | Phase::Response | Phase::Both | Phase::ClientHello
            )
        }) {
            hooks.entry(evaluate);
            if site.policies.wants_body() {
                hooks.inspect();
            }
            hooks.entry(feedback::push);
            hooks.entry(enforce::enforce);
            // Responses pass backwards: changes first, so that rates count what the client sees.
            hooks.response(count);
            hooks.response(enforce::change_response);
        }
        Ok(())
    }
}

fn evaluate(exchange: &mut Exchange) -> Flow {
    let now_ns = exchange.worker.monotonic_ns(exchange.started);
    let view = view(exchange, BodyView::default());
    let decision = exchange.live.snapshot.policies.evaluate(&view, now_ns);
    if seen::worth(&decision, exchange.worker.request_number()) {
        exchange.worker.stats.seen.keep(&exchange.id, &view, None, &exchange.live.snapshot);
    }
    // The request itself goes to the origin.
    let held = (exchange.live.snapshot.policies.wants_response() && decision.action == Action::Pass)
        .then(|| HeldRequest::of(&view));
    if let Some(held) = held {
        exchange.context.put(held);
    }
    exchange.decision = decision;
    Flow::Continue
}

/// Asks the rules on the body, once its beginning has come, unless the header has decided.
pub(super) async fn inspect(exchange: &mut Exchange, body: &mut RequestBody) {
    if exchange.decision.action != Action::Pass {
        return;
    }
    let policies = &exchange.live.snapshot.policies;
    if !policies.awaits_body(&view(exchange, BodyView::default()), &exchange.decision) {
        return;
    }
    let limit = exchange.live.snapshot.config.limits.inspect.0;
    let there = !body.is_empty();
    let (bytes, truncated) = body.read_ahead(usize::try_from(limit).unwrap_or(usize::MAX)).await;
    let mut decision = std::mem::take(&mut exchange.decision);
    let now_ns = exchange.worker.monotonic_ns(exchange.started);
    let inspected = BodyView { bytes: there.then_some(&*bytes), truncated };
    let view = view(exchange, inspected);
    exchange.live.snapshot.policies.evaluate_body(&view, now_ns, &mut decision);
    if seen::refuses(&decision) {
        exchange.worker.stats.seen.keep(&exchange.id, &view, None, &exchange.live.snapshot);
    }
    exchange.decision = decision;
}

/// Asks the rules on the response of a request that nothing has ended the evaluation of; what they decide is done to the
/// response, or is this answer in its place.
pub(super) fn judge(exchange: &mut Exchange, response: &ResponseHead) -> Option<Response<Bytes>> {
    if exchange.decision.action != Action::Pass {
        return None;
    }
    let mut decision = std::mem::take(&mut exchange.decision);
    if let Some(held) = exchange.context.get::<HeldRequest>() {
        let policies = &exchange.live.snapshot.policies;
        let request = held.view(exchange.connection.view(policies), BodyView::default());
        let (src, dst) = (held.src, held.dst.ip());
        let view = ResponseView { src, dst, status: response.status, headers: &response.headers };
        let now_ns = exchange.worker.monotonic_ns(Instant::now());
        policies.evaluate_response(&request, &view, now_ns, &mut decision);
        if seen::refuses(&decision) {
            exchange.worker.stats.seen.keep(&exchange.id, &request, Some(&view), &exchange.live.snapshot);
        }
    }
    exchange.decision = decision;
    feedback::push(exchange);
    enforce::in_place(exchange)
}

/// The request as policies see it.
fn view<'e>(exchange: &'e Exchange, body: BodyView<'e>) -> RequestView<'e> {
    let request = &exchange.request;
    RequestView {
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
        wall_ms: wall_ms(&exchange.live.snapshot.policies),
        connection: exchange.connection.view(&exchange.live.snapshot.policies),
        body,
    }
}

/// What ends a connection instead of answering: after a while if a rule wants that.
pub(super) async fn end(exchange: &Exchange) {
    match exchange.decision.action {
        Action::Reset { .. } => exchange.connection.cut(),
        Action::Tarpit { hold: time, .. } => {
            hold(&exchange.worker, time).await;
            exchange.connection.cut();
        }
        _ => {}
    }
}

/// For rates that count by what the answer was.
fn count(exchange: &mut Exchange, response: &mut ResponseHead) {
    if exchange.decision.pending.is_empty() {
        return;
    }
    let view = ResponseView {
        src: exchange.connection.client.ip(),
        dst: exchange.connection.local.ip(),
        status: response.status,
        headers: &response.headers,
    };
    let now_ns = exchange.worker.monotonic_ns(exchange.started);
    exchange.live.snapshot.policies.count(&exchange.decision.pending, &view, now_ns);
}

/// As the client declares it; None where it only ends the body.
fn body_size(exchange: &Exchange) -> Option<u64> {
    match exchange.request.headers.get(CONTENT_LENGTH) {
        Some(length) => length.to_str().ok()?.parse().ok(),
        None => exchange.body.is_none().then_some(0),
    }
}

/// Milliseconds since 1970, for policies that look at them.
pub(crate) fn wall_ms(policies: &PolicySet) -> u64 {
    if !policies.wants_wall_clock() {
        return 0;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
