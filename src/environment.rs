//! The environment that Burn and graphics drivers read.

use std::ffi::OsString;

/// Why the environment could not be set.
#[derive(Debug, thiserror::Error)]
#[error(
    "rekindle::init() must be the first thing in main: {threads} threads run already; without it, start the program with \
     BURN_DEVICE=flex"
)]
pub struct InitError {
    /// Threads of the process.
    threads: usize,
}

/// Prepares a process for this library; call it first in `main`.
///
/// Burn builds the state of optimizers on its default device first, whatever device the network is on. A build with GPU support
/// takes a GPU for that and panics on a machine without one. This makes the default the CPU backend that is always there, unless
/// `BURN_DEVICE` says another.
///
/// # Errors
/// When other threads run already: the environment cannot be changed safely then.
pub fn init() -> Result<(), InitError> {
    if std::env::var_os("BURN_DEVICE").is_some() { Ok(()) } else { set(&[("BURN_DEVICE", "flex".into())]) }
}

/// Prepares the process of a command line, with a number of threads if one is asked for.
///
/// # Errors
/// As for [`init`].
pub(crate) fn init_program(compute_threads: Option<&str>) -> Result<(), InitError> {
    let mut values = vec![("BURN_DEVICE", "flex".into())];
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Without it, graphics drivers write a complaint to stderr for each adapter that is probed.
        values.push(("XDG_RUNTIME_DIR", std::env::temp_dir().into_os_string()));
    }
    // Ranks on one machine divide its cores.
    let shared = || crate::distributed::launched().map(|launch| launch.threads().to_string());
    if let Some(threads) = compute_threads.map(str::to_string).or_else(shared) {
        // The pools of the CPU backends read these when they start.
        values.extend(["RAYON_NUM_THREADS", "MATMUL_NUM_THREADS"].map(|key| (key, threads.clone().into())));
    }
    set(&values)
}

#[expect(unsafe_code, reason = "the environment is set before any other thread exists")]
fn set(values: &[(&str, OsString)]) -> Result<(), InitError> {
    let threads = threads();
    if threads > 1 {
        return Err(InitError { threads });
    }
    for (key, value) in values {
        // SAFETY: there is no other thread, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var(key, value) }
    }
    Ok(())
}

/// Threads of this process; 1 where the system does not say.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count().max(1))
}
