//! A network with its weights and its configuration, typed.

use std::ops::Deref;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use rekindle_state::Format as _;
use rekindle_state::{SaveOptions, StateDict, TorchZip, Value, format_for};

use super::{TrainError, recipe_of, restored};
use crate::checkpoint::{Run, Which};
use crate::models::import::{ImportOptions, Report, import};
use crate::models::{Architecture, Item, ModelConfig, Network, Registry, entry, weights};
use crate::onnx::export::ExportOptions;
use crate::onnx::{OnnxError, Written, export_verified};

/// A network with the configuration that it was built with. It derefs to the module.
#[derive(Debug, Clone)]
pub struct Trained<C: ModelConfig> {
    config: C,
    module: C::Model,
}

impl<C: ModelConfig> Trained<C> {
    /// A network of a configuration, with the weights that it has.
    pub fn new(config: C, module: C::Model) -> Self {
        Self { config, module }
    }

    /// A network with the weights of a file of any format.
    ///
    /// # Errors
    /// When the file cannot be read, or its weights are not those of the network.
    pub fn load(config: C, weights: impl AsRef<Path>, device: &Device) -> Result<(Self, Report), TrainError> {
        let module = config.init(device);
        let (module, report) = import(module, weights.as_ref(), &ImportOptions::default())?;
        Ok((Self { config, module }, report))
    }

    /// The configuration.
    pub fn config(&self) -> &C {
        &self.config
    }

    /// The module alone.
    pub fn into_module(self) -> C::Model {
        self.module
    }

    /// The state dict under PyTorch's names, with PyTorch's `_metadata`.
    ///
    /// # Errors
    /// When a tensor cannot be read back from its device.
    pub fn state_dict(&self) -> Result<StateDict, TrainError> {
        let mut dict = weights::to_state_dict(&self.module)?;
        dict.set_metadata(Some(weights::metadata(&self.module)));
        Ok(dict)
    }

    /// Writes the weights: `.pth` for PyTorch, `.safetensors`, `.npz`, or `.bpk`, by the file's name. Gives what the format
    /// cannot represent, a sentence each.
    ///
    /// # Errors
    /// When the format is unknown or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Vec<String>, TrainError> {
        let path = path.as_ref();
        let format = format_for(path)?;
        let mut dict = self.state_dict()?;
        if format.name() != TorchZip.name() {
            dict.set_metadata(None);
        }
        let options = SaveOptions { format: Some(format), ..SaveOptions::default() };
        let notes = rekindle_state::save(path, &Value::Dict(dict), &options)?;
        Ok(notes.iter().map(ToString::to_string).collect())
    }

    /// Writes the network as an ONNX graph for images of its usual size, run by other engines before the file gets its name.
    ///
    /// # Errors
    /// When the network takes no images, an operation has no ONNX, or an engine computes something else.
    pub fn export_onnx(&self, path: impl AsRef<Path>) -> Result<Written, OnnxError> {
        let Item::Image(size) = self.config.io().input else {
            return Err(OnnxError::Trace(format!(
                "'{}' takes no images: export_module writes such a network",
                C::NAME
            )));
        };
        let network = Network::new(self.module.valid());
        export_verified(&network, size, &ExportOptions::default(), path.as_ref())
    }
}

impl<C: ModelConfig> Deref for Trained<C> {
    type Target = C::Model;

    fn deref(&self) -> &C::Model {
        &self.module
    }
}

impl Run {
    /// The network of the best checkpoint, in evaluation mode on a device.
    ///
    /// # Errors
    /// When there is none, or the run is of another network.
    pub fn best<C: ModelConfig + Default>(&self, device: &Device) -> Result<Trained<C>, TrainError> {
        self.network(Which::Best, device)
    }

    /// The network of the newest checkpoint, in evaluation mode on a device.
    ///
    /// # Errors
    /// As for [`Run::best`].
    pub fn last<C: ModelConfig + Default>(&self, device: &Device) -> Result<Trained<C>, TrainError> {
        self.network(Which::Last, device)
    }

    /// The network of a checkpoint, in evaluation mode on a device.
    ///
    /// # Errors
    /// As for [`Run::best`].
    pub fn network<C: ModelConfig + Default>(&self, which: Which, device: &Device) -> Result<Trained<C>, TrainError> {
        let (_, contents) = self.load(which)?;
        let place = contents.path.display().to_string();
        let recipe = recipe_of(&contents, &place)?;
        let other = |problem: String| TrainError::Mismatch { place: place.clone(), problem };
        let registry = Registry::built_in().with_entry(entry(C::NAME, "", C::default));
        let architecture: Architecture = super::recipe::architecture(&registry, &recipe)?;
        let Some(config) = architecture.get::<C>().cloned() else {
            return Err(other(format!("the run is of the model '{}', not of '{}'", recipe.model.title(), C::NAME)));
        };
        let network = restored(&architecture, &contents, &place)?.fork(device).valid();
        let module = network.into_module::<C::Model>();
        let module = module.map_err(|network| other(format!("its network is a {}", network.class())))?;
        Ok(Trained { config, module })
    }
}
