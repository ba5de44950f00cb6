//! The request's journey. [`JOURNEY`] is the one place that says what happens to a request and in which order;
//! a feature is a file beside this one and a line in that list. Stages decide and change headers; the only step
//! that waits is forwarding, and it stands between the request hooks and the response hooks.

pub mod access_log;
pub mod exchange;
mod feedback;
mod headers;
mod metrics;
mod policy;
mod route;
mod validate;

use bytes::Bytes;
use http::{Response, request, response};

use crate::http::body::RequestBody;
use crate::http::reply::{Payload, ResponseBody};
use crate::upstream;
use exchange::{Exchange, Journey, Summary};

/// What a request goes through, in this order; responses pass the same list backwards.
pub static JOURNEY: [&dyn Stage; 8] = [
    &validate::Validate,       // host, framing, header count, declared body size
    &policy::Evaluate,         // what the policies say of it
    &feedback::KernelFeedback, // verdicts that follow from that, written to the kernel at once
    &policy::Enforce,          // the blocked answer, the redirect, or the changes
    &route::FindUpstream,      // host and path to an upstream
    &headers::Forwarded,       // hop-by-hop, X-Forwarded-*, Via; on the way back also Alt-Svc and the request id
    // -> upstream::forward
    &access_log::Write, // one JSON line
    &metrics::Count,    // counters of this worker
];

/// One step. All hooks are synchronous and do nothing unless a stage says otherwise.
pub trait Stage: Sync {
    /// Before the request is forwarded: goes on, or answers itself.
    fn on_request(&self, _exchange: &mut Exchange) -> Flow {
        Flow::Continue
    }

    /// Before the response header is sent, also for answers that Tidegate gives itself.
    fn on_response(&self, _exchange: &Exchange, _response: &mut response::Parts) {}

    /// After the last byte of the response, or when it broke off. Called once for each request.
    fn on_log(&self, _exchange: &Exchange, _summary: &Summary) {}
}

/// What a stage wants.
pub enum Flow {
    /// The next stage.
    Continue,
    /// This answer, and no forwarding.
    Respond(Response<Bytes>),
}

/// Takes one request through [`JOURNEY`].
pub async fn run(exchange: Box<Exchange>, body: RequestBody) -> Response<ResponseBody> {
    let mut journey = Journey::new(exchange);
    let (mut head, payload) = match decide(&mut journey.exchange) {
        Flow::Respond(answer) => local(answer),
        Flow::Continue => match upstream::forward(&mut journey.exchange, body).await {
            Ok(answer) => answer,
            Err(fault) => local(journey.exchange.fail(fault)),
        },
    };
    for stage in JOURNEY.iter().rev() {
        stage.on_response(&journey.exchange, &mut head);
    }
    journey.exchange.status = Some(head.status);
    Response::from_parts(head, ResponseBody::new(payload, journey))
}

fn decide(exchange: &mut Exchange) -> Flow {
    for stage in JOURNEY {
        if let Flow::Respond(answer) = stage.on_request(exchange) {
            return Flow::Respond(answer);
        }
    }
    Flow::Continue
}

fn local(answer: Response<Bytes>) -> (response::Parts, Payload) {
    let (head, text) = answer.into_parts();
    (head, Payload::Full(text))
}

/// The path as the client sent it, without the query.
pub(crate) fn path(request: &request::Parts) -> &str {
    request.uri.path()
}
