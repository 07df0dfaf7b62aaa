//! `rekindle doctor`: what this machine can do, and what would make it do more.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::output::{json, line};
use super::{Answer, Exit};
use crate::device::{self, DeviceError, DeviceName};

/// Bytes that the disk's speed is measured with.
const PROBE: usize = 64 << 20;
/// A cache on a disk with less free space than this has no room for a data set or published weights.
const LITTLE_SPACE: u64 = 2 << 30;

/// Say what this machine can do (devices, threads, vector units, memory, cache, disk) and what to change.
///
/// Exit code 1 when something is broken: a cache or a folder for runs that cannot be written to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle doctor")]
pub struct Args {
    /// Where runs are to be kept.
    #[arg(long, value_name = "DIR", default_value = "checkpoints")]
    runs: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    broken: bool,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, found: found.into(), advice: None, broken: false }
    }

    fn advise(mut self, when: bool, advice: impl Into<String>) -> Self {
        if when {
            self.advice = Some(advice.into());
        }
        self
    }

    fn broken(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, found: found.into(), advice: Some(advice.into()), broken: true }
    }
}

pub fn run(args: &Args) -> Answer {
    let mut findings = vec![program(), threads(), vectors(), memory()];
    findings.extend(devices());
    findings.push(cache());
    findings.push(disk(&args.runs));
    let broken = findings.iter().any(|finding| finding.broken);
    if args.json {
        json(&findings)?;
    } else {
        let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
        for finding in &findings {
            line(format!("{:width$}  {}", finding.what, finding.found))?;
            if let Some(advice) = &finding.advice {
                line(format!("{:width$}  {} {advice}", "", if finding.broken { "broken:" } else { "->" }))?;
            }
        }
        let advised = findings.iter().filter(|finding| finding.advice.is_some()).count();
        line(match (broken, advised) {
            (true, _) => "something is broken: see above".to_string(),
            (false, 0) => "nothing to change".to_string(),
            (false, 1) => "everything works; one hint above".to_string(),
            (false, count) => format!("everything works; {count} hints above"),
        })?;
    }
    Ok(if broken { Exit::No } else { Exit::Done })
}

fn program() -> Finding {
    let features = [
        ("wgpu", cfg!(feature = "wgpu")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("metal", cfg!(feature = "metal")),
        ("cuda", cfg!(feature = "cuda")),
        ("verify", cfg!(feature = "verify")),
        ("codegen", cfg!(feature = "codegen")),
    ];
    let built: Vec<&str> = features.iter().filter(|(_, is_in)| *is_in).map(|(name, _)| *name).collect();
    let version = env!("CARGO_PKG_VERSION");
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let burn = crate::BURN_VERSION;
    Finding::good("program", format!("rekindle {version} on Burn {burn}, {os} {arch}, with {}", built.join(", ")))
        .advise(cfg!(debug_assertions), "this is a debug build, dozens of times slower: build with --release")
}

fn threads() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse::<usize>().ok());
    let found = match limit {
        Some(limit) => format!("{cores} usable, RAYON_NUM_THREADS limits to {limit}"),
        None => format!("{cores} usable"),
    };
    Finding::good("threads", found)
        .advise(limit.is_some_and(|limit| limit < cores), "unset RAYON_NUM_THREADS to compute with all of them")
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> Finding {
    let units = [
        ("SSE4.2", is_x86_feature_detected!("sse4.2")),
        ("AVX", is_x86_feature_detected!("avx")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("AVX-512F", is_x86_feature_detected!("avx512f")),
        ("AVX-512 VNNI", is_x86_feature_detected!("avx512vnni")),
    ];
    let has: Vec<&str> = units.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let quick = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let advice = "without AVX2 and FMA, kernels take their portable path, several times slower; \
                  a virtual machine may hide them (QEMU: -cpu host)";
    Finding::good("vector units", if has.is_empty() { "SSE2 alone".to_string() } else { has.join(", ") })
        .advise(!quick, advice)
}

#[cfg(target_arch = "aarch64")]
fn vectors() -> Finding {
    let units = [
        ("NEON", std::arch::is_aarch64_feature_detected!("neon")),
        ("dot product", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("FP16", std::arch::is_aarch64_feature_detected!("fp16")),
    ];
    let has: Vec<&str> = units.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    Finding::good("vector units", has.join(", "))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vectors() -> Finding {
    Finding::good("vector units", "not known for this processor: portable kernels")
}

/// Physical memory, where the system reports it in `/proc`.
fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    match (of("MemTotal:"), of("MemAvailable:")) {
        (Some(total), Some(free)) => {
            let found = format!("{}, {} available", crate::report::bytes(total), crate::report::bytes(free));
            let advice = "training a VGG16 with Adam at batch 64 holds about 8 GiB: lower data.batch_size";
            Finding::good("memory", found).advise(free < 4 << 30, advice)
        }
        _ => Finding::good("memory", "not reported by this system"),
    }
}

fn devices() -> Vec<Finding> {
    let reports = device::list();
    let mut findings: Vec<Finding> = Vec::new();
    let mut works = Vec::new();
    for report in &reports {
        if report.works {
            let auto = if report.auto { ", taken by --device auto" } else { "" };
            works.push(format!("{} ({}){auto}", report.name, report.description));
        }
    }
    findings.push(Finding::good("devices", works.join("; ")));
    for report in reports.iter().filter(|report| !report.works) {
        let open = report.name.parse::<DeviceName>().and_then(DeviceName::open);
        // A backend that was left out of the build is no fault of the machine.
        if let (Some(reason), false) = (&report.reason, matches!(open, Err(DeviceError::NotBuilt { .. }))) {
            findings.push(Finding::good("", format!("{} does not work", report.name)).advise(true, reason.clone()));
        }
    }
    findings
}

fn cache() -> Finding {
    let Some(dir) = dirs::cache_dir().map(|dir| dir.join("rekindle")) else {
        let advice = "downloads need a folder: set HOME or XDG_CACHE_HOME";
        return Finding::broken("cache", "there is none", advice);
    };
    let shown = dir.display();
    if let Err(error) = std::fs::create_dir_all(&dir).and_then(|()| probe_write(&dir, b"probe").map(|_| ())) {
        let advice = format!("make it writable, or set XDG_CACHE_HOME ({error})");
        return Finding::broken("cache", format!("{shown} cannot be written to"), advice);
    }
    let held = crate::report::bytes(folder_size(&dir));
    let free = free_space(&dir);
    let space = free.map_or_else(String::new, |free| format!(", {} free", crate::report::bytes(free)));
    Finding::good("cache", format!("{shown} holds {held}{space}"))
        .advise(free.is_some_and(|free| free < LITTLE_SPACE), "there is little space left for data sets and weights")
}

/// Speed of writing that waits for the disk, as saving a checkpoint does.
fn disk(runs: &Path) -> Finding {
    // The folder itself may not be there yet.
    let Some(place) = runs.ancestors().map(or_here).find(|place| place.is_dir()) else {
        return Finding::broken("disk", format!("{} is in no folder that exists", runs.display()), "make the folder");
    };
    let probe = vec![0x5a; PROBE];
    let shown = std::path::absolute(&place).unwrap_or(place.clone());
    match probe_write(&place, &probe) {
        Ok(seconds) => {
            let rate = PROBE as f64 / seconds / 1e6;
            let found = format!("{} writes {rate:.0} MB/s, synced", shown.display());
            let advice = "saving is slow here: checkpoint.every_epochs above 1, or checkpoint.weights_only, costs less";
            Finding::good("disk", found).advise(rate < 50.0, advice)
        }
        Err(error) => {
            let advice = format!("choose another folder with --run DIR ({error})");
            Finding::broken("disk", format!("{} cannot be written to", shown.display()), advice)
        }
    }
}

/// An empty path means the current folder.
fn or_here(place: &Path) -> PathBuf {
    if place.as_os_str().is_empty() { PathBuf::from(".") } else { place.to_path_buf() }
}

/// Writes a file and syncs it; gives the seconds. The file is removed again.
fn probe_write(folder: &Path, bytes: &[u8]) -> std::io::Result<f64> {
    let path = folder.join(format!(".rekindle-doctor-{}", std::process::id()));
    let started = Instant::now();
    let written = std::fs::File::create(&path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let seconds = started.elapsed().as_secs_f64();
    let removed = std::fs::remove_file(&path);
    written.and(removed).map(|()| seconds.max(1e-9))
}

fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Free bytes of the file system that holds a folder, by `df`, which every Unix has.
fn free_space(folder: &Path) -> Option<u64> {
    let output = std::process::Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
