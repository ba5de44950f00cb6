//! HTTP/3 (RFC 9114) and QPACK (RFC 9204) without the connection: bytes in; messages, answers' bytes or a refusal out. No dynamic
//! table is offered and none is used, so that a block of fields stands for itself and no stream waits for another.

pub mod frames;
mod lines;
pub mod number;
pub mod one_way;
pub mod qpack;
mod remembered;
pub mod response;
mod table;
pub mod turns;

/// Types of frames (section 7.2).
pub mod kind {
    /// Content.
    pub const DATA: u64 = 0;
    /// A block of fields.
    pub const HEADERS: u64 = 1;
    /// A push that is not wanted any more.
    pub const CANCEL_PUSH: u64 = 3;
    /// The first frame of the control stream.
    pub const SETTINGS: u64 = 4;
    /// Of servers.
    pub const PUSH_PROMISE: u64 = 5;
    /// Which requests or pushes are not taken any more.
    pub const GOAWAY: u64 = 7;
    /// How many pushes are allowed.
    pub const MAX_PUSH_ID: u64 = 0xd;
    /// How urgent a request is by now, or a push (RFC 9218 section 7.2).
    pub const PRIORITY_UPDATE: (u64, u64) = (0xf_0700, 0xf_0701);
    /// HTTP/2's, which have no meaning here and are refused (section 7.2.8).
    pub const OF_HTTP2: [u64; 4] = [2, 6, 8, 9];
}

/// Why a connection or a stream ends (RFC 9114 section 8.1, RFC 9204 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// Nothing is wrong.
    NoError = 0x100,
    /// It is our fault.
    InternalError = 0x102,
    /// A stream of a type that may not be opened, or not twice.
    StreamCreationError = 0x103,
    /// A stream ended that a connection needs.
    ClosedCriticalStream = 0x104,
    /// A frame where it may not stand.
    FrameUnexpected = 0x105,
    /// A frame whose payload is not what its type says.
    FrameError = 0x106,
    /// More than the server is ready to bear.
    ExcessiveLoad = 0x107,
    /// An id that goes backwards, or that nobody gave.
    IdError = 0x108,
    /// Settings that may not be, or not twice.
    SettingsError = 0x109,
    /// The control stream begins with something else.
    MissingSettings = 0x10a,
    /// A request was not looked at.
    RequestRejected = 0x10b,
    /// A request ended before its header did.
    RequestIncomplete = 0x10d,
    /// A message is malformed.
    MessageError = 0x10e,
    /// A block of fields that cannot be read.
    DecompressionFailed = 0x200,
    /// An instruction of an encoder that may not be.
    EncoderStreamError = 0x201,
    /// An instruction of a decoder that may not be.
    DecoderStreamError = 0x202,
}
