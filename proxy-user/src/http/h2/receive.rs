//! What a client's frames do to its connection and its streams (RFC 9113 sections 5, 6 and 8).

use std::rc::Rc;

use bytes::Bytes;
use http::{StatusCode, Version};
use proxy_core::abuse::Kind;
use proxy_core::fields::{Fields, Refused};
use proxy_core::http2::frames::Frame;
use proxy_core::http2::hpack::decode::Decoder;
use proxy_core::http2::priority::Urgency;
use proxy_core::http2::streams::Found;
use proxy_core::http2::write::{self, Payload};
use proxy_core::http2::{Broken, Code, MOST};

use super::session::Session;
use super::state::{Over, Stream};
use super::streams::Streams;
use crate::http::request;

/// Streams that we reset for a client's errors; more end the connection (CVE-2025-8671).
const LOCAL_RESETS: u32 = 128;
/// What a client answers when it has seen that we are about to leave.
const LEAVING: Payload = *b"leaving.";

/// How far a connection's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// It goes on.
    No,
    /// The client was told, and may not know yet.
    Said,
    /// It was told behind which stream no others are taken.
    Behind,
}

/// Takes what a client sends.
pub(super) struct Receiver {
    session: Rc<Session>,
    decoder: Decoder,
    /// What a message's fields may count for.
    fields: u64,
    /// Streams that may be open.
    streams: usize,
    resets: u32,
    leaving: Leaving,
    /// The client has said that it is about to leave.
    left: bool,
}

const CLOSED: Broken = Broken::rule(Code::StreamClosed, "a frame on a stream that is over");
const PASSED: Broken = Broken::rule(Code::ProtocolError, "a stream whose number was left out");
const IDLE: Broken = Broken::rule(Code::ProtocolError, "a frame on a stream that has not begun");

/// What was read of a block of fields, if the connection does not end with it.
fn usable<T>(read: Result<T, Refused>) -> Result<Result<T, Refused>, Broken> {
    match read {
        Err(Refused::Unreadable) => Err(Broken::rule(Code::CompressionError, "a block of fields that cannot be read")),
        Err(Refused::Bomb) => Err(Broken::flood(Kind::LargeHeader)),
        read => Ok(read),
    }
}

impl Receiver {
    /// Of a connection that begins.
    pub(super) fn new(session: &Rc<Session>, fields: u32, streams: u32) -> Self {
        Self {
            session: Rc::clone(session),
            decoder: Decoder::default(),
            fields: fields.into(),
            streams: streams as usize,
            resets: 0,
            leaving: Leaving::No,
            left: false,
        }
    }

    /// Takes no more requests than are under way (section 6.8).
    pub(super) fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Said;
            self.session.write(|out| {
                write::goaway(MOST, Code::NoError, out);
                write::ping(LEAVING, false, out);
            });
        }
    }

    /// Whether all is done of a connection that we have left, and the client knows.
    pub(super) fn is_done(&self) -> bool {
        self.leaving == Leaving::Behind && self.session.open.borrow().is_empty()
    }

    /// Whether all is done of a connection that the client has left.
    pub(super) fn is_left(&self) -> bool {
        self.left && self.session.open.borrow().is_empty()
    }

    /// Tells the client that, and why, the connection ends.
    pub(super) fn end(&self, code: Code) {
        let last = self.session.open.borrow().last();
        self.session.write(|out| write::goaway(last, code, out));
    }

    fn find(&self, number: u32) -> Found<Rc<Stream>> {
        match self.session.open.borrow().find(number) {
            Found::Open(stream) => Found::Open(Rc::clone(stream)),
            Found::CutOff => Found::CutOff,
            Found::Over => Found::Over,
            Found::Passed => Found::Passed,
            Found::Idle => Found::Idle,
        }
    }

    /// Takes a frame; requests go to `streams`.
    pub(super) fn frame(&mut self, frame: Frame, streams: &mut Streams) -> Result<(), Broken> {
        match frame {
            Frame::Data { stream, piece, counts, ends } => self.data(stream, piece, counts, ends),
            Frame::Headers { stream, block, ends } => match self.find(stream) {
                Found::Idle => self.request(stream, &block, ends, streams),
                Found::Open(open) if open.has_ended() => {
                    self.skip(&block)?;
                    self.wrong(&open, Code::StreamClosed)
                }
                Found::Open(open) => self.trailers(&open, &block, ends),
                Found::CutOff => self.skip(&block),
                Found::Over => Err(CLOSED),
                Found::Passed => Err(PASSED),
            },
            Frame::Reset { stream, code } => match self.find(stream) {
                Found::Open(open) => {
                    self.session.close(stream, false);
                    open.fail(Over(code));
                    Ok(())
                }
                Found::Idle => Err(IDLE),
                Found::CutOff | Found::Over | Found::Passed => Ok(()),
            },
            Frame::Settings(settings) => self.session.set(settings),
            Frame::Ping(payload) => {
                self.session.write(|out| write::ping(payload, true, out));
                Ok(())
            }
            Frame::Pong(payload) => {
                if payload == LEAVING && self.leaving == Leaving::Said {
                    self.leaving = Leaving::Behind;
                    self.end(Code::NoError);
                }
                Ok(())
            }
            Frame::Leaves => {
                self.left = true;
                Ok(())
            }
            Frame::Window { stream: 0, by } => self.session.widen(by),
            Frame::Window { stream, by } => match self.find(stream) {
                Found::Open(open) if open.widen(by.into()) => Ok(()),
                Found::Open(open) => self.wrong(&open, Code::FlowControlError),
                Found::Idle => Err(IDLE),
                Found::CutOff | Found::Over | Found::Passed => Ok(()),
            },
            Frame::Urgency { stream, urgency } => {
                if let Found::Open(open) = self.find(stream) {
                    open.set_urgency(urgency);
                }
                Ok(())
            }
            Frame::Wrong { stream, code } => match self.find(stream) {
                Found::Open(open) => self.wrong(&open, code),
                Found::Idle => Err(Broken::rule(code, "a frame that may not be, on a stream that has not begun")),
                Found::CutOff | Found::Over | Found::Passed => Ok(()),
            },
        }
    }

    fn skip(&mut self, block: &Bytes) -> Result<(), Broken> {
        usable(self.decoder.skip(block, self.fields)).map(drop)
    }

    /// Ends a stream on which the client broke a rule.
    fn wrong(&mut self, stream: &Stream, code: Code) -> Result<(), Broken> {
        stream.reset(code);
        self.count_reset()
    }

    /// Ends a stream that was not opened, for what the client has done.
    fn refuse(&mut self, number: u32, code: Code, ended: bool) -> Result<(), Broken> {
        self.session.reset(number, code, ended);
        self.count_reset()
    }

    fn count_reset(&mut self) -> Result<(), Broken> {
        self.resets += 1;
        if self.resets > LOCAL_RESETS { Err(Broken::flood(Kind::Resets)) } else { Ok(()) }
    }

    fn data(&mut self, number: u32, piece: Bytes, counts: u32, ends: bool) -> Result<(), Broken> {
        self.session.came(counts)?;
        match self.find(number) {
            Found::Open(stream) => stream.take(piece, counts, ends).or_else(|code| {
                self.session.give_back(counts);
                self.wrong(&stream, code)
            }),
            Found::CutOff => {
                self.session.give_back(counts);
                Ok(())
            }
            Found::Over => Err(CLOSED),
            Found::Passed => Err(PASSED),
            Found::Idle => Err(IDLE),
        }
    }

    fn trailers(&mut self, stream: &Stream, block: &Bytes, ends: bool) -> Result<(), Broken> {
        let read = match usable(self.decoder.trailers(block, self.fields))? {
            Err(Refused::TooLong) => {
                self.session.client.abused(Kind::LargeHeader);
                Err(Code::EnhanceYourCalm)
            }
            // Trailers are the last that comes (section 8.1).
            Ok(fields) if ends => stream.end(fields),
            Ok(_) | Err(_) => Err(Code::ProtocolError),
        };
        read.or_else(|code| {
            if code == Code::ProtocolError {
                self.session.client.abused(Kind::Malformed);
            }
            self.wrong(stream, code)
        })
    }

    /// A request begins, if it is one.
    fn request(&mut self, number: u32, block: &Bytes, ends: bool, streams: &mut Streams) -> Result<(), Broken> {
        self.session.open.borrow_mut().begin(number)?;
        let read = usable(self.decoder.header(block, self.fields))?;
        if self.leaving == Leaving::Behind || self.session.open.borrow().len() >= self.streams {
            // It may be asked for again, and elsewhere.
            self.session.reset(number, Code::RefusedStream, ends);
            return Ok(());
        }
        let client = &self.session.client;
        match read {
            Ok(head) => {
                let Some((parts, length)) = request::parts(head, Version::HTTP_2) else {
                    return self.refuse(number, Code::ProtocolError, ends);
                };
                if !ends || length.unwrap_or(0) == 0 {
                    let urgency = Urgency::asked(&parts.headers).unwrap_or_default();
                    let stream = Rc::new(Stream::new(&self.session, number, urgency, ends, length));
                    self.session.open.borrow_mut().open(Rc::clone(&stream));
                    streams.add(parts, stream);
                    return Ok(());
                }
            }
            Err(Refused::TooLong) => {
                client.abused(Kind::LargeHeader);
                let status = Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
                self.session.header(number, status, &Fields::new(), true);
                return if ends { Ok(()) } else { self.refuse(number, Code::NoError, ends) };
            }
            Err(refused) => tracing::debug!(client = %client.client, ?refused, "a malformed request"),
        }
        client.abused(Kind::Malformed);
        self.refuse(number, Code::ProtocolError, ends)
    }
}
