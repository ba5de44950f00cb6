//! Header fields: those of a message, of whatever version ([`Fields`]), and blocks of them as HTTP/2 and 3 have them, without what
//! HPACK (RFC 7541) and QPACK (RFC 9204) differ in: texts, static tables, single fields, and the requests that they make up.

pub mod field;
pub mod fixed;
pub mod huffman;
mod list;
pub mod message;
mod shared;
pub mod text;

pub(crate) use list::ADDED;
pub use list::{Fields, IntoName, Iter, Name, put_line};
#[cfg(test)]
pub(crate) use shared::MOST_SHARED;
pub(crate) use shared::Shared;

/// A block of fields may be so many times as long as they are together: it is to be answered 431 where it is only somewhat too long.
pub const BLOCK_FACTOR: u64 = 2;

/// Why a block cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be read, or refers to what no table has: the connection ends.
    Unreadable,
    /// Its fields are more than is taken: 431.
    TooLong,
    /// They are so many times more that it was made for that: the connection ends.
    Bomb,
    /// The message is malformed: its stream is reset.
    Malformed(&'static str),
}
