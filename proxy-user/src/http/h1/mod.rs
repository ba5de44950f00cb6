//! HTTP/1 over a client's connection, TCP or TLS (RFC 9112): one request after the other, each with its answer before the next one is
//! read. What the bytes mean is [`proxy_core::http1`]'s, what happens to a request is `stages`'; this keeps the connection.

mod answer;
pub mod body;
mod stream;
pub mod wire;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Version};
use proxy_core::abuse::Kind;
use proxy_core::fields::Fields;
use proxy_core::http1::{self, Bounds, Ending, Persistence, Reader, Refused};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::answer::Asked;
use self::body::H1RequestBody;
pub use self::stream::Io;
use self::wire::Wire;
use super::body::{RequestBody, Source};
use super::date;
use super::early::Early;
use super::upgrade::Tunnel;
use crate::http::head::{RequestHead, ResponseHead};
use crate::stages;
use crate::stages::exchange::Exchange;
use crate::worker::connection::{Connection, Order};

/// What is left of a body that nobody wanted is read up to here, so that the connection can go on.
const MOST_DISCARDED: usize = 256 << 10;
/// After the last answer what still comes is thrown away for so long: closing with bytes unread would reset the connection, and
/// the client might never see its answer (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// So many bytes at most.
const MOST_LINGERED: usize = 4 << 20;

/// How a connection's requests come to an end.
enum End {
    /// Nothing is left to be said; the client may still be sending.
    Said {
        /// Something may be on its way.
        unread: bool,
    },
    /// It is of no more use.
    Gone,
    /// It goes on as something else.
    Tunnel(Box<Tunnel>),
}

/// What comes behind a request.
enum Next {
    /// Another one.
    Request,
    /// Nothing.
    End(End),
}

/// A connection that is served.
struct Session {
    connection: Rc<Connection>,
    wire: Rc<RefCell<Wire>>,
    /// Told to finish: nothing new is taken.
    finishing: Cell<bool>,
}

/// Serves a connection until it ends.
pub async fn serve(connection: Rc<Connection>, io: Io) {
    let wire = Rc::new(RefCell::new(Wire::new(io, Rc::clone(&connection))));
    let session = Session { connection, wire, finishing: Cell::new(false) };
    let end = {
        let mut requests = pin!(session.requests());
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(end) = requests.as_mut().poll(cx) {
                    return Poll::Ready(end);
                }
                match session.connection.poll_order(cx) {
                    Order::None => return Poll::Pending,
                    Order::Finish => session.finishing.set(true),
                    Order::Close => return Poll::Ready(End::Gone),
                }
            }
        })
        .await
    };
    match end {
        End::Said { unread } => session.close(unread).await,
        End::Tunnel(tunnel) => Box::pin(tunnel.run(&mut Beyond(session.wire))).await,
        End::Gone => {}
    }
}

impl Session {
    async fn requests(&self) -> End {
        let bounds = {
            let live = self.connection.worker.live();
            let limits = &live.snapshot.config.limits;
            Bounds { bytes: limits.header_bytes.0 as usize, fields: limits.headers as usize }
        };
        let mut reader = Reader::default();
        loop {
            let asked = match poll_fn(|cx| self.poll_head(cx, &mut reader, bounds)).await {
                Ok(Some(asked)) => asked,
                Ok(None) => return End::Said { unread: false },
                Err(None) => return End::Gone,
                Err(Some(refused)) => return self.refuse(refused).await,
            };
            // In a place of its own, which an idle connection does not hold.
            if let Next::End(end) = Box::pin(self.request(asked)).await {
                return end;
            }
        }
    }

    /// The next request's header; none where nothing more comes, or nothing more is taken.
    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        reader: &mut Reader,
        bounds: Bounds,
    ) -> Poll<Result<Option<http1::Asked>, Option<Refused>>> {
        let wire = &mut *self.wire.borrow_mut();
        let mut came = wire.came.len();
        loop {
            if came > 0 {
                let read = reader.next(&mut wire.came, bounds);
                let begun = matches!(read, Ok(None)) && !wire.came.is_empty();
                self.connection.header_block(begun);
                match read {
                    Ok(None) => {}
                    Ok(asked) => return Poll::Ready(Ok(asked)),
                    Err(refused) => return Poll::Ready(Err(Some(refused))),
                }
            }
            if self.finishing.get() && wire.came.is_empty() {
                return Poll::Ready(Ok(None));
            }
            came = match ready!(wire.poll_first(cx)) {
                Ok(0) if wire.came.is_empty() => return Poll::Ready(Ok(None)),
                Ok(0) | Err(_) => return Poll::Ready(Err(None)),
                Ok(count) => count,
            };
        }
    }

    /// One request.
    async fn request(&self, asked: http1::Asked) -> Next {
        let http1::Asked { method, target, version, fields, body, keeps, expects, trailers, fault } = asked;
        let connection = &self.connection;
        let worker = &connection.worker;
        let is_old = version == Version::HTTP_10;
        let turn = self.wire.borrow_mut().begin(body, expects);
        let about = Asked { method: method.clone(), is_old, trailers };
        let response = {
            let live = worker.live();
            let config = &live.snapshot.config;
            let source = match body {
                http1::Body::None | http1::Body::Length(0) => Source::Empty,
                _ => Source::Http1(H1RequestBody::new(&self.wire, turn)),
            };
            let body = RequestBody::new(source, config.limits.body.0, config.timeouts.body.0, &worker.deadlines);
            let head = RequestHead { method, uri: target, version, headers: fields, protocol: None };
            connection.doubt.set(fault);
            let mut exchange = Exchange::new(Rc::clone(connection), head, body.progress());
            // HTTP/1.0 has no interim answers (RFC 9110 section 15.2).
            if !is_old && live.snapshot.early_hints {
                exchange.early = Some(Early::Http1(Rc::clone(&self.wire)));
            }
            drop(live);
            let mut answer = pin!(stages::run(exchange, body));
            let answered = poll_fn(|cx| {
                if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                    return Poll::Ready(Some(response));
                }
                let wire = &mut *self.wire.borrow_mut();
                // Interim answers; whether they go through shows when the final one does.
                let _ = wire.poll_own(cx);
                wire.poll_gone(cx).map(|()| None)
            });
            match answered.await {
                Some(response) => response,
                None => return Next::End(End::Gone),
            }
        };
        if connection.is_cut() {
            return Next::End(End::Gone);
        }
        let (head, mut body) = response;
        if let Some(tunnel) = body.take_tunnel() {
            return Next::End(self.change(&head, tunnel).await);
        }
        let ending = answer::ending(&about, &head, &body);
        // Who still waits for a 100 may send its body or not.
        let keeps = keeps && !self.finishing.get() && ending != Ending::Close && !self.wire.borrow().expects;
        let persistence = match (keeps, is_old) {
            (false, _) => Persistence::Close,
            (true, true) => Persistence::KeepAlive,
            (true, false) => Persistence::Implied,
        };
        answer::begin(&self.wire, &head, ending, persistence);
        let sent = answer::send(&self.wire, &mut body, &about, ending).await;
        // The request ends with it.
        drop(body);
        if sent.is_err() {
            // No orderly end: TLS tells the client by that that it is not whole.
            return Next::End(End::Gone);
        }
        if keeps && self.discard().await {
            self.wire.borrow_mut().release();
            return Next::Request;
        }
        // Where a body ends that cannot be trusted nobody knows.
        let unread = fault.is_some() || self.wire.borrow().is_unread();
        Next::End(End::Said { unread })
    }

    /// Tells the client that the connection goes on as something else.
    async fn change(&self, head: &ResponseHead, tunnel: Box<Tunnel>) -> End {
        answer::begin(&self.wire, head, Ending::Never, Persistence::Changed);
        match self.send_own().await {
            Ok(()) => End::Tunnel(tunnel),
            Err(_) => End::Gone,
        }
    }

    /// Sends what was begun and has no body of its own.
    async fn send_own(&self) -> io::Result<()> {
        poll_fn(|cx| self.wire.borrow_mut().poll_own(cx)).await
    }

    /// Reads what is left of the request's body, if that is little; whether it came to its end.
    async fn discard(&self) -> bool {
        let mut left = MOST_DISCARDED;
        poll_fn(|cx| {
            let wire = &mut *self.wire.borrow_mut();
            while !wire.rest.is_ended() {
                if wire.rest.exact().is_some_and(|rest| rest > left as u64) {
                    return Poll::Ready(false);
                }
                let Ok(piece) = ready!(wire.poll_body(cx)) else { return Poll::Ready(false) };
                if let http1::Piece::Data(data) = piece {
                    let Some(less) = left.checked_sub(data.len()) else { return Poll::Ready(false) };
                    left = less;
                }
            }
            Poll::Ready(true)
        })
        .await
    }

    /// Answers what is no request.
    async fn refuse(&self, refused: Refused) -> End {
        let (status, kind) = match refused {
            Refused::Malformed => (StatusCode::BAD_REQUEST, Kind::Malformed),
            Refused::Long => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Kind::LargeHeader),
            Refused::LongTarget => (StatusCode::URI_TOO_LONG, Kind::LargeHeader),
        };
        let connection = &self.connection;
        connection.abused(kind);
        if connection.is_cut() {
            return End::Gone;
        }
        let reason = status.canonical_reason().unwrap_or_default();
        let text = format!("{} {reason}\n{}\n", status.as_u16(), refused.detail());
        let mut head = ResponseHead { status, headers: Fields::new() };
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        date::stamp(&mut head.headers);
        answer::begin(&self.wire, &head, Ending::Length(text.len() as u64), Persistence::Close);
        self.wire.borrow_mut().out.extend_from_slice(text.as_bytes());
        match self.send_own().await {
            Ok(()) => End::Said { unread: true },
            Err(_) => End::Gone,
        }
    }

    /// Ends the connection so that the client gets all that was sent.
    async fn close(&self, unread: bool) {
        let mut left = MOST_LINGERED;
        let mut told = false;
        let end = poll_fn(|cx| {
            let wire = &mut *self.wire.borrow_mut();
            if !told {
                // The client may have left already.
                let _ = ready!(wire.poll_shutdown(cx));
                told = true;
            }
            while unread && !self.connection.is_cut() {
                match ready!(wire.poll_discard(cx)) {
                    Ok(count) if count > 0 && count < left => left -= count,
                    Ok(_) | Err(_) => break,
                }
            }
            Poll::Ready(())
        });
        // Whoever takes or sends for longer is cut off.
        let _ = tokio::time::timeout(LINGER, end).await;
    }
}

/// A connection that goes on as another protocol: what came behind the request is read first.
struct Beyond(Rc<RefCell<Wire>>);

impl AsyncRead for Beyond {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_beyond(cx, buf)
    }
}

impl AsyncWrite for Beyond {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shutdown(cx)
    }
}
