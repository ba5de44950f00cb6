//! Streams of a client that go one way, as the `h3` crate reads them: it asks QPACK's for their type and for nothing more. What
//! they say is read here, to their end, which neither may have before the connection (RFC 9204 section 4.2).

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use h3::quic::{RecvStream, StreamErrorIncoming, StreamId};
use quinn::VarInt;

use super::h3_bounds::Stream;

/// `H3_CLOSED_CRITICAL_STREAM` (RFC 9114 section 8.1).
const H3_CLOSED_CRITICAL_STREAM: VarInt = VarInt::from_u32(0x104);

/// A stream that goes one way.
pub struct OneWay {
    id: StreamId,
    /// None where it is read here.
    stream: Option<Stream<h3_quinn::RecvStream>>,
}

impl OneWay {
    /// Takes one over of which nothing was read.
    pub fn new(stream: Stream<h3_quinn::RecvStream>) -> Self {
        Self { id: stream.recv_id(), stream: Some(stream) }
    }
}

impl RecvStream for OneWay {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        // Who knows its type does not ask again.
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        let polled = stream.poll_data(cx);
        if stream.is_instructions()
            && let Some(stream) = self.stream.take()
        {
            drop(tokio::task::spawn_local(follow(stream)));
        }
        polled
    }

    fn stop_sending(&mut self, error_code: u64) {
        if let Some(stream) = &mut self.stream {
            stream.stop_sending(error_code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

/// Reads instructions until the connection ends; one that is not allowed ends it.
async fn follow(mut stream: Stream<h3_quinn::RecvStream>) {
    loop {
        match poll_fn(|cx| stream.poll_data(cx)).await {
            Ok(Some(_)) => {}
            Err(StreamErrorIncoming::ConnectionErrorIncoming { .. }) => return,
            Ok(None) | Err(_) => return stream.close_all(H3_CLOSED_CRITICAL_STREAM),
        }
    }
}
