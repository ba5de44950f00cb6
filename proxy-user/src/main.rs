//! The `tidegate` binary: allocator, command line, exit status. Everything else is in the library.

use std::process::ExitCode;

/// Small allocations on the request path are the rule; this is measurably quicker than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    proxy_user::cli::main()
}
