//! What the ranks of one training tell each other, besides gradients.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Tensor, TensorData};
use serde_json::{Value, json};

use super::changes::{compare, shown};
use super::{Recipe, TrainError};
use crate::checkpoint::{Contents, EpochSums, Manifest};
use crate::data::{Loader, Share, Target};
use crate::distributed::Group;
use crate::models::Network;

/// Images whose bytes are compared between ranks, spread over each split.
const COMPARED: usize = 64;

/// The part of the batches that is a rank's.
pub(super) fn share(group: Option<&Group>) -> Share {
    group.map_or(Share::ALL, |group| Share { rank: group.rank(), ranks: group.size() })
}

/// What a rank has to tell of a step, and what all of them come to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Told {
    /// A signal has asked to stop.
    pub(super) stop: bool,
    /// So much time has passed that a checkpoint is due: rank 0's clock says.
    pub(super) due: bool,
    /// Some gradients have to travel again.
    pub(super) stale: bool,
    /// Losses and scores of the step.
    pub(super) sums: EpochSums,
}

impl Told {
    /// Tells the other ranks, and gives what holds for all of them: the same on each.
    ///
    /// # Errors
    /// When any rank has failed, or is gone.
    pub(super) fn exchange(here: Result<Self, TrainError>, group: &Group) -> Result<Self, TrainError> {
        let answers = group.exchange(here.map(Self::bytes))?;
        let mut all = Self::default();
        for (rank, bytes) in answers.iter().enumerate() {
            let there = Self::read(bytes);
            all.stop |= there.stop;
            all.due |= there.due && rank == 0;
            all.stale |= there.stale;
            all.sums = all.sums.plus(there.sums);
        }
        Ok(all)
    }

    fn bytes(self) -> Vec<u8> {
        let Self { stop, due, stale, sums } = self;
        let mut bytes = vec![u8::from(stop), u8::from(due), u8::from(stale)];
        bytes.extend(sums.items.to_le_bytes());
        bytes.extend(sums.loss.to_le_bytes());
        bytes.extend(sums.score.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        let flag = |at: usize| bytes.get(at) == Some(&1);
        let sums = EpochSums {
            items: u64::from_le_bytes(number(3)),
            loss: f64::from_le_bytes(number(11)),
            score: f64::from_le_bytes(number(19)),
        };
        Self { stop: flag(0), due: flag(1), stale: flag(2), sums }
    }
}

/// Checks that every rank trains the same by the same program.
///
/// # Errors
/// On every rank, with the first that differs.
pub(super) fn check_recipe(group: &Group, recipe: &Recipe) -> Result<(), TrainError> {
    let program = std::env::current_exe().and_then(std::fs::read).map(|bytes| rekindle_state::fs::sha256(&bytes));
    let program = format!("rekindle {} ({})", env!("CARGO_PKG_VERSION"), program.unwrap_or_default());
    group.check_same("program", &program)?;
    let mut recipe = json!(recipe);
    // Where files lie may differ from machine to machine; rank 0 alone reads initial weights.
    for path in ["/data/dir", "/data/workers", "/train/init/weights", "/model/onnx", "/model/program"] {
        recipe.pointer_mut(path).map(Value::take);
    }
    let recipes = group.gather(recipe.to_string().as_bytes())?;
    let recipes: Vec<Value> = recipes.iter().map(|bytes| serde_json::from_slice(bytes).unwrap_or_default()).collect();
    // Every rank finds the same keys, and tells what it has there.
    let mut keys = Vec::new();
    if let Some(other) = recipes.iter().find(|other| **other != recipes[0]) {
        compare("", &recipes[0], other, &mut keys);
    }
    let value = |key: &str| shown(recipe.pointer(&format!("/{}", key.replace('.', "/"))).unwrap_or(&Value::Null));
    let told: Vec<String> = keys.iter().map(|(key, ..)| format!("{key} = {}", value(key))).collect();
    Ok(group.check_same("recipe", &told.join(", "))?)
}

/// Checks that every rank has the same images.
///
/// # Errors
/// On every rank, with the first that differs.
pub(super) fn check_data(group: &Group, loaders: [&Loader; 2]) -> Result<(), TrainError> {
    for (loader, name) in loaders.into_iter().zip(["training data", "validation data"]) {
        let found = group.agree(fingerprint(loader))?;
        group.check_same(name, &found)?;
    }
    Ok(())
}

/// What a data set is: how many images, and the bytes of some of them.
fn fingerprint(loader: &Loader) -> Result<String, TrainError> {
    let set = loader.dataset();
    let count = set.len();
    let mut bytes = Vec::new();
    for part in 0..COMPARED.min(count) {
        let sample = set.get(part * count / COMPARED.min(count))?;
        bytes.extend(sample.image.pixels);
        match sample.target {
            Target::Class(class) => bytes.extend(class.to_le_bytes()),
            Target::Image(image) | Target::Mask(image) => bytes.extend(image.pixels),
        }
    }
    let hash = rekindle_state::fs::sha256(&bytes);
    Ok(format!("{count} images with the hash {}", &hash[..16.min(hash.len())]))
}

/// A network with the weights and statistics of rank 0's.
///
/// # Errors
/// When another rank is gone.
pub(super) fn same_weights(group: &Group, network: Network) -> Result<Network, TrainError> {
    let failed = |reason: String| TrainError::Stopped { step: 0, reason: format!("the weights of rank 0: {reason}") };
    let record = if group.is_first() {
        network.clone().into_record().into_bytes().map(|bytes| bytes.to_vec()).map_err(|error| error.to_string())
    } else {
        Ok(Vec::new())
    };
    let bytes = group.broadcast(&group.agree(record)?)?;
    if group.is_first() {
        return Ok(network);
    }
    let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(|error| failed(error.to_string()))?;
    network.try_load_record(record).map_err(|error| failed(error.to_string()))
}

/// A checkpoint that rank 0 has read, on every rank.
///
/// # Errors
/// When another rank is gone.
pub(super) fn same_contents(group: &Group, contents: Option<Contents>) -> Result<Contents, TrainError> {
    let broken = |reason: String| TrainError::Mismatch { place: "the manifest of rank 0".into(), problem: reason };
    let first = contents.as_ref();
    let manifest = first.map(|contents| contents.manifest.to_json()).transpose();
    let manifest = manifest.map_err(|error| broken(error.to_string()))?.unwrap_or_default();
    let path = first.map(|contents| contents.path.display().to_string()).unwrap_or_default();
    let part = |part: Option<&Vec<u8>>| group.broadcast(part.map_or(&[], Vec::as_slice));
    let (manifest, path) = (group.broadcast(manifest.as_bytes())?, group.broadcast(path.as_bytes())?);
    let model = part(first.map(|contents| &contents.model))?;
    let optimizer = part(first.and_then(|contents| contents.optimizer.as_ref()))?;
    let scheduler = part(first.and_then(|contents| contents.scheduler.as_ref()))?;
    if let Some(contents) = contents {
        return Ok(contents);
    }
    let manifest =
        Manifest::from_json(&String::from_utf8_lossy(&manifest)).map_err(|error| broken(error.to_string()))?;
    let kept = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
    let path = String::from_utf8_lossy(&path).into_owned().into();
    Ok(Contents { manifest, model, optimizer: kept(optimizer), scheduler: kept(scheduler), path })
}

/// Checks that a network has batch normalisation, and none that cannot be synchronised.
///
/// # Errors
/// With what is in the way.
pub(super) fn check_norms(network: &Network) -> Result<(), String> {
    #[derive(Default)]
    struct Norms {
        path: Vec<String>,
        ours: bool,
        of_burn: Option<String>,
    }
    impl ModuleVisitor for Norms {
        fn enter_module(&mut self, name: &str, container: &str) {
            match container {
                "Struct:BatchNorm2d" => self.ours = true,
                "Struct:BatchNorm" if self.of_burn.is_none() => self.of_burn = Some(self.path.join(".")),
                _ => {}
            }
            self.path.push(name.to_string());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {}
    }
    let mut norms = Norms::default();
    network.visit(&mut norms);
    match norms {
        Norms { of_burn: Some(place), .. } => Err(format!(
            "train.sync_batch_norm = true: '{place}' is a batch normalisation of Burn's, which knows nothing of ranks: use \
             rekindle::layers::BatchNorm2d"
        )),
        Norms { ours: false, .. } => {
            Err("train.sync_batch_norm = true: the model has no batch normalisation that is trained".to_string())
        }
        _ => Ok(()),
    }
}

/// A network in evaluation mode with the running statistics of rank 0: those are saved, and so those are measured.
///
/// # Errors
/// When another rank is gone.
pub(super) fn same_statistics(group: &Group, network: Network) -> Result<Network, TrainError> {
    let mut statistics = Statistics(Vec::new());
    network.visit(&mut statistics);
    let values = statistics.0;
    if values.is_empty() {
        return Ok(network);
    }
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes = group.broadcast(if group.is_first() { &bytes } else { &[] })?;
    let values = bytes.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok()).map(f32::from_le_bytes).collect();
    Ok(network.map(&mut Replace { values, at: 0 }))
}

/// The values of what is no parameter.
struct Statistics(Vec<f32>);

impl ModuleVisitor for Statistics {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
}

/// Gives it other values.
struct Replace {
    values: Vec<f32>,
    at: usize,
}

impl ModuleMapper for Replace {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if param.is_require_grad() {
            return param;
        }
        let shape = param.lazy_shape();
        let range = self.at..self.at + shape.num_elements();
        self.at = range.end;
        let Some(values) = self.values.get(range) else { return param };
        let data = TensorData::new(values.to_vec(), shape);
        param.map(|value| Tensor::from_data(data, &value.device()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::threads;

    #[test]
    fn every_rank_comes_to_the_same() {
        let told = threads::run(3, |group| {
            let rank = group.rank() as u64;
            let sums = EpochSums { items: rank + 1, loss: 0.1 * rank as f64, score: 1.0 };
            let here = Told { stop: rank == 2, due: rank == 1, stale: rank == 1, sums };
            assert_eq!(Told::read(&here.bytes()), here);
            Told::exchange(Ok(here), &group).unwrap()
        });
        let sums = EpochSums { items: 6, loss: 0.1 + 0.2, score: 3.0 };
        assert!(told.iter().all(|told| *told == Told { stop: true, due: false, stale: true, sums }));
    }
}
