//! HTTP/2 and what came with it, without I/O: how urgent requests are.

pub mod priority;
