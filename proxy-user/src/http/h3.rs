//! What Tidegate needs of an HTTP/3 implementation, as three traits, and the one that is used, the `h3` crate over
//! quinn. Nothing else names that crate, so that it can be exchanged. Header blocks are bounded, bodies stream both
//! ways, trailers are kept (RFC 9114).

#![allow(async_fn_in_trait, reason = "workers are single-threaded: no bound on these futures is wanted")]

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use h2::ext::Protocol;
use h3::error::Code;
use h3::server::{Connection as H3Connection, RequestResolver, RequestStream};
use http::{HeaderMap, Method, Request, Response, header};
use http_body::{Frame, SizeHint};
use proxy_core::http1::decimal;
use proxy_core::http3::PROTOCOL;

use super::h3_bounds::{self, Bounded, Shared};
use crate::worker::connection::Connection as Client;

/// The stream or the connection is gone, or the peer broke the protocol.
#[derive(Debug)]
pub struct Gone(pub String);

/// A connection that requests come from.
pub trait Http3: Sized {
    /// A request stream whose header has not been read.
    type Pending: PendingRequest;
    /// The next request; `None` when the client will send no more. May be dropped and called again.
    async fn accept(&mut self) -> Result<Option<Self::Pending>, Gone>;
    /// Tells the client that no more requests are taken (GOAWAY).
    async fn refuse_more(&mut self) -> Result<(), Gone>;
}

/// A request stream before its header.
pub trait PendingRequest {
    /// How the response is sent.
    type Reply: Reply;
    /// Reads the header; one that is too large is answered with 431 and is an error here.
    async fn header(self) -> Result<(Request<()>, Self::Reply, H3RequestBody), Gone>;
}

/// The sending half of a request stream. Dropped before [`Reply::finish`], it tells the client that the response is not
/// whole.
pub trait Reply {
    /// The response header.
    async fn header(&mut self, head: Response<()>) -> Result<(), Gone>;
    /// A piece of the body.
    async fn data(&mut self, piece: Bytes) -> Result<(), Gone>;
    /// Trailers, after the body.
    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Gone>;
    /// The end.
    async fn finish(&mut self) -> Result<(), Gone>;
    /// Ends the stream because the request is malformed (RFC 9114 section 4.1.2).
    fn malformed(&mut self);
}

// ---- the h3 crate ----

type RecvStream = RequestStream<h3_bounds::Stream<h3_quinn::RecvStream>, Bytes>;

/// A connection by the `h3` crate.
pub struct Connection(H3Connection<Bounded, Bytes>, Rc<Shared>);

/// A request stream by the `h3` crate.
pub struct Pending(RequestResolver<Bounded, Bytes>, Rc<Shared>);

/// The sending half by the `h3` crate. Dropped before its end, it resets the stream: quinn alone would end it in order,
/// and the client would take a broken response for a whole one.
pub struct Sender {
    stream: RequestStream<h3_quinn::SendStream<Bytes>, Bytes>,
    finished: bool,
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished {
            self.stream.stop_stream(Code::H3_INTERNAL_ERROR);
        }
    }
}

impl Connection {
    /// Starts HTTP/3 on a client's QUIC connection, with header blocks of at most `max_header` bytes.
    pub async fn start(quic: quinn::Connection, client: &Rc<Client>, max_header: u64) -> Result<Self, Gone> {
        let quic = Bounded::new(quic, client, max_header);
        let shared = quic.shared();
        let mut builder = h3::server::builder();
        builder.max_field_section_size(max_header).enable_extended_connect(true);
        Ok(Self(builder.build(quic).await.map_err(gone)?, shared))
    }
}

impl Http3 for Connection {
    type Pending = Pending;

    async fn accept(&mut self) -> Result<Option<Pending>, Gone> {
        let accepted = self.0.accept().await.map_err(gone)?;
        Ok(accepted.map(|resolver| Pending(resolver, Rc::clone(&self.1))))
    }

    async fn refuse_more(&mut self) -> Result<(), Gone> {
        // The number behind the last one that was taken: h3 counts from that.
        self.1.refuse_more();
        self.0.shutdown(1).await.map_err(gone)
    }
}

impl PendingRequest for Pending {
    type Reply = Sender;

    async fn header(self) -> Result<(Request<()>, Sender, H3RequestBody), Gone> {
        let (mut request, mut stream) = self.0.resolve_request().await.map_err(gone)?;
        if self.1.take_extended(stream.id()) && extend(&mut request).is_none() {
            stream.stop_stream(Code::H3_MESSAGE_ERROR);
            return Err(Gone("an extended CONNECT that is none".to_owned()));
        }
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| decimal(length.as_bytes()));
        let (sender, receiver) = stream.split();
        let body = H3RequestBody { stream: receiver, length, ahead: None, state: State::Data };
        Ok((request, Sender { stream: sender, finished: false }, body))
    }
}

/// Gives an extended CONNECT its protocol back, which the request knows by another name so far; None where it is malformed (RFC
/// 8441 section 4).
fn extend(request: &mut Request<()>) -> Option<()> {
    let mut given = request.headers().get_all(PROTOCOL).iter();
    let protocol = Protocol::from(given.next()?.to_str().ok()?);
    let target = request.uri();
    let whole = target.scheme().is_some() && target.path_and_query().is_some();
    if given.next().is_some() || request.method() != Method::CONNECT || !whole {
        return None;
    }
    request.headers_mut().remove(PROTOCOL);
    request.extensions_mut().insert(protocol);
    Some(())
}

impl Reply for Sender {
    async fn header(&mut self, head: Response<()>) -> Result<(), Gone> {
        self.stream.send_response(head).await.map_err(gone)
    }

    async fn data(&mut self, piece: Bytes) -> Result<(), Gone> {
        self.stream.send_data(piece).await.map_err(gone)
    }

    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        self.stream.send_trailers(trailers).await.map_err(gone)
    }

    async fn finish(&mut self) -> Result<(), Gone> {
        self.stream.finish().await.map_err(gone)?;
        self.finished = true;
        Ok(())
    }

    fn malformed(&mut self) {
        self.stream.stop_stream(Code::H3_MESSAGE_ERROR);
        self.finished = true;
    }
}

/// The receiving half of a request stream.
pub struct H3RequestBody {
    stream: RecvStream,
    /// What the client declared and has not sent yet.
    length: Option<u64>,
    /// Read ahead by [`H3RequestBody::is_absent`].
    ahead: Option<Result<Frame<Bytes>, Gone>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    Ended,
}

impl H3RequestBody {
    /// Whether the stream ends without a body. Waits for its first frame or its end, which HTTP/3 tells only then.
    pub async fn is_absent(&mut self) -> bool {
        match std::future::poll_fn(|cx| self.poll_frame(cx)).await {
            None => true,
            Some(frame) => {
                self.ahead = Some(frame);
                false
            }
        }
    }

    /// The next piece or the trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        if let Some(frame) = self.ahead.take() {
            return Poll::Ready(Some(frame));
        }
        if self.state == State::Data {
            match self.stream.poll_recv_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(mut piece))) => {
                    let piece = piece.copy_to_bytes(piece.remaining());
                    if let Some(left) = &mut self.length {
                        match left.checked_sub(piece.len() as u64) {
                            Some(rest) => *left = rest,
                            None => return self.fail(Gone("more data than Content-Length says".to_owned())),
                        }
                    }
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Poll::Ready(Ok(None)) => {
                    if self.length.is_some_and(|left| left > 0) {
                        return self.fail(Gone("less data than Content-Length says".to_owned()));
                    }
                    self.state = State::Trailers;
                }
                Poll::Ready(Err(error)) => return self.fail(gone(error)),
            }
        }
        if self.state == State::Trailers {
            match self.stream.poll_recv_trailers(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(trailers)) => {
                    self.state = State::Ended;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Poll::Ready(Err(error)) => return self.fail(gone(error)),
            }
        }
        Poll::Ready(None)
    }

    fn fail(&mut self, error: Gone) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        self.state = State::Ended;
        Poll::Ready(Some(Err(error)))
    }

    /// Exact where the client declared a length.
    pub fn size_hint(&self) -> SizeHint {
        match (self.length, &self.ahead) {
            (Some(left), None) => SizeHint::with_exact(left),
            (Some(left), Some(Ok(frame))) => {
                SizeHint::with_exact(left + frame.data_ref().map_or(0, |data| data.len() as u64))
            }
            _ => SizeHint::default(),
        }
    }

    /// Whether the client declared that there is no body.
    pub fn is_declared_empty(&self) -> bool {
        self.length == Some(0)
    }

    /// Whether the client declared a length.
    pub fn is_declared(&self) -> bool {
        self.length.is_some()
    }
}

fn gone(error: impl std::fmt::Display) -> Gone {
    Gone(error.to_string())
}
