//! Bytes on their way to the disk while more are written, so that little is left to wait for at the end.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// A sync is begun whenever this many more bytes were written: enough for a disk to be busy, and few syncs.
const STEP: u64 = 32 << 20;

/// Syncs a growing file on a thread of its own.
#[derive(Default)]
pub(crate) struct EarlySync {
    begun: Option<(SyncSender<()>, JoinHandle<io::Result<()>>)>,
    asked: u64,
}

impl EarlySync {
    /// Tells that the file has `written` bytes now. Never waits; files of less than a step are left alone.
    pub fn written(&mut self, file: &File, written: u64) {
        if written - self.asked < STEP {
            return;
        }
        self.asked = written;
        if self.begun.is_none() {
            // Without a second handle or a thread, the sync at the end does it all.
            self.begun = file.try_clone().ok().and_then(start);
        }
        if let Some((ask, _)) = &self.begun {
            // While a sync runs, one more is remembered and others are not needed.
            let _ = ask.try_send(());
        }
    }

    /// Waits for the sync that runs. An error of the disk is told to one sync only, so this one's belongs to the file.
    ///
    /// # Errors
    /// When the disk was full or failed.
    pub fn finish(&mut self) -> io::Result<()> {
        let Some((ask, thread)) = self.begun.take() else { return Ok(()) };
        drop(ask);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs it panicked")))
    }
}

fn start(file: File) -> Option<(SyncSender<()>, JoinHandle<io::Result<()>>)> {
    let (ask, asked) = sync_channel::<()>(1);
    let sync = move || asked.iter().try_for_each(|()| file.sync_data());
    let thread = thread::Builder::new().name("sync".to_string()).spawn(sync).ok()?;
    Some((ask, thread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn small_files_start_no_thread_and_large_ones_are_synced_on_the_way() {
        let mut file = tempfile::tempfile().unwrap();
        let mut sync = EarlySync::default();
        sync.written(&file, STEP - 1);
        assert!(sync.begun.is_none());
        file.write_all(&vec![1; STEP as usize]).unwrap();
        sync.written(&file, STEP);
        assert!(sync.begun.is_some());
        sync.finish().unwrap();
        assert!(sync.begun.is_none());
    }

    #[test]
    fn what_a_sync_on_the_way_says_is_not_lost() {
        // A pipe cannot be synced.
        let Ok((_reader, writer)) = io::pipe() else { return };
        #[cfg(unix)]
        {
            let file = File::from(std::os::fd::OwnedFd::from(writer));
            let mut sync = EarlySync::default();
            sync.written(&file, STEP);
            assert!(sync.finish().is_err());
        }
    }
}
