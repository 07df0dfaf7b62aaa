//! Convolutions of one to three axes.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{conv_transpose1d, conv_transpose2d, conv_transpose3d, conv3d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, PadMode};
use rekindle_onnx::{Node, Result};

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

/// How a window moves over `N` axes.
pub(super) struct Window<const N: usize> {
    pub kernel: [usize; N],
    pub stride: [usize; N],
    pub dilation: [usize; N],
    /// Before and after each axis.
    pub pads: [(usize, usize); N],
}

/// Numbers of an attribute, one for each axis; `None` when they are not all above zero or not as many.
pub(super) fn each<const N: usize>(node: &Node, name: &str) -> Result<Option<[usize; N]>> {
    let Some(values) = node.attributes.ints(name)? else { return Ok(Some([1; N])) };
    let values: Option<Vec<usize>> =
        values.iter().map(|&value| usize::try_from(value).ok().filter(|&value| value > 0)).collect();
    Ok(values.and_then(|values| values.try_into().ok()))
}

impl<const N: usize> Window<N> {
    /// The window of a node over an input; `None` if it does not fit or is odd.
    pub fn of(node: &Node, input: &[usize], kernel: [usize; N]) -> Result<Option<Self>> {
        let (Some(stride), Some(dilation)) = (each(node, "strides")?, each(node, "dilations")?) else {
            return Ok(None);
        };
        let mut pads = [(0, 0); N];
        let spread = |axis: usize| (kernel[axis] - 1) * dilation[axis] + 1;
        match node.attributes.text_or("auto_pad", "NOTSET")? {
            "NOTSET" => {
                let given = node.attributes.ints("pads")?.unwrap_or(&[]);
                if !given.is_empty() && given.len() != 2 * N || given.iter().any(|&pad| pad < 0) {
                    return Ok(None);
                }
                if !given.is_empty() {
                    pads = std::array::from_fn(|axis| (given[axis] as usize, given[axis + N] as usize));
                }
            }
            "VALID" => {}
            side @ ("SAME_UPPER" | "SAME_LOWER") => {
                for axis in 0..N {
                    let wanted = (input[axis].div_ceil(stride[axis]) - 1) * stride[axis] + spread(axis);
                    let missing = wanted.saturating_sub(input[axis]);
                    let (less, more) = (missing / 2, missing - missing / 2);
                    pads[axis] = if side == "SAME_UPPER" { (less, more) } else { (more, less) };
                }
            }
            _ => return Ok(None),
        }
        let fits = (0..N).all(|axis| input[axis] + pads[axis].0 + pads[axis].1 >= spread(axis));
        Ok(fits.then_some(Self { kernel, stride, dilation, pads }))
    }

    /// The sizes that come out.
    pub fn output(&self, input: &[usize]) -> [usize; N] {
        std::array::from_fn(|axis| {
            let spread = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            (input[axis] + self.pads[axis].0 + self.pads[axis].1 - spread) / self.stride[axis] + 1
        })
    }

    /// The padding of each axis, if it is the same on both sides.
    pub fn symmetric(&self) -> Option<[usize; N]> {
        self.pads.iter().all(|(before, after)| before == after).then(|| self.pads.map(|(before, _)| before))
    }
}

/// The shapes of input and weight and the groups of a convolution, if they fit.
struct Shapes<const N: usize> {
    input: Vec<usize>,
    weight: Vec<usize>,
    kernel: [usize; N],
    groups: usize,
}

impl<const N: usize> Shapes<N> {
    /// `channels` says how many channels come out for a weight's first two axes and groups.
    fn of(
        call: &Call<'_, '_>,
        channels: fn(usize, usize, usize) -> usize,
        taken: fn(usize, usize, usize) -> usize,
    ) -> Result<Option<Self>> {
        let (Some(input), Some(weight)) = (call.shape(0), call.shape(1)) else { return Ok(None) };
        let groups = usize::try_from(call.node.attributes.int_or("group", 1)?).unwrap_or(0);
        if input.len() != N + 2 || weight.len() != N + 2 || groups == 0 || weight[0] % groups != 0 {
            return Ok(None);
        }
        let kernel: [usize; N] = weight[2..].try_into().expect("one size for each axis");
        let said = match call.node.attributes.ints("kernel_shape")? {
            Some(said) => said.iter().zip(kernel).all(|(&said, own)| said == own as i64) && said.len() == N,
            None => true,
        };
        let bias = !call.has(2) || call.shape(2) == Some(vec![channels(weight[0], weight[1], groups)]);
        let fits = said && bias && input[1] == taken(weight[0], weight[1], groups);
        Ok(fits.then_some(Self { input, weight, kernel, groups }))
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

/// Shapes of operands, the window, and the shape that comes out, if they fit.
fn shapes<const N: usize>(call: &Call<'_, '_>) -> Result<Option<(Shapes<N>, Window<N>, Vec<usize>)>> {
    let Some(shapes) = Shapes::<N>::of(call, |out, _, _| out, |_, taken, groups| taken * groups)? else {
        return Ok(None);
    };
    let Some(window) = Window::of(call.node, &shapes.input[2..], shapes.kernel)? else { return Ok(None) };
    let shape = [shapes.input[0], shapes.weight[0]].into_iter().chain(window.output(&shapes.input[2..])).collect();
    Ok(Some((shapes, window, shape)))
}

fn conv_of<const N: usize, const RELU: bool>(call: &mut Call<'_, '_>) -> Outputs {
    let Some((Shapes { input, weight, groups, .. }, window, shape)) = shapes::<N>(call)? else { return Ok(None) };
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
    let Some(shapes) = Shapes::<N>::of(call, |_, out, groups| out * groups, |taken, _, _| taken)? else {
        return Ok(None);
    };
    let Shapes { input, weight, kernel, groups } = shapes;
    let node = call.node;
    let (Some(stride), Some(dilation)) = (each::<N>(node, "strides")?, each::<N>(node, "dilations")?) else {
        return Ok(None);
    };
    let Some(cut) = cut(node, &input[2..], kernel, stride, dilation)? else { return Ok(None) };
    let channels = weight[1] * groups;
    let sizes: [usize; N] = std::array::from_fn(|axis| cut[axis].1);
    let shape: Vec<usize> = [input[0], channels].into_iter().chain(sizes).collect();
    let full: [usize; N] =
        std::array::from_fn(|axis| (input[axis + 2] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1);
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

/// For each axis of a transposed convolution, what is cut off before and how much is kept.
fn cut<const N: usize>(
    node: &Node,
    input: &[usize],
    kernel: [usize; N],
    stride: [usize; N],
    dilation: [usize; N],
) -> Result<Option<[(usize, usize); N]>> {
    let pads = node.attributes.ints("pads")?.unwrap_or(&[]);
    let extra = node.attributes.ints("output_padding")?.unwrap_or(&[]);
    let asked = node.attributes.ints("output_shape")?;
    let auto = node.attributes.text_or("auto_pad", "NOTSET")?;
    let odd = !pads.is_empty() && pads.len() != 2 * N
        || !extra.is_empty() && extra.len() != N
        || asked.is_some_and(|asked| asked.len() != N);
    if odd {
        return Ok(None);
    }
    let mut cut = [(0, 0); N];
    for axis in 0..N {
        let extra = extra.get(axis).copied().unwrap_or(0);
        let full = ((input[axis] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1) as i64 + extra;
        let wanted = match (asked, auto) {
            (Some(asked), _) => Some(asked[axis]),
            (None, "SAME_UPPER" | "SAME_LOWER") => Some((input[axis] * stride[axis]) as i64),
            _ => None,
        };
        let (before, size) = match wanted {
            Some(size) => {
                let total = full - size;
                (if auto == "SAME_UPPER" { total / 2 } else { total - total / 2 }, size)
            }
            None if pads.is_empty() => (0, full),
            None => (pads[axis], full - pads[axis] - pads[axis + N]),
        };
        let (Ok(before), Ok(size @ 1..)) = (usize::try_from(before), usize::try_from(size)) else { return Ok(None) };
        cut[axis] = (before, size);
    }
    Ok(Some(cut))
}
