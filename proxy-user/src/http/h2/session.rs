//! What a connection's task and its streams share: what is to be sent, the windows, and which streams are open.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use http::{HeaderName, HeaderValue, StatusCode};
use proxy_core::http2::hpack::encode::Encoder;
use proxy_core::http2::settings::Settings;
use proxy_core::http2::streams::Streams;
use proxy_core::http2::{Broken, Code, FIRST_WINDOW, MOST, settings, write};

use super::out::Out;
use super::signal::Outside;
use super::state::Stream;
use super::turns::Turns;
use crate::worker::connection::Connection;

/// Flow-control window of one stream.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
/// Flow-control window of a connection: several stalled uploads do not block the rest.
const CONNECTION_WINDOW: u32 = 2 << 20;

/// A client's connection.
pub struct Session {
    pub(super) client: Rc<Connection>,
    pub(super) out: RefCell<Out>,
    encoder: RefCell<Encoder>,
    /// What the client has opened for all streams together.
    window: Cell<i64>,
    /// And for each that begins.
    initial: Cell<u32>,
    /// How often content was handed in.
    pub(super) handed: Cell<u64>,
    /// Streams that wait for the window of all.
    waiting: RefCell<Vec<Waker>>,
    /// What the client may still send.
    room: Cell<u32>,
    /// What was taken of that and not given back.
    taken: Cell<u32>,
    pub(super) open: RefCell<Streams<Rc<Stream>>>,
    pub(super) turns: Turns,
    outside: Outside,
}

impl Session {
    /// Of a connection that begins; says what we can do. Messages may have fields of `fields` bytes, and `streams` may be open.
    pub(super) fn new(client: &Rc<Connection>, fields: u32, streams: u32, outside: Outside) -> Rc<Self> {
        let session = Self {
            client: Rc::clone(client),
            out: RefCell::default(),
            encoder: RefCell::default(),
            window: Cell::new(FIRST_WINDOW.into()),
            initial: Cell::new(FIRST_WINDOW),
            handed: Cell::new(0),
            waiting: RefCell::default(),
            room: Cell::new(CONNECTION_WINDOW),
            taken: Cell::new(0),
            open: RefCell::default(),
            turns: Turns::default(),
            outside,
        };
        let ours = [
            (settings::id::MAX_CONCURRENT_STREAMS, streams),
            (settings::id::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (settings::id::MAX_HEADER_LIST_SIZE, fields),
            (settings::id::ENABLE_CONNECT_PROTOCOL, 1),
            (settings::id::NO_RFC7540_PRIORITIES, 1),
        ];
        let mut out = session.out.borrow_mut();
        write::settings(&ours, out.frames());
        write::window(0, CONNECTION_WINDOW - FIRST_WINDOW, out.frames());
        drop(out);
        Rc::new(session)
    }

    /// Writes frames that are no part of an answer.
    pub(super) fn write(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.borrow_mut().owe(write);
        self.outside.wake();
    }

    /// Writes a header or trailers.
    pub(super) fn header<'h>(
        &self,
        stream: u32,
        status: Option<StatusCode>,
        headers: impl IntoIterator<Item = (&'h HeaderName, &'h HeaderValue)>,
        ends: bool,
    ) {
        let (mut out, mut encoder) = (self.out.borrow_mut(), self.encoder.borrow_mut());
        write::header(stream, status, headers, ends, &mut encoder, out.frames());
        self.turns.hand(out.is_full());
        self.outside.wake();
    }

    /// Writes a piece of content, which both windows have room for and a frame too.
    pub(super) fn data(&self, stream: u32, piece: bytes::Bytes, ends: bool) {
        self.window.set(self.window.get() - i64::from(piece.len() as u32));
        self.handed.set(self.handed.get().wrapping_add(1));
        let mut out = self.out.borrow_mut();
        out.data(stream, piece, ends);
        self.turns.hand(out.is_full());
        self.outside.wake();
    }

    /// What the client lets us send on all streams together; where that is nothing, the waker is woken when it is more.
    pub(super) fn window(&self, waker: &Waker) -> usize {
        let window = usize::try_from(self.window.get()).unwrap_or(0);
        if window == 0 {
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|known| known.will_wake(waker)) {
                waiting.push(waker.clone());
            }
        }
        window
    }

    /// The window that a stream begins with.
    pub(super) fn initial(&self) -> i64 {
        self.initial.get().into()
    }

    /// The client has opened the window of all streams.
    pub(super) fn widen(&self, by: u32) -> Result<(), Broken> {
        let window = self.window.get() + i64::from(by);
        if window > MOST.into() {
            return Err(Broken::rule(Code::FlowControlError, "a window beyond the largest"));
        }
        self.window.set(window);
        self.waiting.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Does as the client's settings say (RFC 9113 section 6.5.3).
    pub(super) fn set(&self, settings: Settings) -> Result<(), Broken> {
        if let Some(size) = settings.header_table {
            self.encoder.borrow_mut().resize(size);
        }
        if let Some(window) = settings.window {
            let by = i64::from(window) - i64::from(self.initial.replace(window));
            for stream in self.open.borrow().iter() {
                // Section 6.9.2: it may become negative.
                if !stream.widen(by) {
                    return Err(Broken::rule(Code::FlowControlError, "a window beyond the largest"));
                }
            }
        }
        self.write(write::settings_ack);
        Ok(())
    }

    /// The client has sent what counts for so much.
    pub(super) fn came(&self, counts: u32) -> Result<(), Broken> {
        let room = self.room.get().checked_sub(counts);
        self.room.set(room.ok_or(Broken::rule(Code::FlowControlError, "more than the window lets in"))?);
        Ok(())
    }

    /// So much of what came was taken, or is of no use: the client may send as much more.
    pub(super) fn give_back(&self, count: u32) {
        let taken = self.taken.get() + count;
        if taken < CONNECTION_WINDOW / 2 {
            return self.taken.set(taken);
        }
        self.taken.set(0);
        self.room.set(self.room.get() + taken);
        self.write(|out| write::window(0, taken, out));
    }

    /// Ends a stream; `ended` where the client has ended its side.
    pub(super) fn reset(&self, stream: u32, code: Code, ended: bool) {
        self.close(stream, !ended);
        self.write(|out| write::reset(stream, code, out));
    }

    /// A stream is over; `cut_off` where its client may still send on it.
    pub(super) fn close(&self, stream: u32, cut_off: bool) {
        drop(self.open.borrow_mut().close(stream, cut_off));
        // What comes next may be all that was waited for.
        self.outside.wake();
    }
}
