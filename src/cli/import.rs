//! `rekindle import`: a PyTorch checkpoint becomes a run.

use std::path::PathBuf;

use super::output::{line, printable, table};
use super::{Answer, Exit};
use crate::models::Registry;
use crate::train::{self, recipe};

/// Make a run of a PyTorch training checkpoint, to go on with it where it stopped.
///
/// Takes the dictionaries that PyTorch users save ({'epoch', 'model_state_dict', 'optimizer_state_dict', 'loss'}, 'state_dict',
/// 'optimizer', 'scheduler', 'best_acc1' and the like), PyTorch Lightning's .ckpt, and files of weights alone. As load_state_dict
/// does, the file's hyper-parameters, learning rates and schedule go on; where the recipe has others, this is told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rekindle import checkpoint.pth --recipe models/fashion_mnist_sample.toml --run checkpoints/continued\n  rekindle resume checkpoints/continued"
)]
pub struct Args {
    /// The checkpoint that PyTorch saved.
    checkpoint: PathBuf,
    /// What it was trained with: a recipe file, or the name of a recipe in the program.
    #[arg(long)]
    recipe: PathBuf,
    /// The run directory to make.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Override a key of the recipe; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let loaded = recipe::load(registry, &args.recipe, &args.set)?;
    let imported = train::import(registry, &args.checkpoint, loaded, &args.run)?;
    let dir = imported.run.path().display();
    let rows = |entries: &[(String, String)], prefix: &str| -> Vec<Vec<String>> {
        entries.iter().map(|(key, what)| vec![printable(key), printable(&format!("{prefix}{what}"))]).collect()
    };
    let all = [rows(&imported.taken, ""), rows(&imported.ignored, "ignored: ")].concat();
    table(&["in the file", "in the run"], &all)?;
    if !imported.differences.is_empty() {
        line("\ndiffers from the recipe; the file's values go on:")?;
        imported.differences.iter().try_for_each(|difference| line(format!("  {}", printable(difference))))?;
    }
    if !imported.notes.is_empty() {
        line("")?;
        imported.notes.iter().try_for_each(|note| line(printable(note)))?;
    }
    let at = imported.position;
    line(format!("\n{dir}: epoch {} of {}, step {}; go on with:", at.epoch, imported.epochs, at.step))?;
    let more =
        if at.epoch >= imported.epochs { format!(" --epochs {}", at.epoch + imported.epochs) } else { String::new() };
    line(format!("  rekindle resume {dir}{more}"))?;
    Ok(Exit::Done)
}
