//! The greatest memory that this process held, mapped files included, where the system tells it.

/// Forgets what was held before.
pub(super) fn reset() {
    // Only Linux has it, and a sandbox may refuse it: the peak is then that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Bytes at the peak.
pub(super) fn bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
