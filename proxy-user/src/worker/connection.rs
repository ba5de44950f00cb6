//! One client connection as the worker sees it: who, where, how many requests are open, and when it has waited
//! too long. The HTTP servers ask [`Connection::poll_order`] what to do.

use std::cell::{Cell, OnceCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use proxy_core::abuse::Kind;
use proxy_core::abuse::bucket::Rate;
use proxy_core::abuse::sources::Place;
use proxy_core::hello::ClientHello;
use proxy_core::policy::{ConnectionView, PolicySet};

use super::Worker;
use super::deadlines::Deadline;
use super::link::Link;
use super::passage::Passages;
use crate::stages::policy::feedback;
use crate::stats::bump;
use crate::tls::secured::Secured;

/// After a connection was told to end, how long it may take.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// At drain, how long an idle HTTP/1 connection may still bring a request, which then is told to be the last.
const DRAIN_LINGER: Duration = Duration::from_millis(500);

/// Lines about abuse that a worker writes.
pub(super) const LINES: Rate = Rate { per_second: 5, burst: 20 };

/// A listener as its connections see it.
#[derive(Debug)]
pub struct ListenerInfo {
    /// Index among the listeners, and the service's in the kernel maps.
    pub service: u32,
    /// Name in logs and policies.
    pub name: String,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// `Alt-Svc` for responses, where HTTP/3 is served.
    pub alt_svc: Option<HeaderValue>,
    /// Networks whose connections begin with a header of the PROXY protocol.
    pub fronted: Vec<IpNet>,
    /// What is passed through, if anything.
    pub passages: Option<Passages>,
}

impl ListenerInfo {
    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Whether what comes from here is to say whom it is about.
    pub fn is_fronted(&self, peer: IpAddr) -> bool {
        self.fronted.iter().any(|network| network.contains(&peer.to_canonical()))
    }
}

/// What a connection's server shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    None,
    /// Finish what is open and take nothing new.
    Finish,
    /// End now.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the first request, or within a request's head.
    Header,
    /// Between requests.
    Idle,
    /// Requests are open.
    Busy,
    /// Told to finish.
    Finishing,
}

/// One connection; shared by its server and its requests.
pub struct Connection {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// Where it came in.
    pub listener: Rc<ListenerInfo>,
    /// The client, never v4-mapped.
    pub client: SocketAddr,
    /// The client's address as text, for `X-Forwarded-For`.
    pub client_text: HeaderValue,
    /// The address that the client reached.
    pub local: SocketAddr,
    hello: OnceCell<Box<ClientHello>>,
    secured: OnceCell<Box<Secured>>,
    /// Its round trips and bytes.
    pub(crate) link: Link,
    cut: Cell<bool>,
    /// Requests are taken in early data: the handshake is not done.
    early: Cell<bool>,
    /// Why the request that is being served cannot be trusted (HTTP/1).
    pub(crate) doubt: Cell<Option<&'static str>>,
    served: Cell<u64>,
    open: Cell<u32>,
    phase: Cell<Phase>,
    drain_seen: Cell<bool>,
    deadline: Deadline,
    /// Runs while the client takes nothing of what is sent to it; made when that happens first.
    stalled: OnceCell<Deadline>,
    /// Where its source is counted; none where the source has too many.
    place: Cell<Option<Place>>,
    /// A request's header has begun to come and is not there yet.
    in_head: Cell<bool>,
}

impl Connection {
    /// A connection that was just accepted; counted as active until it is dropped.
    pub fn new(worker: &Rc<Worker>, listener: &Rc<ListenerInfo>, client: SocketAddr, local: SocketAddr) -> Rc<Self> {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let text = client.ip().to_string();
        let connection = Rc::new(Self {
            worker: Rc::clone(worker),
            listener: Rc::clone(listener),
            client,
            client_text: HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
            hello: OnceCell::new(),
            secured: OnceCell::new(),
            link: Link::default(),
            cut: Cell::new(false),
            early: Cell::new(false),
            doubt: Cell::new(None),
            served: Cell::new(0),
            open: Cell::new(0),
            phase: Cell::new(Phase::Header),
            drain_seen: Cell::new(false),
            deadline: worker.deadlines.add(),
            stalled: OnceCell::new(),
            place: Cell::new(None),
            in_head: Cell::new(false),
        });
        let live = worker.live();
        let bound = live.snapshot.config.limits.connections_per_source;
        let bound = if live.snapshot.policies.allows_source(client.ip()) { u32::MAX } else { bound };
        connection.place.set(worker.shared.sources.open(client.ip(), bound));
        worker.connection_opened();
        let live = worker.live();
        connection.deadline.set(live.snapshot.config.timeouts.header.0);
        if live.snapshot.policies.wants_link() {
            connection.link.opened();
        }
        connection
    }

    /// Keeps what the client said of itself, for its requests.
    pub fn keep_hello(&self, hello: ClientHello) {
        // There is one hello that policies are asked about; another is TLS's second try, which says the same.
        let _ = self.hello.set(Box::new(hello));
    }

    /// What the client said of itself, where a policy wanted to know when it came.
    pub fn hello(&self) -> Option<&ClientHello> {
        self.hello.get().map(|hello| &**hello)
    }

    /// Keeps what the handshake has shown.
    pub fn secure(&self, secured: Secured) {
        // A connection has one handshake.
        let _ = self.secured.set(Box::new(secured));
    }

    /// What the handshake has shown; none in clear.
    pub fn secured(&self) -> Option<&Secured> {
        self.secured.get().map(|secured| &**secured)
    }

    /// Requests that come now may be played again by somebody else (RFC 8446 section 8), or no longer.
    pub fn set_early(&self, early: bool) {
        self.early.set(early);
    }

    /// Whether what comes is early data (0-RTT): until the handshake is done nobody knows that its client is there.
    pub fn is_early(&self) -> bool {
        self.early.get()
    }

    /// Ends the connection without another byte; one of TCP is reset.
    pub fn cut(&self) {
        self.cut.set(true);
        // Wakes its server with the next sweep, if nothing else does before.
        self.deadline.set(Duration::ZERO);
    }

    /// Whether it is being ended like that.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// As policies see it.
    pub fn view<'v>(&'v self, policies: &'v PolicySet) -> ConnectionView<'v> {
        let client = self.secured().and_then(|secured| secured.client.as_ref());
        let client = client.map(|client| &client.identity);
        let link = policies.wants_link().then(|| self.link.view(self.served.get()));
        let worker = &self.worker;
        let record = || worker.ledger.borrow().record(self.client.ip(), worker.deadlines.now());
        let abuse = policies.wants_abuse().then(record).unwrap_or_default();
        let early_data = self.is_early();
        ConnectionView { hello: self.hello(), client, places: policies.places(), link, abuse, early_data }
    }

    /// A request's header is complete.
    pub fn request_started(&self) {
        self.served.set(self.served.get() + 1);
        self.open.set(self.open.get() + 1);
        if self.phase.get() != Phase::Finishing {
            self.phase.set(Phase::Busy);
            self.deadline.clear();
        }
    }

    /// A request's response has ended.
    pub fn request_ended(&self) {
        let open = self.open.get().saturating_sub(1);
        self.open.set(open);
        if open > 0 {
            return;
        }
        match self.phase.get() {
            Phase::Finishing => self.deadline.set(CLOSE_GRACE),
            // The next request may have begun to arrive behind this one.
            _ if self.in_head.get() => self.wait(Phase::Header),
            _ => self.wait(Phase::Idle),
        }
    }

    /// The first bytes of a request have come while none was open.
    pub fn header_begun(&self) {
        if self.phase.get() == Phase::Idle {
            self.wait(Phase::Header);
        }
    }

    /// A request's header has begun to come, or is there.
    pub fn header_block(&self, open: bool) {
        self.in_head.set(open);
        if open {
            self.header_begun();
        }
    }

    /// Bytes went to the client, or could not: from the first time on that its side takes none, `timeouts.send` runs.
    pub fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        match (polled, self.stalled.get()) {
            (Poll::Pending, stalled) => {
                let stalled = match stalled {
                    Some(stalled) => stalled,
                    None => self.stalled.get_or_init(|| self.worker.deadlines.add()),
                };
                stalled.set_if_clear(self.worker.live().snapshot.config.timeouts.send.0);
            }
            (Poll::Ready(_), Some(stalled)) => stalled.clear(),
            (Poll::Ready(_), None) => {}
        }
    }

    /// Whether its source may have one more.
    pub fn within_source_limit(&self) -> bool {
        self.place.get().is_some()
    }

    /// The client did this: it is counted, named in the log, and scored, and policies may have its source dropped for it.
    pub fn abused(&self, kind: Kind) {
        let worker = &self.worker;
        if let Some(count) = worker.stats.abuse.get(kind as usize) {
            bump(count, 1);
        }
        let now = worker.deadlines.now();
        let score = worker.ledger.borrow_mut().note(self.client.ip(), kind, now);
        if worker.told.borrow_mut().take(LINES, now) {
            tracing::info!(client = %self.client, listener = self.listener.name, kind = kind.name(), score, "abuse");
        }
        let live = worker.live();
        if live.snapshot.policies.acts_on_abuse() {
            feedback::abused(self, &live.snapshot);
        }
    }

    /// Why the request that is being served cannot be trusted (HTTP/1).
    pub fn ambiguous_head(&self) -> Option<&'static str> {
        self.doubt.get()
    }

    /// Requests that are open now.
    pub fn open(&self) -> u32 {
        self.open.get()
    }

    /// What the connection's server shall do; otherwise its task is woken when that changes.
    pub fn poll_order(&self, cx: &Context<'_>) -> Order {
        if self.cut.get() {
            return Order::Close;
        }
        if self.stalled.get().is_some_and(|stalled| stalled.poll_passed(cx).is_ready()) {
            self.abused(Kind::SlowRead);
            return Order::Close;
        }
        if self.worker.draining() {
            if self.phase.get() == Phase::Busy {
                return self.finish();
            }
            if !self.drain_seen.replace(true) && self.phase.get() != Phase::Finishing && !self.in_head.get() {
                self.deadline.set(DRAIN_LINGER);
            }
        }
        if self.deadline.poll_passed(cx).is_pending() {
            return Order::None;
        }
        match self.phase.get() {
            Phase::Finishing => Order::Close,
            // Nothing was promised to a client that has not brought a whole request.
            Phase::Header if !self.worker.draining() || self.in_head.get() => {
                if self.in_head.get() {
                    self.abused(Kind::SlowHeader);
                }
                Order::Close
            }
            _ => self.finish(),
        }
    }

    fn finish(&self) -> Order {
        self.phase.set(Phase::Finishing);
        if self.open.get() == 0 {
            self.deadline.set(CLOSE_GRACE);
        } else {
            // Open requests have their own time limits.
            self.deadline.clear();
        }
        Order::Finish
    }

    fn wait(&self, phase: Phase) {
        self.phase.set(phase);
        let live = self.worker.live();
        let timeouts = &live.snapshot.config.timeouts;
        self.deadline.set(match phase {
            Phase::Header => timeouts.header.0,
            _ if self.drain_seen.get() => DRAIN_LINGER,
            _ => timeouts.idle.0,
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(place) = self.place.get() {
            self.worker.shared.sources.close(place);
        }
        self.worker.connection_closed();
    }
}
