//! Hedged requests: when it is time for a second one is `proxy_core::balance`'s to say; here both are under way, and the first
//! good answer is taken. The other request is given up, which ends its connection or resets its stream.

use std::rc::Rc;
use std::time::Instant;

use http::{HeaderMap, Request};
use proxy_core::balance::{Order, Step};

use super::pool::{Lease, Pool};
use super::{FAILURES, Sent, head, send};
use crate::http::body::RequestBody;
use crate::http::fault::Fault;
use crate::stages::exchange::Exchange;

/// What came of a request, and the connection that it came on.
type Outcome = (Lease, Result<Sent, Fault>);

/// Sends a request that may be sent twice; `copy` are its fields, `order` the servers that it may go to.
pub(super) async fn race(
    lease: Lease,
    request: Request<RequestBody>,
    exchange: &Exchange,
    pool: &Rc<Pool>,
    copy: &HeaderMap,
    (order, hash): (&Order, u64),
) -> Outcome {
    let sent = Instant::now();
    let mut others = order.clone();
    others.retain(|server| *server != lease.server_index());
    let mut first = std::pin::pin!(one(lease, request, exchange));
    loop {
        match pool.hedge(sent, Instant::now(), others.len()) {
            Step::Leave => return first.await,
            Step::Ask => break,
            Step::Wait(time) => {
                if let Ok(outcome) = tokio::time::timeout(time, &mut first).await {
                    return outcome;
                }
            }
        }
    }
    tracing::debug!(server = exchange.server.as_deref(), "no answer yet: another server is asked as well");
    let second = async {
        let lease = pool.lease(exchange, &mut others, hash, false, &mut None).await.ok()?;
        let request = head(exchange, copy.clone(), RequestBody::empty()).ok()?;
        Some(one(lease, request, exchange).await)
    };
    let mut second = std::pin::pin!(second);
    tokio::select! {
        outcome = &mut first => match is_good(&outcome) {
            true => outcome,
            false => second.await.filter(is_good).unwrap_or(outcome),
        },
        outcome = &mut second => match outcome {
            Some(outcome) if is_good(&outcome) => outcome,
            _ => first.await,
        },
    }
}

async fn one(mut lease: Lease, request: Request<RequestBody>, exchange: &Exchange) -> Outcome {
    let sent = send(&mut lease, request, exchange).await;
    (lease, sent)
}

/// Whether there is an answer that is none of a server's that cannot do its work.
fn is_good((_, sent): &Outcome) -> bool {
    matches!(sent, Ok(Ok(response)) if !FAILURES.contains(&response.status()))
}
