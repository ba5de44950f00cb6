//! One request of HTTP/3: its header comes, the stages answer, the answer goes. What is sent of it is what the client has a window
//! for: one that takes nothing of it is given up (`pace`).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use http::{Method, StatusCode};
use http_body::Body as _;
use proxy_core::fields::Fields;
use proxy_core::http3::Code;

use super::receive::{H3RequestBody, Unusable};
use super::send::Sender;
use super::{Gone, tunnel};
use crate::http::body::{RequestBody, Source};
use crate::http::early;
use crate::http::head::RequestHead;
use crate::http::pace::{Patience, within};
use crate::http::reply::{Reply, ResponseBody};
use crate::stages;
use crate::stages::exchange::Exchange;
use crate::worker::connection::Connection;

/// Serves a request. Dropped before its end, the stream is reset.
pub(super) async fn serve(connection: Rc<Connection>, mut reply: Sender, mut body: H3RequestBody) -> Result<(), Gone> {
    let Some(head) = header(&connection, &mut reply, &mut body).await? else { return reply.finish() };
    reply.heed(&head.headers);
    let (source, kept) = if head.method == Method::CONNECT {
        // What the client sends is for the tunnel, if one comes of it.
        (Source::Empty, Some(Box::new(body)))
    } else {
        (source(&connection, &head.method, body).await?, None)
    };
    let (head, mut body) = answer(&connection, &mut reply, head, source).await?;
    if connection.is_cut() {
        return Err(Gone("cut by policy".to_owned()));
    }
    if body.is_malformed() {
        reply.reset(Code::MessageError);
        return Err(Gone("a malformed request".to_owned()));
    }
    reply.header(head.status, &head.headers);
    let patience = Patience::new(&connection);
    if let Some((tunnel, client)) = body.take_tunnel().zip(kept) {
        return Box::pin(tunnel::run(tunnel, reply, client)).await;
    }
    content(reply, body, patience).await
}

/// The request's header; none where it was answered 431.
async fn header(
    connection: &Connection,
    reply: &mut Sender,
    body: &mut H3RequestBody,
) -> Result<Option<RequestHead>, Gone> {
    let time = connection.worker.live().snapshot.config.timeouts.header.0;
    let Some(header) = within(connection, time, body.header()).await else {
        return Err(Gone("the request header did not come in time".to_owned()));
    };
    match header {
        Ok(head) => Ok(Some(head)),
        Err(Unusable::Gone(gone)) => Err(gone),
        Err(Unusable::TooLong) => {
            reply.header(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &Fields::new());
            reply.flush().await?;
            body.stop(Code::NoError);
            Ok(None)
        }
        Err(Unusable::Wrong(code, why)) => {
            body.stop(code);
            reply.reset(code);
            Err(Gone(why.to_owned()))
        }
    }
}

/// The body, or that there is none. Without a declared length only the stream's end tells; methods that rarely have a
/// body wait for it, so that the origin gets such a request without one.
async fn source(connection: &Connection, method: &Method, mut body: H3RequestBody) -> Result<Source, Gone> {
    let rarely = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
    if body.is_declared_empty() || (rarely && !body.is_declared()) {
        let time = connection.worker.live().snapshot.config.timeouts.body.0;
        match within(connection, time, body.is_absent()).await {
            None => return Err(Gone("the request did not end in time".to_owned())),
            Some(true) => return Ok(Source::Empty),
            Some(false) => {}
        }
    }
    Ok(Source::H3(Box::new(body)))
}

/// What the stages answer.
async fn answer(
    connection: &Rc<Connection>,
    reply: &mut Sender,
    head: RequestHead,
    source: Source,
) -> Result<Reply, Gone> {
    let live = connection.worker.live();
    let config = &live.snapshot.config;
    let body = RequestBody::new(source, config.limits.body.0, config.timeouts.body.0, &connection.worker.deadlines);
    let mut exchange = Exchange::new(Rc::clone(connection), head, body.progress());
    if !live.snapshot.early_hints {
        drop(live);
        return Ok(stages::run(exchange, body).await);
    }
    let (early, mut hints) = early::channel();
    exchange.early = Some(early);
    Box::pin(async {
        let mut response = pin!(stages::run(exchange, body));
        loop {
            tokio::select! {
                biased;
                Some(headers) = hints.recv() => {
                    reply.header(StatusCode::EARLY_HINTS, &headers);
                    Patience::new(connection).send(reply.flush()).await.ok_or_else(slow)??;
                }
                response = &mut response => return Ok(response),
            }
        }
    })
    .await
}

/// Sends an answer whose header waits, to its end.
async fn content(mut reply: Sender, mut body: ResponseBody, mut patience: Patience) -> Result<(), Gone> {
    let passed_over = reply.passed_over();
    loop {
        // The header waits for content that is there, and for no other.
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending if reply.waits() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let frame = match frame.await {
            Some(Some(frame)) => frame.map_err(|fault| Gone(fault.to_string()))?,
            over => {
                patience.send_behind(reply.flush(), &passed_over).await.ok_or_else(slow)??;
                match over {
                    Some(_) => return reply.finish(),
                    None => continue,
                }
            }
        };
        match frame.into_data() {
            Ok(data) => patience.send_behind(reply.data(data), &passed_over).await.ok_or_else(slow)??,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    patience.send_behind(reply.trailers(&trailers), &passed_over).await.ok_or_else(slow)??;
                }
            }
        }
    }
}

fn slow() -> Gone {
    Gone("the client took nothing of its answer".to_owned())
}
