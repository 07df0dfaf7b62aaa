//! Ctrl-C and SIGTERM: the first asks a training to finish its step and save, the second stops at once.
//!
//! A launcher of several processes ends them a moment after it was told to end itself; SIGUSR1 it hands on, and so does Slurm
//! (`--signal=USR1@60`): to a process that it started, this signal is a first Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The flag that a signal sets.
pub fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the shutdown looks at the flag before the same signal sets it.
        flag::register_conditional_shutdown(signal, super::Exit::Interrupted as i32, stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .context("cannot listen for Ctrl-C")?;
    }
    #[cfg(unix)]
    if crate::distributed::launched().is_some() {
        flag::register(signal_hook::consts::SIGUSR1, stop.clone()).context("cannot listen for signals")?;
    }
    // Without a handler, a file that grows past `ulimit -f` kills the program; with one, writing fails and says so.
    #[cfg(unix)]
    flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).context("cannot listen for signals")?;
    Ok(stop)
}
