//! `rekindle serve` as its clients meet it.

mod answers;
mod client;
mod lifetime;
mod limits;
mod live;
mod segmentation;

use std::fs;

use image::{GrayImage, Luma};

use crate::support::program::Dir;

/// A folder with a run, `run`, and some pictures, `0.png` to `7.png`.
fn trained() -> Dir {
    let dir = Dir::new();
    dir.train("run", &["--epochs", "1"]);
    for i in 0..8_u32 {
        let value = |x: u32, y: u32| if (4 + i..20).contains(&x) && y > i * 2 { 200 - 10 * i as u8 } else { 0 };
        GrayImage::from_fn(28, 28, |x, y| Luma([value(x, y)])).save(dir.path(&format!("{i}.png"))).unwrap();
    }
    dir
}

fn picture(dir: &Dir, i: usize) -> Vec<u8> {
    fs::read(dir.path(&format!("{i}.png"))).unwrap()
}

/// Labels and probabilities as `predict` prints them, of all pictures.
fn predicted(dir: &Dir, model: &str) -> Vec<Vec<(String, f64)>> {
    let files: Vec<String> = (0..8).map(|i| format!("{i}.png")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let arguments = [&["predict", model, "--device", "flex", "--json", "--top", "3"], files.as_slice()].concat();
    let answer = dir.run(&arguments).done().json();
    answer.as_array().unwrap().iter().map(labels).collect()
}

/// Labels and probabilities of an item.
fn labels(item: &serde_json::Value) -> Vec<(String, f64)> {
    let labels = item["labels"].as_array().unwrap().iter();
    labels.map(|label| (label["label"].as_str().unwrap().into(), label["probability"].as_f64().unwrap())).collect()
}

#[track_caller]
fn assert_same(found: &[(String, f64)], expected: &[(String, f64)]) {
    let close = |(a, b): (&(String, f64), &(String, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-5;
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(close), "{found:?}, expected {expected:?}");
}
