//! The program `rekindle`: sets the environment, then everything is in the library.

use std::process::ExitCode;

/// A step of a network asks for the same large blocks as the one before.
#[global_allocator]
static MEMORY: rekindle_kernels::Reuse = rekindle_kernels::Reuse::new();

#[expect(unsafe_code, reason = "the environment is set before any thread exists")]
fn main() -> ExitCode {
    // SAFETY: nothing has started a thread yet.
    unsafe {
        // Burn builds optimizer state on its default device first: it must be one that every machine has.
        std::env::set_var("BURN_DEVICE", "flex");
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            // Without it, graphics drivers write a complaint to stderr for each adapter that is probed.
            std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir());
        }
        if let Some(threads) = rekindle::cli::threads_asked_for(std::env::args_os()) {
            // The pools of the CPU backends read these when they start.
            std::env::set_var("RAYON_NUM_THREADS", &threads);
            std::env::set_var("MATMUL_NUM_THREADS", &threads);
        }
    }
    rekindle::cli::main()
}
