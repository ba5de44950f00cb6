//! HTTP/2 frames as a client sends them, followed beside the implementation that reads them (RFC 9113 sections 4 to 6): how
//! often it sends what costs more than it brings, whether a header block is open, and which error a frame is by the RFC where
//! the implementation calls each of them a protocol error. Bytes in, findings out; nothing is kept of what frames carry.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::Kind;
use super::bucket::{Bucket, Rate};

/// Bytes of the connection preface (section 3.4).
const PREFACE: u32 = 24;
/// Bytes of a frame's header (section 4.1).
const HEAD: usize = 9;
/// Bytes of one setting (section 6.5.1).
const SETTING: usize = 6;
/// CONTINUATION frames of one header block: each may have 16 KiB.
const CONTINUATIONS: u32 = 64;
/// Streams followed at a time whose client has more to send.
const OPEN_STREAMS: usize = 1_024;
/// Bytes that were sent to the client for which one more window update is nothing unusual.
const BYTES_A_WINDOW: usize = 1 << 10;

const SECONDS: Duration = Duration::from_secs(2);
/// Frames with nothing in them.
const EMPTY: Rate = Rate::over(50, SECONDS);
/// SETTINGS: clients send one, and few ever another.
const SETTINGS: Rate = Rate::over(20, SECONDS);
/// PING: some clients send one for each round trip to find out their bandwidth.
const PING: Rate = Rate::over(500, SECONDS);
/// Window updates beyond those that [`BYTES_A_WINDOW`] and streams account for.
const WINDOW: Rate = Rate::over(1_000, SECONDS);
/// PRIORITY, `PRIORITY_UPDATE` and unknown types, beyond those that streams account for.
const PRIORITY: Rate = Rate::over(200, SECONDS);
/// Window updates and priorities that belong to a stream.
const FRAMES_A_STREAM: u32 = 8;

mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// `END_STREAM`, and `ACK` of SETTINGS and PING.
const FLAG_FIRST: u8 = 0x1;
const FLAG_END_HEADERS: u8 = 0x4;
/// `SETTINGS_INITIAL_WINDOW_SIZE` (section 6.5.2).
const INITIAL_WINDOW: u16 = 4;

/// Error codes (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// `FLOW_CONTROL_ERROR`
    FlowControl = 3,
    /// `STREAM_CLOSED`
    StreamClosed = 5,
    /// `FRAME_SIZE_ERROR`
    FrameSize = 6,
}

/// Follows what one client sends.
#[derive(Debug)]
pub struct Frames {
    /// Bytes that nothing is found in: the preface, and payloads.
    skip: u32,
    /// Bytes of settings that are looked at.
    settings: u32,
    /// A frame's header, or a setting, as far as it has come.
    part: [u8; HEAD],
    have: usize,
    /// Pieces of the header block that is open.
    block: Option<u32>,
    last_stream: u32,
    /// Streams were left out below the last one.
    gaps: bool,
    /// Streams on which the client may send more.
    open: SmallVec<[u32; 4]>,
    code: Option<Code>,
    /// A protocol error has been made.
    lost: bool,
    resets: Rate,
    reset: Bucket,
    empty: Bucket,
    setting: Bucket,
    ping: Bucket,
    window: Bucket,
    priority: Bucket,
    sent: usize,
}

impl Frames {
    /// A connection that begins with the preface; its client may reset `resets` streams a second.
    pub fn new(resets: u32, now: Instant) -> Self {
        let resets = Rate::over(resets, SECONDS);
        Self {
            skip: PREFACE,
            settings: 0,
            part: [0; HEAD],
            have: 0,
            block: None,
            last_stream: 0,
            gaps: false,
            open: SmallVec::new(),
            code: None,
            lost: false,
            resets,
            reset: Bucket::full(resets, now),
            empty: Bucket::full(EMPTY, now),
            setting: Bucket::full(SETTINGS, now),
            ping: Bucket::full(PING, now),
            window: Bucket::full(WINDOW, now),
            priority: Bucket::full(PRIORITY, now),
            sent: 0,
        }
    }

    /// Whether the bytes so far end within a header block.
    pub fn in_block(&self) -> bool {
        self.block.is_some()
    }

    /// The error that the client has made, where it is not just a protocol error.
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// So many bytes were sent to the client, which it will answer with window updates.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= BYTES_A_WINDOW {
            self.window.earn(WINDOW, u32::try_from(self.sent / BYTES_A_WINDOW).unwrap_or(u32::MAX));
            self.sent %= BYTES_A_WINDOW;
        }
    }

    /// Takes the next bytes from the client; what it overdoes, if so. Time is only looked at where something is used up.
    pub fn feed(&mut self, mut bytes: &[u8], now: Instant) -> Option<Kind> {
        let mut found = None;
        while !bytes.is_empty() && found.is_none() {
            if self.skip > 0 {
                let taken = (self.skip as usize).min(bytes.len());
                self.skip -= taken as u32;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            let wanted = if self.settings > 0 { SETTING } else { HEAD };
            let taken = (wanted - self.have).min(bytes.len());
            let (piece, rest) = bytes.split_at(taken);
            if let Some(place) = self.part.get_mut(self.have..self.have + taken) {
                place.copy_from_slice(piece);
            }
            bytes = rest;
            self.have += taken;
            if self.have == wanted {
                self.have = 0;
                if self.settings > 0 {
                    self.one_setting();
                } else {
                    found = self.frame(now);
                }
            }
        }
        found
    }

    fn one_setting(&mut self) {
        self.settings = self.settings.saturating_sub(SETTING as u32);
        let [high, low, value @ .., _, _, _] = self.part;
        if u16::from_be_bytes([high, low]) == INITIAL_WINDOW && u32::from_be_bytes(value) > i32::MAX.cast_unsigned() {
            self.wrong(Code::FlowControl);
        }
    }

    /// A frame's header has come.
    fn frame(&mut self, now: Instant) -> Option<Kind> {
        let [a, b, c, kind, flags, stream @ ..] = self.part;
        let length = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes(stream) & i32::MAX.cast_unsigned();
        let first = flags & FLAG_FIRST != 0;
        self.skip = length;
        if self.block.is_some() != (kind == kind::CONTINUATION) {
            // Whatever else it is, this is a protocol error (section 6.10).
            self.code = None;
            self.block = None;
            self.lost = true;
        }
        let good = match kind {
            kind::DATA => {
                self.on_stream(stream);
                if first {
                    self.half_closed(stream);
                }
                length > 0 || first || self.empty.take(EMPTY, now)
            }
            kind::HEADERS => {
                self.headers(stream, first);
                self.block = (flags & FLAG_END_HEADERS == 0).then_some(0);
                length > 0 || self.empty.take(EMPTY, now)
            }
            kind::CONTINUATION => return self.continuation(length, flags, now),
            kind::RST_STREAM => {
                self.length(length == 4);
                self.half_closed(stream);
                return (!self.reset.take(self.resets, now)).then_some(Kind::Resets);
            }
            kind::SETTINGS => {
                self.length(if first { length == 0 } else { length.is_multiple_of(SETTING as u32) });
                if !first && length.is_multiple_of(SETTING as u32) {
                    (self.settings, self.skip) = (length, 0);
                }
                return (!self.setting.take(SETTINGS, now)).then_some(Kind::Settings);
            }
            kind::PING => {
                self.length(length == 8);
                return (!self.ping.take(PING, now)).then_some(Kind::Ping);
            }
            kind::WINDOW_UPDATE => {
                self.length(length == 4);
                return (!self.window.take(WINDOW, now)).then_some(Kind::Window);
            }
            // A client cannot push (section 8.4). One that is whole the `h2` crate refuses by name; for the rest of another it would
            // wait.
            kind::PUSH_PROMISE if flags & FLAG_END_HEADERS == 0 => return Some(Kind::Malformed),
            kind::PUSH_PROMISE | kind::GOAWAY => return (!self.setting.take(SETTINGS, now)).then_some(Kind::Settings),
            _ => {
                self.length(kind != kind::PRIORITY || length == 5);
                return (!self.priority.take(PRIORITY, now)).then_some(Kind::Priority);
            }
        };
        (!good).then_some(Kind::EmptyFrames)
    }

    fn continuation(&mut self, length: u32, flags: u8, now: Instant) -> Option<Kind> {
        let pieces = self.block.map_or(0, |pieces| pieces + 1);
        self.block = (flags & FLAG_END_HEADERS == 0).then_some(pieces);
        if pieces > CONTINUATIONS {
            return Some(Kind::Continuation);
        }
        (length == 0 && !self.empty.take(EMPTY, now)).then_some(Kind::EmptyFrames)
    }

    /// A header block begins: a new request, or trailers.
    fn headers(&mut self, stream: u32, ends: bool) {
        if stream <= self.last_stream {
            self.on_stream(stream);
            if ends {
                self.half_closed(stream);
            }
            return;
        }
        self.gaps |= stream > self.last_stream + 2;
        self.last_stream = stream;
        self.window.earn(WINDOW, FRAMES_A_STREAM);
        self.priority.earn(PRIORITY, FRAMES_A_STREAM);
        if !ends && self.open.len() < OPEN_STREAMS {
            self.open.push(stream);
        }
    }

    /// Something comes on a stream; one that the client has closed takes nothing (section 5.1). One that was left out is another
    /// error (section 5.1.1).
    fn on_stream(&mut self, stream: u32) {
        let opened = stream == self.last_stream || !self.gaps && stream < self.last_stream && !stream.is_multiple_of(2);
        if opened && stream != 0 && !self.open.contains(&stream) {
            self.wrong(Code::StreamClosed);
        }
    }

    fn half_closed(&mut self, stream: u32) {
        if let Some(place) = self.open.iter().position(|open| *open == stream) {
            self.open.swap_remove(place);
        }
    }

    fn length(&mut self, right: bool) {
        if !right {
            self.wrong(Code::FrameSize);
        }
    }

    fn wrong(&mut self, code: Code) {
        if !self.lost {
            self.code.get_or_insert(code);
        }
    }
}

#[cfg(test)]
mod tests;
