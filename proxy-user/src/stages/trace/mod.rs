//! Traces: each request gets a span, its origin learns of it by `traceparent`, and what is recorded goes to a collector.
//! Without `tracing` in the config nothing is done, and a client's `traceparent` passes as any other field.

mod otlp;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};
use proxy_core::trace::{Parent, Span};

use super::exchange::{Exchange, Summary};
use super::hooks::{self, Hooks, Site};
use super::{Flow, Metric, Stage};
use otlp::{Exporter, Record};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Random numbers fetched at once; a span takes three.
const POOL: usize = 96;

/// Spans that a collector took, and those that were lost on the way.
static SENT: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

pub(super) struct Trace;

impl Stage for Trace {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        let Some(settings) = &site.config.tracing else { return Ok(()) };
        let (sample, accept) = (settings.sample, settings.accept);
        hooks.entry(move |exchange| {
            begin(exchange, sample, accept);
            Flow::Continue
        });
        hooks.upstream_request(to_origin);
        if let Some(url) = &settings.otlp {
            let exporter = Exporter::of(url, &settings.service);
            let route = site.route.map(|(_, route)| route.label());
            hooks.log(move |exchange, summary| {
                if let Some(span) = exchange.context.get::<Span>().filter(|span| span.sampled) {
                    exporter.send(record(exchange, summary, *span, route.clone()));
                }
            });
        }
        Ok(())
    }

    fn metrics(&self, tell: &mut dyn FnMut(Metric)) {
        for (name, help, number) in
            [("spans_sent", "Spans that the collector took", &SENT), ("spans_lost", "Spans that it did not", &LOST)]
        {
            tell(Metric { name, help, counter: true, value: number.load(Ordering::Relaxed) });
        }
    }
}

fn begin(exchange: &mut Exchange, sample: f64, accept: bool) {
    let headers = &exchange.request.headers;
    let mut fields = headers.get_all(TRACEPARENT);
    // Several contradict each other, and then there is none (W3C Trace Context section 3.2).
    let parent = match (accept, fields.next(), fields.next()) {
        (true, Some(field), None) => Parent::parse(field.as_bytes()),
        _ => None,
    };
    exchange.context.put(Span::new(parent, sample, random()));
}

fn to_origin(exchange: &mut Exchange) -> Flow {
    let Some(span) = exchange.context.get::<Span>().copied() else { return Flow::Continue };
    let headers = &mut exchange.request.headers;
    if span.parent.is_none() {
        // It belongs to a trace that ends here.
        headers.remove(TRACESTATE);
    }
    if let Ok(value) = HeaderValue::try_from(span.traceparent()) {
        headers.insert(TRACEPARENT, value);
    }
    Flow::Continue
}

fn record(exchange: &Exchange, summary: &Summary, span: Span, route: Option<String>) -> Record {
    Record {
        span,
        duration_us: summary.duration_us,
        end: std::time::SystemTime::now(),
        method: exchange.request.method.clone(),
        scheme: exchange.connection.listener.scheme(),
        host: exchange.host.as_str().to_owned(),
        path: exchange.request.uri.path().to_owned(),
        version: exchange.version,
        client: exchange.connection.client,
        status: summary.status,
        id: exchange.id.clone(),
        route,
        upstream: exchange.upstream.and_then(|index| exchange.live.upstream_name(index)).map(str::to_owned),
        server: exchange.server.as_deref().map(str::to_owned),
        fault: summary.fault.map(|fault| fault.label()),
    }
}

/// Three numbers that nobody can foresee.
fn random() -> [u64; 3] {
    thread_local! {
        static NUMBERS: RefCell<Vec<[u64; 3]>> = const { RefCell::new(Vec::new()) };
    }
    NUMBERS.with_borrow_mut(|numbers| {
        if numbers.is_empty() {
            let mut bytes = [0; POOL * 8];
            if let Err(error) = getrandom::fill(&mut bytes) {
                // Spans would have the same numbers: only traces suffer.
                tracing::error!(%error, "no random bytes for traces");
            }
            let words: Vec<u64> = bytes.as_chunks().0.iter().map(|chunk| u64::from_ne_bytes(*chunk)).collect();
            numbers.extend(words.as_chunks().0);
        }
        numbers.pop().unwrap_or_default()
    })
}
