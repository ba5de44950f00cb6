//! Tidegate's ABI and packet decisions. `no_std`, no allocation, no I/O, no clock: the same code runs in XDP and on the host.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "the verifier follows packet pointers within one program: what touches them must be inlined"
)]
#![allow(clippy::many_single_char_names, reason = "bytes and words of a fixed layout, one letter each")]

pub mod abi;
pub mod addr;
pub mod bucket;
pub mod checks;
pub mod cid;
pub mod classify;
pub mod decide;
pub mod event;
pub mod fingerprint;
pub mod fragments;
pub mod hint;
pub mod hosts;
// Tables are filled and read on the host.
#[cfg(not(target_arch = "bpf"))]
pub mod maglev;
pub mod packet;
pub mod parse;
pub mod plain;
pub mod prompt;
pub mod rates;
pub mod reason;
pub mod same_host;
pub mod sanity;
pub mod seen;
pub mod siphash;
pub mod slots;
pub mod standing;
pub mod steer;
pub mod syn;
pub mod syn_ack;
pub mod wire;
