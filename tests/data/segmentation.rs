//! Folders of images and masks.

use std::fs;
use std::path::Path;

use burn::data::dataset::Dataset;
use burn::tensor::Device;
use image::{GrayImage, Luma};
use rekindle::data::{BatchTarget, DataConfig, IGNORED, ImageDataset, SegmentationFolder, Split, Target};
use tempfile::tempdir;

use super::folder::write_image;
use super::message;
use crate::support::program::Dir;

/// A mask with a palette, 4 bits a pixel: the class of each column.
fn write_palette(path: &Path, columns: [u8; 4], height: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 4, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Four);
    encoder.set_palette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200].as_slice());
    let row = [columns[0] << 4 | columns[1], columns[2] << 4 | columns[3]];
    encoder.write_header().unwrap().write_image_data(&row.repeat(height as usize)).unwrap();
}

fn write_grey(path: &Path, width: u32, height: u32, class: impl Fn(u32, u32) -> u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    GrayImage::from_fn(width, height, |x, y| Luma([class(x, y)])).save(path).unwrap();
}

fn parse(text: &str) -> DataConfig {
    toml::from_str(text).unwrap()
}

#[test]
fn numbers_of_masks_are_read_whatever_their_depth() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("classes.txt"), "ground\ncat\ndog\n\n").unwrap();
    write_image(&dir.path().join("train/images/deep/a.png"), 4, 2, [1, 2, 3]);
    write_palette(&dir.path().join("train/masks/deep/a.png"), [0, 1, 2, 1], 2);
    write_image(&dir.path().join("val/images/b.png"), 2, 2, [1, 2, 3]);
    write_grey(&dir.path().join("val/masks/b.png"), 2, 2, |x, y| if (x, y) == (0, 0) { IGNORED } else { 2 });
    let train = SegmentationFolder::open(dir.path(), Split::Train).unwrap();
    assert_eq!((train.len(), train.classes()), (1, &["ground", "cat", "dog"].map(String::from)[..]));
    let Target::Mask(mask) = train.get(0).unwrap().target else { panic!("no mask") };
    assert_eq!(mask.pixels, [0, 1, 2, 1, 0, 1, 2, 1]);
    let test = SegmentationFolder::open(dir.path(), Split::Test).unwrap();
    let Target::Mask(mask) = test.get(0).unwrap().target else { panic!("no mask") };
    assert_eq!(mask.pixels, [IGNORED, 2, 2, 2]);
}

#[test]
fn masks_follow_their_images() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("classes.txt"), "ground\ncat").unwrap();
    // The image has the class of each pixel in its colours: wherever they go, they must stay together.
    for n in 0..10 {
        let (image, mask) = (dir.path().join(format!("images/{n}.png")), dir.path().join(format!("masks/{n}.png")));
        let class = |x: u32, y: u32| u8::from(x * 7 + y * 3 > 40 + n);
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        image::RgbImage::from_fn(16, 12, |x, y| image::Rgb([255 * class(x, y); 3])).save(&image).unwrap();
        write_grey(&mask, 16, 12, class);
    }
    let text = "name = \"segmentation-folder\"\ndir = \".\"\nbatch_size = 9\n\
                augment = [{ random_crop = { size = 14, padding = 3 } }, \"random_horizontal_flip\", \"random_vertical_flip\"]";
    let loader = parse(text).loader(dir.path(), Split::Train, 3, &Device::flex()).unwrap();
    let batch = loader.batches(1, 0).next().unwrap().unwrap();
    let BatchTarget::Masks(masks) = batch.target else { panic!("no masks") };
    assert_eq!(masks.dims(), [9, 14, 14]);
    let classes: Vec<i64> = masks.into_data().iter().collect();
    let images = batch.input.images().unwrap().clone();
    let values: Vec<f32> = images.narrow(1, 0, 1).into_data().iter().collect();
    assert_eq!(classes.len(), values.len());
    let outside = i64::from(IGNORED);
    assert!(classes.contains(&outside) && classes.contains(&0) && classes.contains(&1));
    // Beyond the image, padding is black and counts for nothing.
    assert!(classes.iter().zip(&values).all(|(class, value)| *value == if *class == 1 { 1.0 } else { 0.0 }));
}

#[test]
fn what_is_wrong_with_a_mask_is_said() {
    let dir = tempdir().unwrap();
    let open = || SegmentationFolder::open(dir.path(), Split::Train);
    write_image(&dir.path().join("train/images/a.png"), 4, 2, [1, 2, 3]);
    assert_eq!(
        message(open().map(|_| ()), dir.path()),
        "DIR/classes.txt: the names of the classes are not there; write them, one a line in the order of the numbers in the \
         masks, the background first"
    );
    fs::write(dir.path().join("classes.txt"), "ground\ncat").unwrap();
    assert!(message(open().map(|_| ()), dir.path()).starts_with("DIR/train/masks: there is no such folder"));
    write_grey(&dir.path().join("train/masks/b.png"), 4, 2, |_, _| 0);
    assert_eq!(
        message(open().map(|_| ()), dir.path()),
        "DIR/train/images/a.png: the image has no mask; add one of the same name to masks/, as PNG"
    );
    write_grey(&dir.path().join("train/masks/a.png"), 3, 2, |_, _| 0);
    let wrong = message(open().unwrap().get(0).map(|_| ()), dir.path());
    assert!(wrong.starts_with("DIR/train/masks/a.png: expected 4x2 pixels"), "{wrong}");
    write_grey(&dir.path().join("train/masks/a.png"), 4, 2, |_, _| 7);
    assert_eq!(
        message(open().unwrap().get(0).map(|_| ()), dir.path()),
        "DIR/train/masks/a.png: expected classes below 2, or 255 where none counts, found 7; name all classes, or correct the \
         mask"
    );
    write_image(&dir.path().join("train/masks/a.png"), 4, 2, [0; 3]);
    assert_eq!(
        message(open().unwrap().get(0).map(|_| ()), dir.path()),
        "DIR/train/masks/a.png: expected a mask: a PNG file with a palette or grey, of at most 8 bits, found Rgb of Eight bits; \
         save the numbers of the classes as grey values"
    );
}

#[test]
fn a_network_for_segmentation_trains_and_is_evaluated() {
    let dir = Dir::new();
    fs::create_dir_all(dir.path("pets")).unwrap();
    fs::write(dir.path("pets/classes.txt"), "ground\npet").unwrap();
    for n in 0..6_u8 {
        write_image(&dir.path(&format!("pets/images/{n}.png")), 32, 32, [20 * n, 99, 255 - 30 * n]);
        write_grey(&dir.path(&format!("pets/masks/{n}.png")), 32, 32, |x, _| u8::from(x > 12));
    }
    let recipe = "name = \"pets\"\nmodel = { name = \"lraspp_mobilenet_v3_large\", classes = 2 }\n\
                  data = { name = \"segmentation-folder\", dir = \"pets\", batch_size = 5 }\n\
                  optimizer = { name = \"sgd\", lr = 0.01 }\ntrain = { epochs = 1 }\n\
                  checkpoint = { monitor = \"valid.pixel_accuracy\" }";
    fs::write(dir.path("pets.toml"), recipe).unwrap();
    let answer = dir.run(&["train", "pets.toml", "--device", "flex", "--run", "run"]).done();
    assert!(answer.stderr.contains("pixel_accuracy") && answer.stderr.contains("epoch 1/1"), "{}", answer.stderr);
    let evaluated = dir.run(&["eval", "run", "--json", "--device", "flex"]).done().json();
    assert_eq!(evaluated["items"], 1);
    assert!((0.0..=1.0).contains(&evaluated["pixel_accuracy"].as_f64().unwrap()), "{evaluated}");
    // A classifier does not take masks, and this network no classes of images.
    let other = recipe.replace("lraspp_mobilenet_v3_large", "resnet18").replace("pixel_accuracy", "loss");
    fs::write(dir.path("other.toml"), other).unwrap();
    let refused = dir.run(&["train", "other.toml", "--device", "flex"]);
    assert!(refused.error().contains("for each pixel"), "{}", refused.stderr);
}
