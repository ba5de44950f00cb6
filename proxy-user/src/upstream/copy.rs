//! Copies of requests, for another upstream than the client's: sent like any other, but the answer is read only to keep the
//! connection.

use std::rc::Rc;
use std::time::Instant;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request};

use super::asker::Terms;
use super::pool::Pool;
use super::{discard, send};
use crate::http::body::RequestBody;
use crate::http::fault::Fault;
use crate::stages::exchange::Exchange;

/// A request as the origin would get it, but for its body.
pub(crate) struct Copy {
    terms: Terms,
    request: Request<RequestBody>,
    hash: u64,
}

impl Copy {
    /// Of a request that is about to be sent to its own upstream; `pool` is the one that the copy goes to.
    ///
    /// # Errors
    /// There is no such request.
    pub(crate) fn of(exchange: &Exchange, pool: &Pool) -> Result<Self, Fault> {
        let hash = pool.hash(|key| key.hash(&super::asked(exchange), exchange.connection.client.ip()));
        let headers: HeaderMap = exchange.request.headers.clone();
        let request = super::head(exchange, headers, RequestBody::empty())?;
        Ok(Self { terms: Terms::of(exchange), request, hash })
    }

    /// The request's body, all of it.
    pub(crate) fn body(&mut self, body: bytes::Bytes) {
        self.request.headers_mut().insert(CONTENT_LENGTH, body.len().into());
        *self.request.body_mut() = RequestBody::of(body);
    }

    /// Sends it. Once more where a kept connection turned out to be closed.
    ///
    /// # Errors
    /// Nothing was answered.
    pub(crate) async fn send(self, pool: &Rc<Pool>) -> Result<(), Fault> {
        let Self { terms, mut request, hash } = self;
        let mut order = pool.order(Instant::now(), hash);
        let mut fresh = false;
        loop {
            let mut lease = pool.lease(&terms, &mut order, hash, fresh, &mut None).await?;
            let failed = match send(&mut lease, request, &terms).await {
                Ok(Ok(response)) => {
                    lease.tell(!super::FAILURES.contains(&response.status()));
                    discard::read_out(response.into_body(), lease).await;
                    return Ok(());
                }
                Ok(Err(failed)) => failed,
                Err(fault) => {
                    lease.tell(false);
                    return Err(fault);
                }
            };
            match failed.unsent {
                Some(unsent) if lease.reused && !fresh => request = unsent,
                _ => {
                    lease.tell(false);
                    return Err(failed.fault);
                }
            }
            fresh = true;
        }
    }
}
