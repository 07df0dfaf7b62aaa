//! Which network of the registry a file is for.

use burn::tensor::Device;
use rekindle_state::ModelFile;

use crate::models::{Recognised, Registry, recognise};
use crate::onnx::export::difference;

/// The networks that fit a file.
#[derive(Default)]
pub struct Fits {
    /// Those that it can be taken for, the nearest first.
    pub networks: Vec<Recognised>,
    /// Of a pickled module that fits none of them: what differs from the first one whose names and shapes it has.
    pub but: Option<String>,
}

impl Fits {
    /// Those whose names and shapes a file has, and whose settings it has where it is a whole pickled module.
    pub fn of(registry: &Registry, file: &ModelFile) -> Self {
        let networks = recognise(registry, file);
        let [(_, tree)] = file.modules.as_slice() else { return Self { networks, but: None } };
        let mut networks: Vec<Recognised> = networks.into_iter().map(|found| found.with_flags_of(tree)).collect();
        let mut but = None;
        networks.retain(|found| {
            let network = found.architecture.build(&Device::flex());
            let differs = difference(tree, network, found.architecture.input_shape());
            if let Some(how) = &differs {
                let name = found.describe();
                but.get_or_insert_with(|| format!("its names and shapes are those of {name}, but its {how}"));
            }
            differs.is_none()
        });
        Self { but: but.filter(|_| networks.is_empty()), networks }
    }
}
