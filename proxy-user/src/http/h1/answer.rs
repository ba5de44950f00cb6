//! A response on its way to a client of HTTP/1.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};
use http_body::Body as _;
use proxy_core::http1::{self, Ending, Persistence};

use super::wire::{MOST_COPIED, Wire};
use crate::http::head::ResponseHead;
use crate::http::reply::ResponseBody;

/// Room for the lines of a header that are not its fields.
const LINES_ROOM: usize = 96;
/// Room for a field.
const FIELD_ROOM: usize = 48;

/// The connection cannot go on: the client takes no more or left, or the response broke off.
pub(super) struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// What of the request matters for its response.
pub(super) struct Asked {
    pub(super) method: Method,
    /// The client speaks HTTP/1.0.
    pub(super) is_old: bool,
    /// It takes trailers.
    pub(super) trailers: bool,
}

/// How the response's end is told.
pub(super) fn ending(asked: &Asked, head: &ResponseHead, body: &ResponseBody) -> Ending {
    let status = head.status;
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return Ending::Never;
    }
    if asked.method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return Ending::Bare;
    }
    let said = || http1::decimal(head.headers.get(CONTENT_LENGTH)?.as_bytes());
    match body.size_hint().exact().or_else(said) {
        Some(length) => Ending::Length(length),
        None if asked.is_old => Ending::Close,
        None => Ending::Chunked,
    }
}

/// Writes the header where the first piece of the body can go behind it.
pub(super) fn begin(wire: &RefCell<Wire>, head: &ResponseHead, ending: Ending, persistence: Persistence) {
    let mut wire = wire.borrow_mut();
    wire.answer();
    let body = match ending {
        Ending::Length(length) => usize::try_from(length).ok().filter(|length| *length <= MOST_COPIED),
        _ => None,
    };
    wire.out.reserve(LINES_ROOM + head.headers.len() * FIELD_ROOM + body.unwrap_or(0));
    http1::encode_response(&mut wire.out, head.status, &head.headers, ending, persistence);
}

/// Sends what was begun, and the body behind it.
pub(super) async fn send(
    wire: &RefCell<Wire>,
    body: &mut ResponseBody,
    asked: &Asked,
    ending: Ending,
) -> Result<(), Broken> {
    let bare = matches!(ending, Ending::Bare | Ending::Never);
    let mut sending = Sending {
        piece: Bytes::new(),
        behind: b"",
        left: ending,
        trailers: asked.trailers,
        state: if bare { State::Whole } else { State::Open },
    };
    poll_fn(|cx| sending.poll(cx, wire, body)).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// More is to come.
    Open,
    /// Everything was taken.
    Whole,
    /// What was taken is sent, and then the connection ends: less was given than was announced, or more.
    Broken,
}

struct Sending {
    /// What is sent from where it is.
    piece: Bytes,
    /// What goes behind it.
    behind: &'static [u8],
    /// How much is to follow.
    left: Ending,
    trailers: bool,
    state: State,
}

impl Sending {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wire: &RefCell<Wire>,
        body: &mut ResponseBody,
    ) -> Poll<Result<(), Broken>> {
        loop {
            // The header goes with the first piece, and alone only where that is to be waited for.
            let mut waits = false;
            if self.state == State::Open && self.piece.is_empty() && self.behind.is_empty() {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => waits = true,
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => self.data(&mut wire.borrow_mut().out, data, body.is_end_stream()),
                        Err(frame) => self.end(&mut wire.borrow_mut().out, frame.into_trailers().ok().as_ref()),
                    },
                    Poll::Ready(Some(Err(_))) => self.state = State::Broken,
                    Poll::Ready(None) => self.end(&mut wire.borrow_mut().out, None),
                }
            }
            let wire = &mut *wire.borrow_mut();
            ready!(wire.poll_send(cx, &mut self.piece, &mut self.behind))?;
            if waits || self.state != State::Open {
                ready!(wire.poll_flush(cx))?;
            }
            match self.state {
                State::Whole => return Poll::Ready(Ok(())),
                State::Broken => return Poll::Ready(Err(Broken)),
                State::Open if waits => {
                    ready!(wire.poll_gone(cx));
                    return Poll::Ready(Err(Broken));
                }
                State::Open => {}
            }
        }
    }

    /// Takes a piece of the body, with its framing.
    fn data(&mut self, out: &mut Vec<u8>, data: Bytes, is_last: bool) {
        match &mut self.left {
            Ending::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(less) => *left = less,
                None => return self.state = State::Broken,
            },
            Ending::Chunked if !data.is_empty() => {
                http1::chunk_size(out, data.len());
                // The end goes along.
                self.behind = if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                self.piece = data;
                if is_last {
                    self.state = State::Whole;
                }
                return;
            }
            Ending::Bare | Ending::Never | Ending::Chunked | Ending::Close => {}
        }
        self.piece = data;
        if is_last {
            self.end(out, None);
        }
    }

    /// Takes the end of the body.
    fn end(&mut self, out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
        self.state = match self.left {
            Ending::Length(left) if left > 0 => State::Broken,
            Ending::Chunked => {
                http1::encode_trailers(out, trailers.filter(|_| self.trailers));
                State::Whole
            }
            _ => State::Whole,
        };
    }
}
