//! One stream as its connection, its request's body and its answer share it: windows both ways, what came and was not read, and
//! whether it is over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use proxy_core::fields::Fields;
use proxy_core::http2::priority::Urgency;
use proxy_core::http2::{Code, FRAME_MOST, MOST, write};

use super::coming::Coming;
use super::session::{STREAM_WINDOW, Session};

/// A stream that is over before its time: the client or we have ended it, with this code, or its connection has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over(pub u32);

/// What keeps a stream from handing in more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Its own window, or nothing.
    Own,
    /// The socket, which others have before it, and whose client has its time by itself.
    Turn,
    /// The window of all, when content had been handed in so often.
    Window(u64),
}

/// A client's stream.
pub struct Stream {
    session: Rc<Session>,
    number: u32,
    urgency: Cell<Urgency>,
    /// What the client lets us send.
    window: Cell<i64>,
    /// Something of the answer's content was handed in since it had to wait for its turn.
    sent: Cell<bool>,
    held: Cell<Held>,
    /// The answer has ended.
    said: Cell<bool>,
    over: Cell<Option<Over>>,
    /// Of the one who answers.
    waker: RefCell<Option<Waker>>,
    /// What the client sends besides its header; none where that is nothing.
    coming: RefCell<Option<Box<Coming>>>,
}

impl Stream {
    /// One whose header has come; nothing follows where it has ended. `length` is what the client declared.
    pub(super) fn new(session: &Rc<Session>, number: u32, urgency: Urgency, ended: bool, length: Option<u64>) -> Self {
        let coming = (!ended).then(|| Box::new(Coming::new(length)));
        Self {
            session: Rc::clone(session),
            number,
            urgency: Cell::new(urgency),
            window: Cell::new(session.initial()),
            sent: Cell::new(false),
            held: Cell::new(Held::Own),
            said: Cell::new(false),
            over: Cell::new(None),
            waker: RefCell::default(),
            coming: RefCell::new(coming),
        }
    }

    /// Its connection.
    pub(super) fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// Whether the client has ended its side.
    pub(super) fn has_ended(&self) -> bool {
        self.coming.borrow().as_ref().is_none_or(|coming| coming.ended)
    }

    /// How urgent it is.
    pub(super) fn urgency(&self) -> Urgency {
        self.urgency.get()
    }

    /// It has become so urgent.
    pub(super) fn set_urgency(&self, urgency: Urgency) {
        self.urgency.set(urgency);
    }

    /// It is over: whoever works on it learns of it.
    pub(super) fn fail(&self, over: Over) {
        if self.over.get().is_none() {
            self.over.set(Some(over));
        }
        let reader = self.coming.borrow_mut().as_mut().and_then(|coming| coming.waker.take());
        if let Some(waker) = reader {
            waker.wake();
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The client's window has become larger by so much, or smaller; whether it may.
    pub(super) fn widen(&self, by: i64) -> bool {
        let window = self.window.get() + by;
        self.window.set(window);
        if window > 0 {
            self.wake();
        }
        window <= MOST.into()
    }

    /// Some content has come, which counts for so much; the code of what is wrong with that.
    pub(super) fn take(&self, piece: Bytes, counts: u32, ends: bool) -> Result<(), Code> {
        self.came(|coming| {
            coming.room = coming.room.checked_sub(counts).ok_or(Code::FlowControlError)?;
            let length = piece.len();
            if let Some(left) = &mut coming.length {
                let less = left.checked_sub(length as u64).filter(|left| !ends || *left == 0);
                *left = less.ok_or(Code::ProtocolError)?;
            }
            let padding = counts.saturating_sub(length as u32);
            coming.taken += padding;
            coming.ended = ends;
            if coming.wanted {
                coming.push(piece);
                self.session.give_back(padding);
            } else {
                self.session.give_back(counts);
            }
            Ok(())
        })
    }

    /// Trailers have come, and nothing more does; the code of what is wrong with that.
    pub(super) fn end(&self, trailers: HeaderMap) -> Result<(), Code> {
        self.came(|coming| {
            if coming.length.is_some_and(|left| left > 0) {
                return Err(Code::ProtocolError);
            }
            coming.ended = true;
            coming.trailers = Some(trailers);
            Ok(())
        })
    }

    /// Takes what has come, if anything may; whoever reads it is told, and where it is the last the stream may be over.
    fn came(&self, take: impl FnOnce(&mut Coming) -> Result<(), Code>) -> Result<(), Code> {
        let (ended, reader) = {
            let coming = &mut *self.coming.borrow_mut();
            let coming = coming.as_mut().filter(|coming| !coming.ended).ok_or(Code::StreamClosed)?;
            take(coming)?;
            (coming.ended, coming.waker.take())
        };
        if let Some(waker) = reader {
            waker.wake();
        }
        if ended {
            self.settle();
        }
        Ok(())
    }

    /// The next piece of the request's body, or its trailers.
    pub(super) fn poll_coming(&self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Over>>> {
        let coming = &mut *self.coming.borrow_mut();
        let Some(coming) = coming else { return Poll::Ready(None) };
        if let Some(piece) = coming.pop() {
            let count = piece.len() as u32;
            self.session.give_back(count);
            coming.taken += count;
            if !coming.ended && coming.taken >= STREAM_WINDOW / 2 && self.over.get().is_none() {
                let taken = std::mem::take(&mut coming.taken);
                coming.room += taken;
                self.session.write(|out| write::window(self.number, taken, out));
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(trailers) = coming.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if coming.ended {
            return Poll::Ready(None);
        }
        if let Some(over) = self.over.get() {
            // Who needs no more of its own request ends it (RFC 9113 section 8.1).
            return Poll::Ready((over.0 != Code::NoError as u32).then_some(Err(over)));
        }
        coming.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether all of the request's body was read.
    pub(super) fn is_read(&self) -> bool {
        let coming = self.coming.borrow();
        coming.as_ref().is_none_or(|coming| coming.ended && coming.is_empty() && coming.trailers.is_none())
    }

    /// What the client has declared of its body and nobody has read.
    pub(super) fn left(&self) -> Option<u64> {
        let coming = self.coming.borrow();
        let coming = coming.as_ref()?;
        Some(coming.length? + coming.held() as u64)
    }

    /// Nobody reads the request's body any more.
    pub(super) fn unwant(&self) {
        if let Some(coming) = &mut *self.coming.borrow_mut() {
            coming.wanted = false;
            self.session.give_back(coming.held() as u32);
            coming.clear();
        }
        self.settle();
    }

    /// An answer has ended whose client need not send the rest of its request (RFC 9113 section 8.1).
    fn settle(&self) {
        if !self.said.get() || self.over.get().is_some() {
            return;
        }
        if self.has_ended() {
            self.session.close(self.number, false);
        } else if self.coming.borrow().as_ref().is_some_and(|coming| !coming.wanted) {
            self.reset(Code::NoError);
        }
    }

    /// Sends a header, an interim one too; whether the stream takes one.
    pub(super) fn header(&self, status: StatusCode, headers: &Fields, ends: bool) -> Result<(), Over> {
        self.takes()?;
        self.session.header(self.number, Some(status), headers, ends);
        self.said(ends);
        Ok(())
    }

    /// Sends trailers, which end the answer.
    pub(super) fn trailers(&self, headers: &HeaderMap) -> Result<(), Over> {
        self.takes()?;
        self.session.header(self.number, None, headers, true);
        self.said(true);
        Ok(())
    }

    fn takes(&self) -> Result<(), Over> {
        match self.over.get() {
            Some(over) => Err(over),
            None if self.said.get() => Err(Over(Code::StreamClosed as u32)),
            None => Ok(()),
        }
    }

    fn said(&self, ends: bool) {
        if ends {
            self.said.set(true);
            self.settle();
        }
    }

    /// Sends content as far as it is this stream's turn and the windows let it in; ready when all of it is handed in, with the end
    /// behind it where it is the last.
    pub(super) fn poll_data(&self, cx: &Context<'_>, piece: &mut Bytes, last: bool) -> Poll<Result<(), Over>> {
        loop {
            self.takes()?;
            if piece.is_empty() {
                if last {
                    self.session.data(self.number, Bytes::new(), true);
                    self.said(true);
                }
                return Poll::Ready(Ok(()));
            }
            if self.session.turns.waits(self.urgency.get(), self.sent.get(), cx) {
                self.sent.set(false);
                self.held.set(Held::Turn);
                self.park(cx);
                return Poll::Pending;
            }
            let own = usize::try_from(self.window.get()).unwrap_or(0);
            let all = if own == 0 { 0 } else { self.session.window(cx.waker()) };
            let room = all.min(own).min(FRAME_MOST).min(piece.len());
            if room == 0 {
                match self.held.get() {
                    _ if own == 0 => self.held.set(Held::Own),
                    Held::Window(_) => {}
                    Held::Own | Held::Turn => self.held.set(Held::Window(self.session.handed.get())),
                }
                self.park(cx);
                return Poll::Pending;
            }
            self.held.set(Held::Own);
            let now = piece.split_to(room);
            self.window.set(self.window.get() - i64::from(room as u32));
            self.sent.set(true);
            let ends = last && piece.is_empty();
            self.session.data(self.number, now, ends);
            if piece.is_empty() {
                self.said(ends);
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether others had what it waits for since this was last asked: its client is not slow then.
    pub(super) fn passed_over(&self) -> bool {
        match self.held.get() {
            Held::Own => false,
            Held::Turn => true,
            Held::Window(before) => {
                let handed = self.session.handed.get();
                self.held.set(Held::Window(handed));
                handed != before
            }
        }
    }

    /// Whether it is over before the answer has ended; the task is woken when it is.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<Over> {
        if let Some(over) = self.over.get() {
            return Poll::Ready(over);
        }
        self.park(cx);
        Poll::Pending
    }

    fn park(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Ends it before its time.
    pub(super) fn reset(&self, code: Code) {
        if self.over.get().is_none() && !(self.said.get() && self.has_ended()) {
            self.session.reset(self.number, code, self.has_ended());
            self.fail(Over(code as u32));
        }
    }

    /// Whether nothing more is to be answered.
    pub(super) fn is_said(&self) -> bool {
        self.said.get() || self.over.get().is_some()
    }
}
