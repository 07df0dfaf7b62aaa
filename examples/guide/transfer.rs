//! Transfer learning: weights that fit are loaded and frozen, the head is new.

use std::path::Path;

use rekindle::checkpoint::{Run, Which};
use rekindle::models::Registry;
use rekindle::models::weights;
use rekindle::state::StateDict;
use rekindle::train::{recipe, recipe_of, restored};

/// The weights of a run's newest checkpoint.
fn state(run: &Run) -> Result<StateDict, Box<dyn std::error::Error>> {
    let contents = run.find(Which::Last)?.read()?;
    let recipe = recipe_of(&contents, "the run")?;
    Ok(weights::to_state_dict(&restored(
        &recipe::architecture(&Registry::built_in(), &recipe)?,
        &contents,
        "the run",
    )?)?)
}

pub fn run(scratch: &Path) -> crate::Answer {
    let base = crate::train(&scratch.join("base"), &[])?;
    let init = format!(
        "train.init={{ weights = '{}', partial = true }}",
        base.find(Which::Last)?.path.join("model.bpk").display()
    );
    // Twelve classes instead of ten: the last layer does not fit, and starts anew. The others do not move.
    let tuned =
        crate::train(&scratch.join("tuned"), &["model.classes=12", &init, "train.freeze=['^fc\\.', '^fc[123]\\.']"])?;
    let (base, tuned) = (state(&base)?, state(&tuned)?);
    for (name, tensor) in base.tensors() {
        let same = tuned.tensor(name).ok_or("a tensor is missing")?.bytes()? == tensor.bytes()?;
        println!("{name}\t{}", if same { "as it was" } else { "new" });
        assert_eq!(same, !name.starts_with("fc4"));
    }
    Ok(())
}
