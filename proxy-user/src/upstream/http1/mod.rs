//! An HTTP/1.1 connection to a server, driven by the task of the request that has it: nothing between them to hand messages over
//! or to wake. What the bytes mean is [`proxy_core::http1`]'s.

mod answer;
mod pump;
pub(super) mod stream;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use http_body::Body as _;
use proxy_core::http1::{self, Body, Head, Last};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};

use self::stream::Io;
use super::{CLOSED, Outgoing, Unanswered};
use crate::http::body::RequestBody;
use crate::http::early::Early;
use crate::http::fault::{Fault, Kind};
use crate::http::head::ResponseHead;

pub use answer::AnswerBody;

/// Room for a response's header, and for a small response whole.
const HEAD_ROOM: usize = 8 << 10;
/// Room that is left at least before more is made.
const LEAST_ROOM: usize = 2 << 10;
/// A body is read in pieces of up to so many bytes.
const MOST_ROOM: usize = 256 << 10;
/// Room for a response of which is known only that the one before it was large.
const MOST_FIRST: usize = 128 << 10;
/// A first piece of a request's body that goes with the header.
const MOST_COPIED: usize = 16 << 10;
/// Interim responses before the final one.
const MAX_INTERIM: u32 = 32;

/// A connection of one request at a time.
pub struct Connection(Rc<RefCell<Wire>>);

/// Its two directions, which the request's task shares with the one that sends a long body.
struct Wire {
    io: Io,
    /// What has come and was not read yet.
    came: BytesMut,
    /// What is to be sent, and how much of it is gone.
    out: Vec<u8>,
    gone: usize,
    /// The last response was read to its end, and the origin keeps the connection.
    keeps: bool,
    /// A request's body is on its way.
    sending: bool,
    /// A request's body broke off, so that the origin would wait for the rest for ever: why.
    cut: Option<Fault>,
    /// Who waits for a response while a body is sent.
    reader: Option<Waker>,
    /// The fields of its last response.
    last: Last,
    /// Bytes that came since the last request.
    size: usize,
    /// Room for the beginning of the next response: what the last one took, as one like it may come again and is then read, and
    /// sent on, at once.
    first: usize,
}

/// How far a response's header has come.
#[derive(Default)]
struct Awaited {
    /// Interim responses before it.
    interim: u32,
    /// Bytes that were not yet a header; until more come there is nothing new to look at.
    looked_at: usize,
}

impl Connection {
    /// Takes a stream over.
    pub(super) fn new(io: Io) -> Self {
        Self(Rc::new(RefCell::new(Wire {
            io,
            came: BytesMut::new(),
            out: Vec::new(),
            gone: 0,
            keeps: true,
            sending: false,
            cut: None,
            reader: None,
            last: Last::default(),
            size: 0,
            first: HEAD_ROOM,
        })))
    }

    /// Whether another request may go over it: the last one was sent whole, its response read to the end, and nothing came behind.
    pub(super) fn is_reusable(&self) -> bool {
        let wire = self.0.borrow();
        wire.keeps && !wire.sending && wire.cut.is_none() && wire.came.is_empty()
    }

    /// Whether the origin has left it open and has sent nothing unasked. Costs no system call unless something came.
    pub(super) fn is_open(&self) -> bool {
        let wire = &mut *self.0.borrow_mut();
        // Session tickets of TLS 1.3 come after the handshake, and are no answer: they are read here.
        let mut unasked = [0];
        let read =
            Pin::new(&mut wire.io).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut unasked));
        read.is_pending()
    }

    /// The stream after a 101, with what came behind it; none while a response's body holds the connection.
    pub(super) fn into_stream(self) -> Option<(Box<dyn super::tunnel::Stream>, Bytes)> {
        let wire = Rc::try_unwrap(self.0).ok()?.into_inner();
        Some((Box::new(wire.io), wire.came.freeze()))
    }

    /// Sends a request and waits for the header of its response. A body that does not go with the header is sent by a task.
    pub(super) async fn send(
        &self,
        Outgoing { method, target, fields, early, patience }: Outgoing<'_>,
        mut body: RequestBody,
    ) -> Result<(ResponseHead, AnswerBody), Unanswered> {
        let target = target.map_or("/", PathAndQuery::as_str);
        let framing = if body.is_end_stream() {
            Body::None
        } else {
            let known = body.size_hint().exact();
            let framing = http1::body_of(fields, known);
            framing.map_err(|_| Unanswered::broken(Fault::bad_request("the request body is not valid")))?
        };
        self.0.borrow_mut().begin(|out| http1::encode(out, method, target, fields, framing));
        // What is there of the body already goes with the header.
        let mut ahead = None;
        let mut left = pump::Left::new(framing);
        if framing != Body::None
            && !body.is_filtered()
            && let Some(Some(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never()
        {
            match frame {
                Ok(frame) if frame.data_ref().is_some_and(|data| data.len() <= MOST_COPIED) => {
                    if let Some(data) = frame.data_ref() {
                        left.data(&mut self.0.borrow_mut().out, data);
                    }
                    ahead = Some(frame);
                }
                Ok(frame) => body.put_back(Some(frame)),
                // Told by the body's progress.
                Err(fault) => return Err(Unanswered::broken(fault)),
            }
        }
        let whole = body.is_end_stream() && left.end(&mut self.0.borrow_mut().out);
        if let Err(error) = poll_fn(|cx| self.0.borrow_mut().poll_send(cx)).await {
            tracing::debug!(%error, "origin connection");
            let wire = self.0.borrow();
            if wire.gone > 0 {
                return Err(Unanswered::broken(CLOSED));
            }
            // A body that failed meanwhile has told so.
            body.put_back(ahead);
            return Err(Unanswered { unsent: Some(body), refused: false, fault: CLOSED });
        }
        let pump = (!whole).then(|| pump::start(&self.0, body, left, patience));
        let mut awaited = Awaited::default();
        let head = poll_fn(|cx| self.0.borrow_mut().poll_answer(cx, method, early, &mut awaited)).await;
        let head = head.map_err(Unanswered::broken)?;
        let body = AnswerBody::new(Rc::clone(&self.0), &head, pump);
        Ok((ResponseHead { status: head.status, headers: head.fields }, body))
    }
}

impl Wire {
    /// Begins a request.
    fn begin(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.clear();
        self.gone = 0;
        self.keeps = false;
        self.io.begin();
        self.first = std::mem::take(&mut self.size).saturating_add(1).clamp(HEAD_ROOM, MOST_FIRST);
        write(&mut self.out);
    }

    /// Sends what is to be sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.gone..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gone += count;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Reads more, with room for about as much as is expected; 0 is the end. With more room than there is to come the runtime
    /// knows without another system call that nothing is left.
    fn poll_fill(&mut self, cx: &mut Context<'_>, expected: usize) -> Poll<io::Result<usize>> {
        if self.cut.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let polled = match self.poll_room(cx, expected.min(MOST_ROOM)) {
            Poll::Ready(()) => pin!(self.io.read_buf(&mut self.came)).poll(cx),
            Poll::Pending => Poll::Pending,
        };
        if let Poll::Ready(Ok(count)) = polled {
            self.size = self.size.saturating_add(count);
        }
        if self.sending && polled.is_pending() {
            self.reader = Some(cx.waker().clone());
        }
        polled
    }

    /// Room for about as much as is expected, made when there is something to be put into it: requests that wait for their origin
    /// hold none, and what one has just left is still in the processor's cache for the next.
    fn poll_room(&mut self, cx: &mut Context<'_>, expected: usize) -> Poll<()> {
        if self.came.capacity() - self.came.len() < LEAST_ROOM.min(expected).max(expected / 2) {
            ready!(self.io.poll_readable(cx));
            self.came.reserve(expected.max(HEAD_ROOM));
        }
        Poll::Ready(())
    }

    /// The final response's header.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Method,
        early: Option<&Early>,
        awaited: &mut Awaited,
    ) -> Poll<Result<Head, Fault>> {
        loop {
            if self.came.len() > awaited.looked_at {
                match http1::parse(&mut self.came, asked, &mut self.last) {
                    Ok(Some(head))
                        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS =>
                    {
                        if let Some(early) = early {
                            early.hint(head.status, &head.fields);
                        }
                        *awaited = Awaited { interim: awaited.interim + 1, looked_at: 0 };
                        if awaited.interim > MAX_INTERIM {
                            return Poll::Ready(Err(Fault::upstream(
                                Kind::Protocol,
                                "the origin sends interim responses without end",
                            )));
                        }
                        continue;
                    }
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => awaited.looked_at = self.came.len(),
                    Err(wrong) => return Poll::Ready(Err(Fault::upstream(Kind::Protocol, wrong.detail()))),
                }
            }
            match ready!(self.poll_fill(cx, self.first)) {
                Ok(0) => return Poll::Ready(Err(CLOSED)),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "origin connection");
                    return Poll::Ready(Err(self.cut.unwrap_or(CLOSED)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
