//! `rekindle train`: a recipe becomes a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::model::{Mirror, weight_file};
use super::output::{line, say};
use super::progress::Progress;
use super::{Answer, Exit, ranks, signals};
use crate::checkpoint::Run;
use crate::device::DeviceName;
use crate::models::Registry;
#[cfg(feature = "serve")]
use crate::serve::Live;
use crate::train::{Finetune, Outcome, Session, Start, recipe};

/// Train a recipe into a new run directory.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rekindle train models/fashion_mnist_sample.toml --set train.epochs=3 --device flex"
)]
pub struct Args {
    /// A recipe file, or the name of a recipe in the program (fashion_mnist_sample, fashion_mnist, cifar_cnn, …).
    #[arg(required_unless_present = "finetune")]
    recipe: Option<PathBuf>,
    /// Instead of a recipe: this network, with a new head, on the images of --data. Starts from torchvision's published weights
    /// or from --init; an ONNX file or a PyTorch program starts from its own. The recipe is written into the run.
    #[arg(long, value_name = "MODEL", requires = "data", conflicts_with = "recipe")]
    finetune: Option<String>,
    /// With --finetune: a folder of images, one folder a class, perhaps below train and valid.
    #[arg(long, value_name = "DIR", requires = "finetune")]
    data: Option<PathBuf>,
    /// With --finetune: the side of the images in pixels [default: that of the published weights].
    #[arg(long, value_name = "PIXELS", requires = "finetune")]
    size: Option<usize>,
    /// With --finetune: stages that do not move, up to and with this one (layer3, features.4), or all but the head.
    #[arg(long, value_name = "STAGE|all", requires = "finetune")]
    freeze: Option<String>,
    /// auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// The run directory [default: checkpoints/NAME].
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Override a key of the recipe; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Weights to start from: a file, a run (its best checkpoint), an address, torchvision's name such as resnet18:DEFAULT, or
    /// none with --finetune.
    #[arg(long, value_name = "FILE|RUN|URL|NAME|none")]
    init: Option<String>,
    #[command(flatten)]
    mirror: Mirror,
    /// Load only the weights that fit.
    #[arg(long, requires = "init")]
    partial: bool,
    /// Passes through the training set.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Items in a batch.
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// The seed of weights, order, augmentation and dropout.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Threads that compute [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    #[command(flatten)]
    live: LiveArgs,
}

/// The page of a training while it runs.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LiveArgs {
    /// Show the training's page while it runs: curves as epochs end, and a button that stops it as Ctrl-C does. An address of
    /// this machine; port 0 takes a free one.
    #[cfg(feature = "serve")]
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:8001")]
    serve: Option<std::net::SocketAddr>,
}

pub fn run(registry: &Registry, args: Args) -> Answer {
    let (device, stop) = (ranks::device(args.device), signals::stop_flag()?);
    ranks::together(|group| {
        let live = args.live.clone();
        let start = ranks::agree(group.as_deref(), start(registry, args))?;
        let session = Session::of_rank(registry, start, device, stop.clone(), group)?;
        finish(registry, session, &live, stop)
    })
}

/// What is to be trained, and where to.
fn start(registry: &Registry, args: Args) -> anyhow::Result<Start> {
    let mut overrides = args.set;
    let flags = [
        ("train.epochs", args.epochs.map(|n| n.to_string())),
        ("data.batch_size", args.batch_size.map(|n| n.to_string())),
        ("train.seed", args.seed.map(|n| n.to_string())),
    ];
    overrides.extend(flags.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))));
    let loaded = match (args.finetune, args.recipe) {
        (Some(model), _) => {
            let init = match args.init.as_deref() {
                Some("none") => None,
                // The weights to start from are in the file.
                None if Path::new(&model).is_file() => None,
                Some(source) => Some(weight_file(source, &args.mirror)?),
                None => Some(weight_file(&format!("{model}:DEFAULT"), &args.mirror).map_err(|error| {
                    anyhow::anyhow!("{error:#}; --init FILE starts from weights of yours, --init none from fresh ones")
                })?),
            };
            let data = args.data.unwrap_or_default();
            Finetune { model, data, init, size: args.size, freeze: args.freeze }.recipe(registry, &overrides)?
        }
        (None, recipe) => {
            let mut loaded = recipe::load(registry, &recipe.unwrap_or_default(), &overrides)?;
            if let Some(source) = args.init {
                // From the command line, a path starts from where the user is.
                let weights = weight_file(&source, &args.mirror)?;
                let weights = std::path::absolute(&weights).unwrap_or(weights);
                loaded.recipe.train.init = Some(recipe::InitSection { weights, partial: args.partial });
            }
            loaded
        }
    };
    // Without a folder of its own, a run of a name that is taken gets a number.
    let numbered = args.run.is_none();
    let dir = args.run.unwrap_or_else(|| Path::new("checkpoints").join(&loaded.recipe.name));
    Ok(Start::New { loaded: Box::new(loaded), dir, numbered })
}

/// Runs a session and says what came of it and what to type next. `stop` is the flag that the session was made with.
pub fn finish(registry: &Registry, session: Session, live: &LiveArgs, stop: Arc<AtomicBool>) -> Answer {
    if !session.is_first() {
        let (outcome, _) = session.run()?;
        return Ok(if outcome == Outcome::Interrupted { Exit::Interrupted } else { Exit::Done });
    }
    let together = if session.ranks() > 1 { format!(", rank 0 of {}", session.ranks()) } else { String::new() };
    say!("device {} ({}){together}", session.device.name, session.device.description);
    for note in &session.notes {
        say!("{note}");
    }
    if let Some(report) = &session.report {
        say!("{report}");
    }
    let progress = Progress::new(session.metric());
    let session = session.observe(progress);
    let (outcome, run) = live.run(registry, session, stop)?;
    let dir = run.path().display();
    match outcome {
        Outcome::Interrupted => {
            say!("interrupted; everything is saved. Go on with:\n  rekindle resume {dir}");
            return Ok(Exit::Interrupted);
        }
        Outcome::EarlyStopped => say!("stopped early: the metric did not improve any more"),
        Outcome::Finished => {}
    }
    summarize(&run)?;
    let next =
        [format!("report {dir} --open"), format!("eval {dir}"), format!("predict {dir} IMAGE.png"), "runs".into()];
    line(format!("next:\n  rekindle {}", next.join("\n  rekindle ")))?;
    Ok(Exit::Done)
}

impl LiveArgs {
    /// Runs a session, with its page where one was asked for.
    #[cfg(feature = "serve")]
    fn run(&self, registry: &Registry, session: Session, stop: Arc<AtomicBool>) -> anyhow::Result<(Outcome, Run)> {
        let Some(address) = self.serve else { return Ok(session.run()?) };
        let live = Live::start(registry, session.path(), session.metric(), address, stop)?;
        say!("the training's page: http://{}", live.address);
        let result = session.observe(live.observer()).run();
        live.end(match &result {
            Ok((Outcome::Finished, _)) => "finished",
            Ok((Outcome::EarlyStopped, _)) => "stopped early",
            Ok((Outcome::Interrupted, _)) => "interrupted",
            Err(_) => "failed",
        });
        Ok(result?)
    }

    #[cfg(not(feature = "serve"))]
    fn run(&self, _: &Registry, session: Session, _: Arc<AtomicBool>) -> anyhow::Result<(Outcome, Run)> {
        Ok(session.run()?)
    }
}

fn summarize(run: &Run) -> anyhow::Result<()> {
    let best = run.find(crate::checkpoint::Which::Best)?;
    let manifest = best.manifest()?;
    let metrics: Vec<String> = manifest.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    line(format!("best checkpoint: {} (epoch {}): {}", best.path.display(), manifest.epoch, metrics.join(", ")))
}
