//! Runs on demand, so that programs that are compared can take turns.

use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use anyhow::{Context, Result};

/// Runs something once to warm up. Then, for each line `NAME SECONDS` on the input, runs it for those seconds, at least once (for 0 not
/// at all), and answers with a line of JSON: the seconds of each run, and the peak of memory.
pub fn take(once: bool, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    // Forgets what was held to set up; only Linux has it.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    run()?;
    if once {
        return Ok(());
    }
    println!("ready");
    stdout().flush()?;
    for line in stdin().lock().lines() {
        let line = line?;
        let budget: f64 = line.split_whitespace().last().context("a line is NAME SECONDS")?.parse()?;
        let begun = Instant::now();
        let mut seconds = Vec::new();
        while budget > 0.0 && (seconds.is_empty() || begun.elapsed().as_secs_f64() < budget) {
            let started = Instant::now();
            run()?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        println!("{{\"seconds\": {seconds:?}, \"peak\": {}}}", peak().map_or("null".to_string(), |bytes| bytes.to_string()));
        stdout().flush()?;
    }
    Ok(())
}

/// Bytes at the peak of memory, mapped files included.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
