//! Pairs of images.

use std::path::Path;
use std::sync::Arc;

use burn::data::dataset::Dataset;
use rekindle::data::{DataError, FolderDataset, ImageDataset, Split, SuperResolution, Target};
use tempfile::tempdir;

use super::folder::write_image;
use super::message;

fn pairs(dir: &Path, factor: usize, crop: Option<usize>) -> Result<SuperResolution, DataError> {
    let source = FolderDataset::open_unlabelled(dir, Split::Train)?;
    SuperResolution::new(Arc::new(source), factor, crop)
}

#[test]
fn targets_are_luma_and_inputs_are_smaller() {
    let dir = tempdir().unwrap();
    write_image(&dir.path().join("1.png"), 10, 8, [255, 0, 0]);
    let set = pairs(dir.path(), 3, None).unwrap();
    assert_eq!(set.shape().to_string(), "1x2x3");
    assert_eq!(set.target_shape().unwrap().to_string(), "1x6x9");
    assert_eq!(set.num_classes(), 0);
    let sample = set.get(0).unwrap();
    assert_eq!(sample.image.pixels, [76; 6]);
    let Target::Image(target) = sample.target else {
        panic!("an image");
    };
    assert_eq!(target.pixels, [76; 54]);

    let set = pairs(dir.path(), 3, Some(7)).unwrap();
    assert_eq!(set.target_shape().unwrap().to_string(), "1x6x6");
}

#[test]
fn pictures_that_are_too_small_are_named() {
    let dir = tempdir().unwrap();
    write_image(&dir.path().join("1.png"), 10, 8, [255, 0, 0]);
    let refused = |factor, crop| message(pairs(dir.path(), factor, crop), dir.path());
    assert_eq!(
        refused(3, Some(9)),
        "DIR/1.png: expected an image that data.crop = 9 and the factor 3 fit into, found 8x10 \
         pixels; choose another data.crop"
    );
    assert_eq!(
        refused(9, None),
        "DIR/1.png: expected at least 9x9 pixels, found 8x10 pixels; remove the image or lower \
         data.upscale_factor"
    );
    assert_eq!(
        refused(1, None),
        "data.upscale_factor: expected a whole number of at least 2, found 1; set \
         data.upscale_factor = 2"
    );
}
