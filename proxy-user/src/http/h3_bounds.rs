//! quinn's streams as the `h3` crate reads them, with a bound on the frames that it puts together in memory: it has one for fields
//! once they are decoded, but takes frames of any length; and with QPACK's instructions read, which it leaves alone. Who breaks
//! a rule of these is named, and the connection ends.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use proxy_core::abuse::Kind;
use proxy_core::abuse::h3::{Frames, Refused};
use quinn::VarInt;

use super::h3_one_way::OneWay;
use super::quic_frames::H3_EXCESSIVE_LOAD;
use crate::worker::connection::Connection;

/// `QPACK_ENCODER_STREAM_ERROR` and `QPACK_DECODER_STREAM_ERROR` (RFC 9204 section 6).
const QPACK_STREAM_ERRORS: (VarInt, VarInt) = (VarInt::from_u32(0x201), VarInt::from_u32(0x202));
/// A block of fields may be twice as long as they are together: it is to be answered 431 where it is only somewhat too long.
const BLOCK_FACTOR: u64 = 2;

/// Whose streams they are, and how long a frame may be.
#[derive(Clone)]
struct Client {
    connection: Rc<Connection>,
    bound: u64,
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
}

impl Bounded {
    /// Takes a connection over whose requests have fields of at most `max_header` bytes.
    pub fn new(quic: quinn::Connection, connection: &Rc<Connection>, max_header: u64) -> Self {
        let bound = max_header.saturating_mul(BLOCK_FACTOR);
        let client = Client { connection: Rc::clone(connection), bound };
        Self { quic: h3_quinn::Connection::new(quic), client }
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
        Stream { quic, frames: Frames::of_request(self.bound), client: self.clone() }
    }
}

impl quic::Connection<Bytes> for Bounded {
    type RecvStream = OneWay;
    type OpenStreams = Bounded<h3_quinn::OpenStreams>;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        let (frames, client) = (Frames::of_one_way(self.client.bound), self.client.clone());
        quic::Connection::<Bytes>::poll_accept_recv(&mut self.quic, cx)
            .map_ok(|quic| OneWay::new(Stream { quic, frames, client }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        self.quic.poll_accept_bidi(cx).map_ok(|quic| self.client.of_request(quic))
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

impl<S: quic::RecvStream<Buf = Bytes>> quic::RecvStream for Stream<S> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let polled = self.quic.poll_data(cx);
        if let Poll::Ready(Ok(Some(bytes))) = &polled
            && let Err(refused) = self.frames.feed(bytes)
        {
            return Poll::Ready(Err(self.client.refuse(refused)));
        }
        polled
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
        let Self { quic, frames, client } = self;
        let (sending, receiving) = quic.split();
        (sending, Stream { quic: receiving, frames, client })
    }
}
