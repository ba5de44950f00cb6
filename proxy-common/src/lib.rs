//! Tidegate's ABI and packet decisions. `no_std`, no allocation, no I/O, no clock: the same code runs in XDP and in host tests.
#![no_std]

pub mod abi;
