//! Tidegate's ABI and packet decisions. `no_std`, no allocation, no I/O, no clock: the same code runs in XDP and on the host.
#![no_std]

pub mod abi;
pub mod addr;
pub mod cid;
pub mod decide;
pub mod hint;
pub mod parse;
pub mod siphash;
pub mod steer;
