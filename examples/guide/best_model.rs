//! `savemodel(state, is_best, …)` and `load_model`: the best copy of a run, measured again.

use std::path::Path;

use rekindle::checkpoint::Which;
use rekindle::data::Split;
use rekindle::device::DeviceName;
use rekindle::models::Registry;
use rekindle::train::evaluate::evaluate;
use rekindle::train::{recipe, recipe_of, restored};

pub fn run(scratch: &Path) -> crate::Answer {
    let run = crate::train(&scratch.join("run"), &[])?;
    for pointer in [Which::Last, Which::Best] {
        let checkpoint = run.find(pointer)?;
        // Reading compares every file with the hashes in the manifest.
        let contents = checkpoint.read()?;
        let recipe = recipe_of(&contents, "the run")?;
        let architecture = recipe::architecture(&Registry::built_in(), &recipe)?;
        let network = restored(&architecture, &contents, "the run")?;

        let device = DeviceName::FLEX.open()?.device;
        let loader = recipe.data.loader(Path::new(""), Split::Test, 0, &device)?;
        let found = evaluate(&network, &loader, &recipe.objective(&architecture), |_| {})?;
        println!("{pointer:?}: step {}, loss {:.4}, accuracy {:.3}", checkpoint.step, found.loss, found.score);
        assert_eq!(Some(found.score), contents.manifest.metrics.get("valid.accuracy").copied());
    }
    Ok(())
}
