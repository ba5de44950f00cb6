//! One request on its journey: what the stages read and change, and what is known of it when it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode, Version};
use proxy_core::abuse::memory::RETRY_AFTER;
use proxy_core::config::Route;
use proxy_core::policy::Decision;
use smallvec::SmallVec;

use super::context::Context;
use crate::http::body::Progress;
use crate::http::early::Early;
use crate::http::fault::{Fault, Kind, STATUS_CLIENT_GONE};
use crate::http::head::RequestHead;
use crate::http::upgrade::Upgrade;
use crate::stats::HttpVersion;
use crate::worker::connection::Connection;
use crate::worker::{Live, Worker};

/// Bytes of a host name that are held without an allocation.
const HOST_INLINE: usize = 64;

/// A request with everything that the stages need. One allocation for each request.
pub struct Exchange {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The client's connection.
    pub connection: Rc<Connection>,
    /// The snapshot and origin pools that it began with; a reload does not change them under it.
    pub live: Rc<Live>,
    /// `x-request-id`.
    pub id: HeaderValue,
    /// When the worker came to look at what completed its header.
    pub started: Instant,
    /// Its header. The fields are moved to the origin when it is forwarded.
    pub request: RequestHead,
    /// Version that the client spoke.
    pub version: HttpVersion,
    /// Host without port, lower case.
    pub host: Host,
    /// The change of protocol that it asks for, where one may come of it.
    pub upgrade: Option<Box<Upgrade>>,
    /// Whether there is a request body, and how far it has come.
    pub body: Option<Rc<Progress>>,
    /// Where early hints go, where the client can take them.
    pub early: Option<Early>,
    /// What the policies said.
    pub decision: Decision,
    /// Index of the route in the config, once it is known.
    pub route: Option<usize>,
    /// Path and query for the origin, where they are not the request's own.
    pub target: Option<PathAndQuery>,
    /// Index of the upstream among the snapshot's origins.
    pub upstream: Option<usize>,
    /// The server that answered, `host:port`.
    pub server: Option<Rc<str>>,
    /// Microseconds from the complete request header to the origin's response header.
    pub upstream_us: Option<u64>,
    /// What went wrong.
    pub fault: Cell<Option<Fault>>,
    /// Status that was sent, once it is known.
    pub status: Option<StatusCode>,
    /// What stages remember of the request.
    pub context: Context,
}

/// What the end of a request adds for the log.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Status that was sent; 499 when the client left before, 0 when a policy ended the connection.
    pub status: u16,
    /// Bytes of the response body that were handed to the connection.
    pub bytes_out: u64,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// From the complete request header to the end of the response.
    pub duration_us: u64,
    /// What went wrong, if anything.
    pub fault: Option<Fault>,
}

/// A host name, lower case, without port.
#[derive(Clone, Debug, Default)]
pub struct Host(SmallVec<[u8; HOST_INLINE]>);

impl Host {
    /// From the host part of an authority.
    pub fn new(host: &str) -> Self {
        let mut bytes = SmallVec::from_slice(host.as_bytes());
        bytes.make_ascii_lowercase();
        Self(bytes)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // Made from a `&str` above, and lower case keeps it UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Exchange {
    /// A request whose header has just arrived.
    pub fn new(connection: Rc<Connection>, request: RequestHead, body: Option<Rc<Progress>>) -> Box<Self> {
        let worker = Rc::clone(&connection.worker);
        let started = worker.deadlines.now();
        connection.request_started();
        let version = match request.version {
            Version::HTTP_3 => HttpVersion::H3,
            Version::HTTP_2 => HttpVersion::H2,
            _ => HttpVersion::H1,
        };
        Box::new(Self {
            live: worker.live(),
            id: worker.next_request_id(),
            worker,
            connection,
            started,
            request,
            version,
            host: Host::default(),
            upgrade: None,
            body,
            early: None,
            decision: Decision::default(),
            route: None,
            target: None,
            upstream: None,
            server: None,
            upstream_us: None,
            fault: Cell::new(None),
            status: None,
            context: Context::default(),
        })
    }

    /// Takes note that the origin has answered.
    pub fn answered(&mut self) {
        let now = self.worker.deadlines.now();
        self.upstream_us = Some(now.saturating_duration_since(self.started).as_micros() as u64);
    }

    /// Whether the client got its whole request across.
    pub fn body_finished(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.finished.get())
    }

    /// A short text answer with the request's id in it.
    pub fn answer(&self, status: StatusCode, what: &str) -> http::Response<Bytes> {
        let text = format!(
            "{} {}\n{what}\nrequest id: {}\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or("Error"),
            self.id.to_str().unwrap_or_default(),
        );
        let mut response = http::Response::new(Bytes::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// The answer to a failed request; remembers the fault for the log.
    pub fn fail(&self, fault: Fault) -> http::Response<Bytes> {
        self.fault.set(Some(fault));
        let mut answer = self.answer(fault.status(), fault.detail);
        if fault.kind == Kind::Overloaded {
            answer.headers_mut().insert(http::header::RETRY_AFTER, RETRY_AFTER.into());
        }
        if let Some(page) = self.live.snapshot.stages.of(self.route).page(fault.status()) {
            answer.headers_mut().insert(http::header::CONTENT_TYPE, page.content_type.clone());
            *answer.body_mut() = page.body.clone();
        }
        answer
    }

    /// Its route, once it is known.
    pub fn route(&self) -> Option<&Route> {
        self.live.snapshot.config.routes.get(self.route?)
    }

    /// How long the origin may take for its response header.
    pub fn response_timeout(&self) -> Duration {
        let own = self.route().and_then(|route| route.timeouts.response);
        own.unwrap_or(self.live.snapshot.config.timeouts.response).0
    }

    /// How long connecting to the origin may take.
    pub fn connect_timeout(&self) -> Duration {
        let own = self.route().and_then(|route| route.timeouts.connect);
        own.unwrap_or(self.live.snapshot.config.timeouts.connect).0
    }

    /// How long an upgraded connection may be silent.
    pub fn tunnel_timeout(&self) -> Duration {
        let own = self.route().and_then(|route| route.timeouts.tunnel);
        own.unwrap_or(self.live.snapshot.config.timeouts.tunnel).0
    }

    /// How long the origin may take between two pieces of its response.
    pub fn read_timeout(&self) -> Duration {
        let own = self.route().and_then(|route| route.timeouts.read);
        own.unwrap_or(self.live.snapshot.config.timeouts.read).0
    }

    /// How long the client may take between two pieces of the request body.
    pub fn body_timeout(&self) -> Option<Duration> {
        Some(self.route()?.timeouts.body?.0)
    }

    /// Bytes that the request body may have.
    pub fn body_limit(&self) -> u64 {
        let own = self.route().and_then(|route| route.limits.body);
        own.unwrap_or(self.live.snapshot.config.limits.body).0
    }
}

/// Holds an exchange until its response has ended, however it ends, and then lets the stages log it.
pub struct Journey {
    /// The request.
    pub exchange: Box<Exchange>,
    /// Bytes of the response body so far.
    pub bytes_out: u64,
    /// Whether the response ended as it should.
    pub complete: bool,
}

impl Journey {
    /// Begins.
    pub fn new(exchange: Box<Exchange>) -> Self {
        Self { exchange, bytes_out: 0, complete: false }
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        let exchange = &*self.exchange;
        let gone = Fault::downstream(crate::http::fault::Kind::ClientGone, "the client left before the end");
        // What a policy ends has no answer, and nothing went wrong.
        let cut = exchange.connection.is_cut();
        let fault = exchange.fault.get().or((!self.complete && !cut).then_some(gone));
        let now = Instant::now();
        let summary = Summary {
            status: if cut { 0 } else { exchange.status.map_or(STATUS_CLIENT_GONE, |status| status.as_u16()) },
            bytes_out: self.bytes_out,
            bytes_in: exchange.body.as_ref().map_or(0, |body| body.bytes.get()),
            duration_us: now.duration_since(exchange.started).as_micros() as u64,
            fault,
        };
        exchange.worker.deadlines.set_now(now);
        for hook in &exchange.live.snapshot.stages.of(exchange.route).log {
            hook(exchange, &summary);
        }
        exchange.connection.request_ended();
    }
}
