//! The response body: from the origin, or Tidegate's own; one type for HTTP/1, 2 and 3. It carries the request's
//! [`Journey`], so that the log is written when the last byte has gone, and gives the origin's connection back.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::fault::{Fault, Kind};
use crate::http::head::ResponseHead;
use crate::http::pace::PIECE;
use crate::http::upgrade::Tunnel;
use crate::stages::exchange::Journey;
use crate::stages::files::body::FileBody;
use crate::stages::filter::{Filters, Polled};
use crate::stats::HttpVersion;
use crate::upstream::OriginBody;
use crate::upstream::lease::Lease;
use crate::upstream::tunnel::OriginStream;

/// A response as it goes to its client.
pub type Reply = (ResponseHead, ResponseBody);

/// What is sent.
pub enum Payload {
    /// Nothing (more).
    Empty,
    /// A text of Tidegate's own.
    Full(Bytes),
    /// A file, or parts of it.
    File(Box<FileBody>),
    /// The origin's body and the connection that it comes on. A pointer: an answer passes through many hands.
    Origin(Box<(OriginBody, Lease)>),
    /// No body: the connection goes on as a tunnel.
    Tunnel(Box<OriginStream>),
}

/// A response body on its way to the client.
pub struct ResponseBody {
    payload: Payload,
    filters: Filters,
    /// What is left of a piece that is too large for one.
    rest: Bytes,
    /// None where the request goes on without this body.
    journey: Option<Journey>,
    /// What the connection or the stream goes on as.
    tunnel: Option<Box<Tunnel>>,
}

impl ResponseBody {
    /// A body that passes `filters` and ends `journey`.
    pub fn new(payload: Payload, filters: Filters, journey: Journey) -> Self {
        let mut body = Self { payload, filters, rest: Bytes::new(), journey: Some(journey), tunnel: None };
        body.settle();
        body
    }

    /// No body: the connection of HTTP/1, or the stream, goes on as this.
    pub fn tunnel(tunnel: Box<Tunnel>) -> Self {
        let (payload, filters) = (Payload::Empty, Filters::default());
        Self { payload, filters, rest: Bytes::new(), journey: None, tunnel: Some(tunnel) }
    }

    /// What it goes on as, if it does.
    pub fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }

    /// Whether the request was malformed, which in HTTP/2 and 3 is an error of its stream.
    pub fn is_malformed(&self) -> bool {
        let fault = self.journey.as_ref().and_then(|journey| journey.exchange.fault.get());
        fault.is_some_and(|fault| fault.kind == Kind::Malformed)
    }

    /// Gives the origin's connection back as soon as the body has been read, which may be before it is asked for more.
    fn settle(&mut self) {
        let ended = match &self.payload {
            Payload::Empty | Payload::Tunnel(_) => true,
            Payload::Full(text) => text.is_empty(),
            Payload::File(file) => file.left() == 0,
            Payload::Origin(origin) => origin.0.is_end_stream(),
        };
        if ended {
            self.end();
        }
    }

    fn end(&mut self) {
        let Some(journey) = &mut self.journey else { return };
        journey.complete = true;
        if let Payload::Origin(origin) = std::mem::replace(&mut self.payload, Payload::Empty)
            && journey.exchange.body_finished()
        {
            let (_, lease) = *origin;
            lease.give_back();
        }
    }

    fn fail(&mut self, fault: Fault) -> Polled {
        if let Some(journey) = &self.journey {
            journey.exchange.fault.set(Some(fault));
        }
        self.payload = Payload::Empty;
        Poll::Ready(Some(Err(fault)))
    }

    /// The next frame of the payload.
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Polled {
        let this = self;
        let frame = match &mut this.payload {
            Payload::Empty | Payload::Tunnel(_) => return Poll::Ready(None),
            Payload::Full(text) => Frame::data(std::mem::take(text)),
            Payload::File(file) => match file.read() {
                Ok(Some(piece)) => Frame::data(piece),
                Ok(None) => {
                    this.end();
                    return Poll::Ready(None);
                }
                Err(error) => {
                    tracing::warn!(%error, "a file could not be read to its end");
                    return this.fail(Fault::internal(Kind::FileBroken, "the file could not be read to its end"));
                }
            },
            Payload::Origin(origin) => match origin.0.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    origin.1.deadline.clear();
                    frame
                }
                Poll::Ready(Some(Err(()))) => {
                    origin.1.broke_off();
                    return this.fail(Fault::upstream(Kind::Closed, "the origin broke off its response"));
                }
                Poll::Ready(None) => {
                    this.end();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let lease = &origin.1;
                    if let Some(journey) = &this.journey {
                        lease.deadline.set_if_clear(journey.exchange.read_timeout());
                    }
                    if lease.deadline.poll_passed(cx).is_ready() {
                        lease.broke_off();
                        return this.fail(Fault::upstream(Kind::ReadTimeout, "the origin's response stalled"));
                    }
                    return Poll::Pending;
                }
            },
        };
        this.settle();
        Poll::Ready(Some(Ok(frame)))
    }

    /// The next frame that the filters leave something of.
    fn poll_filtered(&mut self, cx: &mut Context<'_>) -> Polled {
        let mut filters = std::mem::take(&mut self.filters);
        let polled = filters.poll(|| self.poll_payload(cx));
        self.filters = filters;
        match polled {
            Poll::Ready(Some(Err(fault))) => self.fail(fault),
            polled => polled,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let polled = match this.rest.is_empty() {
            false => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest))))),
            true if this.filters.is_empty() => this.poll_payload(cx),
            true => this.poll_filtered(cx),
        };
        let Some(journey) = &mut this.journey else { return polled };
        let streams = journey.exchange.version != HttpVersion::H1;
        let Poll::Ready(Some(Ok(frame))) = polled else { return polled };
        let frame = match frame.into_data() {
            Ok(mut data) => {
                if streams && data.len() > PIECE {
                    this.rest = data.split_off(PIECE);
                }
                journey.bytes_out += data.len() as u64;
                // What came last may have to wait for its turn.
                journey.complete = this.rest.is_empty() && matches!(this.payload, Payload::Empty);
                Frame::data(data)
            }
            Err(frame) => frame,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.payload {
            _ if !self.rest.is_empty() => false,
            _ if !self.filters.is_empty() => false,
            Payload::Empty | Payload::Tunnel(_) => true,
            Payload::Full(text) => text.is_empty(),
            Payload::File(file) => file.left() == 0,
            Payload::Origin(origin) => origin.0.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.payload {
            _ if !self.rest.is_empty() => SizeHint::default(),
            _ if !self.filters.is_empty() => SizeHint::default(),
            Payload::Empty | Payload::Tunnel(_) => SizeHint::with_exact(0),
            Payload::Full(text) => SizeHint::with_exact(text.len() as u64),
            Payload::File(file) => SizeHint::with_exact(file.left()),
            Payload::Origin(origin) => origin.0.size_hint(),
        }
    }
}
