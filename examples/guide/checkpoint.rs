//! `torch.save({'epoch': …, 'model_state_dict': …, 'optimizer_state_dict': …, 'loss': …}, PATH)`, and resuming from it.

use std::path::Path;

use rekindle::checkpoint::Which;
use rekindle::device::DeviceName;
use rekindle::train::{Session, Start};

pub fn run(scratch: &Path) -> crate::Answer {
    // Two epochs at once, and one after the other: the weights are the same, bit for bit.
    let whole = crate::train(&scratch.join("whole"), &["train.epochs=2"])?;
    let parts = crate::train(&scratch.join("parts"), &["train.epochs=1"])?;

    let manifest = parts.find(Which::Last)?.manifest()?;
    println!("checkpoint of step {}: epoch {}, {:?}", manifest.step, manifest.epoch, manifest.metrics);

    let start = Start::Resume { dir: parts.path().to_path_buf(), which: Which::Last, epochs: Some(2) };
    let (_, parts) = Session::new(start, DeviceName::FLEX, Default::default())?.run()?;

    let metrics = |run: &rekindle::checkpoint::Run| run.find(Which::Last).and_then(|last| last.manifest()).map(|last| last.metrics);
    assert_eq!(metrics(&parts)?, metrics(&whole)?);
    println!("resumed and uninterrupted agree: {:?}", metrics(&parts)?);
    Ok(())
}
