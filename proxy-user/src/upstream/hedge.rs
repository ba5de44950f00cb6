//! Hedging: a safe request whose answer is long in coming goes to another server as well, and whoever answers first is heard.
//! The other attempt is given up, which ends its stream or connection and is nobody's failure. How long is waited, and how
//! often this may happen, [`proxy_core::balance::Hedge`] and the retry budget say.

use std::rc::Rc;
use std::time::Instant;

use futures_util::future::{Either, select};
use proxy_core::balance::Order;
use proxy_core::fields::Fields;

use super::lease::Lease;
use super::pool::Pool;
use super::{FAILURES, Outgoing, Sent};
use crate::http::body::RequestBody;
use crate::http::fault::Fault;
use crate::stages::exchange::Exchange;
use crate::stats::bump;

/// A connection, and what came over it.
type Attempt = (Lease, Result<Sent, Fault>);

/// Sends a request over `lease`. When nothing has come for as long as the upstream is waited for, a copy with the same
/// `headers` goes to the next server of `order`. What came of the one that is heard, with its connection.
pub(super) async fn send(
    exchange: &Exchange,
    pool: &Rc<Pool>,
    mut lease: Lease,
    headers: &Fields,
    order: &Order,
) -> Attempt {
    let server = lease.server_index();
    let began = Instant::now();
    let wait = pool.hedge_wait();
    let mut first = Box::pin(async {
        let sent = super::send(&mut lease, exchange, Outgoing::of(exchange, headers), RequestBody::empty()).await;
        (lease, sent)
    });
    let in_time = match wait {
        Some(wait) => tokio::time::timeout(wait, &mut first).await.ok(),
        None => Some(first.as_mut().await),
    };
    let attempt = match in_time {
        Some(attempt) => attempt,
        None if pool.may_retry(Instant::now()) => {
            race(exchange, first, Box::pin(again(exchange, pool, server, headers, order))).await
        }
        None => first.await,
    };
    pool.hedge_took(began);
    attempt
}

/// The first good answer of two attempts; that of the first one where there is none.
async fn race(
    exchange: &Exchange,
    first: impl Future<Output = Attempt> + Unpin,
    second: impl Future<Output = Option<Attempt>> + Unpin,
) -> Attempt {
    let won = |attempt| {
        bump(&exchange.worker.stats.upstream_hedges_won, 1);
        attempt
    };
    match select(first, second).await {
        Either::Left((attempt, _)) if is_good(&attempt) => attempt,
        Either::Left((mut attempt, second)) => match second.await {
            Some(better) if is_good(&better) => {
                tell_failure(&mut attempt);
                won(better)
            }
            _ => attempt,
        },
        // The first one is given up here.
        Either::Right((Some(attempt), _)) if is_good(&attempt) => won(attempt),
        Either::Right((other, first)) => {
            // Whoever is heard is told of by whoever hears it.
            if let Some(mut other) = other {
                tell_failure(&mut other);
            }
            first.await
        }
    }
}

/// The second attempt, to the first server that can be had now, `server` being the last one asked.
async fn again(
    exchange: &Exchange,
    pool: &Rc<Pool>,
    server: usize,
    headers: &Fields,
    order: &Order,
) -> Option<Attempt> {
    let mut order = order.clone();
    order.sort_by_key(|other| *other == server);
    let mut lease = pool.lease_now(exchange, &order, false, false).await.ok()?;
    bump(&exchange.worker.stats.upstream_hedges, 1);
    let sent = super::send(&mut lease, exchange, Outgoing::of(exchange, headers), RequestBody::empty()).await;
    Some((lease, sent))
}

/// Tells the balancer of an attempt that nobody hears.
fn tell_failure((lease, sent): &mut Attempt) {
    // That the origin had closed a kept connection is no failure of it.
    if !(lease.reused && matches!(sent, Ok(Err(_)))) {
        lease.tell(false);
    }
}

/// Whether this settles the matter while another attempt is under way.
fn is_good((_, sent): &Attempt) -> bool {
    matches!(sent, Ok(Ok((head, _))) if !FAILURES.contains(&head.status))
}
