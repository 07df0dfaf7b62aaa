//! Checksums of zip entries, by several threads where an entry is large.

use std::num::NonZero;
use std::sync::OnceLock;

use crc32fast::Hasher;

/// Below this many bytes for each, threads cost more than they save.
const PART: usize = 4 << 20;
/// More threads than this wait for memory.
const THREADS: usize = 8;

/// The CRC-32 of some bytes.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS));
    crc32_by(bytes, cores.min(bytes.len() / PART))
}

fn crc32_by(bytes: &[u8], threads: usize) -> u32 {
    if threads < 2 {
        return crc32fast::hash(bytes);
    }
    let (first, rest) = bytes.split_at(bytes.len() / threads);
    let hash = |part: &[u8]| {
        let mut hasher = Hasher::new();
        hasher.update(part);
        hasher
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = rest
            .chunks(rest.len().div_ceil(threads - 1).max(1))
            // A thread that cannot be started is no reason to fail: this one does its part then.
            .map(|part| (part, std::thread::Builder::new().spawn_scoped(scope, move || hash(part)).ok()))
            .collect();
        let mut whole = hash(first);
        for (part, thread) in parts {
            whole.combine(&thread.and_then(|thread| thread.join().ok()).unwrap_or_else(|| hash(part)));
        }
        whole.finalize()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_nothing() {
        let bytes: Vec<u8> = (0..100_003_u32).map(|i| (i * 31 % 251) as u8).collect();
        for threads in 1..6 {
            assert_eq!(crc32_by(&bytes, threads), crc32fast::hash(&bytes), "{threads}");
        }
        assert_eq!(crc32_by(&bytes[..3], 5), crc32fast::hash(&bytes[..3]));
    }
}
