//! Forwarding: the one step of a request's journey that waits. Picks a connection to one of the upstream's servers,
//! sends the request, and tries again only where nothing of it can have had an effect.

mod asker;
mod attempts;
pub mod connect;
pub(crate) mod copy;
pub(crate) mod discard;
pub mod h2;
mod hedge;
pub mod http1;
pub mod lease;
mod names;
pub mod origin;
pub mod pool;
mod probe;
mod same_host;
pub mod seen;
pub mod tunnel;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use proxy_core::balance::{Order, may_hedge};
use proxy_core::fields::Fields;

use crate::http::body::RequestBody;
use crate::http::early::Early;
use crate::http::fault::{Fault, Kind};
use crate::http::head::ResponseHead;
use crate::http::reply::Payload;
use crate::stages::exchange::Exchange;
use crate::stats::bump;
use asker::Asker;
use h2::StreamBody;
use http1::AnswerBody;
use lease::{Lease, Sender};
use pool::Pool;

/// Times that one request is sent at most, each but the last on a kept connection that turned out to be closed.
const MAX_SENDS: u32 = 3;
/// Statuses by which a server says that it cannot do its work.
const FAILURES: [StatusCode; 3] =
    [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];

/// Sends the exchange's request to its upstream and returns the response, its body still streaming.
pub async fn forward(exchange: &mut Exchange, body: RequestBody) -> Result<(ResponseHead, Payload), Fault> {
    let live = Rc::clone(&exchange.live);
    let pool = exchange.upstream.and_then(|index| live.pool(index));
    let pool = pool.ok_or(Fault::internal(Kind::NoRoute, "no route for this host and path"))?;

    let repeatable = body.is_empty() && is_idempotent(&exchange.request.method);
    let hash = pool.hash(|key| key.hash(&asked(exchange), exchange.connection.client.ip()));
    let mut order = pool.order(exchange.started, hash);
    let headers = std::mem::take(&mut exchange.request.headers);
    if let Some(upgrade) = exchange.upgrade.take() {
        // Boxed: requests that stay what they are shall not carry the room for it.
        return Box::pin(tunnel::forward(exchange, pool, upgrade, headers, (order, hash))).await;
    }
    let mut hedges = pool.hedges() && may_hedge(&exchange.request.method, !body.is_empty());
    if body.is_end_stream() && body.size_hint().exact() != Some(0) {
        return Err(Fault::bad_request("the request body is not valid"));
    }
    let mut body = body;
    let mut sends = 0;
    let mut retries = Retry { left: if repeatable { pool.origin().retries.attempts } else { 0 } };
    pool.sent();
    loop {
        sends += 1;
        let fresh = sends >= MAX_SENDS;
        let mut lease = pool.lease(exchange, &mut order, hash, fresh, false).await?;
        exchange.server = Some(lease.server());
        let sent = if std::mem::take(&mut hedges) {
            let (heard, sent) = Box::pin(hedge::send(exchange, pool, lease, &headers, &order)).await;
            exchange.server = Some(heard.server());
            lease = heard;
            sent
        } else {
            send(
                &mut lease,
                exchange,
                Outgoing::of(exchange, &headers),
                std::mem::replace(&mut body, RequestBody::empty()),
            )
            .await
        };
        let (server, reused) = (lease.server_index(), lease.reused);
        let Unanswered { unsent, refused, fault } = match sent {
            Ok(Ok((head, body))) => {
                exchange.answered();
                let status = head.status;
                lease.tell(!FAILURES.contains(&status));
                if pool.origin().retries.on_status.contains(&status.as_u16()) && retries.again(pool, &mut order, server)
                {
                    continue;
                }
                return receive(head, body, lease);
            }
            Ok(Err(failed)) => failed,
            Err(fault) => {
                lease.tell(false);
                if retries.again(pool, &mut order, server) {
                    continue;
                }
                return Err(fault);
            }
        };
        if let Some(fault) = exchange.body.as_ref().and_then(|body| body.fault.get()) {
            return Err(fault);
        }
        tracing::debug!(%fault, refused, server = exchange.server.as_deref(), reused, "the request was not answered");
        // A kept connection may have been closed by the origin at the moment of sending: then nothing was answered, and
        // what was not sent, or may be sent twice (RFC 9110 section 9.2.2), goes over another one. So does what the origin
        // says that it has not looked at (RFC 9113 section 8.7).
        let free = !fresh && (reused || refused);
        let safe = repeatable && (refused || fault.kind != Kind::Protocol);
        if free && (unsent.is_some() || safe) {
            // What may be sent twice has no body.
            body = unsent.unwrap_or_else(RequestBody::empty);
            continue;
        }
        lease.tell(false);
        if !retries.again(pool, &mut order, server) {
            return Err(fault);
        }
    }
}

/// A request to which nothing came that could be passed on.
pub(super) struct Unanswered {
    /// Its body, where nothing of the request was sent.
    unsent: Option<RequestBody>,
    /// The origin says that it has done nothing with it.
    refused: bool,
    fault: Fault,
}

impl Unanswered {
    /// It could not be sent at all, and cannot be over another connection.
    fn broken(fault: Fault) -> Self {
        Self { unsent: None, refused: false, fault }
    }
}

/// A response body on its way from an origin.
pub enum OriginBody {
    /// Of HTTP/1.1.
    Plain(AnswerBody),
    /// Of HTTP/2.
    Stream(Box<StreamBody>),
}

impl OriginBody {
    /// The next piece or the trailers; an error where it broke off.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        match self {
            Self::Plain(body) => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(drop))),
            Self::Stream(body) => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(drop))),
        }
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    /// What is known of its length; of HTTP/2 the header field tells.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Stream(body) if body.is_end_stream() => SizeHint::with_exact(0),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// How often a request may still be sent again.
struct Retry {
    left: u32,
}

impl Retry {
    /// Whether it may after `server` failed, which then comes last; takes from the upstream's budget.
    fn again(&mut self, pool: &Pool, order: &mut Order, server: usize) -> bool {
        let again = self.left > 0 && pool.may_retry(Instant::now());
        if again {
            self.left -= 1;
            order.sort_by_key(|other| *other == server);
        }
        again
    }
}

/// A request's header as an origin gets it. Borrowed: it may have to go out twice.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'r> {
    method: &'r Method,
    /// Path and query; none is the root.
    target: Option<&'r PathAndQuery>,
    fields: &'r Fields,
    /// Where early hints of the origin go, if they are heard.
    early: Option<&'r Early>,
    /// How long the origin may take for its answer, and none of a body.
    patience: Duration,
}

impl<'r> Outgoing<'r> {
    /// A request's own, with the fields that the origin gets.
    fn of(exchange: &'r Exchange, fields: &'r Fields) -> Self {
        let target = exchange.target.as_ref().or(exchange.request.uri.path_and_query());
        let early = exchange.early.as_ref().filter(|_| exchange.route().is_some_and(|route| route.early_hints));
        Self { method: &exchange.request.method, target, fields, early, patience: exchange.response_timeout() }
    }
}

const CLOSED: Fault = Fault::upstream(Kind::Closed, "the origin closed the connection without a response");
const GIVEN_AWAY: Fault = Fault::internal(Kind::Closed, "the connection was given away");

type Sent = Result<(ResponseHead, OriginBody), Unanswered>;

/// Sends, and waits for the response header: so long as the request body moves, and then `timeouts.response`.
async fn send(lease: &mut Lease, asker: &impl Asker, outgoing: Outgoing<'_>, body: RequestBody) -> Result<Sent, Fault> {
    lease.sent();
    let stats = &asker.worker().stats;
    bump(if lease.reused { &stats.upstream_reused } else { &stats.upstream_connects }, 1);
    let patience = outgoing.patience;
    lease.deadline.set(patience);
    let Lease { sender, deadline, .. } = lease;
    let answer = async {
        if let Sender::Http1(connection) = sender {
            let (head, body) = connection.send(outgoing, body).await?;
            return Ok((head, OriginBody::Plain(body)));
        }
        match std::mem::replace(sender, Sender::Taken) {
            Sender::Http2(slot) => Box::pin(h2::send(slot, outgoing, body)).await,
            Sender::Http1(_) | Sender::Taken => Err(Unanswered::broken(GIVEN_AWAY)),
        }
    };
    let mut answer = std::pin::pin!(answer);
    let progress = asker.progress();
    let mut sent_all = progress.is_none();
    let result = poll_fn(|cx| {
        if let Poll::Ready(sent) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(sent));
        }
        if deadline.poll_passed(cx).is_pending() {
            return Poll::Pending;
        }
        // The client is still sending, within its own time limit: the origin's time has not begun.
        if !sent_all {
            sent_all = progress.is_none_or(|body| body.finished.get());
            deadline.set(patience);
            if deadline.poll_passed(cx).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Err(Fault::upstream(Kind::ResponseTimeout, "the origin did not answer in time")))
    })
    .await;
    deadline.clear();
    result
}

fn receive(head: ResponseHead, body: OriginBody, lease: Lease) -> Result<(ResponseHead, Payload), Fault> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Fault::upstream(Kind::Protocol, "the origin changed the protocol without being asked"));
    }
    Ok((head, Payload::Origin(Box::new((body, lease)))))
}

/// What a request is told apart by.
pub(crate) fn asked(exchange: &Exchange) -> proxy_core::route::Request<'_> {
    proxy_core::route::Request {
        host: exchange.host.as_str(),
        path: exchange.request.uri.path(),
        query: exchange.request.uri.query(),
        method: &exchange.request.method,
        headers: &exchange.request.headers,
    }
}

fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}

impl Pool {
    /// A connection: a kept one unless `fresh`, else a new one to the next server of the order that has room and can be
    /// reached. While none has room, the request waits in the upstream's queue, if it has one.
    async fn lease(
        self: &Rc<Self>,
        asker: &impl Asker,
        order: &mut Order,
        hash: u64,
        fresh: bool,
        upgrade: bool,
    ) -> Result<Lease, Fault> {
        loop {
            match self.lease_now(asker, order, fresh, upgrade).await {
                Ok(lease) => return Ok(lease),
                Err(Some(fault)) => return Err(fault),
                Err(None) => {}
            }
            if Box::pin(self.queue()).await.is_err() {
                return Err(Fault::upstream(Kind::Busy, "all servers of the upstream are busy"));
            }
            *order = self.order(Instant::now(), hash);
        }
    }

    /// The same without waiting for room: no fault where no server has any.
    async fn lease_now(
        self: &Rc<Self>,
        asker: &impl Asker,
        order: &Order,
        fresh: bool,
        upgrade: bool,
    ) -> Result<Lease, Option<Fault>> {
        let mut failed = None;
        for server in order.iter().copied() {
            let Ok(turn) = self.turn(server) else { continue };
            match self.reach(server, turn, asker, fresh, upgrade).await {
                Ok(lease) => return Ok(lease),
                Err(fault) => failed = Some(fault),
            }
        }
        Err(failed)
    }
}
