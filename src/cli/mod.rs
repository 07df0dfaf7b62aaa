//! The command line: one file a verb. Only here is anything printed.

pub mod bench;
mod codegen;
mod completions;
mod convert;
mod datasets;
mod devices;
mod diff;
mod doctor;
mod downloads;
mod eval;
mod export;
mod fits;
mod import;
mod inspect;
mod man;
mod model;
mod models;
mod new;
mod output;
mod predict;
mod progress;
mod ranks;
mod report;
mod resume;
mod run;
mod run_network;
mod runs;
#[cfg(feature = "serve")]
mod serve;
mod signals;
mod source;
mod sparkline;
mod train;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::models::Registry;

/// What a verb answers: its exit code, or why it failed.
type Answer = anyhow::Result<Exit>;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A check said no.
    No = 1,
    /// Wrong usage, unreadable input, or an error.
    Error = 2,
    /// Interrupted by a signal; everything is saved.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A PyTorch model's whole life: define, train, save, checkpoint, resume, load, convert, export, verify.
#[derive(Debug, Parser)]
#[command(
    name = "rekindle",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    /// Say nothing on stderr but errors: no notes, no progress.
    #[arg(long, global = true, help_heading = "Messages")]
    quiet: bool,
    /// Also write what is said on stderr into this file, each line with its time.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Messages")]
    log: Option<PathBuf>,
    /// What running a graph may use at most, beside what its weights and inputs allow: elements (of one array), memory, nodes, turns (of
    /// loops), depth or seconds, as memory=8GiB or seconds=60; none lifts it.
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = limit, help_heading = "Limits")]
    graph_limit: Vec<(String, String)>,
    #[command(subcommand)]
    verb: Verb,
}

/// A limit by its name, if there is such a one.
fn limit(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, found '{text}'"))?;
    let mut limits = rekindle_onnx::Limits::USUAL;
    limits.set(name, value)?;
    Ok((name.to_string(), value.to_string()))
}

/// Makes limits of the command line those of every graph.
fn limit_graphs(given: &[(String, String)]) {
    let mut limits = rekindle_onnx::Limits::USUAL;
    // They were tried when the command line was read.
    given.iter().for_each(|(name, value)| limits.set(name, value).unwrap_or_default());
    limits.make_default();
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(new::Args),
    Train(train::Args),
    Resume(resume::Args),
    Import(import::Args),
    Runs(runs::Args),
    Report(report::Args),
    Eval(eval::Args),
    Predict(predict::Args),
    Run(run::Args),
    #[cfg(feature = "serve")]
    Serve(serve::Args),
    Inspect(inspect::Args),
    Diff(diff::Args),
    Convert(convert::Args),
    Export(export::Args),
    Codegen(codegen::Args),
    Models(models::Args),
    Datasets(datasets::Args),
    Devices(devices::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The verbs as `--help` shows them, by what they are for.
const GROUPS: &[(&str, &[&str])] = &[
    ("Train", &["new", "train", "resume", "import", "runs", "report"]),
    #[cfg(feature = "serve")]
    ("Use a model", &["eval", "predict", "run", "serve"]),
    #[cfg(not(feature = "serve"))]
    ("Use a model", &["eval", "predict", "run"]),
    ("Files", &["inspect", "diff", "convert", "export", "codegen"]),
    ("What is here", &["models", "datasets", "devices", "doctor", "bench"]),
    ("Shell", &["completions", "man"]),
];

/// How to begin, under the verbs.
const BEGIN: &str = "Begin with:
  rekindle train fashion_mnist_sample        trains in seconds on images that are in the program
  rekindle report checkpoints/fashion_mnist_sample --open
  rekindle VERB --help                       flags and an example of each verb";

/// The command line with its verbs in groups.
fn command() -> clap::Command {
    let command = Cli::command();
    let mut text = String::new();
    for (title, verbs) in GROUPS {
        text.push_str(&format!("{title}:\n"));
        for name in *verbs {
            let about = command.find_subcommand(name).and_then(|verb| verb.get_about().cloned()).unwrap_or_default();
            text.push_str(&format!("  {name:<12} {about}\n"));
        }
        text.push('\n');
    }
    command
        .help_template("{about}\n\n{usage-heading} {usage}\n\n{after-help}\n\nOptions:\n{options}")
        .after_help(format!("{text}{BEGIN}"))
}

/// The number after `--threads`, if one is given; it must be known before anything is computed.
fn threads_asked_for(arguments: impl Iterator<Item = OsString>) -> Option<String> {
    // An argument that is no UTF-8 is a path, and no option.
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let value = match argument.strip_prefix("--threads") {
            Some("") => arguments.next(),
            Some(rest) => rest.strip_prefix('=').map(str::to_string),
            None => None,
        };
        if let Some(value) = value.filter(|value| value.parse::<usize>().is_ok_and(|threads| threads > 0)) {
            return Some(value);
        }
    }
    None
}

/// The program `rekindle`: the command line with the built-in networks.
pub fn main() -> ExitCode {
    run_with(Registry::built_in())
}

/// A program's whole command line: parses it, runs the verb, and gives the exit code. Every verb knows the networks of `registry`.
///
/// Call it in `main` before anything starts a thread, and leave the environment to it: it does what [`crate::init`] does.
pub fn run_with(registry: Registry) -> ExitCode {
    if let Err(error) = crate::environment::init_program(threads_asked_for(std::env::args_os()).as_deref()) {
        output::say_error(&error.to_string());
        return Exit::Error.into();
    }
    let cli = match command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; the rest is wrong usage.
            let wrong = error.use_stderr();
            let _ = error.print();
            return if wrong { Exit::Error } else { Exit::Done }.into();
        }
    };
    limit_graphs(&cli.graph_limit);
    if let Err(error) = output::listen(cli.quiet, cli.log.as_deref()) {
        output::say_error(&sentence(&error));
        return Exit::Error.into();
    }
    // A net under everything: a panic of any library becomes one sentence.
    let answer = crate::error::without_panic_output(|| catch_unwind(AssertUnwindSafe(|| run(&registry, cli.verb))));
    let answer = answer.unwrap_or_else(|panic| {
        let text = crate::error::panic_text(&*panic);
        let ours = || format!("internal error: {text}; please report it with the command that you ran");
        Err(anyhow::anyhow!(crate::error::device_failure(&text).unwrap_or_else(ours)))
    });
    match answer {
        Ok(exit) => exit.into(),
        Err(error) if output::is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            output::say_error(&sentence(&error));
            Exit::Error.into()
        }
    }
}

/// An error with its causes. The operating system's words are in the sentence of whoever met them.
fn sentence(error: &anyhow::Error) -> String {
    let texts = error.chain().enumerate().filter(|(place, cause)| *place == 0 || !cause.is::<std::io::Error>());
    texts.map(|(_, cause)| cause.to_string()).collect::<Vec<_>>().join(": ")
}

fn run(registry: &Registry, verb: Verb) -> Answer {
    match verb {
        Verb::New(args) => new::run(&args),
        Verb::Train(args) => train::run(registry, args),
        Verb::Resume(args) => resume::run(registry, &args),
        Verb::Import(args) => import::run(registry, &args),
        Verb::Runs(args) => runs::run(&args),
        Verb::Report(args) => report::run(registry, &args),
        Verb::Eval(args) => eval::run(registry, &args),
        Verb::Predict(args) => predict::run(registry, &args),
        Verb::Run(args) => run::run(registry, &args),
        #[cfg(feature = "serve")]
        Verb::Serve(args) => serve::run(registry, args),
        Verb::Inspect(args) => inspect::run(registry, &args),
        Verb::Diff(args) => diff::run(registry, &args),
        Verb::Convert(args) => convert::run(args),
        Verb::Export(args) => export::run(registry, &args),
        Verb::Codegen(args) => codegen::run(&args),
        Verb::Models(args) => models::run(registry, &args),
        Verb::Datasets(args) => datasets::run(&args),
        Verb::Devices(args) => devices::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Bench(args) => bench::run(registry, &args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_in_one_group_and_has_an_example() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        let command = Cli::command();
        let mut verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        for verb in command.get_subcommands() {
            let text = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.contains("Example"), "`rekindle {}` has no example", verb.get_name());
        }
        grouped.sort_unstable();
        verbs.sort_unstable();
        assert_eq!(grouped, verbs);
        command.debug_assert();
    }
}
