//! The inverse of pooling, and pooling of regions that an input names.

use super::real::zeros;
use super::window::{Window, Windows, for_axes, list};
use super::{Inputs, one};
use crate::array::{count, index_of, strides};
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("MaxUnpool", &[9, 11, 22], (2, 3)).attributes(&["!kernel_shape", "pads", "strides"]),
        max_unpool,
    ),
    Entry::new(
        Schema::new("MaxRoiPool", &[1, 22], (2, 2)).attributes(&["!pooled_shape", "spatial_scale"]),
        max_roi_pool,
    ),
    Entry::new(
        Schema::new("RoiAlign", &[10, 16, 22], (3, 3)).attributes(&[
            "coordinate_transformation_mode@16",
            "mode",
            "output_height",
            "output_width",
            "sampling_ratio",
            "spatial_scale",
        ]),
        roi_align,
    ),
];

/// Values go back to where the greatest were: positions in the shape that the window leads to. A larger shape gets zeros.
fn max_unpool(node: &RawNode) -> Parsed {
    let (windows, pads) = (Windows::parse(node, false)?, list(node, "pads", -(1 << 31))?);
    eval(move |inputs| unpool(&windows, pads.as_deref(), inputs))
}

fn unpool(windows: &Windows, pads: Option<&[i64]>, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (x, indices) = (inputs.array(0)?, inputs.array(1)?);
    if x.rank() < 3 || indices.shape() != x.shape() {
        return Err(Error::invalid(format!(
            "values of shape {:?} with positions of shape {:?}",
            x.shape(),
            indices.shape()
        )));
    }
    let spatial = &x.shape()[2..];
    let window = Window::without_padding(windows, spatial, None)?;
    let none = vec![0; 2 * spatial.len()];
    let pads = for_axes(pads, "pads", 2 * spatial.len())?.unwrap_or(&none);
    let mut inner = x.shape()[..2].to_vec();
    for (axis, &size) in spatial.iter().enumerate() {
        let size = (size as i64 - 1) * window.steps[axis] as i64 - pads[axis] - pads[spatial.len() + axis]
            + window.kernel[axis] as i64;
        inner.push(usize::try_from(size).map_err(|_| Error::invalid("its padding leaves nothing of the result"))?);
    }
    let shape: Vec<usize> = match inputs.ints(2)? {
        Some(shape) => shape.into_iter().map(|size| usize::try_from(size).unwrap_or(0)).collect(),
        None => inner.clone(),
    };
    if shape.len() != inner.len() || shape.iter().zip(&inner).any(|(size, inner)| size < inner) {
        return Err(Error::invalid(format!("its output_shape {shape:?} does not hold {inner:?}")));
    }
    let places = count(&inner)?;
    let steps = strides(&shape);
    let mut y = zeros(&shape)?;
    for (value, position) in x.floats()?.into_iter().zip(indices.int64s()?) {
        let position = usize::try_from(position).ok().filter(|&position| position < places);
        let position =
            position.ok_or_else(|| Error::invalid(format!("a position outside a result of shape {inner:?}")))?;
        y[index_of(position, &inner).iter().zip(&steps).map(|(i, step)| i * step).sum::<usize>()] = value;
    }
    one(Array::of_floats(x.dtype(), shape, y)?)
}

/// Images and the regions of them.
struct Regions {
    x: Vec<f64>,
    images: usize,
    channels: usize,
    height: usize,
    width: usize,
    boxes: Vec<f64>,
    scale: f64,
    out: (usize, usize),
}

impl Regions {
    fn new(x: &Array, boxes: &Array, columns: usize, scale: f32, out: (i64, i64)) -> Result<Self> {
        let &[images, channels, height, width] = x.shape() else {
            return Err(Error::invalid(format!("expected images of 4 axes, found shape {:?}", x.shape())));
        };
        if boxes.rank() != 2 || boxes.shape()[1] != columns || height * width == 0 {
            return Err(Error::invalid(format!(
                "regions of shape {:?} (expected {columns} columns) on images {:?}",
                boxes.shape(),
                x.shape()
            )));
        }
        let out = (usize::try_from(out.0).unwrap_or(0), usize::try_from(out.1).unwrap_or(0));
        Ok(Self { x: x.floats()?, images, channels, height, width, boxes: boxes.floats()?, scale: scale.into(), out })
    }

    /// Room for the results.
    fn results(&self) -> Result<Vec<f64>> {
        let mut room: Vec<f64> = zeros(&[self.boxes.len() / 4, self.channels, self.out.0, self.out.1])?;
        room.clear();
        Ok(room)
    }

    fn plane(&self, image: f64, channel: usize) -> Result<&[f64]> {
        if !(0.0..self.images as f64).contains(&image) {
            return Err(Error::invalid(format!("a region of image {image} of {}", self.images)));
        }
        Ok(&self.x[(image as usize * self.channels + channel) * self.height * self.width..][..self.height * self.width])
    }
}

fn max_roi_pool(node: &RawNode) -> Parsed {
    let pooled = list(node, "pooled_shape", 1)?.ok_or_else(|| Error::invalid("it has no pooled_shape"))?;
    for_axes(Some(&pooled), "pooled_shape", 2)?;
    let spatial_scale = node.attributes.float_or("spatial_scale", 1.0)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let regions = Regions::new(x, inputs.array(1)?, 5, spatial_scale, (pooled[0], pooled[1]))?;
        let (rows, columns) = regions.out;
        let mut y = regions.results()?;
        for region in regions.boxes.chunks_exact(5) {
            let corner = |i: usize| (region[i] * regions.scale).round();
            let (left, top) = (corner(1), corner(2));
            let (width, height) = ((corner(3) - left + 1.0).max(1.0), (corner(4) - top + 1.0).max(1.0));
            // Pixels of bin `i` of `bins` along an axis, inside the image.
            let range = |i: usize, bins: usize, start: f64, length: f64, size: usize| {
                let bin = length / bins as f64;
                let place = |value: f64| (value + start).clamp(0.0, size as f64) as usize;
                place((i as f64 * bin).floor())..place(((i + 1) as f64 * bin).ceil())
            };
            for channel in 0..regions.channels {
                crate::limit::time()?;
                let plane = regions.plane(region[0], channel)?;
                for i in 0..rows * columns {
                    let columns_met = range(i % columns, columns, left, width, regions.width);
                    let mut best = None;
                    for row in range(i / columns, rows, top, height, regions.height) {
                        let values = columns_met.clone().map(|column| plane[row * regions.width + column]);
                        best = values
                            .fold(best, |best: Option<f64>, value| Some(best.map_or(value, |best| best.max(value))));
                    }
                    y.push(best.unwrap_or(0.0));
                }
            }
        }
        let shape = vec![regions.boxes.len() / 5, regions.channels, rows, columns];
        one(Array::of_floats(x.dtype(), shape, y)?)
    })
}

fn roi_align(node: &RawNode) -> Parsed {
    let out = (node.attributes.int_or("output_height", 1)?, node.attributes.int_or("output_width", 1)?);
    // Before version 16 pixels had their corners at whole numbers.
    let default = if node.version < 16 { "output_half_pixel" } else { "half_pixel" };
    let shifted = node.attributes.text_or("coordinate_transformation_mode", default)? == "half_pixel";
    let average = match node.attributes.text_or("mode", "avg")? {
        "avg" => true,
        "max" => false,
        other => return Err(Error::invalid(format!("its mode is '{other}'"))),
    };
    let ratio = node.attributes.int_or("sampling_ratio", 0)?;
    let spatial_scale = node.attributes.float_or("spatial_scale", 1.0)?;
    eval(move |inputs| {
        let (x, images) = (inputs.array(0)?, inputs.array(2)?.floats()?);
        let regions = Regions::new(x, inputs.array(1)?, 4, spatial_scale, out)?;
        if images.len() != regions.boxes.len() / 4 {
            return Err(Error::invalid(format!(
                "{} regions with {} image numbers",
                regions.boxes.len() / 4,
                images.len()
            )));
        }
        let (rows, columns) = regions.out;
        let mut y = regions.results()?;
        for (region, &image) in regions.boxes.chunks_exact(4).zip(&images) {
            let corner = |i: usize| region[i] * regions.scale - if shifted { 0.5 } else { 0.0 };
            let (left, top) = (corner(0), corner(1));
            let length = |length: f64| if shifted { length } else { length.max(1.0) };
            let (bin_width, bin_height) =
                (length(corner(2) - left) / columns as f64, length(corner(3) - top) / rows as f64);
            let samples = |bin: f64| if ratio > 0 { ratio as f64 } else { bin.ceil() };
            let (across, down) = (samples(bin_width), samples(bin_height));
            if !(across * down * (rows * columns) as f64).is_finite() || across * down > 1e8 {
                return Err(Error::invalid(format!(
                    "a region of {bin_width} by {bin_height} for each value is too large"
                )));
            }
            // Four pixels with their weights for each sample.
            count(&[rows * columns, down as usize, across as usize, 4])?;
            let points: Vec<_> = (0..rows * columns)
                .map(|i| {
                    let place = move |j: f64, bin: f64, count: f64| (j + 0.5) * bin / count;
                    let each = (0..down as usize)
                        .flat_map(move |row| (0..across as usize).map(move |column| (row as f64, column as f64)));
                    let point = |(row, column): (f64, f64)| {
                        let y = top + (i / columns) as f64 * bin_height + place(row, bin_height, down);
                        let x = left + (i % columns) as f64 * bin_width + place(column, bin_width, across);
                        corners(y, x, regions.height, regions.width)
                    };
                    each.map(point).collect::<Vec<_>>()
                })
                .collect();
            for channel in 0..regions.channels {
                crate::limit::time()?;
                let plane = regions.plane(image, channel)?;
                for points in &points {
                    let weighted = |corners: &[(usize, f64); 4]| corners.map(|(at, weight)| plane[at] * weight);
                    y.push(if average {
                        let sum: f64 = points.iter().flat_map(weighted).sum();
                        sum / points.len().max(1) as f64
                    } else {
                        let greatest = points.iter().flat_map(weighted).fold(f64::NEG_INFINITY, f64::max);
                        if points.is_empty() { 0.0 } else { greatest }
                    });
                }
            }
        }
        one(Array::of_floats(x.dtype(), vec![images.len(), regions.channels, rows, columns], y)?)
    })
}

/// The pixels around a point and their weights; none has any when the point is off the image.
fn corners(y: f64, x: f64, height: usize, width: usize) -> [(usize, f64); 4] {
    if !(-1.0..=height as f64).contains(&y) || !(-1.0..=width as f64).contains(&x) {
        return [(0, 0.0); 4];
    }
    // The pixel before, the one after, and how far from the first.
    let around = |value: f64, size: usize| {
        let low = value.max(0.0) as usize;
        if low >= size - 1 { (size - 1, size - 1, 0.0) } else { (low, low + 1, value.max(0.0) - low as f64) }
    };
    let ((top, bottom, down), (left, right, across)) = (around(y, height), around(x, width));
    [
        (top * width + left, (1.0 - down) * (1.0 - across)),
        (top * width + right, (1.0 - down) * across),
        (bottom * width + left, down * (1.0 - across)),
        (bottom * width + right, down * across),
    ]
}
