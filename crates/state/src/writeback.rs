//! Bytes on their way to the disk while more are written, so that little is left to wait for when the file is synced.

use std::fs::File;

/// Writing is begun whenever this many more bytes are there: enough for a disk to be busy, and few calls.
const STEP: u64 = 16 << 20;

/// Lets the system begin to write a growing file to its disk.
///
/// Left to itself it would wait for the sync at the end, or for half a minute. Nothing is promised by this, so nothing can fail: a
/// page that could not be written is told to the sync of the same file.
#[derive(Default)]
pub(crate) struct Writeback {
    begun: u64,
}

impl Writeback {
    /// Tells that the file has `written` bytes now.
    pub fn written(&mut self, file: &File, written: u64) {
        if written - self.begun >= STEP {
            begin(file, self.begun, written - self.begun);
            self.begun = written;
        }
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a call of the system that no crate wraps")]
fn begin(file: &File, from: u64, bytes: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(from), Ok(bytes)) = (from.try_into(), bytes.try_into()) else { return };
    // SAFETY: it takes numbers, no memory, and the descriptor is open as long as `file` is borrowed. What it answers is not asked
    // for: where a file system or a device cannot do it, the sync at the end does all the work.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), from, bytes, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// Other systems have no such call; their sync does all the work.
#[cfg(not(target_os = "linux"))]
fn begin(_file: &File, _from: u64, _bytes: u64) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn writing_begins_step_by_step_and_changes_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writeback = Writeback::default();
        writeback.written(&file, STEP - 1);
        assert_eq!(writeback.begun, 0);
        let content: Vec<u8> = (0..STEP + 5).map(|i| (i / 3) as u8).collect();
        file.write_all(&content).unwrap();
        writeback.written(&file, STEP + 5);
        assert_eq!(writeback.begun, STEP + 5);
        file.write_all(b"more").unwrap();
        file.sync_all().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert!(read[..content.len()] == content && read[content.len()..] == *b"more");
    }

    #[test]
    fn what_cannot_be_begun_is_left_to_the_sync() {
        // A null device has no pages to write.
        let Ok(file) = File::options().write(true).open("/dev/null") else { return };
        Writeback::default().written(&file, STEP);
    }
}
