//! The ordered loader: the same batches for any number of threads and from any batch on.

use std::sync::Arc;
use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use rekindle::data::transform::{Augment, Extent, Normalize, RandomCrop, RandomHorizontalFlip, Transforms};
use rekindle::data::{
    Batch, BatchTarget, DataError, FolderDataset, Image, ImageDataset, Loader, LoaderConfig, Sample, Shape, Split,
    SuperResolution, Target, cifar, sample,
};
use rekindle::random::order;
use tempfile::tempdir;

use super::folder::write_image;

/// The values and the targets of a batch.
type Values = (Vec<f32>, Vec<i64>);

fn values(batch: Batch) -> Values {
    let input = batch.input.images().unwrap().to_data().try_to_vec::<f32>().unwrap();
    let classes = match batch.target {
        BatchTarget::Classes(classes) => classes.into_data().convert::<i64>().try_to_vec::<i64>().unwrap(),
        BatchTarget::Images(_) | BatchTarget::Masks(_) => panic!("classes"),
    };
    assert_eq!(classes.len(), batch.len);
    (input, classes)
}

fn config(workers: usize) -> LoaderConfig {
    LoaderConfig { batch_size: 64, seed: 42, shuffle: true, workers, drop_last: false }
}

fn augmented() -> Transforms {
    Transforms {
        augment: vec![
            Augment::RandomCrop(RandomCrop { size: Extent::Edge(28), padding: 4 }),
            Augment::RandomHorizontalFlip(RandomHorizontalFlip { p: 0.5 }),
        ],
        normalize: Some(Normalize { mean: vec![0.5], std: vec![0.5] }),
        ..Transforms::default()
    }
}

fn test_images() -> Arc<dyn ImageDataset> {
    Arc::new(sample(Split::Test).unwrap())
}

fn loader(transforms: &Transforms, config: LoaderConfig) -> Loader {
    Loader::new(test_images(), transforms, config, &Device::flex()).unwrap()
}

fn all(loader: &Loader, epoch: usize, start: usize) -> Vec<Values> {
    loader.batches(epoch, start).map(|batch| values(batch.unwrap())).collect()
}

#[test]
fn orders_are_fixed_for_ever() {
    // Written down once: a run resumed by a later release goes on in the same order.
    assert_eq!(order(42, 1, 10), FIRST);
    assert_eq!(order(42, 2, 10), SECOND);
    let mut sorted = order(7, 3, 1000);
    assert_ne!(sorted, order(8, 3, 1000));
    sorted.sort_unstable();
    assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    assert!(order(1, 1, 0).is_empty());
    assert_eq!(order(1, 1, 1), [0]);
}

// Computed by an independent implementation of ChaCha8 and of the shuffle.
const FIRST: [usize; 10] = [1, 6, 3, 8, 5, 2, 7, 4, 0, 9];
const SECOND: [usize; 10] = [7, 2, 1, 0, 5, 3, 8, 9, 4, 6];

#[test]
fn threads_do_not_change_batches() {
    for transforms in [Transforms::default(), augmented()] {
        let inline = all(&loader(&transforms, config(0)), 3, 0);
        assert_eq!(inline.len(), 16);
        assert_eq!(inline[15].1.len(), 1000 - 15 * 64);
        for workers in [1, 4, 50] {
            assert!(inline == all(&loader(&transforms, config(workers)), 3, 0));
        }
    }
}

#[test]
fn resuming_within_an_epoch_continues_it() {
    for workers in [0, 3] {
        let loader = loader(&augmented(), config(workers));
        let whole = all(&loader, 5, 0);
        for start in [1, 7, 15] {
            assert!(whole[start..] == all(&loader, 5, start));
        }
        assert!(all(&loader, 5, 16).is_empty());
        assert!(all(&loader, 5, 99).is_empty());
        // Every epoch differs, in order and in augmentation.
        assert!(whole != all(&loader, 6, 0));
    }
}

#[test]
fn augmentation_follows_the_picture_not_its_place() {
    let transforms = augmented();
    let in_order = LoaderConfig { shuffle: false, batch_size: 1, ..config(0) };
    let single = all(&loader(&transforms, in_order), 2, 0);
    let shuffled = all(&loader(&transforms, LoaderConfig { batch_size: 1, ..config(2) }), 2, 0);
    for (place, index) in order(42, 2, 1000).into_iter().enumerate() {
        assert!(shuffled[place] == single[index]);
    }
    // Not augmented, they are the images as they are.
    let plain = all(&loader(&Transforms::default(), in_order), 2, 0);
    assert!(plain != single);
}

#[test]
fn the_fast_path_gives_the_same_values() {
    // A crop of the full size without padding moves nothing, but takes the general path.
    let general = Transforms {
        augment: vec![Augment::RandomCrop(RandomCrop { size: Extent::Edge(28), padding: 0 })],
        ..Transforms::default()
    };
    assert!(all(&loader(&general, config(0)), 1, 0) == all(&loader(&Transforms::default(), config(0)), 1, 0));
}

#[test]
fn the_fast_path_is_not_taken_when_colours_become_grey() {
    let dir = tempdir().unwrap();
    let mut records = Vec::new();
    for label in 0..4u8 {
        records.push(label);
        for value in [255, 0, 0] {
            records.extend([value; 1024]);
        }
    }
    let file = dir.path().join("red.bin");
    std::fs::write(&file, records).unwrap();
    let set = cifar::open(&file, Split::Train).unwrap();
    let transforms = Transforms { grayscale: true, channels: Some(3), ..Transforms::default() };
    let loader = Loader::new(Arc::new(set), &transforms, config(0), &Device::flex()).unwrap();
    let (input, _) = all(&loader, 0, 0).remove(0);
    assert_eq!(input, [76.0 / 255.0; 4 * 3072]);
}

/// A set that breaks in the middle.
struct Breaking(Vec<String>);

impl Dataset<Sample, DataError> for Breaking {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        assert!(index < 200, "a fault of this set, as the test wants it");
        Ok(Sample { image: Image::filled(self.shape(), 1), target: Target::Class(0) })
    }

    fn len(&self) -> usize {
        1000
    }
}

impl ImageDataset for Breaking {
    fn name(&self) -> &str {
        "breaking"
    }

    fn shape(&self) -> Shape {
        Shape { channels: 1, height: 2, width: 2 }
    }

    fn classes(&self) -> &[String] {
        &self.0
    }
}

#[test]
fn a_thread_that_dies_is_an_error() {
    let set = Arc::new(Breaking(vec!["only".to_owned()]));
    let config = LoaderConfig { shuffle: false, ..config(2) };
    let loader = Loader::new(set, &Transforms::default(), config, &Device::flex()).unwrap();
    let batches: Vec<_> = loader.batches(0, 0).collect();
    assert_eq!(batches.len(), 4);
    assert_eq!(
        batches[3].as_ref().unwrap_err().to_string(),
        "data.workers: a loader thread ended before its work was done; try data.workers = 0"
    );
}

#[test]
fn the_last_batch_can_be_left_out() {
    let loader = loader(&Transforms::default(), LoaderConfig { drop_last: true, ..config(1) });
    assert_eq!((loader.num_batches(), loader.num_items()), (15, 960));
    assert_eq!(all(&loader, 1, 0).len(), 15);
}

#[test]
fn giving_up_early_ends_the_threads() {
    let loader = loader(&Transforms::default(), config(4));
    for _ in 0..20 {
        assert!(loader.batches(1, 0).next().unwrap().is_ok());
    }
}

#[test]
fn it_is_a_loader_for_burns_learner() {
    let own = loader(&augmented(), config(2));
    own.seek(4, 3);
    let expected = all(&own, 4, 3);
    let burn: Arc<dyn DataLoader<Batch>> = Arc::new(own.clone());
    assert_eq!(burn.num_items(), 1000);
    let moved = burn.to_device(&Device::flex());
    let got: Vec<Values> = moved.iter().map(|batch| values(batch.unwrap())).collect();
    assert!(got == expected);
    let mut batches = burn.iter();
    assert_eq!(batches.progress().items_processed, 192);
    batches.next();
    assert_eq!(batches.progress().items_processed, 256);
    assert_eq!(batches.progress().items_total, 1000);
    drop(batches);

    // A part of the set: its own permutation of its own images.
    own.seek(4, 0);
    let part = burn.slice(100, 150);
    assert_eq!(part.num_items(), 50);
    let got: Vec<i64> = part.iter().flat_map(|batch| values(batch.unwrap()).1).collect();
    let set = test_images();
    let labels = set.packed().unwrap().labels;
    let expected: Vec<i64> = order(42, 4, 50).into_iter().map(|at| i64::from(labels[100 + at])).collect();
    assert_eq!(got, expected);
}

#[test]
fn damaged_and_odd_pictures_end_the_epoch_with_an_error() {
    let dir = tempdir().unwrap();
    for n in 0..6 {
        write_image(&dir.path().join(format!("train/a/{n}.png")), 4, 4, [n; 3]);
    }
    write_image(&dir.path().join("train/a/3.png"), 5, 4, [0; 3]);
    for workers in [0, 2] {
        let config = LoaderConfig { shuffle: false, batch_size: 2, ..config(workers) };
        let load = |transforms: &Transforms| {
            let set = FolderDataset::open(dir.path(), Split::Train).unwrap();
            let loader = Loader::new(Arc::new(set), transforms, config, &Device::flex()).unwrap();
            loader.batches(0, 0).map(|batch| batch.map(values)).collect::<Vec<_>>()
        };
        let batches = load(&Transforms::default());
        assert_eq!(batches.len(), 2);
        assert_eq!(
            batches[1].as_ref().unwrap_err().to_string(),
            format!(
                "{}: expected 3x4x4 (channels x height x width), the size of the first image, \
                 found 3x4x5; set data.resize = [height, width], or data.crop for \
                 super-resolution",
                dir.path().join("train/a/3.png").display()
            )
        );
        let resized = Transforms { resize: Some(Extent::Exact { height: 2, width: 2 }), ..Transforms::default() };
        assert_eq!(load(&resized).len(), 3);
    }
}

#[test]
fn crops_larger_than_the_picture_are_refused() {
    let transforms = Transforms {
        augment: vec![Augment::RandomCrop(RandomCrop { size: Extent::Edge(40), padding: 4 })],
        ..Transforms::default()
    };
    let loader = loader(&transforms, LoaderConfig { shuffle: false, ..config(0) });
    assert_eq!(
        loader.batches(0, 0).next().unwrap().unwrap_err().to_string(),
        "fashion-mnist-sample (test), image 0: expected at least 40x40 pixels for random_crop, \
         found 28x28 with a padding of 4; set data.resize, a larger padding or a smaller size"
    );
}

#[test]
fn pairs_are_flipped_together() {
    let dir = tempdir().unwrap();
    let pixels: Vec<u8> = (0..64).flat_map(|at| [at as u8 % 8 * 30; 3]).collect();
    std::fs::create_dir(dir.path().join("train")).unwrap();
    image::RgbImage::from_raw(8, 8, pixels).unwrap().save(dir.path().join("train/1.png")).unwrap();
    let source = FolderDataset::open_unlabelled(dir.path(), Split::Train).unwrap();
    let set = SuperResolution::new(Arc::new(source), 2, None).unwrap();
    let transforms = Transforms {
        augment: vec![Augment::RandomHorizontalFlip(RandomHorizontalFlip { p: 1.0 })],
        ..Transforms::default()
    };
    let loader = Loader::new(Arc::new(set), &transforms, config(0), &Device::flex()).unwrap();
    let batch = loader.batches(0, 0).next().unwrap().unwrap();
    assert_eq!(batch.input.images().unwrap().dims(), [1, 1, 4, 4]);
    let BatchTarget::Images(target) = batch.target else {
        panic!("images");
    };
    assert_eq!(target.dims(), [1, 1, 8, 8]);
    let target = target.into_data().try_to_vec::<f32>().unwrap();
    let input = batch.input.images().unwrap().to_data().try_to_vec::<f32>().unwrap();
    assert!(target[0] > target[7] && input[0] > input[3]);
}

#[test]
fn unusable_configurations_are_refused() {
    let refused = |config| {
        let result = Loader::new(test_images(), &Transforms::default(), config, &Device::flex());
        result.map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        refused(LoaderConfig { batch_size: 0, ..config(0) }),
        "data.batch_size: expected at least 1, found 0; set data.batch_size = 64"
    );
    assert_eq!(
        refused(config(100_000)),
        "data.workers: expected at most 256 threads, found 100000; use as many as there are \
         processor cores"
    );
}

#[test]
fn sixty_thousand_images_take_less_than_a_second() {
    // 10 epochs of the 6,000 images of the sample, on one thread. The bound is generous, for slow
    // machines; the figure is printed.
    let set = Arc::new(sample(Split::Train).unwrap());
    let transforms = Transforms { augment: Vec::new(), ..augmented() };
    let loader = Loader::new(set, &transforms, config(0), &Device::flex()).unwrap();
    let start = Instant::now();
    let count: usize = (0..10).flat_map(|epoch| loader.batches(epoch, 0)).map(|batch| batch.unwrap().len).sum();
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{count} images in {seconds:.3} s on one thread");
    assert_eq!(count, 60_000);
    assert!(seconds < 1.0, "{seconds:.3} s");
}
