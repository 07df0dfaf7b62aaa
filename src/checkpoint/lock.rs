//! One writer for each run: a lock that the operating system releases when its process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::CheckpointError;

/// The file that is locked. It stays when the lock is released: removing it would let two processes lock two files of one name.
pub(super) const NAME: &str = ".lock";

/// The right to write to a run, for as long as this lives. Reading needs no lock.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks a run; the folder must exist.
    ///
    /// # Errors
    /// When another process holds the lock, or the folder cannot be written to.
    pub(super) fn take(run: &Path) -> Result<Self, CheckpointError> {
        let path = run.join(NAME);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|error| CheckpointError::io("lock the run", run, &error))?;
        match patient_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CheckpointError::Busy { path: run.to_path_buf(), holder: holder(&mut file) });
            }
            // A file system without locks, as some network file systems are: training there is better than none.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(CheckpointError::io("lock the run", run, &error)),
        }
        // The number is for the message of whoever comes second; that a full disk has no room for it is no reason to stop.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// How long the lock is asked for again: whoever only looks whether it is held has it for microseconds.
const PATIENCE: Duration = Duration::from_millis(50);

fn patient_lock(file: &File) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
            answer => return answer,
        }
    }
}

/// Whether a process holds the lock of a run. Where that cannot be known, no.
pub(super) fn is_held(run: &Path) -> bool {
    let Ok(file) = File::open(run.join(NAME)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The process that holds the lock, in brackets.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let number = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    number.map_or_else(String::new, |number| format!(" (pid {number})"))
}
