//! The `tidegate` binary: allocator, command line, exit status. Everything else is in the library or in `cli`.

mod cli;

use std::process::ExitCode;

/// Small allocations on the request path are the rule; this is measurably quicker than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
