//! A network's record, from its live tensors into a file.
//!
//! `Module::into_record` copies every parameter before the first is written. Here those that lie in order in this process's memory are
//! lent, others of a CPU are copied one at a time, when their turn comes. The file is the same, byte for byte.

use std::cell::Cell;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::store::RecordError;
use burn::tensor::{Bool, Int, Tensor, TensorData};
use burn_pack::Writer;

use super::Network;
use crate::kernels::{self, Host};

/// What `model.bpk` is written from: the parameters and buffers of a network as they are now, whatever becomes of the network.
pub struct NetworkRecord(Vec<burn_pack::Tensor>);

impl NetworkRecord {
    /// Takes hold of a network's tensors.
    pub fn of(network: &Network) -> Self {
        let mut collector = Collector::default();
        network.valid().visit(&mut collector);
        Self(collector.tensors)
    }

    /// Writes the file and waits until it is on the disk; each tensor is let go of once it is written.
    ///
    /// # Errors
    /// When the disk is full or fails, or a tensor cannot be read back from its device.
    pub fn save(self, path: &Path) -> Result<(), RecordError> {
        Ok(Writer::new(self.0).write_to_file(path)?)
    }
}

#[derive(Default)]
struct Collector {
    path: Vec<String>,
    tensors: Vec<burn_pack::Tensor>,
}

impl Collector {
    fn add(&mut self, id: ParamId, data: TensorData) {
        let (bytes, shape, dtype) = data.into_parts();
        self.tensors.push(burn_pack::Tensor::new(self.path.join("."), dtype, shape, Some(id.val()), bytes));
    }
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.transform_for_save().val();
        if let Some(data) = kernels::lend(&tensor) {
            return self.add(param.id, data);
        }
        if Host::of(&tensor.device()).is_none() {
            return self.add(param.id, tensor.into_data());
        }
        let (name, dtype, shape) = (self.path.join("."), tensor.dtype(), tensor.shape());
        let length = shape.num_elements() * dtype.size();
        let read = move || Ok(tensor.to_data().into_parts().0);
        self.tensors.push(burn_pack::Tensor::deferred(name, dtype, shape, Some(param.id.val()), length, read));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param.id, param.transform_for_save().val().into_data());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param.id, param.transform_for_save().val().into_data());
    }
}

thread_local! {
    static APART: Cell<bool> = const { Cell::new(false) };
}

/// Calls something on this thread during which [`Network::into_record`] gives a record without tensors: Burn's learner hands its
/// network over as a record and in no other way, and what is saved is a [`NetworkRecord`].
///
/// [`Network::into_record`]: Module::into_record
pub fn apart<T>(call: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            APART.set(self.0);
        }
    }
    let _reset = Reset(APART.replace(true));
    call()
}

/// Whether records of networks are to be without tensors on this thread.
pub(super) fn is_apart() -> bool {
    APART.get()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::models::{Architecture, NetConfig};

    #[test]
    fn the_file_is_that_of_burn_s_record() {
        let folder = tempfile::tempdir().unwrap();
        for device in [Device::flex(), Device::flex().autodiff()] {
            let network = Architecture::new(NetConfig::default()).build(&device).materialize();
            let [ours, theirs] = ["ours.bpk", "theirs.bpk"].map(|name| folder.path().join(name));
            let record = NetworkRecord::of(&network);
            assert!(apart(|| network.clone().into_record()).is_empty());
            network.into_record().save(&theirs).unwrap();
            record.save(&ours).unwrap();
            assert!(std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap(), "{device:?}");
        }
    }
}
