//! `rekindle man`: manual pages, made from the same flags that are parsed.

use std::path::{Path, PathBuf};

use super::output::{cannot, line};
use super::{Answer, Exit};

/// Write manual pages: rekindle.1, and one for each verb.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  rekindle man ~/.local/share/man/man1\n  man rekindle-train")]
pub struct Args {
    /// The folder; it is made if it is not there.
    dir: PathBuf,
}

pub fn run(args: &Args) -> Answer {
    let written = write(&args.dir)?;
    line(format!("{}: {written} pages written", args.dir.display()))?;
    Ok(Exit::Done)
}

/// Gives the number of pages.
fn write(dir: &Path) -> anyhow::Result<usize> {
    std::fs::create_dir_all(dir).map_err(cannot("create the folder", dir))?;
    // `help VERB` shows what the page of that verb says.
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    let pages = count(&command);
    clap_mangen::generate_to(command, dir).map_err(cannot("write the pages", dir))?;
    Ok(pages)
}

/// A command and all below it, as clap_mangen counts them.
fn count(command: &clap::Command) -> usize {
    1 + command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(count).sum::<usize>()
}
