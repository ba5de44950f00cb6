//! HTTP/3 on a client's QUIC connection (RFC 9114): its streams, from quinn to the stages and back. What bytes mean is `proxy_core::http3`'s
//! business; here they are read, written, and bounded in time, and who breaks a rule is named and loses the connection.

mod one_way;
pub mod receive;
mod send;
mod serving;
mod stream;
mod tunnel;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use bytes::{BufMut as _, BytesMut};
use proxy_core::abuse::Kind;
use proxy_core::fields::BLOCK_FACTOR;
use proxy_core::http2::priority::Urgency;
use proxy_core::http3::one_way::Type;
use proxy_core::http3::turns::Turns;
use proxy_core::http3::{Code, kind, number};
use quinn::VarInt;

pub(super) use serving::{Rest, serve};

use crate::worker::connection::Connection;

/// Settings (RFC 9114 section 7.2.4.1, RFC 9220 section 3).
const MAX_FIELD_SECTION_SIZE: u64 = 6;
const ENABLE_CONNECT_PROTOCOL: u64 = 8;
/// Type of the control stream (RFC 9114 section 6.2.1).
const CONTROL: u8 = 0;
/// How far the number of a request's stream is from that of the next (RFC 9000 section 2.1).
const STEP: u64 = 4;

/// The stream or the connection is gone, or the peer broke the protocol.
#[derive(Debug)]
pub struct Gone(pub String);

impl Gone {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A number of HTTP/3's as QUIC has it.
pub(super) fn said(code: Code) -> VarInt {
    VarInt::from_u32(code as u32)
}

/// What the streams of a connection share.
pub struct Shared {
    client: Rc<Connection>,
    quic: quinn::Connection,
    /// Held, as it must not end.
    control: RefCell<Option<quinn::SendStream>>,
    /// What a message's fields may count for.
    fields: u64,
    /// The first stream of a request that was not taken.
    next: Cell<u64>,
    /// No more requests are taken.
    refusing: Cell<bool>,
    /// The client has said that it is about to leave.
    left: Cell<bool>,
    /// The client's streams of which it may have one each.
    single: RefCell<Vec<Type>>,
    /// Which of the answers is written first.
    turns: RefCell<Turns<Waker>>,
    /// Where answers' headers are written.
    room: RefCell<BytesMut>,
}

impl Shared {
    /// Begins on a connection: opens the control stream and sends the settings. Messages may have fields of `fields` bytes in all.
    pub(super) async fn start(quic: quinn::Connection, client: &Rc<Connection>, fields: u64) -> Result<Rc<Self>, Gone> {
        let mut settings = BytesMut::new();
        for (id, value) in [(MAX_FIELD_SECTION_SIZE, fields), (ENABLE_CONNECT_PROTOCOL, 1)] {
            number::put(id, &mut settings);
            number::put(value, &mut settings);
        }
        let mut begin = BytesMut::new();
        begin.put_u8(CONTROL);
        frame(kind::SETTINGS, &settings, &mut begin);
        let mut control = quic.open_uni().await.map_err(Gone::of)?;
        control.write_all(&begin).await.map_err(Gone::of)?;
        Ok(Rc::new(Self {
            client: Rc::clone(client),
            quic,
            control: RefCell::new(Some(control)),
            fields,
            next: Cell::new(0),
            refusing: Cell::new(false),
            left: Cell::new(false),
            single: RefCell::default(),
            turns: RefCell::default(),
            room: RefCell::default(),
        }))
    }

    /// Longest frame of a client that is not content.
    fn bound(&self) -> u64 {
        self.fields.saturating_mul(BLOCK_FACTOR)
    }

    /// Ends the connection for what came, which is an abuse.
    fn refuse(&self, code: Code) -> Gone {
        self.client.abused(if code == Code::ExcessiveLoad { Kind::LargeHeader } else { Kind::Malformed });
        self.quic.close(said(code), b"");
        Gone(format!("the client broke a rule of HTTP/3: {code:?}"))
    }

    /// Whether a request's stream is taken.
    fn takes(&self, stream: u64) -> bool {
        if !self.refusing.get() {
            self.next.set(self.next.get().max(stream + STEP));
        }
        !self.refusing.get()
    }

    /// Takes no more requests, and tells the client behind which one (RFC 9114 section 5.2). Waits for the client's window.
    async fn refuse_more(self: Rc<Self>) {
        let mut id = BytesMut::new();
        number::put(self.next.get(), &mut id);
        let mut goaway = BytesMut::new();
        frame(kind::GOAWAY, &id, &mut goaway);
        let Some(mut control) = self.control.take() else { return };
        if let Err(error) = control.write_all(&goaway).await {
            tracing::debug!(%error, "the client was not told that it should leave");
        }
        self.control.replace(Some(control));
    }

    /// Whether a stream of this type may be opened: of some there is one.
    fn admits(&self, what: Type) -> bool {
        let mut single = self.single.borrow_mut();
        let known = single.contains(&what);
        if what != Type::Other && !known {
            single.push(what);
        }
        what == Type::Other || !known
    }

    /// A request has become so urgent.
    fn update(&self, stream: u64, urgency: Urgency) {
        self.turns.borrow_mut().update(stream, urgency, self.next.get());
    }

    /// Wakes the one whose turn it is to write. Whether there is one.
    fn give_turn(&self) -> bool {
        let turn = self.turns.borrow_mut().give();
        turn.map(Waker::wake).is_some()
    }
}

fn frame(kind: u64, payload: &[u8], out: &mut BytesMut) {
    number::put(kind, out);
    number::put(payload.len() as u64, out);
    out.put_slice(payload);
}
