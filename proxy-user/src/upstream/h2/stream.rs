//! One request on an HTTP/2 connection to an origin: bodies stream both ways with flow control, trailers pass, so that gRPC
//! does; and what is to be thought of a request that gets no answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, HOST};
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Uri, Version};
use http_body::{Body as _, Frame};
use proxy_core::fields::Fields;
use tokio::task::JoinHandle;

use super::{Slot, window};
use crate::http::body::RequestBody;
use crate::http::fault::{Fault, Kind};
use crate::http::head::ResponseHead;
use crate::upstream::{CLOSED, OriginBody, Outgoing, Unanswered};

/// A response body on a stream.
pub struct StreamBody {
    stream: RecvStream,
    data_ended: bool,
    pump: Option<JoinHandle<()>>,
    slot: Slot,
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // What the origin did not take before it answered whole, or the client gave up, nobody needs.
        if let Some(pump) = &self.pump {
            pump.abort();
        }
    }
}

impl StreamBody {
    /// The next piece or the trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => {
                    self.slot.0.state.hear();
                    // What was read may be sent again: the client's own window holds the rest back.
                    let released = self.stream.flow_control().release_capacity(piece.len());
                    return Poll::Ready(Some(released.map(|()| Frame::data(piece))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// Sends a request and waits for the response header.
pub(in crate::upstream) async fn send(
    slot: Slot,
    outgoing: Outgoing<'_>,
    body: RequestBody,
) -> Result<(ResponseHead, OriginBody), Unanswered> {
    let sender = slot.0.sender.borrow().clone();
    let mut sender = match sender.ready().await {
        Ok(sender) => sender,
        Err(error) => {
            slot.0.state.gone.set(true);
            tracing::debug!(%error, "origin connection takes no more requests");
            return Err(Unanswered { unsent: Some(body), refused: true, fault: CLOSED });
        }
    };
    let request = header(outgoing, slot.0.scheme.clone()).map_err(Unanswered::broken)?;
    let ends = body.is_end_stream();
    let (mut response, stream) = sender.send_request(request, ends).map_err(|error| failed(&slot, &error))?;
    slot.0.state.sent.set(slot.0.state.sent.get() + 1);
    let pump = (!ends).then(|| tokio::task::spawn_local(pump(body, stream)));
    let answer = poll_fn(|cx| {
        if let Some(early) = outgoing.early {
            while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
                early.hint(interim.status(), &Fields::from(interim.headers()));
            }
        }
        Pin::new(&mut response).poll(cx)
    });
    match answer.await {
        Ok(response) => {
            slot.0.used.set(Instant::now());
            slot.0.state.hear();
            let (head, stream) = response.into_parts();
            let body = StreamBody { stream, data_ended: false, pump, slot };
            Ok((head.into(), OriginBody::Stream(Box::new(body))))
        }
        Err(error) => {
            if let Some(pump) = pump {
                pump.abort();
            }
            Err(failed(&slot, &error))
        }
    }
}

/// The header, with what HTTP/2 has in place of some fields (RFC 9113 section 8.3.1).
fn header(outgoing: Outgoing<'_>, scheme: Scheme) -> Result<Request<()>, Fault> {
    const BAD: Fault = Fault::bad_request("the host cannot be asked for over HTTP/2");
    let mut fields = HeaderMap::from(outgoing.fields);
    let host = fields.remove(HOST).ok_or(BAD)?;
    fields.remove(CONNECTION);
    let mut uri = uri::Parts::default();
    uri.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| BAD)?);
    uri.scheme = Some(scheme);
    uri.path_and_query = Some(outgoing.target.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    let mut request = Request::new(());
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| BAD)?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields;
    Ok(request)
}

/// What became of a request that the origin did not answer: whether it may have had an effect (RFC 9113 section 8.7).
fn failed(slot: &Slot, error: &h2::Error) -> Unanswered {
    let goes = error.is_go_away() && error.is_remote();
    let refused = goes || error.reason() == Some(Reason::REFUSED_STREAM) && error.is_remote();
    if goes || error.is_io() {
        slot.0.state.gone.set(true);
    }
    tracing::debug!(%error, refused, "the request was not answered");
    let fault = if error.is_library() || error.reason() == Some(Reason::PROTOCOL_ERROR) {
        Fault::upstream(Kind::Protocol, "the origin's response is not valid HTTP")
    } else {
        Fault::upstream(Kind::Closed, "the origin ended the stream without a response")
    };
    Unanswered { unsent: None, refused, fault }
}

/// Sends a body as fast as the origin takes it. Faults of the client's are noted in the body's progress.
async fn pump(mut body: RequestBody, mut stream: SendStream<Bytes>) {
    loop {
        let frame = tokio::select! {
            biased;
            // The origin wants no more of it.
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
            frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
        };
        let sent = match frame {
            None => stream.send_data(Bytes::new(), true),
            Some(Err(_)) => return stream.send_reset(Reason::CANCEL),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    let last = body.is_end_stream();
                    match window::send(&mut stream, piece, last).await {
                        Ok(()) if !last => continue,
                        sent => sent,
                    }
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => stream.send_trailers(trailers),
                    Err(_) => continue,
                },
            },
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the origin took no more of a request body");
        }
        return;
    }
}
