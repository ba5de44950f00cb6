//! Copies of requests, for another upstream than the client's: sent like any other, but the answer is read only to keep the
//! connection.

use std::rc::Rc;
use std::time::Instant;

use http::Method;
use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use proxy_core::fields::Fields;

use super::asker::Terms;
use super::pool::Pool;
use super::{Outgoing, discard, send};
use crate::http::body::RequestBody;
use crate::http::fault::Fault;
use crate::stages::exchange::Exchange;

/// A request as the origin would get it, but for its body.
pub(crate) struct Copy {
    terms: Terms,
    method: Method,
    target: Option<PathAndQuery>,
    fields: Fields,
    body: RequestBody,
    hash: u64,
}

impl Copy {
    /// Of a request that is about to be sent to its own upstream; `pool` is the one that the copy goes to.
    pub(crate) fn of(exchange: &Exchange, pool: &Pool) -> Self {
        let hash = pool.hash(|key| key.hash(&super::asked(exchange), exchange.connection.client.ip()));
        let Outgoing { method, target, fields, .. } = Outgoing::of(exchange, &exchange.request.headers);
        let (method, target, fields) = (method.clone(), target.cloned(), fields.clone());
        Self { terms: Terms::of(exchange), method, target, fields, body: RequestBody::empty(), hash }
    }

    /// The request's body, all of it.
    pub(crate) fn body(&mut self, body: bytes::Bytes) {
        self.fields.insert(CONTENT_LENGTH, body.len().into());
        self.body = RequestBody::of(body);
    }

    /// Sends it. Once more where a kept connection turned out to be closed.
    ///
    /// # Errors
    /// Nothing was answered.
    pub(crate) async fn send(self, pool: &Rc<Pool>) -> Result<(), Fault> {
        let Self { terms, method, target, fields, mut body, hash } = self;
        let outgoing = Outgoing {
            method: &method,
            target: target.as_ref(),
            fields: &fields,
            early: None,
            patience: terms.response,
        };
        let mut order = pool.order(Instant::now(), hash);
        let mut fresh = false;
        loop {
            let mut lease = pool.lease(&terms, &mut order, hash, fresh, false).await?;
            let failed = match send(&mut lease, &terms, outgoing, body).await {
                Ok(Ok((head, body))) => {
                    lease.tell(!super::FAILURES.contains(&head.status));
                    discard::read_out(body, lease).await;
                    return Ok(());
                }
                Ok(Err(failed)) => failed,
                Err(fault) => {
                    lease.tell(false);
                    return Err(fault);
                }
            };
            match failed.unsent {
                Some(unsent) if lease.reused && !fresh => body = unsent,
                _ => {
                    lease.tell(false);
                    return Err(failed.fault);
                }
            }
            fresh = true;
        }
    }
}
