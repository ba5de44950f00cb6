//! Interim answers of origins, heard only for requests whose client gets early hints. hyper tells of them from a connection's
//! own task, so that they come here through a channel; of HTTP/2 they are read on the request's stream.

use std::task::{Context, Poll};

use http::{HeaderMap, Request};
use proxy_core::route::hints::{MAX_HINTS, passed_on};
use tokio::sync::mpsc;

use crate::http::body::RequestBody;
use crate::http::early::Early;

/// The hints of one request that is being sent.
pub(super) struct Heard<'a> {
    early: &'a Early,
    receiver: mpsc::Receiver<HeaderMap>,
}

/// A request's own ear on an HTTP/2 stream.
#[derive(Clone)]
pub(super) struct Ear(mpsc::Sender<HeaderMap>);

impl<'a> Heard<'a> {
    /// Listens for those of `request`.
    pub(super) fn of(request: &mut Request<RequestBody>, early: &'a Early) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_HINTS);
        let ear = Ear(sender);
        request.extensions_mut().insert(ear.clone());
        hyper::ext::on_informational(request, move |response| ear.hear(response.status(), response.headers()));
        Self { early, receiver }
    }

    /// Passes on what has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(headers)) = self.receiver.poll_recv(cx) {
            self.early.send(headers);
        }
    }
}

impl Ear {
    pub(super) fn hear(&self, status: http::StatusCode, headers: &HeaderMap) {
        if let Some(headers) = passed_on(status, headers) {
            // Beyond the bound they are left out.
            let _ = self.0.try_send(headers);
        }
    }
}
