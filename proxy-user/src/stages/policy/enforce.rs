//! What the policies decided is carried out: the blocked answer, the redirect, changes of request and response.

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Response, StatusCode, Uri};
use proxy_core::fields::Fields;
use proxy_core::policy::{Action, Change};

use super::wall_ms;
use crate::http::head::ResponseHead;
use crate::stages::Flow;
use crate::stages::exchange::Exchange;
use crate::stats::bump;

/// Pages of challenges.
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Blocks, redirects, or makes the changes of the request.
pub(super) fn enforce(exchange: &mut Exchange) -> Flow {
    match exchange.decision.action {
        Action::Block { .. } | Action::Reset { .. } | Action::Tarpit { .. } => {
            in_place(exchange).map_or(Flow::Continue, Flow::Respond)
        }
        Action::Challenge { rule, status } => {
            bump(&exchange.worker.stats.blocked, 1);
            let (policies, connection) = (&exchange.live.snapshot.policies, &exchange.connection);
            let page = policies.challenge(rule, connection.client.ip(), connection.listener.tls, wall_ms(policies));
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
            let mut answer = exchange.answer(status, "work to do");
            if let Some(page) = page {
                answer.headers_mut().insert(CONTENT_TYPE, HTML);
                answer.headers_mut().insert(CONTENT_SECURITY_POLICY, page.security_policy);
                *answer.body_mut() = Bytes::from(page.html);
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

/// The answer that refuses, in place of whatever there is; None where nothing refuses.
pub(super) fn in_place(exchange: &Exchange) -> Option<Response<Bytes>> {
    let (rule, status) = match exchange.decision.action {
        Action::Block { rule, status } => (Some(rule), StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN)),
        // Their answer is not sent.
        Action::Reset { .. } | Action::Tarpit { .. } => (None, StatusCode::FORBIDDEN),
        _ => return None,
    };
    bump(&exchange.worker.stats.blocked, 1);
    let mut answer = exchange.answer(status, "blocked by policy");
    if let Some(own) = rule.and_then(|rule| exchange.live.snapshot.policies.answer(rule)) {
        answer.headers_mut().insert(CONTENT_TYPE, own.content_type.clone());
        *answer.body_mut() = Bytes::copy_from_slice(own.body.as_bytes());
    }
    Some(answer)
}

/// Makes the changes of the response.
pub(super) fn change_response(exchange: &mut Exchange, response: &mut ResponseHead) {
    for change in &exchange.decision.changes {
        if let Change::ResponseHeader(name, value) = change {
            set(&mut response.headers, name, value.as_ref());
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

fn set(headers: &mut Fields, name: &HeaderName, value: Option<&HeaderValue>) {
    match value {
        Some(value) => headers.insert(name, value.clone()),
        None => drop(headers.remove(name)),
    }
}
