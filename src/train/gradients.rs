//! Gradients of several batches as those of one: added up over a window of batches, and over ranks.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Tensor, TensorData};

use super::TrainError;
use crate::distributed::Group;
use crate::models::Network;

/// The gradients of a window: the mean over all its items, whatever the sizes of its batches.
///
/// A window of one batch on one rank keeps that batch's gradients as they are.
pub(super) struct Window {
    sum: GradientsAccumulator<Network>,
    /// Items of the window, those of all ranks.
    items: usize,
    /// Whether there is nothing to add.
    single: bool,
}

impl Window {
    /// A window of some items in some batches.
    pub(super) fn new(items: usize, batches: usize) -> Self {
        Self { sum: GradientsAccumulator::new(), items, single: batches == 1 }
    }

    /// Adds a batch: the gradients of the mean over its items.
    pub(super) fn add(&mut self, network: &Network, grads: GradientsParams, items: usize) {
        let share = items as f64 / self.items as f64;
        let grads = if self.single { grads } else { scaled(grads, network, share) };
        self.sum.accumulate(network, grads);
    }

    /// The gradients, of all ranks where there are several.
    ///
    /// # Errors
    /// When another rank is gone, or the device cannot be read.
    pub(super) fn finish(mut self, network: &Network, group: Option<&Group>) -> Result<GradientsParams, TrainError> {
        let grads = self.sum.grads();
        match group {
            Some(group) => summed(grads, network, group),
            None => Ok(grads),
        }
    }
}

/// Multiplies each gradient.
fn scaled(grads: GradientsParams, network: &Network, factor: f64) -> GradientsParams {
    struct Scale(GradientsParams, f64);
    impl ModuleVisitor for Scale {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, grad.mul_scalar(self.1));
            }
        }
    }
    let mut scale = Scale(grads, factor);
    network.visit(&mut scale);
    scale.0
}

/// The sums of gradients over ranks, in rank order. A parameter that no rank has a gradient for stays without one.
fn summed(grads: GradientsParams, network: &Network, group: &Group) -> Result<GradientsParams, TrainError> {
    let mut flat = Flatten { grads, parts: Vec::new(), present: Vec::new() };
    network.visit(&mut flat);
    let Flatten { mut grads, parts, present } = flat;
    let device = network.devices().into_iter().next().unwrap_or_default().inner();
    let unreadable = |error: String| TrainError::Unreadable { what: "the gradients", error };
    // One read of the device, whatever the number of parameters.
    let data = match parts.len() {
        0 => TensorData::new(Vec::<f32>::new(), [0]),
        _ => Tensor::cat(parts, 0).try_into_data().map_err(|error| unreadable(format!("{error:?}")))?,
    };
    let mut values: Vec<f32> = data.try_into_vec().map_err(|error| unreadable(format!("{error:?}")))?;
    let gradients = values.len();
    values.extend(present);
    group.sum(&mut values)?;
    let present = values.split_off(gradients);
    let total = values.len();
    let mut restore = Restore {
        grads: &mut grads,
        sums: Tensor::from_data(TensorData::new(values, [total]), &device),
        present: present.into_iter(),
        at: 0,
    };
    network.visit(&mut restore);
    Ok(grads)
}

/// Puts the gradients of all parameters one after another; zeros where there is none.
struct Flatten {
    grads: GradientsParams,
    parts: Vec<Tensor<1>>,
    /// For each parameter whether this rank has a gradient: 1 or 0.
    present: Vec<f32>,
}

impl ModuleVisitor for Flatten {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let count = param.lazy_shape().num_elements();
        let grad = self.grads.remove::<D>(param.id);
        self.present.push(if grad.is_some() { 1.0 } else { 0.0 });
        self.parts.push(match grad {
            Some(grad) => grad.reshape([count]),
            None => Tensor::zeros([count], &param.lazy_device().inner()),
        });
    }
}

/// Takes them apart again.
struct Restore<'a> {
    grads: &'a mut GradientsParams,
    sums: Tensor<1>,
    present: std::vec::IntoIter<f32>,
    at: usize,
}

impl ModuleVisitor for Restore<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let shape = param.lazy_shape();
        let range = self.at..self.at + shape.num_elements();
        self.at = range.end;
        if self.present.next().is_some_and(|ranks| ranks > 0.0) && !range.is_empty() {
            self.grads.register::<D>(param.id, self.sums.clone().slice([range]).reshape(shape));
        }
    }
}
