//! One stream: its request goes in, the answer comes out, or the stream is reset. What is sent of an answer is what the client has
//! a window for: one that takes nothing of it is given up (`pace`).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode, request};
use http_body::Body as _;
use proxy_core::http2::priority::Urgency;

use super::body::StreamBody;
use super::tunnel::ClientEnd;
use super::turns::Turns;
use super::window;
use crate::http::body::{RequestBody, Source};
use crate::http::early;
use crate::http::pace::Patience;
use crate::http::reply::ResponseBody;
use crate::stages;
use crate::stages::exchange::Exchange;
use crate::worker::connection::Connection;

/// Serves a request. Dropped before its end, the stream is reset.
pub(super) async fn serve(
    connection: Rc<Connection>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    turns: Rc<Turns>,
    urgency: Urgency,
) {
    let (head, stream) = request.into_parts();
    let (source, kept) = if head.method == Method::CONNECT {
        (Source::Empty, Some(stream))
    } else {
        (StreamBody::of(&head, stream).map_or(Source::Empty, |body| Source::H2(Box::new(body))), None)
    };
    let Some(response) = answer(&connection, head, source, &mut respond).await else { return };
    if connection.is_cut() {
        return;
    }
    if response.body().is_malformed() {
        return respond.send_reset(Reason::PROTOCOL_ERROR);
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
    let mut sender = match respond.send_response(Response::from_parts(head, ()), ends) {
        Ok(sender) => sender,
        Err(error) => {
            tracing::debug!(%error, "an answer could not be sent");
            return respond.send_reset(Reason::INTERNAL_ERROR);
        }
    };
    if let Some((tunnel, stream)) = tunnel.zip(kept) {
        return Box::pin(tunnel.run(&mut ClientEnd::new(sender, stream))).await;
    }
    if !ends {
        let mut patience = Patience::new(&connection);
        content(&mut sender, body, &mut patience, &turns, urgency).await;
    }
}

/// What the stages answer; none where the client has reset its stream before.
async fn answer(
    connection: &Rc<Connection>,
    head: request::Parts,
    source: Source,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<ResponseBody>> {
    let live = connection.worker.live();
    let config = &live.snapshot.config;
    let body = RequestBody::new(source, config.limits.body.0, config.timeouts.body.0, &connection.worker.deadlines);
    let mut exchange = Exchange::new(Rc::clone(connection), head, body.progress());
    let mut hints = None;
    if live.snapshot.early_hints {
        let (early, receiver) = early::channel();
        exchange.early = Some(early);
        hints = Some(receiver);
    }
    drop(live);
    let mut running = pin!(stages::run(exchange, body));
    poll_fn(|cx| {
        let polled = running.as_mut().poll(cx);
        if let Some(hints) = &mut hints {
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
    })
    .await
}

/// Sends an answer's content, to its end or until the client wants no more of it.
async fn content(
    sender: &mut SendStream<Bytes>,
    mut body: ResponseBody,
    patience: &mut Patience,
    turns: &Turns,
    urgency: Urgency,
) {
    loop {
        let next = poll_fn(|cx| {
            if !turns.waits(urgency, cx)
                && let Poll::Ready(next) = Pin::new(&mut body).poll_frame(cx)
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
