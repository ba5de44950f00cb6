//! The receiving half of a request stream: its header, then its body as the stages read it, as it comes.

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Frame, SizeHint};
use proxy_core::abuse::Kind;
use proxy_core::fields::Refused;
use proxy_core::http3::frames::{Frames, Part};
use proxy_core::http3::{Code, qpack};

use super::{Gone, Shared, said};
use crate::http::head::RequestHead;
use crate::http::request;

/// The receiving half of a request stream.
pub struct H3RequestBody {
    stream: quinn::RecvStream,
    shared: Rc<Shared>,
    frames: Frames,
    /// Came, and was not looked at.
    bytes: Bytes,
    /// What the client declared and has not sent yet.
    length: Option<u64>,
    /// Read ahead by [`H3RequestBody::is_absent`].
    ahead: Option<Result<Frame<Bytes>, Gone>>,
    ended: bool,
}

/// What becomes of a header that cannot be used.
pub(super) enum Unusable {
    /// It is over.
    Gone(Gone),
    /// It is answered 431.
    TooLong,
    /// Its stream is reset with this.
    Wrong(Code, &'static str),
}

impl H3RequestBody {
    /// A stream of which nothing was read.
    pub(super) fn new(stream: quinn::RecvStream, shared: &Rc<Shared>) -> Self {
        Self {
            stream,
            frames: Frames::new(shared.bound()),
            shared: Rc::clone(shared),
            bytes: Bytes::new(),
            length: None,
            ahead: None,
            ended: false,
        }
    }

    /// The request's header, which comes first.
    pub(super) async fn header(&mut self) -> Result<RequestHead, Unusable> {
        let part = std::future::poll_fn(|cx| self.poll_part(cx)).await.map_err(Unusable::Gone)?;
        let Some(Part::Header(block)) = part else {
            return Err(Unusable::Wrong(Code::RequestIncomplete, "it ended before its header"));
        };
        let head = qpack::header(&block, self.shared.fields).map_err(|refused| match refused {
            Refused::Unreadable | Refused::Bomb => Unusable::Gone(self.shared.refuse(qpack::code(refused))),
            Refused::TooLong => {
                self.shared.client.abused(Kind::LargeHeader);
                Unusable::TooLong
            }
            Refused::Malformed(why) => {
                self.shared.client.abused(Kind::Malformed);
                Unusable::Wrong(qpack::code(refused), why)
            }
        })?;
        let Some((parts, length)) = request::parts(head, Version::HTTP_3) else {
            return Err(Unusable::Wrong(Code::MessageError, "its protocol is none"));
        };
        self.length = length;
        Ok(parts)
    }

    /// The stream's next part; None at its end.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Part>, Gone>> {
        loop {
            match self.frames.take(&mut self.bytes) {
                Ok(None) => {}
                Ok(part) => return Poll::Ready(Ok(part)),
                Err(refused) => return Poll::Ready(Err(self.shared.refuse(refused.code()))),
            }
            match pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(chunk))) => self.bytes = chunk.bytes,
                Poll::Ready(Ok(None)) if self.frames.may_end() => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(self.shared.refuse(Code::FrameError))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Gone::of(error))),
            }
        }
    }

    /// Whether the stream ends without a body. Waits for its first frame or its end, which HTTP/3 tells only then.
    pub(super) async fn is_absent(&mut self) -> bool {
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
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(part) = self.poll_part(cx) else { return Poll::Pending };
        let frame = part.and_then(|part| self.frame(part));
        self.ended = !matches!(&frame, Ok(Some(frame)) if frame.is_data());
        Poll::Ready(frame.transpose())
    }

    fn frame(&mut self, part: Option<Part>) -> Result<Option<Frame<Bytes>>, Gone> {
        match part {
            Some(Part::Data(piece)) => {
                if let Some(left) = &mut self.length {
                    let rest = left.checked_sub(piece.len() as u64);
                    *left = rest.ok_or_else(|| Gone("more data than Content-Length says".to_owned()))?;
                }
                Ok(Some(Frame::data(piece)))
            }
            _ if self.length.is_some_and(|left| left > 0) => Err(Gone("less data than Content-Length says".to_owned())),
            Some(Part::Header(block) | Part::Trailers(block)) => self.trailers(&block).map(Frame::trailers).map(Some),
            None => Ok(None),
        }
    }

    fn trailers(&mut self, block: &Bytes) -> Result<HeaderMap, Gone> {
        qpack::trailers(block, self.shared.fields).map_err(|refused| {
            if refused == Refused::Unreadable {
                return self.shared.refuse(qpack::code(refused));
            }
            // That it is gone already is as well.
            let _ = self.stream.stop(said(qpack::code(refused)));
            Gone(format!("its trailers cannot be used: {refused:?}"))
        })
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
    pub(super) fn is_declared_empty(&self) -> bool {
        self.length == Some(0)
    }

    /// Whether the client declared a length.
    pub(super) fn is_declared(&self) -> bool {
        self.length.is_some()
    }

    /// The number of its stream.
    pub(super) fn id(&self) -> quinn::StreamId {
        self.stream.id()
    }

    /// Nothing more of the stream is wanted.
    pub(super) fn stop(&mut self, code: Code) {
        // That it is gone already is as well.
        let _ = self.stream.stop(said(code));
    }
}
