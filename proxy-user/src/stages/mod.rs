//! The request's journey. [`Stages::standard`] is the one place that says what happens to a request and in which order;
//! a feature is a folder beside this file and a line in that list. Stages decide and change headers; the only step that
//! waits is forwarding, and it stands between the request hooks and the response hooks.

pub mod access_log;
mod acme;
pub mod context;
pub mod counters;
pub mod exchange;
pub mod files;
pub mod filter;
mod headers;
pub mod hooks;
mod mirror;
pub mod policy;
mod route;
mod tls;
mod trace;
mod validate;

use std::rc::Rc;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Response};
use proxy_core::route::page;

use crate::http::body::RequestBody;
use crate::http::date;
use crate::http::fault as http_fault;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::reply::{Payload, Reply, ResponseBody};
use crate::upstream;
use exchange::{Exchange, Journey};
use filter::Filters;
use hooks::{Fault, Hooks, Site};

/// One feature.
pub trait Stage: Send + Sync {
    /// Its key under `stages` in the config, and its name in metrics; unique.
    fn name(&self) -> &'static str;

    /// Says what it wants to be called for. Asked at each load: once for requests whose route is not known, and once for
    /// each route. A stage that a route does not use adds nothing, and costs its requests nothing.
    ///
    /// # Errors
    /// The stage's settings cannot be used; nothing is loaded then.
    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), Fault>;

    /// Tells what it has counted, when metrics are asked for.
    fn metrics(&self, _tell: &mut dyn FnMut(Metric)) {}
}

/// A number of a stage: `tidegate_stage_STAGE_NAME`.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name behind the stage's.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub counter: bool,
    /// Its value now.
    pub value: u64,
}

/// What a stage wants of a request.
pub enum Flow {
    /// The next stage.
    Continue,
    /// This answer, and no forwarding.
    Respond(Response<Bytes>),
    /// The same, with a body that is read as it goes.
    Send(Box<Response<Payload>>),
}

/// The features of a binary, in the order in which requests pass them; responses pass them backwards.
pub struct Stages(Vec<Box<dyn Stage>>);

/// Another stage is to stand beside one that is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no stage `{0}`")]
pub struct UnknownStage(String);

impl Stages {
    /// Those of Tidegate.
    pub fn standard() -> Self {
        Self(vec![
            Box::new(trace::Trace),              // its span, where there are traces
            Box::new(validate::Validate),        // host, framing, header count
            Box::new(acme::Show),                // pages for ACME servers, while an order stands open
            Box::new(tls::Guard), // over TLS: whether the connection is good for the host; on the way back HSTS
            Box::new(policy::Policy), // what the policies say: verdicts to the kernel, answers, changes
            Box::new(route::Routes), // the route and its upstream; its own answers, rewrite and header fields
            Box::new(files::Serve), // files below a directory
            Box::new(headers::Forwarded), // hop-by-hop, X-Forwarded-*, Via; on the way back also Alt-Svc and request id
            Box::new(tls::Introduce), // who the client's certificate says it is
            Box::new(mirror::Mirror::default()), // copies to another upstream
            // -> upstream::forward
            Box::new(access_log::Write), // one line
            Box::new(counters::Count),   // counters by worker, route and upstream
        ])
    }

    /// Puts `stage` right behind the one of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn after(mut self, name: &str, stage: impl Stage + 'static) -> Result<Self, UnknownStage> {
        let place = self.0.iter().position(|held| held.name() == name).ok_or_else(|| UnknownStage(name.to_owned()))?;
        self.0.insert(place + 1, Box::new(stage));
        Ok(self)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Stage> + Clone {
        self.0.iter().map(|stage| &**stage)
    }

    /// Makes them those of this process. What was loaded before keeps the standard ones.
    ///
    /// # Errors
    /// The process has its stages already.
    pub fn install(self) -> Result<(), AlreadyInstalled> {
        INSTALLED.set(self).map_err(|_| AlreadyInstalled)
    }

    /// Those of this process: the standard ones unless others were installed.
    pub fn installed() -> &'static Self {
        INSTALLED.get_or_init(Self::standard)
    }
}

/// What this process is built of; as fixed as its code.
static INSTALLED: OnceLock<Stages> = OnceLock::new();

/// [`Stages::install`] came too late.
#[derive(Debug, thiserror::Error)]
#[error("this process has its stages already: install them first of all")]
pub struct AlreadyInstalled;

/// Takes one request through the stages. In parts: what one of them holds while it waits is no other's burden, of which there are
/// as many as requests.
pub async fn run(exchange: Box<Exchange>, mut body: RequestBody) -> Reply {
    let live = Rc::clone(&exchange.live);
    let stages = &live.snapshot.stages;
    let wants_content = exchange.request.method != Method::HEAD;
    let mut journey = Journey::new(exchange);
    let (before, behind) = stages.entry_parts();
    let mut entered = pass(&mut journey.exchange, before);
    if let (true, Some(behind)) = (entered.is_none(), behind) {
        policy::inspect(&mut journey.exchange, &mut body).await;
        entered = pass(&mut journey.exchange, behind);
    }
    let hooks = stages.of(journey.exchange.route);
    let decided = entered.or_else(|| decide(&mut journey.exchange, hooks));
    let mut answer = answer(&mut journey.exchange, hooks, decided, body).await;
    if live.snapshot.policies.wants_response()
        && let Some(judged) = policy::judge(&mut journey.exchange, &answer.0)
    {
        policy::end(&journey.exchange).await;
        answer = local(judged);
    }
    finish(journey, hooks, answer, wants_content)
}

/// What the stages have decided, or else what the upstream answers.
async fn answer(exchange: &mut Exchange, hooks: &Hooks, decided: Option<Answer>, body: RequestBody) -> Answer {
    if let Some(answer) = decided {
        policy::end(exchange).await;
        return answer;
    }
    match forward(exchange, hooks, body).await {
        Ok(answer) => answer,
        Err(fault) => local(exchange.fail(fault)),
    }
}

/// The way back.
fn finish(mut journey: Journey, hooks: &Hooks, (mut head, mut payload): Answer, wants_content: bool) -> Reply {
    for hook in hooks.response.iter().rev() {
        hook(&mut journey.exchange, &mut head);
    }
    let mut filters = Filters::default();
    for hook in hooks.response_body.iter().rev() {
        if let Some(filter) = hook(&mut journey.exchange, &mut head) {
            filters.push(filter);
        }
    }
    if !wants_content {
        payload = without_content(&mut head, payload);
    }
    date::stamp(&mut head.headers);
    if let Payload::Tunnel(origin) = payload {
        return upstream::tunnel::begin(head, *origin, journey);
    }
    if head.status.is_success() && journey.exchange.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_stream()) {
        // In HTTP/2 this would open the WebSocket.
        let fault = http_fault::Fault::downstream(http_fault::Kind::Refused, "there is no WebSocket here");
        (head, payload) = local(journey.exchange.fail(fault));
    }
    journey.exchange.status = Some(head.status);
    (head, ResponseBody::new(payload, filters, journey))
}

/// An answer in its parts.
type Answer = (ResponseHead, Payload);

/// The stages that may answer by themselves.
fn decide(exchange: &mut Exchange, hooks: &Hooks) -> Option<Answer> {
    pass(exchange, &hooks.request).or_else(|| pass(exchange, &hooks.upstream_request))
}

fn pass(exchange: &mut Exchange, hooks: &[impl Fn(&mut Exchange) -> Flow]) -> Option<Answer> {
    hooks.iter().find_map(|hook| match hook(exchange) {
        Flow::Continue => None,
        Flow::Respond(answer) => Some(local(answer)),
        Flow::Send(answer) => Some(parts(*answer)),
    })
}

async fn forward(exchange: &mut Exchange, hooks: &Hooks, mut body: RequestBody) -> Result<Answer, http_fault::Fault> {
    if !body.is_empty() {
        body.limit(exchange.body_limit(), exchange.body_timeout());
        // What was read ahead may have ended it already.
        if let Some(fault) = exchange.body.as_ref().and_then(|body| body.fault.get()) {
            return Err(fault);
        }
        for hook in &hooks.request_body {
            if let Some(filter) = hook(exchange) {
                body.filter(filter);
            }
        }
    }
    let (mut head, mut payload) = upstream::forward(exchange, body).await?;
    if let Some(page) = hooks.in_place_of(head.status) {
        show(page, exchange, &mut head, &mut payload);
    }
    for hook in hooks.upstream_response.iter().rev() {
        hook(exchange, &mut head);
    }
    Ok((head, payload))
}

/// Puts a page in the place of what an origin has answered; the status stays.
fn show(page: &hooks::Page, exchange: &Exchange, head: &mut ResponseHead, payload: &mut Payload) {
    page::without_content(&mut head.headers);
    head.headers.insert(CONTENT_TYPE, page.content_type.clone());
    if let Payload::Origin(origin) = std::mem::replace(payload, Payload::Full(page.body.clone()))
        && exchange.body_finished()
    {
        let (body, lease) = *origin;
        upstream::discard::discard(body, lease);
    }
}

fn local(answer: Response<Bytes>) -> Answer {
    parts(answer.map(Payload::Full))
}

fn parts(answer: Response<Payload>) -> Answer {
    let (head, payload) = answer.into_parts();
    (head.into(), payload)
}

/// The answer to HEAD (RFC 9110 section 9.3.2): HTTP/2 and 3 send whatever they are given.
fn without_content(head: &mut ResponseHead, payload: Payload) -> Payload {
    match payload {
        Payload::Full(text) => {
            head.headers.insert_missing(CONTENT_LENGTH, || text.len().into());
            Payload::Empty
        }
        other => other,
    }
}

/// The path as the client sent it, without the query.
pub(crate) fn path(request: &RequestHead) -> &str {
    request.uri.path()
}
