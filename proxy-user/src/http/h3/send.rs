//! The sending half of a request stream. A header waits for what comes first behind it, so that both leave at once.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode};
use proxy_core::http2::priority::Urgency;
use proxy_core::http3::{Code, response};
use quinn::VarInt;

use super::{Gone, Shared, said};

/// How urgent a request is to its client (RFC 9218 section 5).
const PRIORITY: HeaderName = HeaderName::from_static("priority");
/// Room for headers that is asked for at once.
const ROOM: usize = 4 << 10;

/// The sending half of a request stream. Dropped before [`Sender::finish`], it resets the stream: quinn alone would end it in order,
/// and the client would take a broken response for a whole one.
pub(super) struct Sender {
    stream: quinn::SendStream,
    shared: Rc<Shared>,
    /// Written, and not sent.
    waiting: BytesMut,
    /// Changes of urgency that were looked at.
    updated: u32,
    finished: bool,
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished {
            self.reset(Code::InternalError);
        }
    }
}

impl Sender {
    /// A stream on which nothing was sent.
    pub(super) fn new(stream: quinn::SendStream, shared: &Rc<Shared>) -> Self {
        Self { stream, shared: Rc::clone(shared), waiting: BytesMut::new(), updated: 0, finished: false }
    }

    /// The response's header, or that of an informational one.
    pub(super) fn header(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.write(|out| response::put_header(status, headers, out));
    }

    /// Puts something behind what waits, with room for what stands before content.
    fn write(&mut self, put: impl FnOnce(&mut BytesMut)) {
        if !self.waiting.is_empty() {
            return put(&mut self.waiting);
        }
        let mut room = self.shared.room.borrow_mut();
        room.reserve(ROOM);
        put(&mut room);
        let length = room.len();
        room.resize(length + response::DATA_HEAD, 0);
        self.waiting = room.split();
        self.waiting.truncate(length);
    }

    /// Whether something waits.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what waits.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.waits() {
            let waiting = self.waiting.split().freeze();
            self.stream.write_all_chunks(&mut [waiting]).await.map_err(Gone::of)?;
        }
        Ok(())
    }

    /// A piece of the body.
    pub(super) async fn data(&mut self, piece: Bytes) -> Result<(), Gone> {
        if piece.is_empty() {
            return Ok(());
        }
        self.look_up();
        self.write(|out| response::put_data_head(piece.len(), out));
        let waiting = self.waiting.split().freeze();
        self.stream.write_all_chunks(&mut [waiting, piece]).await.map_err(Gone::of)
    }

    /// Trailers, after the body.
    pub(super) async fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), Gone> {
        self.write(|out| response::put_trailers(trailers, out));
        self.flush().await
    }

    /// The end, behind all that waited.
    pub(super) fn finish(mut self) -> Result<(), Gone> {
        self.finished = true;
        self.stream.finish().map_err(Gone::of)
    }

    /// Ends the stream because of an error.
    pub(super) fn reset(&mut self, code: Code) {
        self.finished = true;
        // That it is gone already is as well.
        let _ = self.stream.reset(said(code));
    }

    /// How urgent the request is to its client.
    pub(super) fn heed(&mut self, request: &HeaderMap) {
        if let Some(field) = request.get(PRIORITY) {
            self.prefer(Urgency::of(field.as_bytes()));
        }
        self.look_up();
    }

    /// Looks whether that has changed.
    fn look_up(&mut self) {
        let updated = self.shared.updated.get();
        if updated != self.updated {
            self.updated = updated;
            if let Some(urgency) = self.shared.urgency(VarInt::from(self.stream.id()).into_inner()) {
                self.prefer(urgency);
            }
        }
    }

    /// Its packets go out before those of less urgent streams.
    fn prefer(&self, urgency: Urgency) {
        let level = |urgency: Urgency| i32::try_from(urgency.level()).unwrap_or_default();
        // quinn begins with 0, and sends higher ones first. A stream that is gone has no use for it.
        let _ = self.stream.set_priority(level(Urgency::default()) - level(urgency));
    }
}
