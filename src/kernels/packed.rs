//! Convolution for inference: weights packed once, batch normalisation folded into them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use burn::backend::{DispatchKindConversion, DispatchTensor, Flex, NdArray};
use burn::module::ParamId;
use burn::tensor::{DType, Tensor};
use rekindle_kernels::{Activation, Conv2d, PackedWeights};

use super::conv::{CHECKED, output_shape};
use super::host::{Held, Host, HostBackend};
use super::{Window, geometry};

/// Batch normalisation with fixed statistics, one value of each for a channel.
pub struct Norm {
    /// Scale.
    pub weight: Tensor<1>,
    /// Shift.
    pub bias: Tensor<1>,
    /// Mean of the inputs.
    pub mean: Tensor<1>,
    /// Variance of the inputs.
    pub variance: Tensor<1>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// The parameters of a convolution that stay the same, and its weights in the order in which the kernels read them.
pub struct Packed {
    shape: [usize; 4],
    weight: Held,
    bias: Option<Held>,
    norm: Option<HeldNorm>,
    /// For the last input: its geometry decides how the weights lie.
    latest: Mutex<Option<Arc<Ready>>>,
}

/// The tensors of a [`Norm`].
struct HeldNorm {
    weight: Held,
    bias: Held,
    mean: Held,
    variance: Held,
    epsilon: f64,
}

/// Everything but the input.
struct Ready {
    geometry: Conv2d,
    weights: PackedWeights,
    bias: Option<Vec<f32>>,
}

impl Packed {
    /// Takes hold of the parameters of a convolution, with a batch normalisation to fold into them; they are packed for the first
    /// input. None where our kernels cannot run.
    pub fn new(weight: Tensor<4>, bias: Option<Tensor<1>>, norm: Option<Norm>) -> Option<Self> {
        let bias = match bias {
            Some(bias) => Some(Held::of(bias)?),
            None => None,
        };
        let norm = match norm {
            Some(norm) => Some(HeldNorm {
                weight: Held::of(norm.weight)?,
                bias: Held::of(norm.bias)?,
                mean: Held::of(norm.mean)?,
                variance: Held::of(norm.variance)?,
                epsilon: norm.epsilon,
            }),
            None => None,
        };
        Some(Self { shape: weight.dims(), weight: Held::of(weight)?, bias, norm, latest: Mutex::default() })
    }

    fn sources(&self) -> impl Iterator<Item = &Held> {
        let norm = self.norm.iter().flat_map(|norm| [&norm.weight, &norm.bias, &norm.mean, &norm.variance]);
        std::iter::once(&self.weight).chain(&self.bias).chain(norm)
    }

    /// Whether both hold the same parameters.
    pub(super) fn same(&self, other: &Self) -> bool {
        let epsilon = |packed: &Self| packed.norm.as_ref().map(|norm| norm.epsilon);
        let alike = self.bias.is_some() == other.bias.is_some() && epsilon(self) == epsilon(other);
        alike && self.sources().zip(other.sources()).all(|(a, b)| a.same(b))
    }

    /// Whether nobody else holds the parameters any more.
    pub(super) fn forgotten(&self) -> bool {
        self.sources().all(Held::forgotten)
    }

    fn ready(&self, geometry: &Conv2d) -> Arc<Ready> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = latest.as_ref().filter(|ready| ready.geometry == *geometry) {
            return ready.clone();
        }
        let weight = self.weight.values();
        let bias = self.bias.as_ref().map(|bias| bias.values().into_owned());
        let (weights, bias) = match &self.norm {
            Some(norm) => {
                let (weight, bias) = norm.folded(&weight, bias.as_deref());
                (geometry.pack(&weight).expect(CHECKED), Some(bias))
            }
            None => (geometry.pack(&weight).expect(CHECKED), bias),
        };
        let ready = Arc::new(Ready { geometry: *geometry, weights, bias });
        *latest = Some(ready.clone());
        ready
    }

    /// A convolution with these parameters, then an activation; none, and nothing is done, where our kernels cannot run.
    pub fn conv2d(&self, x: &Tensor<4>, window: Window, activation: Activation) -> Option<Tensor<4>> {
        if x.dtype() != DType::F32 || x.device().is_autodiff() {
            return None;
        }
        let geometry = geometry(x.dims(), self.shape, window)?;
        match Host::of(&x.device())? {
            Host::Flex => self.run::<Flex>(x, &geometry, activation),
            Host::NdArray => self.run::<NdArray>(x, &geometry, activation),
        }
    }

    fn run<B: HostBackend>(&self, x: &Tensor<4>, geometry: &Conv2d, activation: Activation) -> Option<Tensor<4>>
    where
        DispatchTensor: DispatchKindConversion<B>,
    {
        let x = x.clone().try_into_primitive::<B>().ok()?;
        let ready = self.ready(geometry);
        let mut output = vec![0.0; geometry.output_len()];
        geometry
            .forward_packed(&B::values(&x), &ready.weights, ready.bias.as_deref(), activation, &mut output)
            .expect(CHECKED);
        Some(Tensor::from_primitive::<B>(B::tensor(output, output_shape(geometry))))
    }
}

/// The same for a layer whose weight goes by an identity: what was packed for it serves again until a parameter changes.
pub fn conv2d_kept(
    layer: ParamId,
    packed: Packed,
    x: &Tensor<4>,
    window: Window,
    activation: Activation,
) -> Option<Tensor<4>> {
    kept(layer.val(), packed).conv2d(x, window, activation)
}

/// A convolution whose weight is a constant, which goes by where it lies in memory: packed once, for as long as somebody holds it.
pub fn conv2d_constant(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    window: Window,
    activation: Activation,
) -> Tensor<4> {
    let packed = Packed::new(weight.clone(), bias.clone(), None);
    let y = packed.and_then(|packed| kept(packed.weight.address(), packed).conv2d(&x, window, activation));
    y.unwrap_or_else(|| super::conv2d(x, weight, bias, window, activation))
}

impl HeldNorm {
    /// Weight and bias of the convolution that does both.
    fn folded(&self, weight: &[f32], bias: Option<&[f32]>) -> (Vec<f32>, Vec<f32>) {
        let (scale, shift, mean, variance) =
            (self.weight.values(), self.bias.values(), self.mean.values(), self.variance.values());
        let factor = |channel: usize| f64::from(scale[channel]) / (f64::from(variance[channel]) + self.epsilon).sqrt();
        let taps = weight.len() / scale.len().max(1);
        let rows = weight.chunks_exact(taps.max(1)).enumerate();
        let folded = rows.flat_map(|(channel, row)| {
            let factor = factor(channel);
            row.iter().map(move |&value| (f64::from(value) * factor) as f32)
        });
        let shifts = (0..scale.len()).map(|channel| {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[channel]));
            ((bias - f64::from(mean[channel])) * factor(channel) + f64::from(shift[channel])) as f32
        });
        (folded.collect(), shifts.collect())
    }
}

// What was worked out from the parameters of a layer, kept for the next forward pass. It holds the very tensors that it was made of.
// While it does, no backend writes into their memory (a tensor that somebody else holds too is copied before it changes) and no other
// tensor can lie there: the same memory means the same values. After an update of the parameters what was kept no longer fits, and is
// replaced.

type Entries = HashMap<u64, Arc<Packed>>;

fn entries() -> MutexGuard<'static, Entries> {
    static ENTRIES: LazyLock<Mutex<Entries>> = LazyLock::new(Mutex::default);
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is kept under a number that tells layers apart; `fresh` takes its place if a parameter has changed.
fn kept(layer: u64, fresh: Packed) -> Arc<Packed> {
    let mut entries = entries();
    if let Some(packed) = entries.get(&layer).filter(|packed| packed.same(&fresh)) {
        return packed.clone();
    }
    entries.retain(|_, packed| !packed.forgotten());
    let fresh = Arc::new(fresh);
    entries.insert(layer, fresh.clone());
    fresh
}
