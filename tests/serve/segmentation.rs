//! A network for segmentation through the program: trained, evaluated, asked, reported, served.

use std::fs;

use burn::data::dataset::Dataset;
use rekindle::data::{SegmentationFolder, Split, Target};

use super::client::Server;
use crate::support::program::Dir;

const RECIPE: &str = r#"
name = "shapes"
model = { name = "lraspp_mobilenet_v3_large", classes = 3 }

[data]
name = "segmentation-folder"
dir = "data"
batch_size = 4
workers = 0

[optimizer]
name = "sgd"
lr = 0.01
momentum = 0.9

[train]
epochs = 1
seed = 3

[checkpoint]
monitor = "valid.pixel_accuracy"
"#;

/// Twelve images of 64 by 48: a light square of one class, a dark one of the other, at places that differ.
fn shapes(dir: &Dir) {
    fs::create_dir_all(dir.path("data")).unwrap();
    fs::write(dir.path("data/classes.txt"), "ground\nlight\ndark\n").unwrap();
    for n in 0..12_u32 {
        let split = if n < 8 { "train" } else { "test" };
        let class = |x: u32, y: u32| match () {
            () if (n * 3..n * 3 + 20).contains(&x) && y < 24 => 1_u8,
            () if (30..55).contains(&x) && (25 + n..40 + n).contains(&y) => 2,
            () => 0,
        };
        let value = |x, y| image::Rgb([[90, 90, 90], [230, 220, 200], [10, 20, 30]][usize::from(class(x, y))]);
        let [images, masks] = ["images", "masks"].map(|kind| dir.path(&format!("data/{split}/{kind}")));
        fs::create_dir_all(&images).unwrap();
        fs::create_dir_all(&masks).unwrap();
        image::RgbImage::from_fn(64, 48, value).save(images.join(format!("{n}.png"))).unwrap();
        let mask = image::GrayImage::from_fn(64, 48, |x, y| image::Luma([class(x, y)]));
        mask.save(masks.join(format!("{n}.png"))).unwrap();
    }
}

#[test]
fn a_network_for_segmentation_goes_through_every_verb() {
    let dir = Dir::new();
    shapes(&dir);
    fs::write(dir.path("shapes.toml"), RECIPE).unwrap();
    dir.run(&["train", "shapes.toml", "--run", "run", "--device", "flex"]).done();
    let eval = dir.run(&["eval", "run", "--device", "flex", "--json"]).done().json();
    let accuracy = eval["pixel_accuracy"].as_f64().unwrap();

    // The masks of `predict` are those that `eval` counts.
    let image = "data/test/images/9.png";
    for n in 8..12 {
        let image = format!("data/test/images/{n}.png");
        dir.run(&["predict", "run", &image, "--device", "flex", "--output", "answers/test/masks"]).done();
        fs::create_dir_all(dir.path("answers/test/images")).unwrap();
        fs::copy(dir.path(&image), dir.path(&format!("answers/test/images/{n}-mask.png"))).unwrap();
    }
    fs::copy(dir.path("data/classes.txt"), dir.path("answers/classes.txt")).unwrap();
    fs::create_dir_all(dir.path("answers/train/images")).unwrap();
    let masks = |folder: &str| -> Vec<Vec<u8>> {
        let set = SegmentationFolder::open(&dir.path(folder), Split::Test).unwrap();
        let mask = |at: usize| match set.get(at).unwrap().target {
            Target::Mask(mask) => mask.pixels,
            other => panic!("{other:?}"),
        };
        (0..set.len()).map(mask).collect()
    };
    let (found, truth) = (masks("answers"), masks("data"));
    let right = found.iter().flatten().zip(truth.iter().flatten()).filter(|(found, truth)| found == truth).count();
    let share = right as f64 / truth.iter().flatten().count() as f64;
    assert!((share - accuracy).abs() < 1e-6, "{share} for {accuracy}");

    dir.run(&["report", "run", "--device", "flex"]).done();
    let page = fs::read_to_string(dir.path("run/report.html")).unwrap();
    for text in ["mean IoU", "Scores of each class", "Worst images", "Confusion matrix", "ground taken for dark"] {
        assert!(page.contains(text), "the page has no '{text}'");
    }
    assert!(page.contains(&format!("right pixels {:.2} %", accuracy * 100.0)), "another accuracy than {accuracy}");

    let server = Server::start(&dir, &["run"]);
    let sent = fs::read(dir.path(image)).unwrap();
    let headers = [("Content-Type", "image/png"), ("Accept", "image/png")];
    let reply = server.ask("POST", "/predict", &headers, &sent);
    assert_eq!(reply.body, fs::read(dir.path("answers/test/masks/9-mask.png")).unwrap());
    let json = server.post("/predict", "image/png", &sent).ok().json();
    let shares = json["predictions"][0]["labels"].as_array().unwrap();
    let sum: f64 = shares.iter().map(|label| label["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{json}");
}
