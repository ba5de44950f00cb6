//! quinn's streams as the `h3` crate reads them, with a bound on the frames that it puts together in memory: it has one for fields
//! once they are decoded, but takes frames of any length; and with QPACK's instructions read, which it leaves alone. Who breaks
//! a rule of these is named, and the connection ends. The `:protocol` of an extended CONNECT, of which it knows none that is
//! served, gets another name on its way (`proxy_core::http3`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use proxy_core::abuse::Kind;
use proxy_core::abuse::h3::{Frames, Refused};
use proxy_core::http3::{Start, protocols, start};
use quinn::VarInt;

use super::h3_one_way::OneWay;
use super::quic_frames::H3_EXCESSIVE_LOAD;
use crate::worker::connection::Connection;

/// `QPACK_ENCODER_STREAM_ERROR` and `QPACK_DECODER_STREAM_ERROR` (RFC 9204 section 6).
const QPACK_STREAM_ERRORS: (VarInt, VarInt) = (VarInt::from_u32(0x201), VarInt::from_u32(0x202));
/// Most streams of a connection whose header is awaited and that asked for another protocol.
const EXTENDED: usize = 1_024;
/// A block of fields may be twice as long as they are together: it is to be answered 431 where it is only somewhat too long.
const BLOCK_FACTOR: u64 = 2;

/// Whose streams they are, and how long a frame may be.
#[derive(Clone)]
struct Client {
    connection: Rc<Connection>,
    bound: u64,
    shared: Rc<Shared>,
}

/// What the streams of a connection tell who serves it.
#[derive(Default)]
pub struct Shared {
    /// Streams that began with an extended CONNECT, and whose header was not read yet.
    extended: RefCell<VecDeque<StreamId>>,
    /// No more requests are taken.
    refusing: Cell<bool>,
}

impl Shared {
    /// Whether a stream began with an extended CONNECT; asked once.
    pub fn take_extended(&self, id: StreamId) -> bool {
        let mut extended = self.extended.borrow_mut();
        let place = extended.iter().position(|known| *known == id);
        place.is_some_and(|place| extended.remove(place).is_some())
    }

    fn note_extended(&self, id: StreamId) {
        let mut extended = self.extended.borrow_mut();
        if extended.len() >= EXTENDED {
            // No such number of headers is read at once: it is one that was broken.
            extended.pop_front();
        }
        extended.push_back(id);
    }

    /// Streams that come from now on are reset.
    pub fn refuse_more(&self) {
        self.refusing.set(true);
    }
}

/// A connection, or what opens streams on it.
pub struct Bounded<Q = h3_quinn::Connection> {
    quic: Q,
    client: Client,
}

/// A stream whose frames are followed.
pub struct Stream<S> {
    quic: S,
    frames: Frames,
    client: Client,
    /// A request's first block of fields has come, or will not.
    begun: bool,
    /// It ended before that, with what is held.
    over: bool,
    /// The beginning, until the block is whole.
    held: BytesMut,
}

impl Bounded {
    /// Takes a connection over whose requests have fields of at most `max_header` bytes.
    pub fn new(quic: quinn::Connection, connection: &Rc<Connection>, max_header: u64) -> Self {
        let bound = max_header.saturating_mul(BLOCK_FACTOR);
        let client = Client { connection: Rc::clone(connection), bound, shared: Rc::default() };
        Self { quic: h3_quinn::Connection::new(quic), client }
    }

    /// What its streams tell.
    pub fn shared(&self) -> Rc<Shared> {
        Rc::clone(&self.client.shared)
    }
}

impl Client {
    /// Ends the connection for what came.
    fn refuse(&self, refused: Refused) -> StreamErrorIncoming {
        let (kind, code) = match refused {
            Refused::TooLarge => (Kind::LargeHeader, H3_EXCESSIVE_LOAD),
            Refused::Encoder => (Kind::Malformed, QPACK_STREAM_ERRORS.0),
            Refused::Decoder => (Kind::Malformed, QPACK_STREAM_ERRORS.1),
        };
        self.connection.abused(kind);
        self.connection.link.close(code);
        StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
    }

    fn of_request<S>(&self, quic: S) -> Stream<S> {
        let frames = Frames::of_request(self.bound);
        Stream { quic, frames, client: self.clone(), begun: false, over: false, held: BytesMut::new() }
    }
}

impl quic::Connection<Bytes> for Bounded {
    type RecvStream = OneWay;
    type OpenStreams = Bounded<h3_quinn::OpenStreams>;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        let (frames, client) = (Frames::of_one_way(self.client.bound), self.client.clone());
        quic::Connection::<Bytes>::poll_accept_recv(&mut self.quic, cx).map_ok(|quic| {
            OneWay::new(Stream { quic, frames, client, begun: true, over: false, held: BytesMut::new() })
        })
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        loop {
            let polled = self.quic.poll_accept_bidi(cx).map_ok(|quic| self.client.of_request(quic));
            if !self.client.shared.refusing.get() {
                return polled;
            }
            // The client was told that it will not be looked at (RFC 9114 section 5.2), and may ask for the same elsewhere.
            let Poll::Ready(Ok(mut stream)) = polled else { return polled };
            quic::RecvStream::stop_sending(&mut stream, Code::H3_REQUEST_REJECTED.value());
            quic::SendStream::reset(&mut stream, Code::H3_REQUEST_REJECTED.value());
        }
    }

    fn opener(&self) -> Self::OpenStreams {
        Bounded { quic: quic::Connection::<Bytes>::opener(&self.quic), client: self.client.clone() }
    }
}

impl<Q> quic::OpenStreams<Bytes> for Bounded<Q>
where
    Q: quic::OpenStreams<Bytes, BidiStream = h3_quinn::BidiStream<Bytes>, SendStream = h3_quinn::SendStream<Bytes>>,
{
    type BidiStream = Stream<h3_quinn::BidiStream<Bytes>>;
    type SendStream = h3_quinn::SendStream<Bytes>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        self.quic.poll_open_bidi(cx).map_ok(|quic| self.client.of_request(quic))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.quic.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.quic.close(code, reason);
    }
}

impl<S> Stream<S> {
    /// Whether it is one of QPACK's.
    pub fn is_instructions(&self) -> bool {
        self.frames.is_instructions()
    }

    /// Ends the connection, whose streams it is none of any more.
    pub fn close_all(&self, code: VarInt) {
        self.client.connection.link.close(code);
    }
}

impl<S: quic::RecvStream<Buf = Bytes>> Stream<S> {
    /// The beginning of a request, once its first block of fields is whole.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            let polled = self.poll_followed(cx);
            let bytes = match polled {
                Poll::Ready(Ok(Some(bytes))) => bytes,
                Poll::Ready(Ok(None)) if !self.held.is_empty() => {
                    (self.begun, self.over) = (true, true);
                    return Poll::Ready(Ok(Some(std::mem::take(&mut self.held).freeze())));
                }
                other => return other,
            };
            // As a rule all of it comes at once.
            let bytes = if self.held.is_empty() {
                bytes
            } else {
                self.held.extend_from_slice(&bytes);
                std::mem::take(&mut self.held).freeze()
            };
            match start(&bytes) {
                Start::Partial => self.held = BytesMut::from(bytes),
                Start::Other => {
                    self.begun = true;
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Start::Fields(range) => {
                    self.begun = true;
                    let mut places = protocols(bytes.get(range.clone()).unwrap_or_default()).peekable();
                    if places.peek().is_none() {
                        drop(places);
                        return Poll::Ready(Ok(Some(bytes)));
                    }
                    self.client.shared.note_extended(self.quic.recv_id());
                    let mut changed = BytesMut::from(&*bytes);
                    for (place, instead) in places {
                        if let Some(byte) = changed.get_mut(range.start + place) {
                            *byte = instead;
                        }
                    }
                    return Poll::Ready(Ok(Some(changed.freeze())));
                }
            }
        }
    }

    fn poll_followed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let polled = self.quic.poll_data(cx);
        if let Poll::Ready(Ok(Some(bytes))) = &polled
            && let Err(refused) = self.frames.feed(bytes)
        {
            return Poll::Ready(Err(self.client.refuse(refused)));
        }
        polled
    }
}

impl<S: quic::RecvStream<Buf = Bytes>> quic::RecvStream for Stream<S> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        match (self.begun, self.over) {
            (false, _) => self.poll_begin(cx),
            (true, false) => self.poll_followed(cx),
            (true, true) => Poll::Ready(Ok(None)),
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.quic.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.quic.recv_id()
    }
}

impl<S: quic::SendStream<Bytes>> quic::SendStream<Bytes> for Stream<S> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.quic.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.quic.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.quic.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.quic.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.quic.send_id()
    }
}

impl quic::BidiStream<Bytes> for Stream<h3_quinn::BidiStream<Bytes>> {
    type SendStream = h3_quinn::SendStream<Bytes>;
    type RecvStream = Stream<h3_quinn::RecvStream>;

    fn split(self) -> (Self::SendStream, Self::RecvStream) {
        let Self { quic, frames, client, begun, over, held } = self;
        let (sending, receiving) = quic.split();
        (sending, Stream { quic: receiving, frames, client, begun, over, held })
    }
}
