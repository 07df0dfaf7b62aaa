//! Transforms against values computed by hand.

use rekindle::data::transform::pixels::{Filter, centre_crop, crop, flip, flip_vertically, luma, resize};
use rekindle::data::transform::{Augment, Extent, Normalize, RandomCrop, RandomHorizontalFlip, Transforms};
use rekindle::data::{Image, Shape};

/// A picture of `width` columns, one channel.
fn grey(width: usize, pixels: &[u8]) -> Image {
    Image { channels: 1, height: pixels.len() / width, width, pixels: pixels.to_vec() }
}

const RGB: Shape = Shape { channels: 3, height: 2, width: 2 };

/// The message that transforms are refused with for coloured pictures.
fn refused(transforms: Transforms, pairs: bool) -> String {
    transforms.prepare_for(RGB, pairs).unwrap_err().to_string()
}

#[test]
fn values_run_from_zero_to_one() {
    let pipeline = Transforms::default().prepare_for(RGB, false).unwrap();
    let mut values = Vec::new();
    pipeline.normalize(RGB, &[0, 255, 51, 102, 1, 2, 3, 4, 5, 6, 7, 8], &mut values);
    assert_eq!(values[..4], [0.0, 1.0, 0.2, 0.4]);
    assert_eq!(values[4], 1.0 / 255.0);
}

#[test]
fn normalization_is_by_channel() {
    let transforms = Transforms {
        normalize: Some(Normalize { mean: vec![0.5, 0.25, 0.0], std: vec![0.5, 0.5, 2.0] }),
        ..Transforms::default()
    };
    let pipeline = transforms.prepare_for(RGB, false).unwrap();
    let mut values = Vec::new();
    pipeline.normalize(RGB, &[0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255], &mut values);
    assert_eq!(values, [-1.0, 1.0, -1.0, 1.0, -0.5, 1.5, -0.5, 1.5, 0.0, 0.5, 0.0, 0.5]);
}

#[test]
fn luma_is_that_of_pil() {
    // PIL: Image.fromarray(...).convert("L").
    let image = Image { channels: 3, height: 1, width: 4, pixels: vec![255, 0, 0, 200, 0, 255, 0, 100, 0, 0, 255, 50] };
    assert_eq!(luma(&image).pixels, [76, 150, 29, 124]);
}

#[test]
fn crops_are_black_outside() {
    let image = grey(3, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(crop(&image, 1, 1, 2, 2, 0).pixels, [5, 6, 8, 9]);
    assert_eq!(crop(&image, -1, -1, 3, 3, 0).pixels, [0, 0, 0, 0, 1, 2, 0, 4, 5]);
    assert_eq!(crop(&image, 2, 2, 2, 3, 0).pixels, [9, 0, 0, 0, 0, 0]);
    assert_eq!(crop(&image, 5, -7, 1, 2, 0).pixels, [0, 0]);
    assert_eq!(crop(&image, 0, 9, 1, 2, 0).pixels, [0, 0]);
    // torchvision rounds half a pixel to even: (3 - 2) / 2 = 0.5 becomes 0.
    assert_eq!(centre_crop(&image, 2, 2, 0).pixels, [1, 2, 4, 5]);
    assert_eq!(centre_crop(&image, 1, 1, 0).pixels, [5]);
    // (5 - 2) / 2 = 1.5 becomes 2.
    assert_eq!(centre_crop(&grey(5, &[1, 2, 3, 4, 5]), 1, 2, 0).pixels, [3, 4]);
}

#[test]
fn flips_mirror_each_row() {
    let mut image = grey(3, &[1, 2, 3, 4, 5, 6]);
    flip(&mut image);
    assert_eq!(image.pixels, [3, 2, 1, 6, 5, 4]);
}

#[test]
fn vertical_flips_mirror_each_column_of_each_channel() {
    let mut image = grey(2, &[1, 2, 3, 4, 5, 6]);
    flip_vertically(&mut image);
    assert_eq!(image.pixels, [5, 6, 3, 4, 1, 2]);
    let mut channels = Image { channels: 2, height: 2, width: 1, pixels: vec![1, 2, 3, 4] };
    flip_vertically(&mut channels);
    assert_eq!(channels.pixels, [2, 1, 4, 3]);
}

#[test]
fn shrinking_averages_what_it_leaves_out() {
    // A bilinear filter twice as wide: weights 1 3 3 1 over 8, without those outside.
    let image = grey(4, &[0, 80, 160, 240]);
    // (3*0 + 3*80 + 160) / 7 = 57.1 and (80 + 3*160 + 3*240) / 7 = 182.9.
    assert_eq!(resize(&image, 1, 2, Filter::Bilinear).pixels, [57, 183]);
    assert_eq!(resize(&image, 1, 4, Filter::Bilinear), image);
    // Enlarging: pixel centres at 0.25 steps between the neighbours.
    let image = grey(2, &[0, 100]);
    assert_eq!(resize(&image, 1, 4, Filter::Bilinear).pixels, [0, 25, 75, 100]);
}

#[test]
fn resizing_is_that_of_pil() {
    let pixels: Vec<u8> = (0..48u32).map(|n| ((n * n * 37 + n * 91) % 256) as u8).collect();
    let image = grey(8, &pixels);
    // PIL: Image.frombytes("L", (8, 6), pixels).resize((4, 3), filter). PIL rounds between its
    // two passes, so that a value may differ by one.
    let near = |filter, expected: [u8; 12]| {
        let made = resize(&image, 3, 4, filter).pixels;
        let apart = made.iter().zip(expected).map(|(&a, b)| a.abs_diff(b)).max();
        assert!(apart <= Some(1), "{made:?} {expected:?}");
    };
    near(Filter::Bilinear, [100, 98, 94, 127, 140, 155, 131, 169, 108, 130, 94, 138]);
    near(Filter::Bicubic, [98, 92, 87, 126, 144, 164, 131, 179, 101, 133, 83, 138]);
}

#[test]
fn one_number_scales_the_shorter_edge() {
    assert_eq!(Extent::Edge(71).shorter_edge(100, 50), (142, 71));
    assert_eq!(Extent::Edge(71).shorter_edge(50, 99), (71, 140));
    assert_eq!(Extent::Exact { height: 3, width: 4 }.shorter_edge(50, 99), (3, 4));
}

#[test]
fn grey_and_channels_go_both_ways() {
    let shape = |grayscale, channels, from: Shape| {
        let transforms = Transforms { grayscale, channels, ..Transforms::default() };
        let pipeline = transforms.prepare_for(from, false).unwrap();
        let made = pipeline.shape_up(Image::filled(from, 9), "picture").unwrap();
        assert_eq!(made.shape(), pipeline.output());
        made.channels
    };
    let grey = Shape { channels: 1, ..RGB };
    assert_eq!(shape(true, None, RGB), 1);
    assert_eq!(shape(true, Some(3), RGB), 3);
    assert_eq!(shape(false, Some(1), RGB), 1);
    assert_eq!(shape(false, Some(3), RGB), 3);
    assert_eq!(shape(false, Some(3), grey), 3);
    assert_eq!(shape(false, None, grey), 1);
}

#[test]
fn unusable_settings_are_refused() {
    let normalize = |mean: &[f32], std: &[f32]| Transforms {
        normalize: Some(Normalize { mean: mean.to_vec(), std: std.to_vec() }),
        ..Transforms::default()
    };
    assert_eq!(
        refused(normalize(&[0.5, 0.5], &[0.5]), false),
        "data.normalize.mean: expected 1 number or 3, one for each channel of the pictures, found \
         2 numbers; give as many numbers as there are channels"
    );
    assert_eq!(
        refused(normalize(&[0.5], &[0.5, 0.0, 0.5]), false),
        "data.normalize.std: expected numbers other than zero, because values are divided by \
         them, found [0.5, 0.0, 0.5]; give the statistics of pixels between 0 and 1"
    );
    assert_eq!(
        refused(normalize(&[f32::NAN], &[0.5]), false),
        "data.normalize.mean: expected finite numbers, found NaN; give the statistics of pixels \
         between 0 and 1"
    );
    let channels = Transforms { channels: Some(2), ..Transforms::default() };
    assert_eq!(refused(channels, false), "data.channels: expected 1 or 3, found 2; the pictures have 3");
    let resize = |edge| Transforms { resize: Some(Extent::Edge(edge)), ..Transforms::default() };
    assert_eq!(
        refused(resize(0), false),
        "data.resize: expected sizes from 1 to 16384 pixels, found 0x0; choose a size that fits \
         the network"
    );
    assert_eq!(
        refused(resize(8), true),
        "data.resize: expected nothing, because pairs of pictures for super-resolution must stay \
         aligned, found a setting; use data.crop for the size of the pictures"
    );
    let flip = Transforms {
        augment: vec![Augment::RandomHorizontalFlip(RandomHorizontalFlip { p: 1.5 })],
        ..Transforms::default()
    };
    assert_eq!(
        refused(flip, false),
        "data.augment.random_horizontal_flip.p: expected a probability from 0 to 1, found 1.5; \
         leave it out for 0.5"
    );
    let crop = Transforms {
        augment: vec![Augment::RandomCrop(RandomCrop { size: Extent::Edge(4), padding: 0 })],
        ..Transforms::default()
    };
    assert_eq!(
        refused(crop, true),
        "data.augment.random_crop: expected nothing, because pairs of pictures for \
         super-resolution must stay aligned, found a setting; use data.crop for the size of the \
         pictures"
    );
}
