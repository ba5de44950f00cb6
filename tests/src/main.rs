//! End-to-end tests, verdict tables, benches and the demo.

fn main() {}
