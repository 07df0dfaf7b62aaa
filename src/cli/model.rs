//! `MODEL` on the command line: a built-in name, a recipe, a run or a checkpoint, with weights from where they are.

use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::tensor::Device;

use crate::checkpoint::{Checkpoint, Contents, Manifest, Run, Which};
use crate::data::download::{Progress, download};
use crate::models::import::{ImportOptions, import};
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
    /// The manifest of the checkpoint, if it comes from one.
    pub manifest: Option<Manifest>,
    /// The folder that the recipe's paths start from.
    pub base: PathBuf,
    /// What it is, for people.
    pub description: String,
}

/// Where weights come from.
#[derive(Debug, clap::Args)]
pub struct WeightArgs {
    /// A weight file, an https:// address, or torchvision's name such as vgg16:IMAGENET1K_V1.
    #[arg(long, value_name = "FILE|URL|NAME")]
    pub weights: Option<String>,
    /// Load only the weights that fit.
    #[arg(long, requires = "weights")]
    pub partial: bool,
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
    let (architecture, recipe, base) = match registry.find(name) {
        Ok(entry) => (configured(entry, weights.weights.as_deref())?, None, PathBuf::new()),
        Err(unknown) => {
            let is_recipe = path.is_file() || recipe::EMBEDDED.iter().any(|(known, _)| *known == name);
            if !is_recipe {
                bail!(
                    "{unknown}; MODEL is a built-in name, a recipe file, an ONNX file, or the folder of a run or checkpoint, and '{name}' is none"
                );
            }
            let loaded = recipe::load(registry, path, &[])?;
            (recipe::architecture(registry, &loaded.recipe)?, Some(loaded.recipe), loaded.base)
        }
    };
    let Some(source) = &weights.weights else {
        if recipe.as_ref().is_some_and(|recipe| recipe.model.file().is_some()) {
            let (network, description) = (architecture.build(&Device::flex()), format!("{name} before training"));
            return Ok(Model {
                architecture,
                network,
                recipe,
                told: Told::default(),
                manifest: None,
                base,
                description,
            });
        }
        bail!("'{name}' has no weights of its own: give them with --weights FILE, or name a run");
    };
    let network = load(architecture.build(&Device::flex()), source, weights.partial, layout)?;
    let network = train::drawn(network, 0);
    Ok(Model {
        architecture,
        network,
        recipe,
        told: Told::default(),
        manifest: None,
        base,
        description: format!("{name} with {source}"),
    })
}

/// A built-in network with the sizes that its weights tell, or with the published ones.
fn configured(entry: &Entry, source: Option<&str>) -> anyhow::Result<Architecture> {
    let Some(source) = source else { return Ok(entry.standard()?) };
    let file = rekindle_state::open(weight_file(source)?)?;
    let Some(config) = infer::configuration(entry, &file) else { return Ok(entry.standard()?) };
    let keys: Vec<String> = config.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    eprintln!(
        "{}: sizes taken from the weights: {}; what weights do not tell keeps its default",
        entry.name,
        keys.join(", ")
    );
    Ok(entry.configure(&config)?)
}

/// A file that is a network, with its own weights or with others under the same names.
fn from_file(path: &Path, architecture: Architecture, weights: &WeightArgs, layout: Layout) -> anyhow::Result<Model> {
    let told = architecture.get::<GraphConfig>().map(GraphConfig::told).unwrap_or_default();
    let network = architecture.build(&Device::flex());
    let mut description = path.display().to_string();
    let network = match &weights.weights {
        Some(source) => {
            description = format!("{description} with {source}");
            load(network, source, weights.partial, layout)?
        }
        None => network,
    };
    Ok(Model { architecture, network, recipe: None, told, manifest: None, base: PathBuf::new(), description })
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
    if let Some(source) = &weights.weights {
        network = load(network, source, weights.partial, layout)?;
        description = format!("{description} with {source}");
    }
    Ok(Model {
        architecture,
        network,
        recipe: Some(recipe),
        told: Told::default(),
        manifest: Some(contents.manifest),
        base: PathBuf::new(),
        description,
    })
}

fn load(network: Network, source: &str, partial: bool, layout: Layout) -> anyhow::Result<Network> {
    let file = weight_file(source)?;
    let (network, report) = import(network, &file, &ImportOptions { partial, layout, ..ImportOptions::default() })?;
    if !report.matching.is_complete() || !report.matching.helps.is_empty() {
        eprintln!("{report}");
    }
    Ok(network)
}

/// torchvision's published weights: model, name of the weights, file. The digits in a file's name begin its sha256.
const TORCHVISION: &[(&str, &str, &str)] = &[
    ("vgg11", "IMAGENET1K_V1", "vgg11-8a719046.pth"),
    ("vgg11_bn", "IMAGENET1K_V1", "vgg11_bn-6002323d.pth"),
    ("vgg13", "IMAGENET1K_V1", "vgg13-19584684.pth"),
    ("vgg13_bn", "IMAGENET1K_V1", "vgg13_bn-abd245e5.pth"),
    ("vgg16", "IMAGENET1K_V1", "vgg16-397923af.pth"),
    ("vgg16", "IMAGENET1K_FEATURES", "vgg16_features-amdegroot-88682ab5.pth"),
    ("vgg16_bn", "IMAGENET1K_V1", "vgg16_bn-6c64b313.pth"),
    ("vgg19", "IMAGENET1K_V1", "vgg19-dcbb9e9d.pth"),
    ("vgg19_bn", "IMAGENET1K_V1", "vgg19_bn-c79401a0.pth"),
];

/// Where torchvision publishes; a mirror holds the same file names.
const PUBLISHED: &str = "https://download.pytorch.org/models";

/// The file that holds some weights, downloaded into the cache when it must be.
pub fn weight_file(source: &str) -> anyhow::Result<PathBuf> {
    let is_address = source.starts_with("https://") || source.starts_with("http://");
    if !is_address && Path::new(source).exists() {
        return Ok(PathBuf::from(source));
    }
    let url = if is_address {
        source.to_string()
    } else if let Some((model, name)) = source.split_once(':') {
        let Some((.., file)) = TORCHVISION.iter().find(|(known, weights, _)| (*known, *weights) == (model, name))
        else {
            let known: Vec<String> =
                TORCHVISION.iter().map(|(model, weights, _)| format!("{model}:{weights}")).collect();
            bail!("unknown weights '{source}': expected a file, an https:// address, or one of {}", known.join(", "));
        };
        let base = std::env::var("REKINDLE_WEIGHTS_MIRROR").unwrap_or_else(|_| PUBLISHED.to_string());
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
        download(url, &file, digits_in_name(name), Progress::Bar)?;
    }
    Ok(file)
}

/// The digits of a sha256 at the end of a name such as `vgg16-397923af.pth`.
fn digits_in_name(name: &str) -> Option<&str> {
    let stem = name.rsplit_once('.')?.0;
    let digits = stem.rsplit_once('-')?.1;
    (digits.len() >= 8 && digits.chars().all(|c| c.is_ascii_hexdigit())).then_some(digits)
}
