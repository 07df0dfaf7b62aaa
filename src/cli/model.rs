//! `MODEL` on the command line: a built-in name, a recipe, a run or a checkpoint, with weights from where they are.

use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::tensor::Device;
use rekindle_state::ModelFile;

use super::downloads::Bar;
use super::fits::Fits;
use super::output::say;
use crate::checkpoint::{Checkpoint, Contents, Manifest, Run, Which};
use crate::data::Split;
use crate::data::download::download;
use crate::data::prepare::{Preparation, class_names};
use crate::models::import::{ImportOptions, import_file};
use crate::models::published::{self, Published};
use crate::models::weights::Layout;
use crate::models::{self, Architecture, Entry, GraphConfig, Network, Registry, infer};
use crate::onnx::metadata::Told;
use crate::train::{self, Recipe, recipe};

/// A network with its weights, on the CPU, and what is known of its data.
pub struct Model {
    /// Its configuration.
    pub architecture: Architecture,
    /// With weights.
    pub network: Network,
    /// How it was trained, if it comes from a recipe or a run.
    pub recipe: Option<Recipe>,
    /// What it says of its pictures, if it is an ONNX file.
    pub told: Told,
    /// The published weights that it has, if they are such.
    pub published: Option<&'static Published>,
    /// The manifest of the checkpoint, if it comes from one.
    pub manifest: Option<Manifest>,
    /// The folder that the recipe's paths start from.
    pub base: PathBuf,
    /// What it is, for people.
    pub description: String,
}

impl Model {
    /// A network of which nothing else is known.
    fn new(architecture: Architecture, network: Network, description: String) -> Self {
        Self {
            architecture,
            network,
            recipe: None,
            told: Told::default(),
            published: None,
            manifest: None,
            base: PathBuf::new(),
            description,
        }
    }

    /// How images become its inputs: as its recipe, its file, its published weights or `normalize` (which wins) say.
    pub fn preparation(&self, normalize: Option<&str>) -> anyhow::Result<Preparation> {
        let shape = self.architecture.input_shape();
        let known = match &self.recipe {
            Some(recipe) => recipe.data.transforms(Split::Test).normalize,
            None => self.told.normalize_for(shape[0]),
        };
        let preparation = Preparation::new(shape, known, normalize)?;
        let preparation = match self.published {
            Some(row) => preparation.published(&row.preparation, normalize.is_some()),
            None => preparation,
        };
        Ok(if self.architecture.task().kind().keeps_size { preparation.any_size() } else { preparation })
    }

    /// The names of its classes, as far as they are known.
    pub fn labels(&self) -> Vec<String> {
        match (&self.recipe, self.published) {
            (Some(recipe), _) => class_names(&recipe.data),
            (None, Some(row)) => row.classes.iter().map(|name| (*name).to_string()).collect(),
            (None, None) => self.told.classes.clone(),
        }
    }
}

/// Where weights come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WeightArgs {
    /// A weight file, an https:// address, or torchvision's name such as vgg16:IMAGENET1K_V1.
    #[arg(long, value_name = "FILE|URL|NAME")]
    pub weights: Option<String>,
    /// Load only the weights that fit.
    #[arg(long, requires = "weights")]
    pub partial: bool,
    #[command(flatten)]
    pub mirror: Mirror,
}

/// Where torchvision's published files are taken from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Mirror {
    /// An address that holds torchvision's published files under their names, in the place of download.pytorch.org.
    #[arg(long, value_name = "URL", env = "REKINDLE_WEIGHTS_MIRROR", hide_env_values = true)]
    pub mirror: Option<String>,
}

/// Finds a model and gives it weights, which lie as the work ahead wants them. Of a run it is the best checkpoint unless `from` says another.
pub fn resolve(
    registry: &Registry,
    name: &str,
    weights: &WeightArgs,
    from: Option<Which>,
    layout: Layout,
) -> anyhow::Result<Model> {
    let path = Path::new(name);
    if path.is_dir() {
        return from_run(registry, path, weights, from.unwrap_or(Which::Best), layout);
    }
    if from.is_some() {
        bail!("--from chooses a checkpoint of a run, and '{name}' is no run's folder");
    }
    if path.is_file()
        && let Some(architecture) = models::open(path)
    {
        return from_file(path, architecture?, weights, layout);
    }
    if weights.weights.is_none()
        && path.is_file()
        && let Ok(file) = rekindle_state::open(path)
    {
        return from_weights(registry, file, layout);
    }
    match registry.find(name) {
        Ok(entry) => {
            let Some(weights) = weights.open()? else { bail!("{}", without_weights(name)) };
            let architecture = configured(entry, &weights)?;
            with_weights(name, architecture, &weights, layout)
        }
        Err(unknown) => {
            let is_recipe =
                path.is_file() || recipe::EMBEDDED.iter().chain(recipe::ZOO).any(|(known, _)| *known == name);
            if !is_recipe {
                bail!(
                    "{unknown}; MODEL is a built-in name, a recipe, an ONNX file, a PyTorch program (.pt2, TorchScript), a file of weights, or the folder of a run or checkpoint, and '{name}' is none"
                );
            }
            let loaded = recipe::load(registry, path, &[])?;
            let architecture = recipe::architecture(registry, &loaded.recipe)?;
            let model = match weights.open()? {
                Some(weights) => with_weights(name, architecture, &weights, layout)?,
                // A file has weights of its own.
                None if loaded.recipe.model.file().is_some() => {
                    let network = architecture.build(&Device::flex());
                    Model::new(architecture, network, format!("{name} before training"))
                }
                None => bail!("{}", without_weights(name)),
            };
            Ok(Model { recipe: Some(loaded.recipe), base: loaded.base, ..model })
        }
    }
}

fn without_weights(name: &str) -> String {
    format!("'{name}' has no weights of its own: give them with --weights FILE, or name a run")
}

/// A weight file that is open, and what it was called.
struct Weights {
    source: String,
    file: ModelFile,
    partial: bool,
}

impl WeightArgs {
    /// Opens the weights that are asked for, after a download if need be.
    fn open(&self) -> anyhow::Result<Option<Weights>> {
        let Some(source) = &self.weights else { return Ok(None) };
        let file = rekindle_state::open(weight_file(source, &self.mirror)?)?;
        Ok(Some(Weights { source: source.clone(), file, partial: self.partial }))
    }
}

impl Weights {
    /// The published weights that they are.
    fn published(&self) -> Option<&'static Published> {
        published_by(&self.source)
    }

    /// Puts them into a network, and says what did not fit as it was.
    fn load(&self, network: Network, layout: Layout) -> anyhow::Result<Network> {
        let options = ImportOptions { partial: self.partial, layout, ..ImportOptions::default() };
        let (network, report) = import_file(network, &self.file, &options)?;
        let plain = report.matching.is_complete() && !report.matching.searched && report.matching.helps.is_empty();
        if !plain || !report.notes.is_empty() {
            say!("{report}");
        }
        Ok(network)
    }
}

/// A network of the registry or of a recipe with weights from a file.
fn with_weights(name: &str, architecture: Architecture, weights: &Weights, layout: Layout) -> anyhow::Result<Model> {
    let network = weights.load(architecture.build(&Device::flex()), layout)?;
    let description = format!("{name} with {}", weights.source);
    let published = weights.published();
    Ok(Model { published, ..Model::new(architecture, train::drawn(network, 0), description) })
}

/// A weight file as a model: the network of the registry that its names and shapes fit.
fn from_weights(registry: &Registry, file: ModelFile, layout: Layout) -> anyhow::Result<Model> {
    let place = file.path.display().to_string();
    let Fits { networks, but } = Fits::of(registry, &file);
    if let Some(but) = but {
        bail!(
            "{place}: {but}; to take it for that network all the same, name the network, and give the file with --weights {place}"
        );
    }
    let Some(found) = networks.into_iter().next() else {
        bail!(
            "{place}: no built-in network has exactly these names and shapes; name the network, and give the file with --weights {place}"
        );
    };
    say!("{place}: the weights of {}", found.describe());
    let models::Recognised { entry, mut keys, .. } = found;
    let weights = Weights { source: place, file, partial: false };
    let published = weights.published().filter(|row| row.model == entry.name);
    if let Some(row) = published {
        keys.extend(row.keys.clone());
    }
    let architecture = entry.configure(&keys)?;
    let network = weights.load(architecture.build(&Device::flex()), layout)?;
    let description = format!("{} with {}", entry.name, weights.source);
    Ok(Model { published, ..Model::new(architecture, network, description) })
}

/// The published weights that a source is, by their name or by that of their file.
pub fn published_by(source: &str) -> Option<&'static Published> {
    let file = source.rsplit(['/', '\\']).next().unwrap_or_default();
    published::find(source).or_else(|| published::of_file(file))
}

/// A built-in network with the sizes that its weights tell, or with the published ones.
fn configured(entry: &Entry, weights: &Weights) -> anyhow::Result<Architecture> {
    if let Some(row) = weights.published().filter(|row| row.model == entry.name && !row.keys.is_empty()) {
        return Ok(entry.configure(&row.keys)?);
    }
    let config = infer::configuration(entry, &weights.file).unwrap_or_default();
    if config.is_empty() {
        return Ok(entry.standard()?);
    }
    let keys: Vec<String> = config.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    say!(
        "{}: sizes taken from the weights: {}; what weights do not tell keeps its default",
        entry.name,
        keys.join(", ")
    );
    Ok(entry.configure(&config)?)
}

/// A file that is a network, with its own weights or with others under the same names.
fn from_file(path: &Path, architecture: Architecture, weights: &WeightArgs, layout: Layout) -> anyhow::Result<Model> {
    let told = architecture.get::<GraphConfig>().map(GraphConfig::told).unwrap_or_default();
    let mut network = architecture.build(&Device::flex());
    let mut description = path.display().to_string();
    if let Some(weights) = weights.open()? {
        network = weights.load(network, layout)?;
        description = format!("{description} with {}", weights.source);
    }
    Ok(Model { told, ..Model::new(architecture, network, description) })
}

fn from_run(
    registry: &Registry,
    path: &Path,
    weights: &WeightArgs,
    which: Which,
    layout: Layout,
) -> anyhow::Result<Model> {
    let contents: Contents = match Checkpoint::at(path) {
        Some(checkpoint) => checkpoint.read()?,
        None => Run::open(path)?.load(which)?.1,
    };
    let place = contents.path.display().to_string();
    let recipe = train::recipe_of(&contents, &place)?;
    let architecture = recipe::architecture(registry, &recipe)?;
    let mut network = train::restored(&architecture, &contents, &place)?;
    let mut description = place;
    if let Some(weights) = weights.open()? {
        network = weights.load(network, layout)?;
        description = format!("{description} with {}", weights.source);
    }
    let model = Model::new(architecture, network, description);
    Ok(Model { recipe: Some(recipe), manifest: Some(contents.manifest), ..model })
}

/// Where torchvision publishes; a mirror holds the same file names.
const PUBLISHED: &str = "https://download.pytorch.org/models";

/// The file that holds some weights, downloaded into the cache when it must be.
pub fn weight_file(source: &str, mirror: &Mirror) -> anyhow::Result<PathBuf> {
    let is_address = source.starts_with("https://") || source.starts_with("http://");
    if !is_address && Path::new(source).exists() {
        return Ok(PathBuf::from(source));
    }
    let url = if is_address {
        source.to_string()
    } else if let Some((model, _)) = source.split_once(':') {
        let Some(row) = published::find(source) else {
            let known = published::names(model).join(", ");
            bail!("unknown weights '{source}': expected a file, an https:// address, or one of {known}");
        };
        let file = row.file();
        let base = mirror.mirror.as_deref().unwrap_or(PUBLISHED);
        format!("{}/{file}", base.trim_end_matches('/'))
    } else {
        // Not there: reading it gives the clear error.
        return Ok(PathBuf::from(source));
    };
    cached(&url)
}

/// Downloads once; what is in the cache is used again. torchvision's file names carry the first digits of their sha256.
fn cached(url: &str) -> anyhow::Result<PathBuf> {
    let name = url.rsplit('/').next().unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
    if name.is_empty() {
        bail!("{url}: the address ends in no file name");
    }
    let Some(cache) = dirs::cache_dir() else {
        bail!(
            "there is no cache folder for downloads: set HOME or XDG_CACHE_HOME, or download the file and give its path"
        );
    };
    let digest = &rekindle_state::fs::sha256(url.as_bytes())[..12];
    // Two addresses may end in the same file name.
    let file = cache.join("rekindle").join("weights").join(digest).join(name);
    if !file.exists() {
        download(url, &file, digits_in_name(name), &mut Bar::default().listener())?;
    }
    Ok(file)
}

/// The digits of a sha256 at the end of a name such as `vgg16-397923af.pth`.
fn digits_in_name(name: &str) -> Option<&str> {
    let stem = name.rsplit_once('.')?.0;
    let digits = stem.rsplit_once('-')?.1;
    (digits.len() >= 8 && digits.chars().all(|c| c.is_ascii_hexdigit())).then_some(digits)
}
