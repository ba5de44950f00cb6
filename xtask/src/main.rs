//! `cargo xtask`: one door for every task.

fn main() {}
