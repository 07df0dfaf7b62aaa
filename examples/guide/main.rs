//! The sections of "PyTorch save model", one module each, with the library alone.
//!
//! ```text
//! cargo run --release --locked --example guide                 all of them
//! cargo run --release --locked --example guide -- checkpoint   one
//! ```
//!
//! Everything is written to a scratch folder. One program holds them all, because each would link all of Burn.

mod augmentation;
mod best_model;
mod checkpoint;
mod entire_model;
mod inference;
mod own_model;
mod save_weights;
mod state_dict;
mod transfer;

use std::error::Error;
use std::path::Path;

type Answer = Result<(), Box<dyn Error>>;

/// Does everything of one section, in a scratch folder.
type Section = fn(&Path) -> Answer;

/// Name, what PyTorch calls it, the section.
const SECTIONS: &[(&str, &str, Section)] = &[
    ("save_weights", "torch.save(vgg16.state_dict(), …), load_state_dict", save_weights::run),
    ("state_dict", "print the state_dict of a model and its optimizer", state_dict::run),
    ("own_model", "a model class of one's own, saved and loaded", own_model::run),
    ("checkpoint", "a general checkpoint, and resuming from it", checkpoint::run),
    ("best_model", "keep the best copy", best_model::run),
    ("inference", "model.eval() and a prediction", inference::run),
    ("entire_model", "a whole pickled model, read without running it", entire_model::run),
    ("augmentation", "random crops and flips during training", augmentation::run),
    ("transfer", "a new head on loaded, frozen weights", transfer::run),
];

fn main() -> Answer {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| SECTIONS.iter().all(|(known, ..)| known != name)) {
        let known: Vec<&str> = SECTIONS.iter().map(|(name, ..)| *name).collect();
        return Err(format!("no section '{unknown}': expected some of {}", known.join(", ")).into());
    }
    for (name, about, run) in
        SECTIONS.iter().filter(|(name, ..)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name))
    {
        println!("== {name}: {about}");
        let scratch = tempfile::tempdir()?;
        run(scratch.path())?;
        println!();
    }
    Ok(())
}

/// A recipe for a few hundred images of the sample that is in the library.
const RECIPE: &str = r#"
name = "guide"
model = { name = "fashion_classifier", classes = 10 }
[data]
name = "fashion-mnist-sample"
batch_size = 20
limit = { train = 600, test = 200 }
[optimizer]
name = "adam"
lr = 2e-3
[train]
epochs = 3
[checkpoint]
monitor = "valid.accuracy"
"#;

/// Trains [`RECIPE`] with some keys changed into a run.
fn train(run: &Path, overrides: &[&str]) -> Result<rekindle::checkpoint::Run, Box<dyn Error>> {
    use rekindle::models::Registry;
    use rekindle::train::{Loaded, Session, Start, recipe};

    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let recipe = recipe::parse(&Registry::built_in(), RECIPE, &overrides, "the guide's recipe")?;
    let loaded = Box::new(Loaded { recipe, base: Default::default(), place: "the guide's recipe".into() });
    // The last argument stops a training from outside; nobody does here.
    let session = Session::new(
        &Registry::built_in(),
        Start::New { loaded, dir: run.to_path_buf(), numbered: false },
        rekindle::device::DeviceName::FLEX,
        Default::default(),
    )?;
    let (_, run) = session.run()?;
    Ok(run)
}
