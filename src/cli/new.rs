//! `rekindle new`: a folder to begin in.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::output::line;
use super::{Answer, Exit};

/// Make a folder with a commented recipe to begin with.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle new flowers && rekindle train flowers/recipe.toml")]
pub struct Args {
    /// The folder; its name becomes the recipe's.
    dir: PathBuf,
}

const RECIPE: &str = include_str!("new/recipe.toml");
const IGNORE: &str = "/checkpoints\n";

pub fn run(args: &Args) -> Answer {
    let dir = &args.dir;
    let name = recipe_name(dir)?;
    let files: Vec<(&str, String)> =
        vec![("recipe.toml", RECIPE.replace("NAME", &name)), (".gitignore", IGNORE.into())];
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot create the folder", dir.display()))?;
    if let Some((taken, _)) = files.iter().find(|(file, _)| dir.join(file).exists()) {
        bail!("{}: it is there already, and is left as it is; choose another folder", dir.join(taken).display());
    }
    for (file, text) in &files {
        let path = dir.join(file);
        std::fs::write(&path, text).with_context(|| format!("{}: cannot write the file", path.display()))?;
    }
    let recipe = dir.join("recipe.toml");
    line(format!("{}: a recipe that trains as it is, on the images in the program", recipe.display()))?;
    line(format!("next:\n  rekindle train {}", recipe.display()))?;
    Ok(Exit::Done)
}

/// The last part of the path, in characters that a run's folder can have everywhere.
fn recipe_name(dir: &Path) -> anyhow::Result<String> {
    let whole = std::path::absolute(dir).with_context(|| format!("{}: no such place", dir.display()))?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_alphanumeric() || ['-', '_', '.'].contains(&c) { c } else { '_' }).collect();
    if name.is_empty() {
        bail!("{}: a folder with a name is expected", dir.display());
    }
    Ok(name)
}
