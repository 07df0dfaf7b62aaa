//! The `[data]` section of a recipe.

use std::path::Path;

use burn::tensor::Device;
use rekindle::data::transform::{Augment, Extent};
use rekindle::data::{DataConfig, DatasetName, Split, open};
use tempfile::tempdir;

use super::folder::write_image;
use super::{message, write_idx_set};

fn parse(text: &str) -> DataConfig {
    toml::from_str(text).unwrap()
}

/// What the parser says to a section, without the lines that point at the place.
fn refused(text: &str) -> String {
    toml::from_str::<DataConfig>(text).unwrap_err().message().to_owned()
}

#[test]
fn the_syntax_of_recipes_is_read() {
    let config = parse(
        r#"
        name = "fashion-mnist"
        dir = "../datasets/fashion-mnist-sample"
        batch_size = 32
        workers = 0
        normalize = { mean = [0.5], std = [0.5] }
        augment = [{ random_crop = { size = 32, padding = 4 } }, "random_horizontal_flip"]
        resize = 71
        center_crop = { height = 64, width = 48 }
        limit = { train = 100 }
        "#,
    );
    assert_eq!(config.resize, Some(Extent::Edge(71)));
    assert_eq!(config.center_crop, Some(Extent::Exact { height: 64, width: 48 }));
    assert_eq!(config.augment.len(), 2);
    assert!(matches!(&config.augment[1], Augment::RandomHorizontalFlip(flip) if flip.p == 0.5));
    assert!(config.transforms(Split::Test).augment.is_empty());
    assert_eq!(config.transforms(Split::Train).augment, config.augment);
    // What is stored in a checkpoint reads back the same.
    assert_eq!(parse(&toml::to_string(&config).unwrap()), config);

    let defaults = parse("name = \"mnist\"");
    assert_eq!(defaults, DataConfig::new(DatasetName::MNIST));
    assert_eq!(parse(&toml::to_string(&defaults).unwrap()), defaults);
    let flip = parse("name = \"mnist\"\naugment = [{ random_horizontal_flip = { p = 0.25 } }]\nresize = [3, 4]");
    assert!(matches!(&flip.augment[0], Augment::RandomHorizontalFlip(flip) if flip.p == 0.25));
    assert_eq!(flip.resize, Some(Extent::Exact { height: 3, width: 4 }));
}

#[test]
fn slips_are_named() {
    assert_eq!(
        refused("name = \"imagenet\""),
        "unknown variant `imagenet`, expected one of `mnist`, `fashion-mnist`, \
         `fashion-mnist-sample`, `cifar-10`, `folder`, `segmentation-folder`, `super-resolution`"
    );
    assert!(refused("name = \"mnist\"\nbatchsize = 3").starts_with("unknown field `batchsize`"));
    assert_eq!(
        refused("name = \"mnist\"\naugment = [\"random_flip\"]"),
        "unknown variant `random_flip`, expected one of `random_crop`, `random_horizontal_flip`, `random_vertical_flip`, `random_resized_crop`"
    );
    assert_eq!(
        refused("name = \"mnist\"\naugment = [\"random_crop\"]"),
        "random_crop needs a size: { random_crop = { size = 32, padding = 4 } }"
    );
    assert_eq!(
        refused("name = \"mnist\"\naugment = [{ random_crop = { size = 3 }, random_horizontal_flip = {} }]"),
        "\"random_horizontal_flip\" must be an entry of its own: [{ ... }, { ... }]"
    );
    assert_eq!(
        refused("name = \"mnist\"\nresize = \"large\""),
        "invalid type: string \"large\", expected a size as 32, [32, 48] or { height = 32, width = 48 }"
    );
    assert_eq!(
        refused("name = \"mnist\"\nresize = -3"),
        "invalid value: integer `-3`, expected a size as 32, [32, 48] or { height = 32, width = 48 }"
    );
}

#[test]
fn the_sample_needs_no_folder() {
    for text in
        ["name = \"fashion-mnist-sample\"", "name = \"fashion-mnist\"\ndir = \"../datasets/fashion-mnist-sample\""]
    {
        let set = open(&parse(text), Path::new("/nowhere"), Split::Train).unwrap();
        assert_eq!((set.len(), set.num_classes()), (6000, 10));
        assert_eq!(set.name(), "fashion-mnist-sample (train)");
    }
    // The shipped folder holds the same.
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let shipped = parse("name = \"fashion-mnist\"\ndir = \"../datasets/fashion-mnist-sample\"\nlimit = { test = 7 }");
    let set = open(&shipped, &here, Split::Test).unwrap();
    assert_eq!(set.len(), 7);
}

#[test]
fn missing_data_names_the_command_that_fetches_it() {
    let dir = tempdir().unwrap();
    let refused = |text: &str| message(open(&parse(text), dir.path(), Split::Train).map(|_| ()), dir.path());
    assert_eq!(
        refused("name = \"cifar-10\"\ndir = \"gone\""),
        "DIR/gone: there is no such file or folder; run `rekindle datasets fetch cifar-10` and \
         leave out data.dir, or correct data.dir"
    );
    assert_eq!(
        refused("name = \"mnist\"\ndir = \"fashion-mnist-sample\""),
        "DIR/fashion-mnist-sample: there is no such file or folder; run `rekindle datasets fetch \
         mnist` and leave out data.dir, or correct data.dir"
    );
    assert_eq!(
        refused("name = \"folder\""),
        "data.dir: expected the folder of the pictures, found nothing; set data.dir"
    );
    assert_eq!(
        refused("name = \"mnist\"\ncrop = 3"),
        "data.crop: expected nothing for data.name = \"mnist\", found a setting of \
         super-resolution; remove it, or set data.name = \"super-resolution\""
    );
    assert_eq!(
        refused("name = \"super-resolution\"\ndir = \".\""),
        "data.source: expected the set that the pictures come from, such as \"cifar-10\" or \
         \"folder\", found nothing; set data.source"
    );
    assert_eq!(
        refused("name = \"fashion-mnist-sample\"\nlimit = { train = 0 }"),
        "data.limit.train: expected at least 1 picture, found 0; leave it out to use all"
    );
}

#[test]
fn each_kind_opens() {
    let dir = tempdir().unwrap();
    write_idx_set(dir.path(), 20);
    let device = Device::flex();
    let loader = |text: &str| parse(text).loader(dir.path(), Split::Train, 1, &device).unwrap();
    let mnist = loader("name = \"mnist\"\ndir = \".\"\nlimit = { train = 5 }\nbatch_size = 2");
    assert_eq!((mnist.num_items(), mnist.num_batches()), (5, 3));

    for n in 0..10 {
        write_image(&dir.path().join(format!("pictures/a/{n}.png")), 9, 9, [n; 3]);
        write_image(&dir.path().join(format!("pictures/b/{n}.png")), 9, 9, [n; 3]);
    }
    let folder = loader("name = \"folder\"\ndir = \"pictures\"\nlimit = { train = 4 }\nresize = 4");
    assert_eq!(folder.num_items(), 4);
    assert_eq!(folder.input_shape().to_string(), "3x4x4");
    assert_eq!(folder.dataset().classes(), ["a", "b"]);
    let pairs =
        loader("name = \"super-resolution\"\nsource = \"folder\"\ndir = \"pictures\"\ncrop = 8\nupscale_factor = 4");
    assert_eq!(pairs.input_shape().to_string(), "1x2x2");
    assert_eq!(pairs.num_items(), 18);
}
