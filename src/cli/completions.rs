//! `rekindle completions`: a script that completes verbs, flags and file names in a shell.

use clap_complete::Shell;

use super::{Answer, Exit};

/// Print a script that completes verbs, flags and paths in a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rekindle completions bash > ~/.local/share/bash-completion/completions/rekindle
  rekindle completions zsh > ~/.zfunc/_rekindle          with fpath+=~/.zfunc before compinit in ~/.zshrc
  rekindle completions fish > ~/.config/fish/completions/rekindle.fish
  rekindle completions powershell >> $PROFILE")]
pub struct Args {
    /// The shell.
    shell: Shell,
}

pub fn run(args: &Args) -> Answer {
    let mut script = Vec::new();
    let mut command = super::command();
    let name = command.get_name().to_string();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    super::output::bytes(&script)?;
    Ok(Exit::Done)
}
