//! Attention inside windows of an image that are shifted every other time, with a bias for relative positions.
//!
//! Sources: Liu et al., *Swin Transformer*, 2021; *Swin Transformer V2*, 2022.

use burn::module::{Module, Param, ParamId, RunningState};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::attention::split_heads;
use super::linear::linear_last;
use super::named::named_module;
use super::sequential::linear_normal;
use crate::kernels;
use crate::layers;

/// Which entry of the table of biases belongs to each pair of positions in a window `[height, width]`, row by row.
pub fn relative_position_index([height, width]: [usize; 2]) -> Vec<i64> {
    let area = height * width;
    let mut index = Vec::with_capacity(area * area);
    for to in 0..area {
        for from in 0..area {
            let down = to / width + height - 1 - from / width;
            let across = to % width + width - 1 - from % width;
            index.push((down * (2 * width - 1) + across) as i64);
        }
    }
    index
}

/// The bias `[1, heads, area, area]` of each pair of positions, from a table `[entries, heads]`.
pub fn relative_bias(table: Tensor<2>, index: Tensor<1, Int>, area: usize) -> Tensor<4> {
    let heads = table.dims()[1];
    table.select(0, index).reshape([1, area, area, heads]).permute([0, 3, 1, 2])
}

/// A buffer of integers: stored, never trained.
pub(crate) fn int_buffer<const D: usize>(
    values: Vec<i64>,
    shape: [usize; D],
    device: &Device,
) -> Param<Tensor<D, Int>> {
    Param::initialized(ParamId::new(), Tensor::from_data(TensorData::new(values, shape), device))
}

/// The sizes of a window attention.
#[derive(Debug, Clone)]
pub struct WindowConfig {
    /// Features of a position.
    pub features: usize,
    /// Height and width of a window.
    pub window: [usize; 2],
    /// How far windows are shifted down and right; 0 for every other block.
    pub shift: [usize; 2],
    /// Heads among which the features are divided.
    pub heads: usize,
    /// Probability of dropout of the attention's weights.
    pub attention_dropout: f64,
    /// Probability of dropout of the answer.
    pub dropout: f64,
}

/// torchvision's `ShiftedWindowAttention` and `ShiftedWindowAttentionV2`.
#[derive(Module, Debug)]
pub struct ShiftedWindowAttention {
    relative_position_bias_table: Option<Param<Tensor<2>>>,
    logit_scale: Option<Param<Tensor<3>>>,
    relative_coords_table: Option<RunningState<Tensor<4>>>,
    relative_position_index: Param<Tensor<1, Int>>,
    qkv: Linear,
    proj: Linear,
    cpb_mlp: Option<PositionMlp>,
    attention_dropout: Dropout,
    dropout: Dropout,
    window: [usize; 2],
    shift: [usize; 2],
    heads: usize,
}

/// The network that gives V2's biases from relative coordinates.
#[derive(Debug, Clone)]
struct PositionMlp {
    first: Linear,
    second: Linear,
}

named_module!(PositionMlp { first => "0", second => "2" });

/// Units of the hidden layer of [`PositionMlp`].
const POSITION_UNITS: usize = 512;

impl ShiftedWindowAttention {
    /// The first version, with a table of biases.
    pub fn new(config: &WindowConfig, device: &Device) -> Self {
        let [height, width] = config.window;
        let entries = (2 * height - 1) * (2 * width - 1);
        let table = layers::normal(0.02).init([entries, config.heads], device);
        Self { relative_position_bias_table: Some(table), ..Self::bare(config, device) }
    }

    /// The second version: cosine attention, with biases from a small network.
    pub fn v2(config: &WindowConfig, device: &Device) -> Self {
        let [height, width] = config.window;
        let scale = Tensor::full([config.heads, 1, 1], 10_f64.ln(), device);
        let coordinates = Tensor::from_data(
            TensorData::new(relative_coordinates(config.window), [1, 2 * height - 1, 2 * width - 1, 2]),
            device,
        );
        let mut second = linear_normal(POSITION_UNITS, config.heads, 0.02, device);
        second.bias = None;
        Self {
            logit_scale: Some(Param::from_tensor(scale)),
            relative_coords_table: Some(RunningState::new(coordinates)),
            cpb_mlp: Some(PositionMlp { first: linear_normal(2, POSITION_UNITS, 0.02, device), second }),
            ..Self::bare(config, device)
        }
    }

    fn bare(config: &WindowConfig, device: &Device) -> Self {
        let WindowConfig { features, window, shift, heads, attention_dropout, dropout } = *config;
        let area = window[0] * window[1];
        Self {
            relative_position_bias_table: None,
            logit_scale: None,
            relative_coords_table: None,
            relative_position_index: int_buffer(relative_position_index(window), [area * area], device),
            qkv: linear_normal(features, 3 * features, 0.02, device),
            proj: linear_normal(features, features, 0.02, device),
            cpb_mlp: None,
            attention_dropout: DropoutConfig::new(attention_dropout).init(),
            dropout: DropoutConfig::new(dropout).init(),
            window,
            shift,
            heads,
        }
    }

    /// `[batch, height, width, features]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, features] = x.dims();
        let [down, across] = self.window;
        let (padded_height, padded_width) = (height.next_multiple_of(down), width.next_multiple_of(across));
        let x = pad(x, [padded_height - height, padded_width - width]);
        let shift = [
            if down >= padded_height { 0 } else { self.shift[0] },
            if across >= padded_width { 0 } else { self.shift[1] },
        ];
        let x = roll(x, shift);
        let (rows, columns, area) = (padded_height / down, padded_width / across, down * across);
        let windows = rows * columns;
        let x = x.reshape([batch, rows, down, columns, across, features]).permute([0, 1, 3, 2, 4, 5]);
        let x = x.reshape([batch * windows * area, features]);

        let [q, k, v] = split_heads(self.queries(x), [batch * windows, area], self.heads);
        let scores = match &self.logit_scale {
            Some(scale) => {
                let scale = scale.val().clamp_max(100_f64.ln()).exp().unsqueeze::<4>();
                unit(q).matmul(unit(k).transpose()) * scale
            }
            None => (q * ((features / self.heads) as f64).powf(-0.5)).matmul(k.transpose()),
        };
        let mut scores = scores + self.bias(area);
        if shift != [0, 0] {
            let mask = shift_mask([padded_height, padded_width], self.window, shift);
            let mask = Tensor::<5>::from_data(TensorData::new(mask, [1, windows, 1, area, area]), &scores.device());
            let split = scores.reshape([batch, windows, self.heads, area, area]);
            scores = (split + mask).reshape([batch * windows, self.heads, area, area]);
        }
        let weights = layers::dropout(&self.attention_dropout, softmax(scores, 3));
        let y = weights.matmul(v).swap_dims(1, 2).reshape([batch * windows * area, features]);
        let y = layers::dropout(&self.dropout, layers::linear(&self.proj, y));

        let y = y.reshape([batch, rows, columns, down, across, features]).permute([0, 1, 3, 2, 4, 5]);
        let y = y.reshape([batch, padded_height, padded_width, features]);
        let y = roll(y, [(padded_height - shift[0]) % padded_height, (padded_width - shift[1]) % padded_width]);
        y.narrow(1, 0, height).narrow(2, 0, width)
    }

    /// Queries, keys and values of rows. V2 has no bias for keys.
    fn queries(&self, x: Tensor<2>) -> Tensor<2> {
        match (&self.logit_scale, &self.qkv.bias) {
            (Some(_), Some(bias)) => {
                let bias = bias.val();
                let length = bias.dims()[0] / 3;
                let kept: Vec<f32> = (0..3 * length).map(|at| if at / length == 1 { 0.0 } else { 1.0 }).collect();
                let kept = Tensor::from_data(TensorData::new(kept, [3 * length]), &bias.device());
                let bias = bias * kept;
                kernels::linear(x, self.qkv.weight.val(), Some(bias), kernels::Activation::None)
            }
            _ => layers::linear(&self.qkv, x),
        }
    }

    fn bias(&self, area: usize) -> Tensor<4> {
        let index = self.relative_position_index.val();
        if let (Some(coordinates), Some(mlp)) = (&self.relative_coords_table, &self.cpb_mlp) {
            let device = mlp.first.weight.val().device();
            let coordinates = coordinates.value().to_device(&device);
            let [_, height, width, two] = coordinates.dims();
            let hidden = relu(linear_last(&mlp.first, coordinates.reshape([height * width, two])));
            return sigmoid(relative_bias(linear_last(&mlp.second, hidden), index, area)) * 16.0;
        }
        match &self.relative_position_bias_table {
            Some(table) => relative_bias(table.val(), index, area),
            None => Tensor::zeros([1, self.heads, area, area], &index.device()),
        }
    }
}

/// V2's coordinates of each relative position, on a logarithmic scale: `[2·height - 1, 2·width - 1, 2]`.
fn relative_coordinates([height, width]: [usize; 2]) -> Vec<f32> {
    let scaled = |at: usize, side: usize| {
        let reach = side as f32 - 1.0;
        let distance = (at as f32 - reach) / reach * 8.0;
        // The sign of 0 is 0 in PyTorch.
        if distance == 0.0 { 0.0 } else { distance.signum() * (distance.abs() + 1.0).log2() / 3.0 }
    };
    let rows = 0..2 * height - 1;
    rows.flat_map(|y| (0..2 * width - 1).flat_map(move |x| [scaled(y, height), scaled(x, width)])).collect()
}

/// Vectors of length 1 along the last axis, as `torch.nn.functional.normalize` makes them. The square is cut off, not its root: keys of
/// padding are zero, and the root of zero has no gradient.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let length = x.clone().square().sum_dim(3).clamp_min(1e-24).sqrt();
    x / length
}

/// Zeros below and to the right of `[batch, height, width, features]`.
pub(crate) fn pad(x: Tensor<4>, [below, right]: [usize; 2]) -> Tensor<4> {
    if [below, right] == [0, 0] {
        return x;
    }
    x.pad([(0, 0), (0, below), (0, right), (0, 0)], PadMode::Constant(0.0))
}

/// Moves an image `[batch, height, width, features]` up and left; what leaves comes in again on the other side.
fn roll(x: Tensor<4>, shift: [usize; 2]) -> Tensor<4> {
    let mut x = x;
    for (axis, shift) in [(1, shift[0]), (2, shift[1])] {
        if shift > 0 {
            let side = x.dims()[axis];
            x = Tensor::cat(vec![x.clone().narrow(axis, shift, side - shift), x.narrow(axis, 0, shift)], axis);
        }
    }
    x
}

/// −100 for each pair of positions of a window that were no neighbours before the shift, else 0: `[windows, area, area]`.
fn shift_mask([height, width]: [usize; 2], [down, across]: [usize; 2], shift: [usize; 2]) -> Vec<f32> {
    // Which of three strips a position is in: all but the last window, the rest of it, what came from the other side.
    let strip = |at: usize, side: usize, window: usize, shift: usize| match at {
        at if at < side - window => 0,
        at if at < side - shift => 1,
        _ => 2,
    };
    // Without a shift along an axis, PyTorch's last two slices are 0 to the end and nothing, and the whole axis is one strip.
    let part = |y: usize, x: usize| {
        let row = if shift[0] == 0 { 0 } else { strip(y, height, down, shift[0]) };
        let column = if shift[1] == 0 { 0 } else { strip(x, width, across, shift[1]) };
        3 * row + column
    };
    let mut mask = Vec::with_capacity(height * width * down * across);
    for top in (0..height).step_by(down) {
        for left in (0..width).step_by(across) {
            let parts: Vec<usize> = (0..down * across).map(|at| part(top + at / across, left + at % across)).collect();
            for to in &parts {
                mask.extend(parts.iter().map(|from| if to == from { 0.0 } else { -100.0 }));
            }
        }
    }
    mask
}
