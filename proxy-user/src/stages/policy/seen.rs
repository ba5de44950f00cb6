//! Requests that policies refused, and a sample of the others, kept for a while, so that an explanation can be asked for by
//! the id that stands in the answer. A worker writes to a ring of its own; the admin API reads it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, StatusCode};
use proxy_core::abuse::Record;
use proxy_core::fields::Fields;
use proxy_core::hello::ClientHello;
use proxy_core::policy::{
    BodyView, ConnectionView, Decision, HeldRequest, LinkView, PolicySet, RequestView, ResponseView,
};
use proxy_core::tls::Identity;

use crate::control::wire::ExplainedRequest;
use crate::shared::Snapshot;

/// Requests of one worker that are kept.
pub const MAX_SEEN: usize = 256;
/// Most bytes of a body that are kept.
const MAX_SEEN_BODY: usize = 16 << 10;
/// One in so many requests that nothing refused is kept.
pub const SAMPLE: u64 = 1_024;

/// The requests of one worker.
#[derive(Debug, Default)]
pub struct Ring(Mutex<VecDeque<Seen>>);

/// A request as policies saw it, and its response where a rule on responses decided.
#[derive(Debug)]
struct Seen {
    id: HeaderValue,
    request: HeldRequest,
    hello: Option<ClientHello>,
    client: Option<Identity>,
    link: Option<LinkView>,
    abuse: Record,
    early_data: bool,
    /// Beginning of its body, where policies looked at it.
    body: Option<Box<[u8]>>,
    truncated: bool,
    response: Option<(StatusCode, Fields)>,
    /// What judged it; gone where a reload put others in its place.
    snapshot: Weak<Snapshot>,
}

impl Ring {
    /// Keeps a request, in place of the oldest one. Where the admin API is reading, it is left out: no request waits.
    pub(super) fn keep(
        &self,
        id: &HeaderValue,
        view: &RequestView<'_>,
        response: Option<&ResponseView<'_>>,
        snapshot: &Arc<Snapshot>,
    ) {
        let Ok(mut ring) = self.0.try_lock() else { return };
        if ring.len() >= MAX_SEEN {
            ring.pop_front();
        }
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        ring.push_back(Seen {
            id: id.clone(),
            request: HeldRequest { wall_ms, ..HeldRequest::of(view) },
            hello: view.connection.hello.cloned(),
            client: view.connection.client.cloned(),
            link: view.connection.link,
            abuse: view.connection.abuse,
            early_data: view.connection.early_data,
            body: view.body.bytes.map(|bytes| bytes.get(..MAX_SEEN_BODY).unwrap_or(bytes).into()),
            truncated: view.body.truncated || view.body.bytes.is_some_and(|bytes| bytes.len() > MAX_SEEN_BODY),
            response: response.map(|response| (response.status, response.headers.clone())),
            snapshot: Arc::downgrade(snapshot),
        });
    }

    /// Explains a request that is kept, by the policies that judged it, or by those in force where they are gone.
    pub fn explain(&self, id: &str, now: &Arc<Snapshot>) -> Option<ExplainedRequest> {
        let ring = self.0.lock().ok()?;
        let seen = ring.iter().find(|seen| seen.id == id)?;
        let then = seen.snapshot.upgrade();
        let snapshot = then.as_ref().unwrap_or(now);
        let view = seen.view(&snapshot.policies);
        Some(ExplainedRequest {
            id: id.to_owned(),
            request: ExplainedRequest::line(&view),
            source: seen.request.src,
            time: jiff::Timestamp::from_millisecond(seen.request.wall_ms.cast_signed()).unwrap_or_default(),
            generation: snapshot.generation,
            reloaded: then.is_none(),
            ipv4_prefix: snapshot.config.gate.ipv4_prefix,
            ipv6_prefix: snapshot.config.gate.ipv6_prefix,
            explanation: snapshot.policies.explain(&view, seen.answered().as_ref()),
        })
    }
}

impl Seen {
    fn view<'s>(&'s self, policies: &'s PolicySet) -> RequestView<'s> {
        let connection = ConnectionView {
            hello: self.hello.as_ref(),
            client: self.client.as_ref(),
            places: policies.places(),
            link: self.link,
            abuse: self.abuse,
            early_data: self.early_data,
        };
        self.request.view(connection, BodyView { bytes: self.body.as_deref(), truncated: self.truncated })
    }

    fn answered(&self) -> Option<ResponseView<'_>> {
        let (status, headers) = self.response.as_ref()?;
        Some(ResponseView { src: self.request.src, dst: self.request.dst.ip(), status: *status, headers })
    }
}

/// Whether a request is kept: one that was refused or led elsewhere, and of the others one in [`SAMPLE`].
pub(super) fn worth(decision: &Decision, number: u64) -> bool {
    refuses(decision) || number.is_multiple_of(SAMPLE)
}

/// Whether a request was refused or led elsewhere.
pub(super) fn refuses(decision: &Decision) -> bool {
    decision.action.decided().is_some_and(|(action, _)| action != "allow")
}
