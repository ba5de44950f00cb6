//! Verdict tables, benches, end-to-end tests in network namespaces, the demo, and what they stand on.
//!
//! For packets: [`packets`] builds frames, [`tables`] is the host half, [`gate`] the loaded programs, [`verdict_table`]
//! says what must become of each frame, [`halves`] holds both to it, [`differential`] searches for frames on which they
//! differ. For traffic: [`street`] is the topology, [`origin`] and [`edge`] are what runs in
//! it, [`clients`] drive it, [`cases`] say what must hold and [`demo`] shows it. [`ward`] removes everything, however the run ends.

#![allow(
    clippy::return_self_not_must_use,
    clippy::missing_panics_doc,
    clippy::too_many_lines,
    reason = "builders of frames are used at once; a test that panics has failed; a table is as long as it has rows"
)]

pub mod bench_cases;
pub mod bench_flood;
pub mod bench_idle;
pub mod bench_load;
pub mod bench_reload;
pub mod bench_rules;
pub mod bench_verdicts;
pub mod bench_xdp;
pub mod cases;
pub mod certs;
pub mod check_rows;
pub mod clients;
pub mod conformance;
pub mod demo;
pub mod differential;
pub mod edge;
pub mod flood;
pub mod fuzz;
pub mod gate;
pub mod halves;
pub mod loopback;
pub mod mutations;
pub mod netns;
pub mod origin;
pub mod packets;
pub mod parsers;
pub mod porch;
pub mod process;
pub mod random;
pub mod rate_rows;
pub mod scratch;
pub mod street;
pub mod syn_gate;
pub mod tables;
pub mod tools;
pub mod verdict_rules;
pub mod verdict_table;
pub mod ward;
pub mod xdp;
