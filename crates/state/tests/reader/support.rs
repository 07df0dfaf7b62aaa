//! Fixtures beside the tests, and the larger set beside the repository where there is one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rekindle_state::{Listing, TensorEntry, open};
use serde_json::Value as Json;

/// The fixtures that are part of the repository.
pub fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A folder of the larger set; `None`, said loudly, where it is not there.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there; only the fixtures in the repository were checked", path.display());
    None
}

pub fn json(path: &Path) -> Json {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// How long this thread has worked: time in which other programs had the processor does not count, where the system tells.
pub struct Stopwatch {
    wall: Instant,
    worked: Option<Duration>,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { wall: Instant::now(), worked: worked() }
    }

    pub fn taken(&self) -> Duration {
        match (self.worked, worked()) {
            (Some(before), Some(after)) => after - before,
            _ => self.wall.elapsed(),
        }
    }
}

/// Linux counts the nanoseconds of each thread.
fn worked() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

/// Lists a file with hashes; panics when it takes longer than a second.
pub fn listing(path: &Path) -> Result<Listing, rekindle_state::Error> {
    let watch = Stopwatch::start();
    let listing = open(path).and_then(|file| file.listing(true));
    let taken = watch.taken();
    assert!(taken < Duration::from_secs(1), "{} took {taken:?}", path.display());
    listing
}

/// What a listing has that differs from what is expected of its tensors.
pub fn differences(listing: &Listing, expected: &[Json]) -> Vec<String> {
    let mut out = Vec::new();
    let names: Vec<_> = listing.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let wanted: Vec<_> = expected.iter().map(|tensor| tensor["name"].as_str().unwrap_or_default()).collect();
    if names != wanted {
        out.push(format!("tensors {names:?}, expected {wanted:?}"));
        return out;
    }
    for (tensor, expected) in listing.tensors.iter().zip(expected) {
        tensor_differences(tensor, expected, &mut out);
    }
    out
}

fn tensor_differences(tensor: &TensorEntry, expected: &Json, out: &mut Vec<String>) {
    let found = serde_json::to_value(tensor).unwrap_or_default();
    for (key, value) in expected.as_object().into_iter().flatten() {
        if found.get(key) != Some(value) {
            out.push(format!("tensor '{}': {key} is {:?}, expected {value}", tensor.name, found.get(key)));
        }
    }
}

/// What a listing has that differs from what is expected of its other values.
pub fn value_differences(listing: &Listing, expected: &[Json]) -> Vec<String> {
    let mut out = Vec::new();
    for expected in expected {
        let name = expected["name"].as_str().unwrap_or_default();
        let Some(found) = listing.values.get(name) else {
            out.push(format!("value '{name}' is missing"));
            continue;
        };
        let kind = expected["type"].as_str().unwrap_or_default();
        let same = match (kind, expected.get("value")) {
            (kind, Some(value)) if kind.starts_with("numpy.") => {
                found.to_string().to_lowercase() == value.as_str().unwrap_or_default().to_lowercase()
            }
            // The JSON parser rounds the last bit of a float.
            ("float", Some(Json::Number(value))) => match (found.as_f64(), value.as_f64()) {
                (Some(found), Some(value)) => (found - value).abs() <= value.abs() * f64::EPSILON,
                _ => false,
            },
            (_, Some(value)) => found == value,
            (kind, None) => {
                found["type"] == kind && (expected.get("sha256").is_none() || found["sha256"] == expected["sha256"])
            }
        };
        if !same {
            out.push(format!("value '{name}' is {found}, expected {expected}"));
        }
    }
    if listing.values.len() != expected.len() {
        let names: Vec<_> = listing.values.keys().take(20).collect();
        out.push(format!("{} values, expected {}: {names:?}", listing.values.len(), expected.len()));
    }
    out
}
