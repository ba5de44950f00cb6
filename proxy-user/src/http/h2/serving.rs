//! The task of a connection.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use proxy_core::abuse::frames::Flood;
use proxy_core::fields::BLOCK_FACTOR;
use proxy_core::http2::Code;
use proxy_core::http2::frames::Frames;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::task::coop;

use super::alive::Alive;
use super::receive::Receiver;
use super::session::Session;
use super::signal::Signals;
use super::state::Over;
use super::streams::Streams;
use super::{End, Failed, LINGER};
use crate::worker::connection::{Connection, Order};
use crate::worker::deadlines::Deadline;

/// Bytes that are read at a time.
const READ: usize = 16 << 10;
/// Room that is made for that at once.
const ROOM: usize = 64 << 10;
/// Bytes that are read before streams have their turn.
const MOST_READ: usize = 256 << 10;

thread_local! {
    /// Where is read to: connections of a worker have it in turn, and idle ones hold none.
    static CAME: Cell<BytesMut> = Cell::default();
}

/// A connection that is served.
///
/// Its streams and what they share hold each other, until it lets them go.
pub(super) struct Serving<I> {
    pub(super) io: I,
    connection: Rc<Connection>,
    session: Rc<Session>,
    frames: Frames,
    receiver: Receiver,
    streams: Streams,
    alive: Alive,
    /// Something has come since it was last asked.
    heard: bool,
    /// Something may have come that was not read, as the client has to take something first.
    unread: bool,
    /// Runs from when the client has left.
    left: Option<Deadline>,
    signals: Rc<Signals>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Serving<I> {
    /// One of which nothing has come yet.
    pub(super) fn new(connection: &Rc<Connection>, io: I) -> Self {
        let live = connection.worker.live();
        let limits = &live.snapshot.config.limits;
        let fields = u32::try_from(limits.header_bytes.0).unwrap_or(u32::MAX);
        let signals = Rc::new(Signals::new());
        let session = Session::new(connection, fields, limits.streams, signals.outside());
        let flood = Flood::new(limits.resets, connection.worker.deadlines.now());
        Self {
            io,
            connection: Rc::clone(connection),
            frames: Frames::new(fields as usize * BLOCK_FACTOR as usize, flood),
            receiver: Receiver::new(&session, fields, limits.streams),
            streams: Streams::new(&session),
            alive: Alive::new(connection),
            session,
            heard: false,
            unread: false,
            left: None,
            signals,
        }
    }

    /// Tells the client why it ends.
    pub(super) fn end(&mut self, code: Code) {
        self.receiver.end(code);
    }

    /// The connection is over: its streams see that, and end as far as they have come.
    pub(super) fn leave(&mut self) {
        let open = self.session.open.borrow_mut().take();
        for stream in open {
            stream.fail(Over(Code::Cancel as u32));
        }
        while self.streams.poll(&mut Context::from_waker(Waker::noop())) {}
    }

    /// Sends what there is.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let out = &mut *self.session.out.borrow_mut();
        let polled = out.poll_drain(cx, &mut self.io, &self.connection);
        self.frames.sent(out.take_sent());
        self.session.turns.socket(out.is_blocked());
        polled
    }

    /// Takes what has come. Ready where nothing more does.
    fn poll_came(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let mut so_far = 0;
        while so_far < MOST_READ && !self.session.out.borrow().owes() {
            let mut room = CAME.take();
            if room.capacity() < READ {
                room.reserve(ROOM);
            }
            let polled = pin!(self.io.read_buf(&mut room)).poll(cx);
            // Nothing is split off where nothing came, as each round ends.
            let mut came = if matches!(polled, Poll::Ready(Ok(1..))) { room.split().freeze() } else { Bytes::new() };
            CAME.set(room);
            let Poll::Ready(count) = polled else { return Poll::Pending };
            if count? == 0 {
                return Poll::Ready(Ok(()));
            }
            so_far += came.len();
            self.heard = true;
            let now = self.connection.worker.deadlines.now();
            while let Some(frame) = self.frames.take(&mut came, now).map_err(Failed::Broken)? {
                self.receiver.frame(frame, &mut self.streams).map_err(Failed::Broken)?;
            }
            self.connection.header_block(self.frames.in_block());
        }
        // There may be more.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the client has left, and had time for what it may have wanted besides.
    fn poll_left(&mut self, cx: &Context<'_>) -> bool {
        let deadlines = &self.connection.worker.deadlines;
        self.receiver.is_left()
            && self
                .left
                .get_or_insert_with(|| {
                    let deadline = deadlines.add();
                    deadline.set(LINGER);
                    deadline
                })
                .poll_passed(cx)
                .is_ready()
    }

    fn poll_all(&mut self) -> Poll<Result<End, Failed>> {
        let signals = Rc::clone(&self.signals);
        let cx = &mut Context::from_waker(signals.server.waker());
        let mut more = false;
        loop {
            // Streams first: what they hand in then goes in one piece.
            if signals.streams.take() || more || self.streams.has_added() {
                more = self.streams.poll(&mut Context::from_waker(signals.streams.waker()));
            }
            self.unread |= signals.server.take();
            if self.unread && !self.session.out.borrow().owes() {
                self.unread = false;
                if let Poll::Ready(ended) = self.poll_came(cx) {
                    return Poll::Ready(ended.map(|()| End::Gone));
                }
            }
            if more || signals.streams.is_raised() || self.streams.has_added() {
                if coop::has_budget_remaining() {
                    continue;
                }
                signals.streams.waker().wake_by_ref();
            }
            if self.alive.poll_lost(cx, &self.session, &mut self.heard) {
                return Poll::Ready(Ok(End::Gone));
            }
            let drained = self.poll_drain(cx)?.is_ready();
            if drained && (signals.are_raised() || self.unread) {
                if coop::has_budget_remaining() {
                    continue;
                }
                cx.waker().wake_by_ref();
            }
            if self.receiver.is_done() {
                return Poll::Ready(Ok(End::Done));
            }
            if self.poll_left(cx) {
                self.receiver.end(Code::NoError);
                return Poll::Ready(Ok(End::Done));
            }
            match self.connection.poll_order(cx) {
                Order::None => return Poll::Pending,
                Order::Finish => self.receiver.leave(),
                Order::Close => return Poll::Ready(Ok(End::Gone)),
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Future for Serving<I> {
    type Output = Result<End, Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.signals.begin(cx);
        let polled = this.poll_all();
        this.signals.end(cx);
        polled
    }
}

impl<I> Drop for Serving<I> {
    fn drop(&mut self) {
        drop(self.session.open.borrow_mut().take());
    }
}
