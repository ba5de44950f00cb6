//! The sending half of a request stream. A header waits for what comes first behind it, so that both leave at once.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use proxy_core::fields::Fields;
use proxy_core::http2::priority::Urgency;
use proxy_core::http3::{Code, response};
use quinn::VarInt;

use super::{Gone, Shared, said};

/// Room for headers that is asked for at once.
const ROOM: usize = 4 << 10;

/// The sending half of a request stream. Dropped before [`Sender::finish`], it resets the stream: quinn alone would end it in order,
/// and the client would take a broken response for a whole one.
pub(super) struct Sender {
    stream: quinn::SendStream,
    shared: Rc<Shared>,
    /// Written, and not sent.
    waiting: BytesMut,
    /// As urgent as quinn knows it to be.
    urgency: Urgency,
    finished: bool,
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished {
            self.reset(Code::InternalError);
        }
        self.shared.turns.borrow_mut().close(self.id());
    }
}

impl Sender {
    /// A stream on which nothing was sent.
    pub(super) fn new(stream: quinn::SendStream, shared: &Rc<Shared>) -> Self {
        let urgency = Urgency::default();
        let this = Self { stream, shared: Rc::clone(shared), waiting: BytesMut::new(), urgency, finished: false };
        shared.turns.borrow_mut().open(this.id());
        this
    }

    fn id(&self) -> u64 {
        VarInt::from(self.stream.id()).into_inner()
    }

    /// The response's header, or that of an informational one.
    pub(super) fn header(&mut self, status: StatusCode, headers: &Fields) {
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
            self.send(&mut [waiting]).await?;
        }
        Ok(())
    }

    /// A piece of the body.
    pub(super) async fn data(&mut self, piece: Bytes) -> Result<(), Gone> {
        if piece.is_empty() {
            return Ok(());
        }
        self.write(|out| response::put_data_head(piece.len(), out));
        let waiting = self.waiting.split().freeze();
        self.send(&mut [waiting, piece]).await
    }

    /// Sends all of this, each time there is room for some of it when it has its turn.
    async fn send(&mut self, mut pieces: &mut [Bytes]) -> Result<(), Gone> {
        poll_fn(|cx| {
            if !self.shared.turns.borrow_mut().take(self.id(), || cx.waker().clone()) {
                return Poll::Pending;
            }
            self.prefer();
            while !pieces.is_empty() {
                // Dropped before its end, it has written nothing.
                let written = ready!(pin!(self.stream.write_chunks(pieces)).poll(cx)).map_err(Gone::of)?;
                self.shared.turns.borrow_mut().wrote(self.id());
                pieces = std::mem::take(&mut pieces).get_mut(written.chunks..).unwrap_or_default();
            }
            Poll::Ready(Ok(()))
        })
        .await
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
    pub(super) fn heed(&mut self, request: &Fields) {
        if let Some(urgency) = Urgency::asked(request) {
            self.shared.turns.borrow_mut().says(self.id(), urgency);
        }
    }

    /// What says whether more urgent answers were sent since it was last asked.
    pub(super) fn passed_over(&self) -> impl Fn() -> bool + use<> {
        let (shared, id) = (Rc::clone(&self.shared), self.id());
        move || shared.turns.borrow_mut().passed_over(id)
    }

    /// Its packets go out before those of less urgent streams. (quinn looks at this when it next sends of the stream: one that has
    /// become more urgent is passed over until then.)
    fn prefer(&mut self) {
        let urgency = self.shared.turns.borrow().urgency(self.id());
        if std::mem::replace(&mut self.urgency, urgency) != urgency {
            let level = |urgency: Urgency| i32::try_from(urgency.level()).unwrap_or_default();
            // quinn begins with 0, and sends higher ones first. A stream that is gone has no use for it.
            let _ = self.stream.set_priority(level(Urgency::default()) - level(urgency));
        }
    }
}
