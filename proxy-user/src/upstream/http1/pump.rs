//! Sends a request's body that did not go with its header, while the response may already come.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::Body as _;
use proxy_core::http1::{self, Body};
use tokio::io::AsyncWrite as _;
use tokio::task::JoinHandle;

use super::Wire;
use crate::http::body::RequestBody;
use crate::http::fault::{Fault, Kind};
use crate::upstream::CLOSED;

/// Slices of one write: a chunk's size, its bytes and its end.
const SLICES: usize = 3;
const STALLED: Fault = Fault::upstream(Kind::ResponseTimeout, "the origin did not take the request in time");

/// The task; ended with this.
pub(super) struct Pump(JoinHandle<()>);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is left to be sent.
#[derive(Clone, Copy)]
pub(super) struct Left(Body);

/// The body ended otherwise than it should.
#[derive(Debug)]
enum Broken {
    /// By the client, or by one of our bounds: the body's progress has the reason.
    Client,
    /// By the origin, which has taken none of it for too long.
    Stalled,
    /// By the origin, which may have answered for all that.
    Origin(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Origin(error)
    }
}

impl Left {
    pub(super) fn new(body: Body) -> Self {
        Self(body)
    }

    /// Writes a piece with its framing behind what `out` holds. One beyond the declared length is written all the same, and found
    /// at the end.
    pub(super) fn data(&mut self, out: &mut Vec<u8>, data: &Bytes) {
        let (before, behind) = self.around(data.len());
        out.extend_from_slice(&before);
        out.extend_from_slice(data);
        out.extend_from_slice(behind);
    }

    /// Writes what stands behind the last piece of a body without trailers; whether the body is whole then.
    pub(super) fn end(self, out: &mut Vec<u8>) -> bool {
        if self.0 == Body::Chunked {
            http1::encode_trailers(out, None);
        }
        matches!(self.0, Body::None | Body::Chunked | Body::Length(0))
    }

    /// What stands before and behind a piece; takes it from what is left.
    fn around(&mut self, bytes: usize) -> (Vec<u8>, &'static [u8]) {
        match &mut self.0 {
            Body::Chunked if bytes > 0 => {
                let mut size = Vec::new();
                http1::chunk_size(&mut size, bytes);
                (size, b"\r\n")
            }
            Body::Length(left) => {
                *left = left.checked_sub(bytes as u64).unwrap_or(u64::MAX);
                (Vec::new(), b"")
            }
            Body::None | Body::Chunked => (Vec::new(), b""),
        }
    }
}

/// Sends the rest of a body.
pub(super) fn start(wire: &Rc<RefCell<Wire>>, body: RequestBody, left: Left, patience: Duration) -> Pump {
    wire.borrow_mut().sending = true;
    let wire = Rc::clone(wire);
    Pump(tokio::task::spawn_local(async move {
        let sent = send(&wire, body, left, patience).await;
        let mut wire = wire.borrow_mut();
        let cut = match sent {
            Ok(()) => {
                wire.sending = false;
                return;
            }
            // The request stays unfinished: the connection is of no more use, but an answer may be on its way.
            Err(Broken::Origin(error)) => {
                tracing::debug!(%error, "the origin took no more of a request body");
                return;
            }
            Err(Broken::Stalled) => STALLED,
            Err(Broken::Client) => CLOSED,
        };
        wire.cut = Some(cut);
        if let Some(reader) = wire.reader.take() {
            reader.wake();
        }
    }))
}

async fn send(wire: &RefCell<Wire>, mut body: RequestBody, mut left: Left, patience: Duration) -> Result<(), Broken> {
    let mut trailers = None;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.map_err(|_| Broken::Client)?.into_data() {
            Ok(data) => {
                let (before, behind) = left.around(data.len());
                if left.0 == Body::Length(u64::MAX) {
                    return Err(Broken::Client);
                }
                write(wire, [before.into(), data, Bytes::from_static(behind)], patience).await?;
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    match left.0 {
        Body::Chunked => {
            let mut end = Vec::new();
            http1::encode_trailers(&mut end, trailers.as_ref());
            write(wire, [end.into(), Bytes::new(), Bytes::new()], patience).await
        }
        Body::None | Body::Length(0) => Ok(()),
        Body::Length(_) => Err(Broken::Client),
    }
}

/// Writes the pieces one behind the other.
async fn write(
    wire: &RefCell<Wire>,
    [before, data, behind]: [Bytes; SLICES],
    patience: Duration,
) -> Result<(), Broken> {
    let mut rest = before.chain(data).chain(behind);
    while rest.has_remaining() {
        let write = poll_fn(|cx| {
            let mut slices = [io::IoSlice::new(&[]); SLICES];
            let count = rest.chunks_vectored(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            Pin::new(&mut wire.borrow_mut().io).poll_write_vectored(cx, slices)
        });
        let count = tokio::time::timeout(patience, write).await.map_err(|_| Broken::Stalled)??;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        rest.advance(count);
    }
    let flush = poll_fn(|cx| Pin::new(&mut wire.borrow_mut().io).poll_flush(cx));
    Ok(tokio::time::timeout(patience, flush).await.map_err(|_| Broken::Stalled)??)
}
