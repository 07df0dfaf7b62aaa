//! `torch.save({'epoch': …, 'model_state_dict': …, 'optimizer_state_dict': …, 'loss': …}, PATH)`, and resuming from it.

use std::path::Path;

use rekindle::checkpoint::Which;
use rekindle::device::DeviceName;
use rekindle::models::Registry;
use rekindle::train::{Loaded, Session, Snapshot, Start, import, recipe};
use rekindle_state::{SaveOptions, Value, save};

pub fn run(scratch: &Path) -> crate::Answer {
    // Two epochs at once, and one after the other: the weights are the same, bit for bit.
    let whole = crate::train(&scratch.join("whole"), &["train.epochs=2"])?;
    let parts = crate::train(&scratch.join("parts"), &["train.epochs=1"])?;

    let manifest = parts.find(Which::Last)?.manifest()?;
    println!("checkpoint of step {}: epoch {}, {:?}", manifest.step, manifest.epoch, manifest.metrics);

    let start =
        Start::Resume { dir: parts.path().to_path_buf(), which: Which::Last, set: vec!["train.epochs=2".into()] };
    let (_, parts) = Session::new(&Registry::built_in(), start, DeviceName::FLEX, Default::default())?.run()?;

    let metrics = |run: &rekindle::checkpoint::Run| {
        run.find(Which::Last).and_then(|last| last.manifest()).map(|last| last.metrics)
    };
    assert_eq!(metrics(&parts)?, metrics(&whole)?);
    println!("resumed and uninterrupted agree: {:?}", metrics(&parts)?);

    // The same as one file for PyTorch, whose `load_state_dict` of model and optimizer take it.
    let last = parts.find(Which::Last)?;
    let contents = last.read()?;
    let exported = Snapshot::new(&Registry::built_in(), &contents, "the run")?.checkpoint(&contents, "the run")?;
    let file = scratch.join("checkpoint.pth");
    save(&file, &Value::Dict(exported), &SaveOptions::default())?;
    println!("for torch.load: {} bytes", std::fs::metadata(&file)?.len());

    // And back: a checkpoint that PyTorch saved becomes a run, which goes on with more epochs.
    let recipe = recipe::parse(&Registry::built_in(), crate::RECIPE, &[], "the guide's recipe")?;
    let loaded = Loaded { recipe, base: Default::default(), place: "the guide's recipe".into() };
    let imported = import(&Registry::built_in(), &file, loaded, &scratch.join("imported"))?;
    println!(
        "imported at epoch {}, step {}: {}",
        imported.position.epoch,
        imported.position.step,
        imported.notes.join("; ")
    );
    for (key, became) in &imported.taken {
        println!("  {key}: {became}");
    }
    assert_eq!((imported.position.epoch, imported.position.step), (2, last.step));
    Ok(())
}
