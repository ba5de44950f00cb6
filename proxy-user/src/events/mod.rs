//! Packet events: from the kernel's ring to everybody who reads along.
//!
//! `ask` is what a reader wants, `record` what he gets, `hub` the one thread that reads the ring for all of them,
//! `packet_file` reads packets back from files. The packet path knows none of this: it looks at one word that says whether
//! anybody reads.

pub mod ask;
pub mod hub;
mod lines;
pub mod packet_file;
pub mod record;
