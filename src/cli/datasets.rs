//! `rekindle datasets`: the data sets that can be fetched.

use super::downloads::Bar;
use super::output::{json, line, table};
use super::{Answer, Exit};
use crate::data::{cache_dir, catalog, fetch};

/// List the data sets, or fetch one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle datasets fetch fashion-mnist")]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Download a data set, resuming what broke off, and check its hashes.
    Fetch {
        /// The data set.
        name: String,
        /// Where to download from instead: URL/NAME/FILE.
        #[arg(long, value_name = "URL", env = "REKINDLE_MIRROR")]
        mirror: Option<String>,
    },
}

pub fn run(args: &Args) -> Answer {
    match &args.action {
        Some(Action::Fetch { name, mirror }) => {
            let fetched = fetch(name, mirror.as_deref(), None, &mut Bar::default().listener())?;
            let (new, kept) = (fetched.downloaded.len(), fetched.kept.len());
            line(format!("{}: {new} files downloaded, {kept} were there; every hash is right", fetched.dir.display()))?;
        }
        None => list(args.json)?,
    }
    Ok(Exit::Done)
}

fn list(as_json: bool) -> anyhow::Result<()> {
    let sets = catalog::published().map(|(name, set)| {
        let dir = cache_dir(name)?;
        let here = set.files.iter().all(|file| dir.join(file.name).is_file());
        Ok((name, dir, here))
    });
    let sets: Vec<_> = sets.collect::<anyhow::Result<_>>()?;
    if as_json {
        let list =
            sets.iter().map(|(name, dir, here)| serde_json::json!({ "name": name, "dir": dir, "fetched": here }));
        return json(&list.collect::<Vec<_>>());
    }
    let rows = sets.iter().map(|(name, dir, here)| {
        let state = if *here { format!("in {}", dir.display()) } else { format!("rekindle datasets fetch {name}") };
        vec![name.to_string(), state]
    });
    table(&["data set", ""], &rows.collect::<Vec<_>>())?;
    line("a sample of fashion-mnist is in the program: data.dir = \"../datasets/fashion-mnist-sample\"")
}
