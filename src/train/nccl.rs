//! The gradients of ranks that are threads of one process, each on a CUDA device of its own: added up by NCCL, from device to device,
//! behind Burn's all-reduce. In which order NCCL adds is its own business: bits are not promised.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

use super::TrainError;
use crate::device::{Backend, DeviceName, OpenDevice};
use crate::distributed::Group;
use crate::models::Network;

/// The devices of all ranks, where they are ones that NCCL serves.
///
/// # Errors
/// When another rank is gone, or a device cannot be opened.
pub(super) fn devices(group: &Group, here: &OpenDevice) -> Result<Option<Vec<Device>>, TrainError> {
    let served = here.backend == Backend::Cuda && group.is_in_process();
    let names = group.gather(if served { here.name.as_bytes() } else { &[] })?;
    let mut names: Vec<String> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let ranks = names.len();
    let open = |name: &String| Ok(name.parse::<DeviceName>()?.open()?.device);
    let devices = names.iter().filter(|name| !name.is_empty()).map(open).collect::<Result<Vec<_>, TrainError>>()?;
    names.sort();
    names.dedup();
    Ok((devices.len() == ranks && names.len() == ranks).then_some(devices))
}

/// The sums over all ranks. A parameter that no rank has a gradient for stays without one.
///
/// # Errors
/// When another rank is gone.
pub(super) fn summed(
    network: &Network,
    grads: GradientsParams,
    group: &Group,
    devices: &[Device],
) -> Result<GradientsParams, TrainError> {
    let mut flat = Flatten { grads, parts: Vec::new(), present: Vec::new() };
    network.visit(&mut flat);
    let all = group.gather(&flat.present)?;
    let present = (0..flat.present.len()).map(|place| all.iter().any(|rank| rank.get(place) == Some(&1)));
    let sums = match flat.parts.is_empty() {
        true => return Ok(GradientsParams::new()),
        false => all_reduce(Tensor::cat(flat.parts, 0), ReduceOperation::Sum, devices.to_vec()).resolve(),
    };
    let mut restore = Restore { grads: GradientsParams::new(), sums, present: present.collect(), place: 0, at: 0 };
    network.visit(&mut restore);
    Ok(restore.grads)
}

/// Puts the gradients of all parameters one after another; zeros where there is none.
struct Flatten {
    grads: GradientsParams,
    parts: Vec<Tensor<1>>,
    present: Vec<u8>,
}

impl ModuleVisitor for Flatten {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let count = param.lazy_shape().num_elements();
        let grad = self.grads.remove::<D>(param.id);
        self.present.push(u8::from(grad.is_some()));
        self.parts.push(match grad {
            Some(grad) => grad.reshape([count]),
            None => Tensor::zeros([count], &param.lazy_device().inner()),
        });
    }
}

/// Takes them apart again.
struct Restore {
    grads: GradientsParams,
    sums: Tensor<1>,
    present: Vec<bool>,
    place: usize,
    at: usize,
}

impl ModuleVisitor for Restore {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let shape = param.lazy_shape();
        let range = self.at..self.at + shape.num_elements();
        self.at = range.end;
        if self.present[self.place] && !range.is_empty() {
            self.grads.register::<D>(param.id, self.sums.clone().slice([range]).reshape(shape));
        }
        self.place += 1;
    }
}
