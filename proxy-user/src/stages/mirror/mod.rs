//! Copies of a route's requests to another upstream. Which ones is decided in `proxy_core::route::Mirror`; here a copy is
//! put together beside the request, and sent by a task of its own once the request's body is whole. Whatever becomes of it,
//! the request goes on as if it were not there.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use proxy_core::http1::decimal;
use proxy_core::route;

use super::exchange::Exchange;
use super::filter::BodyFilter;
use super::hooks::{self, Hooks, Site};
use super::{Flow, Metric, Stage};
use crate::http::fault::Fault;
use crate::upstream;
use crate::upstream::copy::Copy;
use crate::upstream::pool::Pool;

/// See above.
#[derive(Default)]
pub(super) struct Mirror {
    counts: Arc<Counts>,
}

/// What became of copies.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    left_out: AtomicU64,
    failed: AtomicU64,
}

/// A route's mirror.
struct There {
    rule: route::Mirror,
    /// Place of its upstream among the snapshot's origins.
    upstream: usize,
    in_flight: AtomicU32,
    counts: Arc<Counts>,
}

/// A copy that is under way, be it only that its body is still coming.
struct UnderWay {
    there: Arc<There>,
    pool: Rc<Pool>,
    copy: Copy,
    /// Length of the body, where the request tells.
    declared: Option<u64>,
    place: Place,
}

/// Counts as under way until it is let go.
struct Place(Arc<There>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stage for Mirror {
    fn name(&self) -> &'static str {
        "mirror"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        let Some((index, route)) = site.route else { return Ok(()) };
        let Some(mirror) = &route.mirror else { return Ok(()) };
        // In the order of the snapshot's origins: by name.
        let upstream = site.config.upstreams.keys().position(|name| *name == mirror.upstream);
        let upstream = upstream.ok_or_else(|| (format!("/routes/{index}/mirror/upstream"), "not there".to_owned()))?;
        let there = Arc::new(There {
            rule: route::Mirror::new(mirror),
            upstream,
            in_flight: AtomicU32::new(0),
            counts: Arc::clone(&self.counts),
        });
        hooks.upstream_request(move |exchange| {
            begin(&there, exchange);
            Flow::Continue
        });
        hooks.request_body(|exchange| {
            let under_way = exchange.context.get_mut::<Option<UnderWay>>()?.take()?;
            Some(Box::new(Beside { under_way: Some(under_way), held: BytesMut::new() }))
        });
        Ok(())
    }

    fn metrics(&self, tell: &mut dyn FnMut(Metric)) {
        let Counts { sent, left_out, failed } = &*self.counts;
        for (name, help, value) in [
            ("sent", "Copies of requests that were answered", sent),
            ("left_out", "Requests of which no copy was made, for its bounds", left_out),
            ("failed", "Copies of requests that were not answered", failed),
        ] {
            tell(Metric { name, help, counter: true, value: value.load(Ordering::Relaxed) });
        }
    }
}

/// Makes a copy of a request that is on its way to its own upstream, if one is to be made.
fn begin(there: &Arc<There>, exchange: &mut Exchange) {
    // What becomes a tunnel is not a request that could be answered twice.
    if exchange.upgrade.is_some() || !there.rule.takes(&upstream::asked(exchange), exchange.connection.client.ip()) {
        return;
    }
    let declared = exchange.request.headers.get(CONTENT_LENGTH).and_then(|length| decimal(length.as_bytes()));
    let (true, Some(place)) = (declared.is_none_or(|length| there.rule.holds(length)), there.place()) else {
        return there.leave_out();
    };
    let live = Rc::clone(&exchange.live);
    let Some(pool) = live.pool(there.upstream) else { return };
    let copy = Copy::of(exchange, pool);
    let under_way = UnderWay { there: Arc::clone(there), pool: Rc::clone(pool), copy, declared, place };
    if exchange.body.is_none() {
        under_way.send();
    } else {
        exchange.context.put(Some(under_way));
    }
}

impl There {
    fn place(self: &Arc<Self>) -> Option<Place> {
        let room = |count| self.rule.has_room(count).then_some(count + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        Some(Place(Arc::clone(self)))
    }

    fn leave_out(&self) {
        self.counts.left_out.fetch_add(1, Ordering::Relaxed);
    }
}

impl UnderWay {
    fn send(self) {
        let Self { there, pool, copy, place, .. } = self;
        drop(tokio::task::spawn_local(async move {
            let outcome = copy.send(&pool).await;
            let counter = if outcome.is_ok() { &there.counts.sent } else { &there.counts.failed };
            counter.fetch_add(1, Ordering::Relaxed);
            if let Err(fault) = outcome {
                tracing::debug!(%fault, upstream = there.upstream, "a copy of a request was not answered");
            }
            drop(place);
        }));
    }
}

/// Keeps what passes, so long as a copy may have so much.
struct Beside {
    under_way: Option<UnderWay>,
    held: BytesMut,
}

impl BodyFilter for Beside {
    fn piece(&mut self, piece: Bytes) -> Result<Bytes, Fault> {
        let Some(under_way) = &self.under_way else { return Ok(piece) };
        let length = (self.held.len() + piece.len()) as u64;
        if !under_way.there.rule.holds(length) {
            under_way.there.leave_out();
            self.under_way = None;
            self.held = BytesMut::new();
            return Ok(piece);
        }
        let whole = under_way.declared == Some(length);
        self.held.extend_from_slice(&piece);
        if whole {
            // Whoever sends a body of known length does not ask for its end.
            self.send();
        }
        Ok(piece)
    }

    fn end(&mut self) -> Result<Bytes, Fault> {
        self.send();
        Ok(Bytes::new())
    }
}

impl Beside {
    fn send(&mut self) {
        if let Some(mut under_way) = self.under_way.take() {
            under_way.copy.body(std::mem::take(&mut self.held).freeze());
            under_way.send();
        }
    }
}
