//! The policies: one stage asks them, another gives the answer or makes the changes that they want, so that what follows
//! from a decision (kernel feedback) can stand between the two.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, response};
use proxy_core::policy::{Action, Change, RequestView, ResponseView};

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

    fn on_response(&self, exchange: &Exchange, response: &mut response::Parts) {
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
}

pub(super) struct Enforce;

impl Stage for Enforce {
    fn on_request(&self, exchange: &mut Exchange) -> Flow {
        match exchange.decision.action {
            Action::Block { rule, status } => {
                bump(&exchange.worker.stats.blocked, 1);
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
                let mut answer = exchange.answer(status, "blocked by policy");
                if let Some(own) = exchange.live.snapshot.policies.answer(rule) {
                    answer.headers_mut().insert(CONTENT_TYPE, own.content_type.clone());
                    *answer.body_mut() = Bytes::copy_from_slice(own.body.as_bytes());
                }
                Flow::Respond(answer)
            }
            Action::Redirect { status, .. } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
                let mut answer = exchange.answer(status, "moved by policy");
                if let Some(location) = exchange.decision.location.take() {
                    answer.headers_mut().insert(LOCATION, location);
                }
                Flow::Respond(answer)
            }
            Action::Pass | Action::Allow(_) => {
                if !exchange.decision.changes.is_empty() {
                    change(exchange);
                }
                Flow::Continue
            }
        }
    }

    fn on_response(&self, exchange: &Exchange, response: &mut response::Parts) {
        for change in &exchange.decision.changes {
            if let Change::ResponseHeader(name, value) = change {
                set(&mut response.headers, name, value.as_ref());
            }
        }
    }
}

/// Makes the changes of the request.
fn change(exchange: &mut Exchange) {
    let (mut path, mut query) = (None, None);
    for change in &exchange.decision.changes {
        match change {
            Change::Path(to) => path = Some(to.as_str()),
            Change::Query(to) => query = Some(to.as_str()),
            Change::RequestHeader(name, value) => set(&mut exchange.request.headers, name, value.as_ref()),
            Change::ResponseHeader(..) => {}
        }
    }
    if path.is_none() && query.is_none() {
        return;
    }
    let uri = &exchange.request.uri;
    let path = path.unwrap_or(uri.path());
    let query = query.or(uri.query()).filter(|query| !query.is_empty());
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    match PathAndQuery::try_from(target) {
        Ok(target) => parts.path_and_query = Some(target),
        Err(error) => {
            tracing::warn!(%error, "a rewritten path is none; the request goes on with its own");
            return;
        }
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        exchange.request.uri = uri;
    }
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: Option<&HeaderValue>) {
    match value {
        Some(value) => _ = headers.insert(name.clone(), value.clone()),
        None => _ = headers.remove(name),
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
