//! Sampling images at the points of a grid, and grids of affine maps.

use super::one;
use super::real::{Real, read, with_real, write, zeros};
use crate::array::{count, strides};
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("GridSample", &[16, 20, 22], (2, 2)).attributes(&["align_corners", "mode", "padding_mode"]),
        grid_sample,
    ),
    Entry::new(Schema::new("AffineGrid", &[20], (2, 2)).attributes(&["align_corners"]), affine_grid),
];

/// What stands outside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// What a node says of how it samples.
#[derive(Debug, Clone, Copy)]
struct Sampling {
    mode: Mode,
    outside: Outside,
    corners: bool,
}

fn grid_sample(node: &RawNode) -> Parsed {
    let attributes = &node.attributes;
    let mode = match attributes.text_or("mode", "linear")? {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" | "bicubic" => Mode::Cubic,
        other => return Err(Error::invalid(format!("its mode is '{other}'"))),
    };
    let outside = match attributes.text_or("padding_mode", "zeros")? {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => return Err(Error::invalid(format!("its padding_mode is '{other}'"))),
    };
    let sampling = Sampling { mode, outside, corners: attributes.flag("align_corners", false)? };
    eval(move |inputs| {
        let x = inputs.array(0)?;
        if x.dtype().is_float() {
            return one(with_real!(x.dtype(), T => sampled::<T>(sampling, x, inputs.array(1)?))?);
        }
        one(sampled::<f64>(sampling, x, inputs.array(1)?)?)
    })
}

/// One axis of an image that points are on.
struct Axis {
    size: usize,
    sampling: Sampling,
}

impl Axis {
    /// The pixels that a coordinate from -1 to 1 takes, with their weights.
    fn taps(&self, coordinate: f32, taps: &mut Vec<(usize, f32)>) {
        taps.clear();
        let size = self.size as f32;
        let mut at = if self.sampling.corners {
            (coordinate + 1.0) / 2.0 * (size - 1.0)
        } else {
            ((coordinate + 1.0) * size - 1.0) / 2.0
        };
        if self.sampling.mode == Mode::Nearest {
            at = at.round_ties_even();
        }
        let (low, high) = self.ends();
        if at < low || at > high {
            match self.sampling.outside {
                Outside::Zeros => {}
                // A cubic kernel goes on past the border: its taps are cut off there, one by one.
                Outside::Border if self.sampling.mode == Mode::Cubic => {}
                Outside::Border => at = at.clamp(0.0, size - 1.0),
                Outside::Reflection => at = reflect(at, low, high),
            }
        }
        if !at.is_finite() {
            return;
        }
        let floor = at.floor();
        let rest = at - floor;
        match self.sampling.mode {
            Mode::Nearest => taps.extend(self.pixel(at).map(|pixel| (pixel, 1.0))),
            Mode::Linear => {
                for (place, weight) in [(floor, 1.0 - rest), (floor + 1.0, rest)] {
                    taps.extend(self.pixel(place).map(|pixel| (pixel, weight)));
                }
            }
            Mode::Cubic => {
                for (i, weight) in cubic(rest).into_iter().enumerate() {
                    taps.extend(self.pixel(floor + i as f32 - 1.0).map(|pixel| (pixel, weight)));
                }
            }
        }
    }

    /// Where the image ends: at the centres of its last pixels, or at their edges.
    fn ends(&self) -> (f32, f32) {
        if self.sampling.corners { (0.0, self.size as f32 - 1.0) } else { (-0.5, self.size as f32 - 0.5) }
    }

    /// The pixel at a whole number.
    fn pixel(&self, place: f32) -> Option<usize> {
        let last = self.size as f32 - 1.0;
        if (0.0..=last).contains(&place) {
            return Some(place as usize);
        }
        match self.sampling.outside {
            Outside::Zeros => None,
            Outside::Border => Some(place.clamp(0.0, last) as usize),
            Outside::Reflection => {
                let (low, high) = self.ends();
                Some(reflect(place, low, high).clamp(0.0, last) as usize)
            }
        }
    }
}

fn reflect(at: f32, low: f32, high: f32) -> f32 {
    let range = high - low;
    if range <= 0.0 {
        return low;
    }
    let (from, towards, past) = if at < low { (low, high, low - at) } else { (high, low, at - high) };
    let turns = (past / range).trunc();
    let rest = past - turns * range;
    let inwards = if towards > from { rest } else { -rest };
    if turns % 2.0 == 0.0 { from + inwards } else { towards - inwards }
}

fn cubic(x: f32) -> [f32; 4] {
    let a = -0.75_f32;
    let far = |x: f32| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    let near = |x: f32| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    [far(x + 1.0), near(x), near(1.0 - x), far(2.0 - x)]
}

fn sampled<T: Real>(sampling: Sampling, x: &Array, grid: &Array) -> Result<Array> {
    let rank = x.rank().saturating_sub(2);
    let fits = rank > 0 && grid.rank() == x.rank() && grid.shape()[0] == x.shape()[0] && grid.shape()[rank + 1] == rank;
    if !fits || x.shape()[2..].contains(&0) {
        return Err(Error::invalid(format!("a grid of shape {:?} for images of shape {:?}", grid.shape(), x.shape())));
    }
    let (images, channels, spatial) = (x.shape()[0], x.shape()[1], &x.shape()[2..]);
    let axes: Vec<_> = spatial.iter().map(|&size| Axis { size, sampling }).collect();
    let steps = strides(spatial);
    let shape = [&[images, channels], &grid.shape()[1..=rank]].concat();
    let (pixels, points) = (count(spatial)?, count(&grid.shape()[1..=rank])?);
    let mut y = zeros::<T>(&shape)?;
    let (values, grid) = (read::<T>(x)?, read::<f32>(grid)?);
    let (mut along, mut taps, mut next) = (Vec::new(), Vec::new(), Vec::new());
    for point in 0..images * points {
        taps.clear();
        taps.push((0, 1.0_f32));
        for (axis, place) in axes.iter().enumerate() {
            // A point names the last axis first.
            place.taps(grid[point * rank + rank - 1 - axis], &mut along);
            next.clear();
            for &(offset, weight) in &taps {
                next.extend(along.iter().map(|&(pixel, factor)| (offset + pixel * steps[axis], weight * factor)));
            }
            std::mem::swap(&mut taps, &mut next);
        }
        for channel in 0..channels {
            let plane = (point / points) * channels + channel;
            let image = &values[plane * pixels..][..pixels];
            let mut sum = T::default();
            taps.iter().for_each(|&(offset, weight)| sum += T::of(weight.into()) * image[offset]);
            y[plane * points + point % points] = sum;
        }
    }
    write(x.dtype(), shape, y)
}

/// For every pixel of an image from -1 to 1 along each axis, where an affine map takes it.
fn affine_grid(node: &RawNode) -> Parsed {
    let corners = node.attributes.flag("align_corners", false)?;
    eval(move |inputs| {
        let theta = inputs.array(0)?;
        let size = inputs.ints(1)?.ok_or_else(|| Error::invalid("input 1 is missing"))?;
        let spatial: Option<Vec<usize>> = size.iter().skip(2).map(|&size| usize::try_from(size).ok()).collect();
        let spatial = spatial.filter(|spatial| (2..=3).contains(&spatial.len()));
        let spatial =
            spatial.ok_or_else(|| Error::invalid(format!("an image of sizes {size:?}: expected 4 or 5 of them")))?;
        let rank = spatial.len();
        let images = theta.shape().first().copied().unwrap_or(0);
        if theta.shape() != [images, rank, rank + 1] || size[0] != images as i64 {
            return Err(Error::invalid(format!("maps of shape {:?} for an image of sizes {size:?}", theta.shape())));
        }
        let shape = [&[images], &spatial[..], &[rank]].concat();
        let mut grid: Vec<f64> = zeros(&shape)?;
        let theta = theta.floats()?;
        let points = count(&spatial)?;
        for (position, slot) in grid.chunks_exact_mut(rank).enumerate() {
            let map = &theta[position / points * rank * (rank + 1)..];
            let index = crate::array::index_of(position % points, &spatial);
            let place = |axis: usize| {
                let (i, size) = (index[axis] as f64, spatial[axis] as f64);
                match (corners, spatial[axis]) {
                    (true, 1) => -1.0,
                    (true, _) => -1.0 + 2.0 * i / (size - 1.0),
                    (false, _) => -1.0 + (2.0 * i + 1.0) / size,
                }
            };
            for (row, slot) in slot.iter_mut().enumerate() {
                let map = &map[row * (rank + 1)..];
                // A map names the last axis first.
                *slot = (0..rank).map(|i| map[i] * place(rank - 1 - i)).sum::<f64>() + map[rank];
            }
        }
        one(Array::of_floats(inputs.array(0)?.dtype(), shape, grid)?)
    })
}
