//! One stream: its request goes in, the answer comes out, or the stream is reset. What is sent of an answer is what the client has
//! a window for: one that takes nothing of it is given up (`pace`).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;
use proxy_core::http2::priority::Urgency;
use tokio::sync::mpsc;

use super::body::StreamBody;
use super::tunnel::ClientEnd;
use super::turns::Turns;
use super::window;
use crate::http::body::{RequestBody, Source};
use crate::http::early;
use crate::http::pace::Patience;
use crate::http::reply::ResponseBody;
use crate::http::upgrade::Tunnel;
use crate::stages;
use crate::stages::exchange::Exchange;
use crate::worker::connection::Connection;

/// Serves a request. Dropped before its end, the stream is reset.
///
/// What it begins with is made at once, and what its parts do not need any more is gone before the next one: as many of these
/// lie side by side as streams are open.
pub(super) fn serve(
    connection: Rc<Connection>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    turns: Rc<Turns>,
    urgency: Urgency,
) -> impl Future<Output = ()> + 'static {
    let (head, stream) = request.into_parts();
    let (source, kept) = if head.method == Method::CONNECT {
        (Source::Empty, Some(stream))
    } else {
        (StreamBody::of(&head, stream).map_or(Source::Empty, |body| Source::H2(Box::new(body))), None)
    };
    let live = connection.worker.live();
    let config = &live.snapshot.config;
    let body = RequestBody::new(source, config.limits.body.0, config.timeouts.body.0, &connection.worker.deadlines);
    let mut exchange = Exchange::new(Rc::clone(&connection), head, body.progress());
    let mut hints = None;
    if live.snapshot.early_hints {
        let (early, receiver) = early::channel();
        exchange.early = Some(early);
        hints = Some(receiver);
    }
    drop(live);
    async move {
        let begun = {
            let mut running = pin!(stages::run(exchange, body));
            let answered = poll_fn(|cx| poll_answer(running.as_mut(), hints.as_mut(), &mut respond, cx)).await;
            answered.and_then(|response| begin(&connection, response, &mut respond))
        };
        match begun {
            None | Some(Begun::Ended) => {}
            Some(Begun::Tunnel(tunnel, sender)) => {
                if let Some(stream) = kept {
                    Box::pin(tunnel.run(&mut ClientEnd::new(sender, stream))).await;
                }
            }
            Some(Begun::Content(mut sending)) => {
                let mut patience = Patience::new(&connection);
                content(&mut sending, &mut patience, &turns, urgency).await;
            }
        }
    }
}

/// What the stages answer; none where the client has reset its stream before.
fn poll_answer(
    running: Pin<&mut impl Future<Output = Response<ResponseBody>>>,
    hints: Option<&mut mpsc::Receiver<HeaderMap>>,
    respond: &mut SendResponse<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Option<Response<ResponseBody>>> {
    let polled = running.poll(cx);
    if let Some(hints) = hints {
        while let Poll::Ready(Some(fields)) = hints.poll_recv(cx) {
            let mut hint = Response::new(());
            *hint.status_mut() = StatusCode::EARLY_HINTS;
            *hint.headers_mut() = fields;
            if let Err(error) = respond.send_informational(hint) {
                tracing::debug!(%error, "an early hint could not be sent");
            }
        }
    }
    match polled {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    }
}

/// An answer whose header was sent.
#[expect(clippy::large_enum_variant, reason = "most have content, and a stream has one of these")]
enum Begun {
    /// It has no content.
    Ended,
    /// Its content follows.
    Content(Sending),
    /// The stream goes on as this.
    Tunnel(Box<Tunnel>, SendStream<Bytes>),
}

/// Content on its way.
struct Sending {
    sender: SendStream<Bytes>,
    body: ResponseBody,
}

/// Sends an answer's header; none where the stream or its connection is over.
fn begin(
    connection: &Connection,
    response: Response<ResponseBody>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Begun> {
    if connection.is_cut() {
        return None;
    }
    if response.body().is_malformed() {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return None;
    }
    let (mut head, mut body) = response.into_parts();
    let tunnel = body.take_tunnel();
    let ends = tunnel.is_none() && body.is_end_stream();
    if tunnel.is_none()
        && !ends
        && let Some(length) = body.size_hint().exact()
    {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    let sender = match respond.send_response(Response::from_parts(head, ()), ends) {
        Ok(sender) => sender,
        Err(error) => {
            tracing::debug!(%error, "an answer could not be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
            return None;
        }
    };
    Some(match tunnel {
        Some(tunnel) => Begun::Tunnel(tunnel, sender),
        None if ends => Begun::Ended,
        None => Begun::Content(Sending { sender, body }),
    })
}

/// Sends an answer's content, to its end or until the client wants no more of it.
async fn content(sending: &mut Sending, patience: &mut Patience, turns: &Turns, urgency: Urgency) {
    let Sending { sender, body } = sending;
    loop {
        let next = poll_fn(|cx| {
            if !turns.waits(urgency, cx)
                && let Poll::Ready(next) = Pin::new(&mut *body).poll_frame(cx)
            {
                return Poll::Ready(Some(next));
            }
            sender.poll_reset(cx).map(|_| None)
        });
        let Some(next) = next.await else { return };
        let sent = match next {
            None => sender.send_data(Bytes::new(), true),
            Some(Err(_)) => return sender.send_reset(Reason::INTERNAL_ERROR),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    let piece = turns.piece(urgency);
                    let sent = patience.send(window::send(sender, data, last, || turns.hand())).await;
                    drop(piece);
                    match sent {
                        None => return sender.send_reset(Reason::CANCEL),
                        Some(Ok(())) if !last => continue,
                        Some(sent) => sent,
                    }
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => sender.send_trailers(trailers),
                    Err(_) => continue,
                },
            },
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the client took no more of its answer");
        }
        return;
    }
}
