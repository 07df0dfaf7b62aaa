//! The CIFAR-10 section's transforms, on the sample: `RandomCrop(28, padding=4)`, `RandomHorizontalFlip()`, `Normalize`.

use std::path::Path;

use rekindle::data::Split;
use rekindle::device::DeviceName;
use rekindle::models::Registry;
use rekindle::train::recipe;

const AUGMENT: &str = "data.augment=[{ random_crop = { size = 28, padding = 4 } }, \"random_horizontal_flip\"]";
const NORMALIZE: &str = "data.normalize={ mean = [0.2860], std = [0.3530] }";

pub fn run(scratch: &Path) -> crate::Answer {
    let recipe =
        recipe::parse(&Registry::built_in(), crate::RECIPE, &[AUGMENT.into(), NORMALIZE.into()], "the guide's recipe")?;
    let device = DeviceName::FLEX.open()?.device;
    let loader = recipe.data.loader(Path::new(""), Split::Train, recipe.train.seed, &device)?;
    // What happens to an image is a function of the seed, the epoch and its number: epochs differ, a repeated epoch does not.
    let first_batch = |epoch: usize| -> Result<Vec<f32>, Box<dyn std::error::Error>> {
        let batch = loader.batches(epoch, 0).next().ok_or("the set is empty")??;
        Ok(batch.input.images().ok_or("a batch without images")?.to_data().iter::<f32>().collect())
    };
    assert_ne!(first_batch(0)?, first_batch(1)?);
    assert_eq!(first_batch(1)?, first_batch(1)?);
    println!("epoch 1 differs from epoch 0, and is the same when it is repeated");

    let run = crate::train(&scratch.join("run"), &[AUGMENT, NORMALIZE, "train.epochs=2"])?;
    println!("checkpoints: {:?}", run.checkpoints().iter().map(|checkpoint| checkpoint.step).collect::<Vec<_>>());
    Ok(())
}
