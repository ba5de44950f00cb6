//! One stream: its request goes in, the answer comes out, or the stream is reset. What is sent of an answer is what the client has
//! a window for: one that takes nothing of it is given up (`pace`).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use http_body::Body as _;
use proxy_core::fields::Fields;
use proxy_core::http2::Code;
use tokio::sync::mpsc;

use super::body::StreamBody;
use super::state::{Over, Stream};
use super::tunnel::ClientEnd;
use crate::http::body::{RequestBody, Source};
use crate::http::early;
use crate::http::head::RequestHead;
use crate::http::pace::Patience;
use crate::http::reply::{Reply, ResponseBody};
use crate::http::upgrade::Tunnel;
use crate::stages;
use crate::stages::exchange::Exchange;

/// An answer that is to come. Dropped before its end, the stream is reset.
struct Answer(Rc<Stream>);

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.0.is_said() {
            self.0.reset(Code::Cancel);
        }
    }
}

/// Serves a request.
///
/// What it begins with is made at once, and what its parts do not need any more is gone before the next one: as many of these
/// lie side by side as streams are open.
pub(super) fn serve(head: RequestHead, stream: Rc<Stream>) -> impl Future<Output = ()> + 'static {
    let connection = Rc::clone(&stream.session().client);
    let is_connect = head.method == Method::CONNECT;
    let source = if is_connect {
        // What the client sends is for the tunnel, if one comes of it.
        Source::Empty
    } else {
        StreamBody::of(&stream).map_or(Source::Empty, |body| Source::H2(Box::new(body)))
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
    let answer = Answer(stream);
    async move {
        let stream = &answer.0;
        let begun = {
            let mut running = pin!(stages::run(exchange, body));
            let answered = poll_fn(|cx| poll_answer(running.as_mut(), hints.as_mut(), stream, cx)).await;
            answered.and_then(|response| begin(stream, response))
        };
        match begun {
            None | Some(Begun::Ended) => {}
            Some(Begun::Tunnel(tunnel)) => Box::pin(tunnel.run(&mut ClientEnd::new(Rc::clone(stream)))).await,
            Some(Begun::Content(mut body)) => {
                let mut patience = Patience::new(&stream.session().client);
                if let Err(Over(code)) = content(stream, &mut body, &mut patience).await {
                    tracing::debug!(code, "the client took no more of its answer");
                }
            }
        }
        if is_connect {
            stream.unwant();
        }
    }
}

/// What the stages answer; none where the client has reset its stream before.
fn poll_answer(
    running: Pin<&mut impl Future<Output = Reply>>,
    hints: Option<&mut mpsc::Receiver<Fields>>,
    stream: &Stream,
    cx: &mut Context<'_>,
) -> Poll<Option<Reply>> {
    let polled = running.poll(cx);
    if let Some(hints) = hints {
        while let Poll::Ready(Some(fields)) = hints.poll_recv(cx) {
            if stream.header(StatusCode::EARLY_HINTS, &fields, false).is_err() {
                tracing::debug!("an early hint could not be sent");
            }
        }
    }
    match polled {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => stream.poll_over(cx).map(|_| None),
    }
}

/// An answer whose header was sent.
enum Begun {
    /// It has no content.
    Ended,
    /// Its content follows.
    Content(ResponseBody),
    /// The stream goes on as this.
    Tunnel(Box<Tunnel>),
}

/// Sends an answer's header; none where the stream or its connection is over.
fn begin(stream: &Stream, (mut head, mut body): Reply) -> Option<Begun> {
    if stream.session().client.is_cut() {
        return None;
    }
    if body.is_malformed() {
        stream.reset(Code::ProtocolError);
        return None;
    }
    let tunnel = body.take_tunnel();
    let ends = tunnel.is_none() && body.is_end_stream();
    if tunnel.is_none()
        && !ends
        && let Some(length) = body.size_hint().exact()
    {
        head.headers.insert_missing(CONTENT_LENGTH, || length.into());
    }
    stream.header(head.status, &head.headers, ends).ok()?;
    Some(match tunnel {
        Some(tunnel) => Begun::Tunnel(tunnel),
        None if ends => Begun::Ended,
        None => Begun::Content(body),
    })
}

/// Sends an answer's content, to its end or until the client wants no more of it.
async fn content(stream: &Stream, body: &mut ResponseBody, patience: &mut Patience) -> Result<(), Over> {
    let turns = &stream.session().turns;
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = Pin::new(&mut *body).poll_frame(cx) {
                return Poll::Ready(Ok(next));
            }
            stream.poll_over(cx).map(Err)
        });
        let Some(next) = next.await? else {
            return poll_fn(|cx| stream.poll_data(cx, &mut bytes::Bytes::new(), true)).await;
        };
        let Ok(frame) = next else {
            stream.reset(Code::InternalError);
            return Ok(());
        };
        match frame.into_data() {
            Ok(mut data) => {
                let last = body.is_end_stream();
                let piece = turns.piece(stream.urgency());
                let sending = poll_fn(|cx| stream.poll_data(cx, &mut data, last));
                let sent = patience.send_behind(sending, || stream.passed_over()).await;
                drop(piece);
                match sent {
                    None => {
                        stream.reset(Code::Cancel);
                        return Ok(());
                    }
                    Some(sent) => sent?,
                }
                if last {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return stream.trailers(&trailers);
                }
            }
        }
    }
}
