//! The gradients of all ranks, summed bucket by bucket: on CPUs, the first buckets travel while the backward pass goes on.
//!
//! The first step shows in which order gradients are found. Rank 0's order is that of all: every rank sends the same buckets in the
//! same order, also one that has no batch or has failed. Sums are made value by value in rank order, so that buckets make no
//! difference to the bits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Shape, Tensor, TensorData};
use burn::train::TrainOutput;

use super::{StepOutput, TrainError};
use crate::distributed::{Group, GroupError, Pending};
use crate::kernels::{self, Held, Host};
use crate::models::Network;

/// Values of a bucket that travels early, at least: 1 MiB, as the first bucket of PyTorch's.
const BUCKET: usize = 1 << 18;

/// Parameters by their places in the network.
type Places = Vec<usize>;

/// Sums the gradients of all ranks, step after step.
pub(super) struct Reduction {
    group: Arc<Group>,
    /// The buckets that travel early, in order; none before the first step.
    early: Option<Rc<[Places]>>,
    /// Where NCCL adds up: the devices of all ranks.
    devices: Option<Vec<Device>>,
}

/// What a rank has of a step's gradients.
#[derive(Default)]
pub(super) struct Own {
    /// Of each place: the sum of the batches before the last one.
    before: Vec<Option<Held>>,
    /// Of each place: that of the last batch.
    last: Vec<Option<Held>>,
    /// What the last batch is worth.
    share: f32,
    /// Places whose gradients were heard, once each and as they are in the end, in that order.
    order: Places,
    /// Whether something travelled that was not final.
    stale: bool,
    /// Sums of the buckets that are on their way.
    sent: Vec<Pending<Vec<f32>>>,
}

/// Gradients on their way to all ranks.
pub(super) struct Sent {
    own: Own,
    sums: Vec<Pending<Vec<f32>>>,
}

impl Sent {
    /// Whether this rank's have to travel again.
    pub(super) fn is_stale(&self) -> bool {
        self.own.stale
    }
}

impl Reduction {
    pub(super) fn new(group: Arc<Group>, devices: Option<Vec<Device>>) -> Self {
        Self { group, early: None, devices }
    }

    /// The devices of all ranks, where NCCL adds up.
    pub(super) fn devices(&self) -> Option<&[Device]> {
        self.devices.as_deref()
    }

    /// Takes the last batch of a step, and sends what is known of its gradients meanwhile.
    ///
    /// # Errors
    /// When another rank is gone, or the device cannot be read.
    pub(super) fn last_batch(
        &self,
        network: &Network,
        before: &GradientsParams,
        share: f64,
        step: impl FnOnce() -> Result<TrainOutput<StepOutput>, GroupError>,
    ) -> Result<(Own, StepOutput), TrainError> {
        let own = Own { before: held(network, before)?, share: share as f32, ..Own::default() };
        let mut nodes = Nodes::default();
        network.visit(&mut nodes);
        let flight = Flight {
            group: Some(Arc::clone(&self.group)),
            early: self.early.clone().unwrap_or_default(),
            times: vec![0; nodes.lens.len()],
            own: Own { last: vec![None; nodes.lens.len()], ..own },
            nodes,
        };
        let flight = Rc::new(RefCell::new(flight));
        let ear = Rc::clone(&flight);
        let TrainOutput { grads, item } =
            kernels::listening(move |node, gradient| ear.borrow_mut().hear(node, gradient), step)?;
        let Flight { mut own, times, .. } = flight.take();
        let last = held(network, &grads)?;
        let is_final = |&place: &usize| {
            times[place] == 1
                && own.last[place].as_ref().zip(last[place].as_ref()).is_some_and(|(heard, last)| heard.same(last))
        };
        let early = self.early.iter().flat_map(|early| &early[..own.sent.len()]).flatten();
        own.stale = !early.into_iter().all(is_final);
        own.order = own.order.iter().copied().filter(is_final).collect();
        own.last = last;
        Ok((own, item))
    }

    /// Sends what has not been sent yet. A rank that has nothing sends zeros.
    pub(super) fn send(&self, network: &Network, own: Option<Own>) -> Sent {
        let lens = lens(network);
        let mut own = own.unwrap_or_default();
        let mut sums = std::mem::take(&mut own.sent);
        let sent = sums.len();
        for bucket in self.early.iter().flat_map(|early| &early[sent.min(early.len())..]) {
            sums.push(self.group.sum(own.values(bucket, &lens)));
        }
        let mut rest = own.values(&self.rest(lens.len()), &lens);
        // For each parameter, how many ranks have a gradient.
        rest.extend((0..lens.len()).map(|place| if own.has(place) { 1.0 } else { 0.0 }));
        sums.push(self.group.sum(rest));
        Sent { own, sums }
    }

    /// Sends everything again, and nothing early from now on: this network's gradients are not what they were when they were heard.
    pub(super) fn send_again(&mut self, network: &Network, sent: Sent) -> Sent {
        self.early = Some(Rc::new([]));
        self.send(network, Some(sent.own))
    }

    /// The sums over all ranks. A parameter that no rank has a gradient for stays without one.
    ///
    /// # Errors
    /// When another rank is gone.
    pub(super) fn receive(&mut self, network: &Network, sent: Sent) -> Result<GradientsParams, TrainError> {
        let Sent { own, sums } = sent;
        let lens = lens(network);
        let order = own.order;
        // Memory of this rank's gradients, for those of all.
        drop((own.before, own.last));
        let mut sums = sums.into_iter().map(|sum| self.group.wait(sum)).collect::<Result<Vec<_>, _>>()?;
        let present = sums.last_mut().map(|rest| rest.split_off(rest.len() - lens.len())).unwrap_or_default();
        let early = self.early.iter().flat_map(|early| early.iter().cloned());
        let buckets: Vec<Places> = early.chain([self.rest(lens.len())]).collect();
        let device = network.devices().into_iter().next().unwrap_or_default().inner();
        let host = Host::of(&device);
        let mut parts: Vec<Option<Part>> = vec![None; lens.len()];
        for (bucket, sum) in buckets.iter().zip(sums) {
            let mut at = 0;
            let ranges = bucket.iter().map(|&place| {
                let range = at..at + lens[place];
                at = range.end;
                (place, range)
            });
            // On other devices, one upload for all.
            let whole = match host {
                Some(host) => Whole::Here(host, Rc::new(sum)),
                None => {
                    let len = sum.len();
                    Whole::There(Rc::new(Tensor::from_data(TensorData::new(sum, [len]), &device)))
                }
            };
            for (place, range) in ranges {
                parts[place] = (present[place] > 0.0 && !range.is_empty()).then(|| (whole.clone(), range));
            }
        }
        if self.early.is_none() {
            self.early = Some(self.plan(&order, &lens)?);
        }
        let mut restore = Restore { grads: GradientsParams::new(), parts: parts.into_iter() };
        network.visit(&mut restore);
        Ok(restore.grads)
    }

    /// What travels when the backward pass is done.
    fn rest(&self, places: usize) -> Places {
        let mut rest = vec![true; places];
        self.early.iter().flat_map(|early| early.iter()).flatten().for_each(|&place| rest[place] = false);
        (0..places).filter(|&place| rest[place]).collect()
    }

    /// The buckets of the steps to come: those of rank 0's order. What is found last is left to the rest.
    fn plan(&self, order: &[usize], lens: &[usize]) -> Result<Rc<[Places]>, TrainError> {
        let order: Vec<u8> = order.iter().flat_map(|&place| (place as u64).to_le_bytes()).collect();
        let order = self.group.broadcast(if self.group.is_first() { &order } else { &[] })?;
        let places = order.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let (mut buckets, mut bucket, mut values) = (Vec::new(), Places::new(), 0);
        for place in places.map(|place| place as usize).filter(|place| *place < lens.len()) {
            // A large one is a bucket of its own: its sum is the gradient, without a copy.
            if lens[place] >= BUCKET {
                buckets.push(vec![place]);
                continue;
            }
            bucket.push(place);
            values += lens[place];
            if values >= BUCKET {
                buckets.push(std::mem::take(&mut bucket));
                values = 0;
            }
        }
        Ok(buckets.into())
    }
}

impl Own {
    fn has(&self, place: usize) -> bool {
        [&self.before, &self.last].iter().any(|part| part.get(place).is_some_and(Option::is_some))
    }

    /// The gradients of some places, one after another; zeros where there is none.
    fn values(&self, places: &[usize], lens: &[usize]) -> Vec<f32> {
        let mut values = Vec::with_capacity(places.iter().map(|&place| lens[place]).sum::<usize>() + lens.len());
        for &place in places {
            let part = |part: &[Option<Held>]| part.get(place).cloned().flatten();
            let (before, last) = (part(&self.before), part(&self.last).filter(|_| self.share != 0.0));
            let start = values.len();
            match (&before, &last) {
                (Some(before), _) => values.extend_from_slice(&before.values()),
                (None, Some(last)) => values.extend(last.values().iter().map(|value| value * self.share)),
                (None, None) => values.resize(start + lens[place], 0.0),
            }
            if let (Some(_), Some(last)) = (&before, &last) {
                let sums = values[start..].iter_mut();
                sums.zip(last.values().iter()).for_each(|(sum, value)| *sum += value * self.share);
            }
        }
        values
    }
}

/// A backward pass, and what is sent meanwhile.
#[derive(Default)]
struct Flight {
    group: Option<Arc<Group>>,
    early: Rc<[Places]>,
    nodes: Nodes,
    /// How often each place was heard.
    times: Vec<usize>,
    own: Own,
}

impl Flight {
    fn hear(&mut self, node: NodeId, gradient: Held) {
        let Some(&place) = self.nodes.places.get(&node) else { return };
        self.times[place] += 1;
        if self.times[place] > 1 {
            return;
        }
        self.own.last[place] = Some(gradient);
        self.own.order.push(place);
        while let Some(bucket) = self.early.get(self.own.sent.len())
            && bucket.iter().all(|&place| self.times[place] > 0)
            && let Some(group) = &self.group
        {
            self.own.sent.push(group.sum(self.own.values(bucket, &self.nodes.lens)));
        }
    }
}

/// The parameters of a network that are trained, and the nodes that their gradients are registered for.
#[derive(Default)]
struct Nodes {
    places: HashMap<NodeId, usize>,
    lens: Vec<usize>,
}

impl ModuleVisitor for Nodes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            if let Some(node) = kernels::node(param.val()) {
                self.places.insert(node, self.lens.len());
            }
            self.lens.push(param.lazy_shape().num_elements());
        }
    }
}

/// The lengths of the parameters that are trained.
fn lens(network: &Network) -> Vec<usize> {
    struct Lens(Vec<usize>);
    impl ModuleVisitor for Lens {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0.push(param.lazy_shape().num_elements());
            }
        }
    }
    let mut lens = Lens(Vec::new());
    network.visit(&mut lens);
    lens.0
}

/// The gradients of each place in this process's memory: on CPUs where they are, from other devices read at once.
fn held(network: &Network, grads: &GradientsParams) -> Result<Vec<Option<Held>>, TrainError> {
    struct Collect<'a> {
        grads: &'a GradientsParams,
        held: Vec<Option<Held>>,
        there: Vec<(usize, Tensor<1>)>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.is_require_grad() {
                return;
            }
            let grad = self.grads.get::<D>(param.id);
            let held = grad.clone().and_then(Held::of);
            if let (None, Some(grad)) = (&held, grad) {
                self.there.push((self.held.len(), grad.flatten(0, D - 1)));
            }
            self.held.push(held);
        }
    }
    let mut collect = Collect { grads, held: Vec::new(), there: Vec::new() };
    network.visit(&mut collect);
    let Collect { mut held, there, .. } = collect;
    if there.is_empty() {
        return Ok(held);
    }
    let unreadable = |error: String| TrainError::Unreadable { what: "the gradients", error };
    let (places, tensors): (Vec<usize>, Vec<Tensor<1>>) = there.into_iter().unzip();
    let lens: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
    let data = Tensor::cat(tensors, 0).try_into_data().map_err(|error| unreadable(format!("{error:?}")))?;
    let values: Vec<f32> = data.try_into_vec().map_err(|error| unreadable(format!("{error:?}")))?;
    let mut rest = &values[..];
    for (place, len) in places.into_iter().zip(lens) {
        let (here, after) = rest.split_at(len);
        rest = after;
        held[place] = Held::of(Host::Flex.tensor::<1>(here.to_vec(), Shape::from([len])));
    }
    Ok(held)
}

/// The sums of a bucket.
#[derive(Clone)]
enum Whole {
    Here(Host, Rc<Vec<f32>>),
    There(Rc<Tensor<1>>),
}

/// Where the sum of a place is.
type Part = (Whole, Range<usize>);

/// Makes gradients of sums.
struct Restore {
    grads: GradientsParams,
    parts: std::vec::IntoIter<Option<Part>>,
}

impl ModuleVisitor for Restore {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let Some(Some((whole, range))) = self.parts.next() else { return };
        let shape = param.lazy_shape();
        let grad = match whole {
            Whole::Here(host, values) => {
                let values = match Rc::try_unwrap(values) {
                    Ok(values) if values.len() == range.len() => values,
                    Ok(values) => values[range].to_vec(),
                    Err(values) => values[range].to_vec(),
                };
                host.tensor::<D>(values, shape)
            }
            Whole::There(values) => (*values).clone().slice([range]).reshape(shape),
        };
        self.grads.register::<D>(param.id, grad);
    }
}

#[cfg(test)]
mod tests;
