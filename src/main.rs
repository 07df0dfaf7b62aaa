//! The program `rekindle`: everything is in the library.

use std::process::ExitCode;

/// A step of a network asks for the same large blocks as the one before.
#[global_allocator]
static MEMORY: rekindle_kernels::Reuse = rekindle_kernels::Reuse::new();

fn main() -> ExitCode {
    rekindle::cli::main()
}
