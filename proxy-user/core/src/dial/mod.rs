//! How an origin's name becomes a connection: how long found addresses are used, and in which order and pace they are tried.
//! Time is an argument, in nanoseconds of any clock that does not go back; asking and connecting is done elsewhere.

mod known;
mod race;

pub use known::{Known, Use};
pub use race::{Race, Step, interleaved};
