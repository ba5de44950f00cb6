//! HTTP/1.1 as a client of origins speaks it (RFC 9112), without I/O: the request's header in bytes, the response's header and
//! framing out of them, chunks. Strict where two readers could differ, for an origin's connection is shared by many clients.

mod chunks;
mod fields;
mod head;
mod request;

pub use chunks::{Chunks, MAX_CHUNK_LINE, MAX_TRAILERS, Piece};
pub use fields::{chunk_length, decimal, names, write_field};
pub use head::{Framing, Head, MAX_FIELDS, MAX_HEAD, parse};
pub use request::{Body, body_of, chunk_size, encode, encode_trailers, may_be_trailer};

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
