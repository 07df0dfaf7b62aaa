//! `DeformConv`: a convolution of images whose every tap is moved by an offset that an input gives.

use super::conv::filled;
use super::product::{Matrix, Size, add_strided};
use super::real::{Real, read, with_real, write, zeros};
use super::window::{Window, Windows};
use super::{Inputs, one};
use crate::array::count;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result};

pub(super) const OPERATORS: &[Entry] = &[Entry::new(
    Schema::new("DeformConv", &[19, 22], (3, 5)).attributes(&[
        "dilations",
        "group",
        "kernel_shape",
        "offset_group",
        "pads",
        "strides",
    ]),
    deform_conv,
)];

/// Attributes of `DeformConv`.
struct DeformConv {
    windows: Windows,
    groups: usize,
    offset_groups: usize,
}

fn deform_conv(node: &RawNode) -> Parsed {
    let number = |name| node.attributes.int_or(name, 1).map(|value| usize::try_from(value).unwrap_or(0));
    let (windows, groups, offset_groups) = (Windows::parse(node, false)?, number("group")?, number("offset_group")?);
    let conv = DeformConv { windows, groups, offset_groups };
    eval(move |inputs| {
        let x = inputs.array(0)?;
        one(with_real!(x.dtype(), T => deformed::<T>(&conv, inputs, x))?)
    })
}

fn deformed<T: Real>(conv: &DeformConv, inputs: &Inputs<'_>, x: &Array) -> Result<Array> {
    let (w, offsets, bias, mask) = (inputs.array(1)?, inputs.array(2)?, inputs.optional(3)?, inputs.optional(4)?);
    let &[images, from, height, width] = x.shape() else {
        return Err(Error::beyond(format!("an input of {} axes (4 are)", x.rank())));
    };
    let &[to, per_group, kernel_height, kernel_width] = w.shape() else {
        return Err(Error::invalid(format!("expected weights of 4 axes, found {:?}", w.shape())));
    };
    let (groups, offset_groups) = (conv.groups, conv.offset_groups);
    let window = Window::new(&conv.windows, &[height, width], Some(&[kernel_height, kernel_width]))?;
    let (taps, plane) = (window.taps()?, count(&window.out)?);
    let fits = |all: usize, parts: usize| parts > 0 && all.is_multiple_of(parts);
    if !fits(from, groups) || !fits(to, groups) || !fits(from, offset_groups) || per_group != from / groups {
        let message = format!(
            "weights of {:?} on {from} channels do not fit {groups} groups and {offset_groups} of offsets",
            w.shape()
        );
        return Err(Error::invalid(message));
    }
    let parts = [images, offset_groups * taps, window.out[0], window.out[1]];
    let expected = [images, 2 * offset_groups * taps, window.out[0], window.out[1]];
    if offsets.shape() != expected
        || mask.is_some_and(|mask| mask.shape() != parts)
        || bias.is_some_and(|bias| bias.len() != to)
    {
        return Err(Error::invalid(format!(
            "offsets of shape {:?} (expected {expected:?}), or a mask or bias that does not fit",
            offsets.shape()
        )));
    }
    let (x_values, w, offsets, mask) =
        (read::<T>(x)?, read::<T>(w)?, offsets.floats()?, mask.map(Array::floats).transpose()?);
    let mut y = filled::<T>([images, to, plane], bias)?;
    let terms = per_group * taps;
    let mut columns = zeros::<T>(&[terms, plane])?;
    let empty = y.is_empty() || x_values.is_empty();
    for group in 0..if empty { 0 } else { images * groups } {
        let image = group / groups;
        for (row, columns) in columns.chunks_exact_mut(plane).enumerate() {
            crate::limit::time()?;
            let (channel, tap) = (group % groups * per_group + row / taps, row % taps);
            let source = &x_values[(image * from + channel) * height * width..][..height * width];
            let moved = image * offset_groups * taps + channel / (from / offset_groups) * taps + tap;
            for (position, slot) in columns.iter_mut().enumerate() {
                let place = |axis: usize, window_index: usize, tap_index: usize| {
                    let base = (window_index * window.steps[axis] + tap_index * window.dilations[axis]) as f64
                        - window.begin[axis] as f64;
                    base + offsets[(2 * moved + axis) * plane + position]
                };
                let row = place(0, position / window.out[1], tap / kernel_width);
                let column = place(1, position % window.out[1], tap % kernel_width);
                let weight = mask.as_ref().map_or(1.0, |mask| mask[moved * plane + position]);
                *slot = T::of(weight * bilinear(source, (height, width), row, column));
            }
        }
        let target = &mut y[group * (to / groups) * plane..][..to / groups * plane];
        let w = &w[group % groups * (to / groups) * terms..][..to / groups * terms];
        add_strided(
            Matrix::new(w, terms),
            Matrix::new(&columns, plane),
            target,
            plane,
            Size { m: to / groups, k: terms, n: plane },
        );
    }
    write(x.dtype(), vec![images, to, window.out[0], window.out[1]], y)
}

/// The value between four pixels; outside the image there are zeros.
fn bilinear<T: Real>(image: &[T], (height, width): (usize, usize), row: f64, column: f64) -> f64 {
    let (top, left) = (row.floor(), column.floor());
    let pixel = |row: f64, column: f64| {
        let inside = row >= 0.0 && row < height as f64 && column >= 0.0 && column < width as f64;
        if inside { image[row as usize * width + column as usize].f64() } else { 0.0 }
    };
    let (down, right) = (row - top, column - left);
    (1.0 - down) * ((1.0 - right) * pixel(top, left) + right * pixel(top, left + 1.0))
        + down * ((1.0 - right) * pixel(top + 1.0, left) + right * pixel(top + 1.0, left + 1.0))
}
