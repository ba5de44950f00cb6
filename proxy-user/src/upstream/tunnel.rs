//! Upgraded connections. The request goes over a connection of its own; if the origin says 101, that connection is handed
//! over, with what came behind the 101, and from then on bytes are copied. Nothing of the client's goes there before.

use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;
use proxy_core::balance::Order;
use proxy_core::fields::Fields;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Outgoing;
use super::lease::Lease;
use super::pool::Pool;
use crate::http::body::{Progress, RequestBody};
use crate::http::fault::{Fault, Kind};
use crate::http::head::ResponseHead;
use crate::http::reply::{Payload, Reply, ResponseBody};
use crate::http::upgrade::{Tunnel, Upgrade};
use crate::stages::exchange::{Exchange, Journey};
use crate::worker::relay::{Ended, Passed, relay};

/// A byte stream of whatever kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// An origin's connection after its 101.
pub struct OriginStream {
    /// It.
    pub io: Box<dyn Stream>,
    /// What came behind the 101.
    pub early: Bytes,
    /// The request counts as open at its server.
    _lease: Option<Lease>,
}

/// Sends a request that asks for an upgrade.
pub(super) async fn forward(
    exchange: &mut Exchange,
    pool: &Rc<Pool>,
    mut upgrade: Box<Upgrade>,
    mut headers: Fields,
    (mut order, hash): (Order, u64),
) -> Result<(ResponseHead, Payload), Fault> {
    upgrade.ask(&mut headers)?;
    let mut lease = pool.lease(exchange, &mut order, hash, true, true).await?;
    exchange.server = Some(lease.server());
    let sent = super::send(&mut lease, exchange, Outgoing::of(exchange, &headers), RequestBody::empty()).await?;
    let (head, body) = sent.map_err(|failed| {
        lease.tell(false);
        failed.fault
    })?;
    exchange.answered();
    lease.tell(!super::FAILURES.contains(&head.status));
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        let refused = upgrade.is_stream() && head.status.is_success();
        exchange.upgrade = Some(upgrade);
        if refused {
            return Err(Fault::upstream(Kind::Protocol, "the origin answered, but did not change the protocol"));
        }
        return super::receive(head, body, lease);
    }
    let granted = upgrade.is_granted(&head.headers);
    exchange.upgrade = Some(upgrade);
    if !granted {
        return Err(Fault::upstream(Kind::Protocol, "the origin changed to a protocol that it was not asked for"));
    }
    drop(body);
    let taken = lease.take_stream();
    let (io, early) = taken.ok_or(Fault::internal(Kind::Closed, "the upgraded connection is in use elsewhere"))?;
    Ok((head, Payload::Tunnel(Box::new(OriginStream { io, early, _lease: Some(lease) }))))
}

/// Gives the client the answer behind which the tunnel begins.
pub fn begin(mut head: ResponseHead, origin: OriginStream, mut journey: Journey) -> Reply {
    let exchange = &mut *journey.exchange;
    if let Some(upgrade) = &exchange.upgrade {
        upgrade.grant(&mut head);
    }
    exchange.status = Some(head.status);
    let tunnel = Box::new(Tunnel { origin, journey });
    (head, ResponseBody::tunnel(tunnel))
}

impl Tunnel {
    /// Copies until it ends, and then lets the request be logged.
    pub async fn run<C: AsyncRead + AsyncWrite + Unpin>(mut self: Box<Self>, client: &mut C) {
        let exchange = &mut self.journey.exchange;
        let idle = exchange.tunnel_timeout();
        let deadline = exchange.worker.deadlines.add();
        let early = std::mem::take(&mut self.origin.early);
        let (Passed { inwards, outwards }, ended) = relay(client, &mut self.origin.io, early, &deadline, idle).await;
        tracing::debug!(?ended, inwards, outwards, "tunnel ended");
        let progress = Progress::default();
        progress.bytes.set(inwards);
        exchange.body = Some(Rc::new(progress));
        self.journey.bytes_out = outwards;
        // How long a tunnel lasts is its users' business; that one side broke it off is no fault of the exchange.
        self.journey.complete = !matches!(ended, Ended::Broken(_));
    }
}
