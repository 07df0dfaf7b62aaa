//! Data sets, transforms, the loader and downloads.

mod cifar;
mod config;
mod damage;
mod fetch;
mod folder;
mod idx;
mod loader;
mod published;
mod segmentation;
mod super_resolution;
mod transform;

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rekindle::data::DataError;

/// Packs bytes by gzip.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An idx file of bytes.
fn idx_file(magic: u32, sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = magic.to_be_bytes().to_vec();
    for size in sizes {
        file.extend(size.to_be_bytes());
    }
    file.extend(values);
    file
}

/// A folder of idx files for the train split: `count` images of 2x3, values counted up.
fn write_idx_set(dir: &Path, count: u32) {
    let pixels: Vec<u8> = (0..count * 6).map(|value| value as u8).collect();
    let labels: Vec<u8> = (0..count).map(|value| (value % 10) as u8).collect();
    let images = idx_file(0x803, &[count, 2, 3], &pixels);
    fs::write(dir.join("train-images-idx3-ubyte"), images).unwrap();
    let labels = idx_file(0x801, &[count], &labels);
    fs::write(dir.join("train-labels-idx1-ubyte"), labels).unwrap();
}

/// The message of an error, with the test's folder written as DIR.
fn message<T>(result: Result<T, DataError>, dir: &Path) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string().replace(&dir.display().to_string(), "DIR"),
    }
}
