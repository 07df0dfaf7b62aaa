//! Convolutions of one to three axes.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{conv_transpose1d, conv_transpose2d, conv_transpose3d, conv3d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, PadMode};
use rekindle_onnx::array::count;
use rekindle_onnx::ops::{self, Conv, ConvTranspose, merged};
use rekindle_onnx::work;

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::DeviceTensor;
use crate::kernels::{self, Activation};

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "Conv" => conv,
        "ConvTranspose" => |call| by_axes(call, conv_transpose::<1>, conv_transpose::<2>, conv_transpose::<3>),
        _ => return None,
    })
}

/// Runs the function for the number of axes besides batch and channels.
pub(super) fn by_axes(call: &mut Call<'_, '_>, one: DeviceOp, two: DeviceOp, three: DeviceOp) -> Outputs {
    match call.shape(0).map_or(0, |shape| shape.len()) {
        3 => one(call),
        4 => two(call),
        5 => three(call),
        _ => Ok(None),
    }
}

/// How a window moves over `N` axes of an image that nothing is cut off.
pub(super) struct Window<const N: usize> {
    pub kernel: [usize; N],
    pub stride: [usize; N],
    pub dilation: [usize; N],
    /// Before and after each axis.
    pub pads: [(usize, usize); N],
    /// The number of windows along each axis.
    pub out: [usize; N],
}

impl<const N: usize> Window<N> {
    /// The window of an operator; `None` where padding cuts off, or a window reaches past it.
    pub fn of(window: &ops::Window) -> Option<Self> {
        let mut pads = [(0, 0); N];
        for (axis, pads) in pads.iter_mut().enumerate() {
            *pads = (usize::try_from(window.begin[axis]).ok()?, usize::try_from(window.end[axis]).ok()?);
            if window.image[axis] as i64 + window.begin[axis] + window.end[axis] < window.span(axis) {
                return None;
            }
        }
        let [kernel, stride, dilation, out] =
            [&window.kernel, &window.steps, &window.dilations, &window.out].map(|values| each(values));
        Some(Self { kernel, stride, dilation, pads, out })
    }

    /// Whether an image may be held with its padding around it, and there is time for every tap of so many results.
    pub fn is_moderate(&self, input: &[usize], results: usize) -> bool {
        let padded = input[2..].iter().zip(self.pads).map(|(size, (before, after))| size + before + after);
        let taps = self.kernel.iter().fold(results as u64, |taps, &size| taps.saturating_mul(size as u64));
        count(&input[..2].iter().copied().chain(padded).collect::<Vec<_>>()).is_ok() && work(taps).is_ok()
    }

    /// The padding of each axis, if it is the same on both sides.
    pub fn symmetric(&self) -> Option<[usize; N]> {
        self.pads.iter().all(|(before, after)| before == after).then(|| self.pads.map(|(before, _)| before))
    }
}

/// A number for each of `N` axes, of which there are so many.
fn each<const N: usize>(values: &[usize]) -> [usize; N] {
    std::array::from_fn(|axis| values[axis])
}

/// The shapes of the image and the weight of a convolution.
struct Shapes {
    input: Vec<usize>,
    weight: Vec<usize>,
}

impl Shapes {
    /// Those of `axes` axes that fit each other. `channels` says how many channels come out for a weight's first two axes and
    /// groups, `taken` how many go in.
    fn of(
        call: &Call<'_, '_>,
        axes: usize,
        groups: usize,
        channels: fn(usize, usize, usize) -> usize,
        taken: fn(usize, usize, usize) -> usize,
    ) -> Option<Self> {
        let (input, weight) = (call.shape(0)?, call.shape(1)?);
        if input.len() != axes + 2 || weight.len() != axes + 2 || !weight[0].is_multiple_of(groups) {
            return None;
        }
        let bias = !call.has(2) || call.shape(2) == Some(vec![channels(weight[0], weight[1], groups)]);
        let fits = bias && input[1] == taken(weight[0], weight[1], groups);
        fits.then_some(Self { input, weight })
    }
}

/// Of one to three axes.
pub(super) fn conv(call: &mut Call<'_, '_>) -> Outputs {
    by_axes(call, conv_of::<1, false>, conv_of::<2, false>, conv_of::<3, false>)
}

/// The same, then max(0, x).
pub(super) fn conv_relu(call: &mut Call<'_, '_>) -> Outputs {
    by_axes(call, conv_of::<1, true>, conv_of::<2, true>, conv_of::<3, true>)
}

/// A convolution over pictures.
struct Plane {
    input: [usize; 4],
    weight: [usize; 4],
    window: kernels::Window,
    shape: Vec<usize>,
}

impl Plane {
    /// A line is a picture of one row.
    fn of<const N: usize>(
        input: &[usize],
        weight: &[usize],
        window: &Window<N>,
        groups: usize,
        shape: Vec<usize>,
    ) -> Self {
        let planar = |sizes: &[usize]| [sizes[0], sizes[1], if N == 1 { 1 } else { sizes[2] }, sizes[N + 1]];
        let window = kernels::Window {
            stride: [if N == 1 { 1 } else { window.stride[0] }, window.stride[N - 1]],
            padding: [if N == 1 { [0, 0] } else { pair(window.pads[0]) }, pair(window.pads[N - 1])],
            dilation: [if N == 1 { 1 } else { window.dilation[0] }, window.dilation[N - 1]],
            groups,
        };
        Self { input: planar(input), weight: planar(weight), window, shape }
    }
}

fn conv_of<const N: usize, const RELU: bool>(call: &mut Call<'_, '_>) -> Outputs {
    let Some((conv, _)) = merged::<Conv>(call.node) else { return Ok(None) };
    let groups = conv.groups;
    let shapes = Shapes::of(call, N, groups, |out, _, _| out, |_, taken, groups| taken * groups);
    let Some(Shapes { input, weight }) = shapes else { return Ok(None) };
    let window = ops::Window::new(&conv.windows, &input[2..], Some(&weight[2..]))?;
    let Some(window) = Window::<N>::of(&window) else { return Ok(None) };
    let shape: Vec<usize> = [input[0], weight[0]].into_iter().chain(window.out).collect();
    if !window.is_moderate(&input, shape.iter().product()) {
        return Ok(None);
    }
    let constant = call.is_constant(1) && (!call.has(2) || call.is_constant(2));
    let (x, w, b) = (call.take(0)?, call.take(1)?, call.take_optional(2)?);
    let (dtype, b) = (x.dtype(), b.map(DeviceTensor::flat));
    if N == 3 {
        let (x, options) = options::<N, 3, 5>(x.view_as(&input), &window, groups);
        let y = conv3d(x, w.view_as(&weight), b, options);
        return Ok(Some(vec![DeviceTensor::new(if RELU { relu(y) } else { y }, shape, dtype)]));
    }
    let Plane { input, weight, window, shape } = Plane::of(&input, &weight, &window, groups, shape);
    let activation = if RELU { Activation::Relu } else { Activation::None };
    let run = if constant { kernels::conv2d_constant } else { kernels::conv2d };
    let y = run(x.view(input), w.view(weight), b, window, activation);
    Ok(Some(vec![DeviceTensor::new(y, shape, dtype)]))
}

fn pair((before, after): (usize, usize)) -> [usize; 2] {
    [before, after]
}

/// Options of a convolution whose padding is the same on both sides: other padding is put around the input first.
fn options<const N: usize, const M: usize, const D: usize>(
    x: Tensor<D>,
    window: &Window<N>,
    groups: usize,
) -> (Tensor<D>, ConvOptions<M>) {
    let same = |values: [usize; N]| -> [usize; M] { std::array::from_fn(|axis| values[axis]) };
    let (x, padding) = match window.symmetric() {
        Some(padding) => (x, same(padding)),
        None => (x.pad(window.pads.to_vec(), PadMode::Constant(0.0)), [0; M]),
    };
    (x, ConvOptions::new(same(window.stride), padding, same(window.dilation), groups))
}

fn conv_transpose<const N: usize>(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<ConvTranspose>() else { return Ok(None) };
    let groups = op.groups;
    let shapes = Shapes::of(call, N, groups, |_, out, groups| out * groups, |taken, _, _| taken);
    let Some(Shapes { input, weight }) = shapes else { return Ok(None) };
    let window = op.window(&input[2..], &weight[2..])?;
    let [stride, dilation, sizes]: [[usize; N]; 3] =
        [&window.steps, &window.dilations, &window.image].map(|values| each(values));
    // For each axis, what is cut off before, and how much is kept.
    let mut cut = [(0, 0); N];
    for (axis, cut) in cut.iter_mut().enumerate() {
        let (Ok(before), 1..) = (usize::try_from(window.begin[axis]), sizes[axis]) else { return Ok(None) };
        *cut = (before, sizes[axis]);
    }
    let channels = weight[1] * groups;
    let shape: Vec<usize> = [input[0], channels].into_iter().chain(sizes).collect();
    let full: [usize; N] =
        std::array::from_fn(|axis| (input[axis + 2] - 1) * stride[axis] + window.span(axis) as usize);
    // What the device gives before the rest is cut off may be far more than what is kept.
    if count(&[&[input[0], channels], &full[..]].concat()).is_err() {
        return Ok(None);
    }
    // What is asked for past the last product is zero but for the bias.
    let beyond: [usize; N] = std::array::from_fn(|axis| (cut[axis].0 + cut[axis].1).saturating_sub(full[axis]));
    if (0..N).any(|axis| beyond[axis] >= stride[axis].max(dilation[axis])) {
        return Ok(None);
    }
    let (x, w, b) = (call.take(0)?, call.take(1)?, call.take_optional(2)?);
    let (dtype, b) = (x.dtype(), b.map(DeviceTensor::flat));
    // Where as much is cut off on both sides the device does it; else it is cut off here.
    let even = (0..N).all(|axis| beyond[axis] == 0 && cut[axis].0 * 2 + cut[axis].1 == full[axis]);
    let padding = if even { cut.map(|(before, _)| before) } else { [0; N] };
    macro_rules! run {
        ($function:ident, $n:literal, $d:literal) => {{
            let same = |values: [usize; N]| -> [usize; $n] { std::array::from_fn(|axis| values[axis]) };
            let options = ConvTransposeOptions::new(same(stride), same(padding), same(beyond), same(dilation), groups);
            let out: Tensor<$d> = $function(x.view_as(&input), w.view_as(&weight), b, options);
            let kept: [std::ops::Range<usize>; $d] = std::array::from_fn(|axis| match axis {
                0 => 0..input[0],
                1 => 0..channels,
                _ if even => 0..cut[axis - 2].1,
                _ => cut[axis - 2].0..cut[axis - 2].0 + cut[axis - 2].1,
            });
            DeviceTensor::new(if even { out } else { out.slice(kept) }, shape, dtype)
        }};
    }
    Ok(Some(vec![match N {
        1 => run!(conv_transpose1d, 1, 3),
        2 => run!(conv_transpose2d, 2, 4),
        _ => run!(conv_transpose3d, 3, 5),
    }]))
}
