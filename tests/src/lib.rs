//! End-to-end tests, verdict tables, benches and the demo: what they stand on.

pub mod gate;
pub mod packets;
pub mod tables;
pub mod verdict_table;
