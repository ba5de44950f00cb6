//! What a client sends, frame by frame (RFC 9113 sections 4 and 6). Bytes in, what they say out; content goes on as it comes, a block
//! of fields when it is whole, and what a frame may not be ends the connection or its stream.

use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};

use super::priority::Urgency;
use super::settings::Settings;
use super::write::Payload;
use super::{Broken, Code, FRAME_MOST, HEAD, MOST, PREFACE, flag, kind};
use crate::abuse::Kind;
use crate::abuse::frames::Flood;

/// CONTINUATION frames of one block: each may have 16 KiB.
const CONTINUATIONS: u32 = 64;
/// Bytes of what PRIORITY says (section 6.3).
const PRIORITY: usize = 5;

/// What a frame says.
#[expect(missing_docs, reason = "each says what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Some content. It takes `counts` bytes of the windows, padding with it; `ends` where it is the stream's last.
    Data { stream: u32, piece: Bytes, counts: u32, ends: bool },
    /// A block of fields, and whether nothing follows.
    Headers { stream: u32, block: Bytes, ends: bool },
    /// The stream is of no more use to the client, for this reason.
    Reset { stream: u32, code: u32 },
    /// What the client can do, to be acknowledged.
    Settings(Settings),
    /// To be answered with the same payload.
    Ping(Payload),
    /// The answer to a PING.
    Pong(Payload),
    /// The client is about to leave.
    Leaves,
    /// A stream's window has opened by so much, or with stream 0 the connection's.
    Window { stream: u32, by: u32 },
    /// A request has become so urgent.
    Urgency { stream: u32, urgency: Urgency },
    /// The client broke a rule that its stream ends with.
    Wrong { stream: u32, code: Code },
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// Before a frame.
    Head,
    /// The length of the padding is to come.
    Padding { stream: u32, length: usize, ends: bool },
    /// So many bytes of content are left, and of padding; what the next piece counts for besides itself.
    Data { stream: u32, left: usize, padding: usize, besides: u32, ends: bool },
    /// A payload of another kind, which is taken whole.
    Payload { kind: u8, flags: u8, stream: u32, length: usize },
    /// So many bytes are passed over.
    Skip(usize),
}

/// A block that is not whole.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends: bool,
    bytes: BytesMut,
    pieces: u32,
}

/// Reads what one client sends.
#[derive(Debug)]
pub struct Frames {
    state: State,
    /// The beginning of what is taken whole.
    held: BytesMut,
    block: Option<Block>,
    /// Most bytes of a block.
    bound: usize,
    /// SETTINGS have come, which are first.
    begun: bool,
    flood: Flood,
}

impl Frames {
    /// A connection's, whose blocks have at most `bound` bytes.
    pub fn new(bound: usize, flood: Flood) -> Self {
        Self { state: State::Preface(0), held: BytesMut::new(), block: None, bound, begun: false, flood }
    }

    /// Whether a block of fields has begun to come and is not whole.
    pub fn in_block(&self) -> bool {
        self.block.is_some() || matches!(self.state, State::Payload { kind: kind::HEADERS, .. })
    }

    /// So many bytes were sent to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.flood.sent(bytes);
    }

    /// What the next frame says, whose bytes are taken away; None where more has to come, and all of it was taken.
    ///
    /// # Errors
    /// The connection is to end.
    pub fn take(&mut self, bytes: &mut Bytes, now: Instant) -> Result<Option<Frame>, Broken> {
        loop {
            match self.state {
                State::Preface(so_far) => {
                    let rest = PREFACE.get(so_far..).unwrap_or_default();
                    let count = rest.len().min(bytes.len());
                    if bytes.get(..count) != rest.get(..count) {
                        return Err(Broken::rule(Code::ProtocolError, "a preface that is none"));
                    }
                    bytes.advance(count);
                    if count < rest.len() {
                        self.state = State::Preface(so_far + count);
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
                State::Head => {
                    let Some(head) = self.whole(bytes, HEAD) else { return Ok(None) };
                    let Ok(head) = <[u8; HEAD]>::try_from(&*head) else { return Ok(None) };
                    self.state = self.begin(head, now)?;
                }
                State::Padding { stream, length, ends } => {
                    let Some(padding) = bytes.first().copied().map(usize::from) else { return Ok(None) };
                    bytes.advance(1);
                    let left = (length - 1).checked_sub(padding);
                    let left = left.ok_or(Broken::rule(Code::ProtocolError, "more padding than payload"))?;
                    self.state = State::Data { stream, left, padding, besides: padding as u32 + 1, ends };
                }
                State::Data { stream, left, padding, besides, ends } => {
                    if left > 0 && bytes.is_empty() {
                        return Ok(None);
                    }
                    let piece = bytes.split_to(left.min(bytes.len()));
                    let left = left - piece.len();
                    self.state = match left {
                        0 => State::Skip(padding),
                        _ => State::Data { stream, left, padding, besides: 0, ends },
                    };
                    let counts = piece.len() as u32 + besides;
                    return Ok(Some(Frame::Data { stream, piece, counts, ends: ends && left == 0 }));
                }
                State::Skip(left) => {
                    let count = left.min(bytes.len());
                    bytes.advance(count);
                    self.state = if count < left { State::Skip(left - count) } else { State::Head };
                    if count < left {
                        return Ok(None);
                    }
                }
                State::Payload { kind, flags, stream, length } => {
                    let Some(payload) = self.whole(bytes, length) else { return Ok(None) };
                    self.state = State::Head;
                    if let Some(frame) = self.payload(kind, flags, stream, payload)? {
                        return Ok(Some(frame));
                    }
                }
            }
        }
    }

    /// So many bytes in one piece; None where they are not there yet.
    fn whole(&mut self, bytes: &mut Bytes, length: usize) -> Option<Bytes> {
        if self.held.is_empty() && bytes.len() >= length {
            return Some(bytes.split_to(length));
        }
        let piece = bytes.split_to((length - self.held.len()).min(bytes.len()));
        self.held.extend_from_slice(&piece);
        (self.held.len() == length).then(|| std::mem::take(&mut self.held).freeze())
    }

    /// A frame begins.
    fn begin(&mut self, head: [u8; HEAD], now: Instant) -> Result<State, Broken> {
        let rule = |broken, code, why| if broken { Err(Broken::rule(code, why)) } else { Ok(()) };
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes(stream) & MOST;
        if !self.begun {
            // Section 3.4.
            let settings = kind == kind::SETTINGS && flags & flag::ACK == 0;
            rule(!settings, Code::ProtocolError, "a preface without SETTINGS")?;
            self.begun = true;
        }
        rule(length > FRAME_MOST, Code::FrameSizeError, "a frame longer than is taken")?;
        match &self.block {
            // Section 6.10.
            Some(block) => {
                let goes_on = kind == kind::CONTINUATION && stream == block.stream;
                rule(!goes_on, Code::ProtocolError, "a block of fields that is interrupted")?;
            }
            None => rule(kind == kind::CONTINUATION, Code::ProtocolError, "CONTINUATION of nothing")?,
        }
        if let Some(kind) = self.flood.frame(kind, flags, stream, length, now) {
            return Err(Broken::flood(kind));
        }
        let of_stream = matches!(kind, kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM);
        let of_all = matches!(kind, kind::SETTINGS | kind::PING | kind::GOAWAY | kind::PRIORITY_UPDATE);
        rule(of_stream && stream == 0 || of_all && stream != 0, Code::ProtocolError, "a frame on the wrong stream")?;
        let fits = match kind {
            kind::SETTINGS => flags & flag::ACK == 0 || length == 0,
            kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
            kind::PING => length == 8,
            kind::GOAWAY => length >= 8,
            kind::PRIORITY_UPDATE => length >= 4,
            _ => true,
        };
        rule(!fits, Code::FrameSizeError, "a frame of the wrong size")?;
        match kind {
            kind::DATA if flags & flag::PADDED == 0 => {
                let ends = flags & flag::END_STREAM != 0;
                Ok(State::Data { stream, left: length, padding: 0, besides: 0, ends })
            }
            kind::DATA => {
                rule(length == 0, Code::FrameSizeError, "padding without its length")?;
                Ok(State::Padding { stream, length, ends: flags & flag::END_STREAM != 0 })
            }
            // Section 8.4.
            kind::PUSH_PROMISE => Err(Broken::rule(Code::ProtocolError, "a promise of a client")),
            kind::HEADERS..=kind::CONTINUATION | kind::PRIORITY_UPDATE => {
                Ok(State::Payload { kind, flags, stream, length })
            }
            _ => Ok(State::Skip(length)),
        }
    }

    /// A payload is whole.
    fn payload(&mut self, kind: u8, flags: u8, stream: u32, payload: Bytes) -> Result<Option<Frame>, Broken> {
        let whole = flags & flag::END_HEADERS != 0;
        let is_ack = flags & flag::ACK != 0;
        let number = || payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let eight = || payload.first_chunk::<8>().copied().unwrap_or_default();
        Ok(match kind {
            kind::HEADERS => {
                let ends = flags & flag::END_STREAM != 0;
                let block = unwrapped(flags, payload)?;
                if whole {
                    self.within_bound(block.len())?;
                    return Ok(Some(Frame::Headers { stream, block, ends }));
                }
                self.block = Some(Block { stream, ends, bytes: block.into(), pieces: 0 });
                None
            }
            kind::CONTINUATION => {
                let Some(mut block) = self.block.take() else { return Ok(None) };
                block.bytes.extend_from_slice(&payload);
                block.pieces += 1;
                self.within_bound(block.bytes.len())?;
                if whole {
                    let Block { stream, ends, bytes, .. } = block;
                    return Ok(Some(Frame::Headers { stream, block: bytes.freeze(), ends }));
                }
                if block.pieces > CONTINUATIONS {
                    return Err(Broken::flood(Kind::Continuation));
                }
                self.block = Some(block);
                None
            }
            kind::PRIORITY if payload.len() != PRIORITY => Some(Frame::Wrong { stream, code: Code::FrameSizeError }),
            kind::RST_STREAM => Some(Frame::Reset { stream, code: number() }),
            kind::SETTINGS if is_ack => None,
            kind::SETTINGS => Some(Frame::Settings(Settings::read(&payload)?)),
            kind::PING if is_ack => Some(Frame::Pong(eight())),
            kind::PING => Some(Frame::Ping(eight())),
            kind::GOAWAY => Some(Frame::Leaves),
            kind::WINDOW_UPDATE => match (number() & MOST, stream) {
                (0, 0) => return Err(Broken::rule(Code::ProtocolError, "a window that opens by nothing")),
                (0, _) => Some(Frame::Wrong { stream, code: Code::ProtocolError }),
                (by, _) => Some(Frame::Window { stream, by }),
            },
            kind::PRIORITY_UPDATE => {
                let stream = number() & MOST;
                if stream == 0 {
                    return Err(Broken::rule(Code::ProtocolError, "the urgency of no stream"));
                }
                Some(Frame::Urgency { stream, urgency: Urgency::of(payload.get(4..).unwrap_or_default()) })
            }
            _ => None,
        })
    }

    fn within_bound(&self, length: usize) -> Result<(), Broken> {
        if length > self.bound { Err(Broken::flood(Kind::LargeHeader)) } else { Ok(()) }
    }
}

/// The fragment of a block in a HEADERS frame, without padding and priority (section 6.2).
fn unwrapped(flags: u8, mut payload: Bytes) -> Result<Bytes, Broken> {
    let padding = match (flags & flag::PADDED, payload.first().copied()) {
        (0, _) => 0,
        (_, None) => return Err(Broken::rule(Code::FrameSizeError, "padding without its length")),
        (_, Some(padding)) => {
            payload.advance(1);
            usize::from(padding)
        }
    };
    let priority = if flags & flag::PRIORITY == 0 { 0 } else { PRIORITY };
    if payload.len() < priority {
        return Err(Broken::rule(Code::FrameSizeError, "a priority that is cut off"));
    }
    payload.advance(priority);
    let length = payload.len().checked_sub(padding);
    payload.truncate(length.ok_or(Broken::rule(Code::ProtocolError, "more padding than payload"))?);
    Ok(payload)
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
