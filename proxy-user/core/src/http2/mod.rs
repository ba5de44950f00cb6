//! HTTP/2 (RFC 9113) and HPACK (RFC 7541) without the connection: bytes in; frames, messages or an error out, and answers' bytes. What
//! came with it and holds for HTTP/3 too is here as well: how urgent requests are.

pub mod frames;
pub mod hpack;
pub mod priority;
pub mod settings;
pub mod streams;
pub mod write;

/// Types of frames (section 6).
pub mod kind {
    /// Content.
    pub const DATA: u8 = 0;
    /// The beginning of a block of fields.
    pub const HEADERS: u8 = 1;
    /// How streams depend on each other, which nobody heeds any more (section 5.3.2).
    pub const PRIORITY: u8 = 2;
    /// The end of a stream before its time.
    pub const RST_STREAM: u8 = 3;
    /// What a side can do, or has taken note of.
    pub const SETTINGS: u8 = 4;
    /// Of servers.
    pub const PUSH_PROMISE: u8 = 5;
    /// A question whether the other side is there, or the answer.
    pub const PING: u8 = 6;
    /// A side is about to leave.
    pub const GOAWAY: u8 = 7;
    /// A window opens.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a block of fields.
    pub const CONTINUATION: u8 = 9;
    /// How urgent a request has become (RFC 9218 section 7.1).
    pub const PRIORITY_UPDATE: u8 = 0x10;
}

/// Flags of frames.
pub mod flag {
    /// Of DATA and HEADERS: nothing follows on the stream.
    pub const END_STREAM: u8 = 0x1;
    /// Of SETTINGS and PING: an answer.
    pub const ACK: u8 = 0x1;
    /// Of HEADERS and CONTINUATION: the block is whole.
    pub const END_HEADERS: u8 = 0x4;
    /// Of DATA and HEADERS: the payload is followed by padding.
    pub const PADDED: u8 = 0x8;
    /// Of HEADERS: the block is preceded by what PRIORITY says.
    pub const PRIORITY: u8 = 0x20;
}

/// What a connection begins with (section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest payload of a frame that is taken, and that may be sent to who says nothing (section 4.2).
pub const FRAME_MOST: usize = 1 << 14;
/// Bytes of a frame's header (section 4.1).
pub const HEAD: usize = 9;
/// The largest window (section 6.9.1), and stream.
pub const MOST: u32 = i32::MAX.cast_unsigned();
/// The window that connections and streams begin with (section 6.9.2).
pub const FIRST_WINDOW: u32 = 65_535;

/// Why a connection or a stream ends (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// Nothing is wrong.
    NoError = 0,
    /// A rule is broken that has no number of its own.
    ProtocolError = 1,
    /// It is our fault.
    InternalError = 2,
    /// More was sent than the window lets in, or a window grew too large.
    FlowControlError = 3,
    /// A frame on a stream that is over.
    StreamClosed = 5,
    /// A frame of a size that it may not have.
    FrameSizeError = 6,
    /// A request was not looked at.
    RefusedStream = 7,
    /// A stream is of no more use.
    Cancel = 8,
    /// A block of fields that cannot be read.
    CompressionError = 9,
    /// More than the server is ready to bear.
    EnhanceYourCalm = 11,
}

/// The client broke a rule: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What the client is told.
    pub code: Code,
    /// What it did.
    pub why: &'static str,
    /// The abuse that it is.
    pub kind: crate::abuse::Kind,
}

impl Broken {
    /// A rule that is broken, and no flood.
    pub const fn rule(code: Code, why: &'static str) -> Self {
        Self { code, why, kind: crate::abuse::Kind::Malformed }
    }

    /// Too much of something.
    pub const fn flood(kind: crate::abuse::Kind) -> Self {
        Self { code: Code::EnhanceYourCalm, why: kind.name(), kind }
    }
}
