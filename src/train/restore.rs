//! Networks and recipes: fresh, or from a checkpoint; and whether a network and its data fit.

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};

use super::TrainError;
use super::recipe::Recipe;
use crate::checkpoint::Contents;
use crate::data::Loader;
use crate::device;
use crate::models::{Architecture, Network, weights};
use crate::optim::{ParameterInfo, ParameterPart};
use crate::random;

/// The recipe that a checkpoint was trained with.
///
/// # Errors
/// When the manifest's recipe is not one.
pub fn recipe_of(contents: &Contents, place: &str) -> Result<Recipe, TrainError> {
    serde_json::from_value(contents.manifest.recipe.clone()).map_err(|error| TrainError::Mismatch {
        place: place.to_string(),
        problem: format!("its recipe cannot be used: {error}"),
    })
}

/// A network with fresh weights on the CPU: the same for a seed whatever device it goes to.
pub fn fresh(architecture: &Architecture, seed: u64) -> Network {
    drawn(architecture.build(&Device::flex()), seed)
}

/// The same network, with the weights that it has not got yet drawn from a seed.
pub fn drawn(network: Network, seed: u64) -> Network {
    let _seeds = device::seed_lock();
    device::seed(&Device::flex(), random::weights(seed));
    network.materialize()
}

/// A network with the weights of a checkpoint, on the CPU.
///
/// # Errors
/// When the record does not fit the network of the recipe.
pub fn restored(architecture: &Architecture, contents: &Contents, place: &str) -> Result<Network, TrainError> {
    let broken = |error: burn::store::RecordError| TrainError::Mismatch {
        place: place.to_string(),
        problem: format!("model.bpk does not fit the recipe's model: {error}"),
    };
    let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(contents.model.clone())).map_err(broken)?;
    architecture.build(&Device::flex()).try_load_record(record).map_err(broken)
}

/// The table of parameters (buffers left out) that optimizers work by.
pub fn trained_parameters(network: &Network) -> Vec<ParameterInfo> {
    let entries = weights::entries(network).into_iter().filter(|entry| entry.trained);
    entries
        .map(|entry| ParameterInfo {
            name: entry.name,
            shape: entry.shape,
            parts: entry
                .parts
                .into_iter()
                .map(|part| ParameterPart { id: part.id, path: part.path, transposed: part.transposed })
                .collect(),
        })
        .collect()
}

/// Checks that images of a data set can pass a network, and that its answers are of the set's kind.
///
/// # Errors
/// With what does not fit.
pub fn check_fit(architecture: &Architecture, loader: &Loader, place: &str) -> Result<(), TrainError> {
    let shape = loader.input_shape();
    architecture.check_input([shape.channels, shape.height, shape.width])?;
    architecture
        .task()
        .check_data(shape, &**loader.dataset())
        .map_err(|problem| TrainError::Mismatch { place: place.to_string(), problem })
}
