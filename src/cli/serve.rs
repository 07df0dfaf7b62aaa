//! `rekindle serve`: models over HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{anyhow, bail};

use super::model::{self, Model, WeightArgs};
use super::output::say;
use super::{Answer, Exit, signals};
use crate::checkpoint::ByteSize;
use crate::checkpoint::Run;
use crate::device::{DeviceName, OpenDevice};
use crate::models::Registry;
use crate::models::weights::Layout;
use crate::onnx::open;
use crate::serve::http::Limits;
use crate::serve::{self, Batching, Loaded, Options, Source};

/// Answer requests over HTTP: labels and probabilities of images, images of images, tensors.
///
/// POST an image, a form of images, JSON, .npy or safetensors to /predict or /models/NAME/predict; GET / is a page to try it by hand,
/// /openapi.json describes the rest, /metrics is for Prometheus, /v2 is KServe's inference protocol. A run is loaded again when it
/// has a new best checkpoint. Ctrl-C answers what was taken, then stops.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rekindle serve checkpoints/fashion_mnist_sample
  curl --data-binary @shirt.png http://127.0.0.1:8000/predict?top=3
  rekindle serve clothes=checkpoints/fashion_mnist_sample digits=mnist.onnx --listen 0.0.0.0:8000 --token SECRET")]
pub struct Args {
    /// Models as on the command line of predict, each under a name of its own or under that of its file or folder. The first one
    /// answers /predict.
    #[arg(required = true, value_name = "[NAME=]MODEL")]
    models: Vec<String>,
    #[command(flatten)]
    weights: WeightArgs,
    /// The address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// What requests must bear (Authorization: Bearer TOKEN); needed for addresses that other machines reach.
    #[arg(long, env = "REKINDLE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How images are normalized where no recipe or ONNX file says: imagenet, none (values 0 to 1), bytes (0 to 255) or MEAN/STD.
    #[arg(long, value_name = "imagenet|none|bytes|MEAN/STD")]
    normalize: Option<String>,
    /// How many milliseconds a request waits for others to be computed with it.
    #[arg(long, value_name = "MS", default_value_t = 2.0)]
    window: f64,
    /// The most items that are computed together.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// How many requests may wait; more are refused with 503.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    queue: u16,
    /// The largest body.
    #[arg(long, value_name = "SIZE", default_value = "32MiB")]
    max_bytes: ByteSize,
    /// The longest a request may take, in seconds, its body included.
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    timeout: f64,
    /// Say nothing of single requests.
    #[arg(long)]
    no_access_log: bool,
    /// auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Threads that compute [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

pub fn run(registry: &Registry, args: Args) -> Answer {
    if args.weights.weights.is_some() && args.models.len() > 1 {
        bail!("--weights is for one model, and there are {}", args.models.len());
    }
    for (flag, value) in [("--window", args.window), ("--timeout", args.timeout)] {
        if !(0.0..=86_400.0).contains(&value) {
            bail!("{flag}: expected a number from 0 to 86400, found {value}");
        }
    }
    let device = args.device.open()?;
    say!("device {} ({})", device.name, device.description);
    let mut sources: Vec<(String, Arc<dyn Source>)> = Vec::new();
    for given in &args.models {
        let (name, place) = named(given);
        if sources.iter().any(|(known, _)| *known == name) {
            bail!("two models have the name '{name}': give each its own as NAME=MODEL");
        }
        let source = Place {
            registry: registry.clone(),
            place: place.to_string(),
            weights: args.weights.clone(),
            normalize: args.normalize.clone(),
            device: device.clone(),
        };
        sources.push((name, Arc::new(source)));
    }
    let log: Box<dyn Fn(String) + Send + Sync> =
        if args.no_access_log { Box::new(|_| {}) } else { Box::new(|line| say!("{line}")) };
    let options = Options {
        address: args.listen,
        token: args.token,
        batching: Batching {
            most: usize::from(args.batch_size),
            window: Duration::from_secs_f64(args.window / 1e3),
            queue: usize::from(args.queue),
        },
        limits: Limits {
            body: usize::try_from(args.max_bytes.0).unwrap_or(usize::MAX),
            time: Duration::from_secs_f64(args.timeout),
        },
        log,
        say: Arc::new(|text| say!("{text}")),
    };
    let stop = signals::stop_flag()?;
    serve::run(sources, options, &stop)?;
    Ok(Exit::Done)
}

/// `NAME=MODEL`, or a model under the name of its file or folder.
fn named(given: &str) -> (String, &str) {
    match given.split_once('=') {
        Some((name, place)) if !name.is_empty() && !name.contains(['/', '\\']) => (name.to_string(), place),
        _ => {
            let whole = std::fs::canonicalize(given).unwrap_or_else(|_| PathBuf::from(given));
            let stem = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
            (stem.map_or_else(|| given.to_string(), |stem| stem.to_string_lossy().into_owned()), given)
        }
    }
}

/// A model as the command line names it.
struct Place {
    registry: Registry,
    place: String,
    weights: WeightArgs,
    normalize: Option<String>,
    device: OpenDevice,
}

impl Source for Place {
    fn load(&self) -> Result<Loaded, String> {
        self.loaded().map_err(|error| format!("{error:#}"))
    }

    /// The best checkpoint of a run (the newest, where none is the best yet) and when it was written; of a file, its size and time.
    fn current(&self) -> String {
        let path = Path::new(&self.place);
        let checkpoint = Run::open(path).ok().and_then(|run| {
            let step = run.pointer("best").or_else(|| run.pointer("last"))?;
            run.checkpoints().into_iter().find(|checkpoint| checkpoint.step == step)
        });
        let file = checkpoint.map_or_else(|| path.to_path_buf(), |checkpoint| checkpoint.path.join("manifest.json"));
        let metadata = std::fs::metadata(&file).ok();
        let time = metadata.as_ref().and_then(|metadata| metadata.modified().ok()).unwrap_or(SystemTime::UNIX_EPOCH);
        format!("{} {time:?} {}", file.display(), metadata.map_or(0, |metadata| metadata.len()))
    }
}

impl Place {
    fn loaded(&self) -> anyhow::Result<Loaded> {
        let path = Path::new(&self.place);
        if self.weights.weights.is_none() && path.is_file() && open::is_graph(path)? {
            return serve::graph::loaded(path, self.normalize.as_deref(), &self.device).map_err(|error| anyhow!(error));
        }
        let layout = Layout::inference(&self.device);
        let model = model::resolve(&self.registry, &self.place, &self.weights, None, layout)?;
        let preparation = model.preparation(self.normalize.as_deref())?;
        let labels = model.labels();
        let Model { architecture, network, description: version, .. } = model;
        let parts = serve::network::Parts { architecture, network, preparation, labels, version };
        Ok(serve::network::loaded(parts, &self.device))
    }
}
