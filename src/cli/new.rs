//! `rekindle new`: a folder to begin in.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::output::{cannot, line};
use super::{Answer, Exit};

/// Make a folder with a commented recipe, or a crate for a network of your own, to begin with.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rekindle new flowers && rekindle train flowers/recipe.toml
  rekindle new mine --rust && cd mine && cargo run --release -- train recipe.toml")]
pub struct Args {
    /// The folder; its name becomes the recipe's.
    dir: PathBuf,
    /// Write a crate: a network as a Burn module in src/main.rs, with every verb for it, and its recipe.
    #[arg(long)]
    rust: bool,
}

const RECIPE: &str = include_str!("new/recipe.toml");
const IGNORE: &str = "/checkpoints\n";

/// What `--rust` writes. `examples/own_model` compiles the same program.
mod rust {
    pub const MAIN: &str = include_str!("new/rust/main.rs");
    pub const RECIPE: &str = include_str!("new/rust/recipe.toml");
    pub const MANIFEST: &str = include_str!("new/rust/manifest.toml");
    pub const IGNORE: &str = "/target\n/checkpoints\n/runs\n";
}

pub fn run(args: &Args) -> Answer {
    let dir = &args.dir;
    let name = recipe_name(dir)?;
    let files = if args.rust {
        vec![
            ("Cargo.toml", manifest(&name)),
            ("src/main.rs", rust::MAIN.to_string()),
            ("recipe.toml", rust::RECIPE.replace("NAME", &name)),
            (".gitignore", rust::IGNORE.into()),
        ]
    } else {
        vec![("recipe.toml", RECIPE.replace("NAME", &name)), (".gitignore", IGNORE.into())]
    };
    if let Some((taken, _)) = files.iter().find(|(file, _)| dir.join(file).exists()) {
        bail!("{}: it is there already, and is left as it is; choose another folder", dir.join(taken).display());
    }
    for (file, text) in &files {
        let path = dir.join(file);
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).map_err(cannot("create the folder", folder))?;
        std::fs::write(&path, text).map_err(cannot("write the file", &path))?;
    }
    let place = dir.display();
    if args.rust {
        line(format!("{place}: a crate with a network in src/main.rs, and a recipe that trains it"))?;
        line(format!("next:\n  cd {place}\n  cargo run --release -- train recipe.toml"))?;
    } else {
        let recipe = dir.join("recipe.toml");
        line(format!("{}: a recipe that trains as it is, on the images in the program", recipe.display()))?;
        line(format!("next:\n  rekindle train {}", recipe.display()))?;
    }
    Ok(Exit::Done)
}

/// `Cargo.toml` of a crate. It takes rekindle from the checkout that this program was built from, while that is there: its release
/// otherwise.
fn manifest(name: &str) -> String {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rekindle = if checkout.join(".git").exists() {
        format!("{{ path = {:?} }}", checkout.display().to_string())
    } else {
        format!("{:?}", env!("CARGO_PKG_VERSION"))
    };
    rust::MANIFEST.replace("CRATE", &crate_name(name)).replace("REKINDLE", &rekindle)
}

/// A name in the characters that a crate's may have.
fn crate_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    // Some names are of other crates that it depends on, and none begins with a digit.
    if name.starts_with(|c: char| c.is_ascii_digit()) || ["rekindle", "burn", "serde", "test"].contains(&name.as_str())
    {
        return format!("my_{name}");
    }
    name
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
