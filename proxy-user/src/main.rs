//! The `tidegate` binary: allocator, command line, exit status. Everything else is in the library.

use std::process::ExitCode;

// Small allocations on the request path are the rule; this is measurably quicker than the system's. Linked in, it takes the place of
// `malloc` for Rust, whose allocator of the system asks for nothing more than that unless an alignment is unusual, and for C.
use mimalloc as _;

fn main() -> ExitCode {
    proxy_user::cli::main()
}
