//! HTTP/1.1 on both sides of the proxy (RFC 9112), without I/O: headers in bytes and out of them, framing, chunks. Strict where two
//! readers could differ: an origin's connection is shared by many clients, and what a client sends is read again behind us.

mod asked;
mod chunks;
mod fields;
mod head;
mod lines;
mod request;
mod response;
mod rest;

pub use asked::{Asked, Bounds, Reader, Refused};
pub use chunks::{Chunks, MAX_CHUNK_LINE, MAX_TRAILERS, Piece};
pub use fields::{chunk_length, decimal, names};
pub use head::{Framing, Head, MAX_FIELDS, MAX_HEAD, parse};
pub use lines::Last;
pub use request::{Body, body_of, chunk_size, encode, encode_trailers, may_be_trailer};
pub use response::{Ending, Persistence, encode_response};
pub use rest::Rest;

/// What is wrong with an origin's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Neither a status line nor header fields.
    Head,
    /// More than [`MAX_HEAD`] bytes or [`MAX_FIELDS`] fields.
    Long,
    /// Several lengths, a length beside a transfer coding, a transfer coding that is not the one known.
    Framing,
    /// A chunk's size or line end.
    Chunk,
    /// More than [`MAX_TRAILERS`] bytes, or not header fields.
    Trailers,
}

impl Wrong {
    /// The same in words.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Head => "the origin's response is not valid HTTP",
            Self::Long => "the header of the origin's response is longer than allowed",
            Self::Framing => "the end of the origin's response can be read in two ways",
            Self::Chunk => "a chunk of the origin's response is not valid",
            Self::Trailers => "the trailers of the origin's response are not valid",
        }
    }
}

#[cfg(test)]
mod tests;
