//! Convolutions: images become matrices of the values that windows meet, which a matrix product takes.

use super::product::{Matrix, Size, add_strided};
use super::real::{Real, read, with_real, write, zeros};
use super::window::{Padding, Segment, Window, Windows, for_axes, list};
use super::{Inputs, one};
use crate::array::count;
use crate::axis::Axis;
use crate::infer::{Fact, elements, fits};
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("Conv", &[1, 11, 22], (2, 3))
            .attributes(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])
            .weights(),
        |node| parsed(Conv::parse(node)?),
    ),
    Entry::new(
        Schema::new("ConvTranspose", &[1, 11, 22], (2, 3))
            .attributes(&[
                "auto_pad",
                "dilations",
                "group",
                "kernel_shape",
                "output_padding",
                "output_shape",
                "pads",
                "strides",
            ])
            .weights(),
        |node| parsed(ConvTranspose::parse(node)?),
    ),
];

/// Elements of the matrix of windows that is held at once.
const BLOCK: usize = 1 << 20;

/// `Conv`.
#[derive(Debug, Clone)]
pub struct Conv {
    /// How its windows slide.
    pub windows: Windows,
    /// Groups of channels.
    pub groups: usize,
}

/// `ConvTranspose`.
#[derive(Debug, Clone)]
pub struct ConvTranspose {
    /// How the windows of the convolution back slide.
    pub windows: Windows,
    /// Groups of channels.
    pub groups: usize,
    /// Added to the end of each axis of the result.
    pub output_padding: Option<Vec<usize>>,
    /// The spatial sizes of the result, perhaps with the first two axes before them.
    pub output_shape: Option<Vec<i64>>,
}

fn groups(node: &RawNode) -> Result<usize> {
    let given = node.attributes.int_or("group", 1)?;
    let groups = usize::try_from(given).ok().filter(|&groups| groups > 0);
    groups.ok_or_else(|| Error::invalid(format!("attribute 'group' is {given}, not 1 or more")))
}

impl Conv {
    /// Reads the attributes.
    ///
    /// # Errors
    /// When one is wrong.
    pub fn parse(node: &RawNode) -> Result<Self> {
        Ok(Self { windows: Windows::parse(node, false)?, groups: groups(node)? })
    }

    /// The result for an image, weights and perhaps a bias.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn apply(&self, x: &Array, w: &Array, bias: Option<&Array>) -> Result<Array> {
        with_real!(x.dtype(), T => convolve::<T>(self, x, w, bias))
    }
}

impl Operator for Conv {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        one(self.apply(inputs.array(0)?, inputs.array(1)?, inputs.optional(2)?)?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let [x, w, ..] = inputs else { return Ok(Vec::new()) };
        let (Some(image), Some(weight)) = (&x.shape, &w.shape) else {
            return Ok(vec![Fact { dtype: x.dtype, ..Fact::default() }]);
        };
        if image.len() != weight.len() || image.len() < 3 {
            return Err(Error::invalid("its input and weight have different numbers of axes"));
        }
        if let (Some(channels), Some(each)) = (image[1].size(), weight[1].size())
            && channels != each.saturating_mul(self.groups)
        {
            let taken = each.saturating_mul(self.groups);
            return Err(Error::invalid(format!("its input has {channels} channels, its weight takes {taken}")));
        }
        let bias = inputs.get(2).and_then(|bias| bias.shape.as_ref());
        if bias.is_some_and(|bias| bias.len() != 1 || !fits(&bias[0], &weight[0])) {
            return Err(Error::invalid("its bias has not one value for each channel"));
        }
        let kernel: Option<Vec<usize>> = weight[2..].iter().map(Axis::size).collect();
        let spatial = match kernel {
            Some(kernel) => self.windows.infer(&image[2..], Some(&kernel))?,
            None => vec![Axis::Any; image.len() - 2],
        };
        let shape = [vec![image[0].clone(), weight[0].clone()], spatial].concat();
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn work(&self, inputs: &[Fact], outputs: &[Fact]) -> u64 {
        let taps = inputs.get(1).and_then(|w| w.sizes()).map_or(0, |w| elements(w.get(1..)));
        outputs.first().and_then(Fact::sizes).map_or(0, |y| elements(Some(&y))).saturating_mul(taps)
    }
}

impl ConvTranspose {
    fn parse(node: &RawNode) -> Result<Self> {
        let output_padding =
            list(node, "output_padding", 0)?.map(|list| list.into_iter().map(|v| v as usize).collect());
        let output_shape = list(node, "output_shape", 0)?;
        Ok(Self { windows: Windows::parse(node, false)?, groups: groups(node)?, output_padding, output_shape })
    }

    /// The windows that a convolution back from the result would have, on images of its sizes: as many as `x` has pixels.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn window(&self, x: &[usize], kernel: &[usize]) -> Result<Window> {
        let rank = x.len();
        let padding = &self.windows.padding;
        let mut window = Window::without_padding(&self.windows, x, Some(kernel))?;
        window.out = x.to_vec();
        let none = vec![0; rank];
        let extra = for_axes(self.output_padding.as_deref(), "output_padding", rank)?.unwrap_or(&none);
        let same = matches!(padding, Padding::SameUpper | Padding::SameLower);
        let pads =
            if let Padding::Explicit(pads) = padding { for_axes(pads.as_deref(), "pads", 2 * rank)? } else { None };
        // Some exporters give the whole shape instead of the spatial sizes.
        let mut wanted = self.output_shape.as_deref();
        if let Some(shape) = wanted.filter(|shape| shape.len() == rank + 2) {
            wanted = Some(&shape[2..]);
        }
        if wanted.is_some_and(|shape| shape.len() != rank || shape.iter().any(|size| !(0..1 << 31).contains(size))) {
            return Err(Error::invalid(format!(
                "its output_shape {:?} does not fit {rank} spatial axes",
                wanted.unwrap_or_default()
            )));
        }
        for axis in 0..rank {
            let full = (x[axis] as i64 - 1) * window.steps[axis] as i64 + extra[axis] as i64 + window.span(axis);
            let size = match (wanted, pads) {
                (Some(wanted), _) => wanted[axis],
                (None, _) if same => x[axis] as i64 * window.steps[axis] as i64,
                (None, Some(pads)) => full - pads[axis] - pads[rank + axis],
                (None, None) => full,
            };
            let size = usize::try_from(size).map_err(|_| Error::invalid("its padding leaves nothing of the result"))?;
            window.begin[axis] = match (wanted, pads) {
                (None, Some(pads)) => pads[axis],
                (None, None) if !same => 0,
                _ => {
                    let total = (full - size as i64).max(0);
                    if *padding == Padding::SameUpper { total / 2 } else { total - total / 2 }
                }
            };
            window.image[axis] = size;
        }
        Ok(window)
    }
}

impl Operator for ConvTranspose {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let (x, w, bias) = (inputs.array(0)?, inputs.array(1)?, inputs.optional(2)?);
        one(with_real!(x.dtype(), T => transpose::<T>(self, x, w, bias))?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let [x, w, ..] = inputs else { return Ok(Vec::new()) };
        let sizes = (x.sizes(), w.sizes());
        let (Some(image), Some(weight)) = (sizes.0.filter(|x| x.len() > 2), sizes.1.filter(|w| w.len() > 2)) else {
            return Ok(vec![Fact { dtype: x.dtype, ..Fact::default() }]);
        };
        let window = self.window(&image[2..], &weight[2..])?;
        let channels = weight[1].saturating_mul(self.groups);
        let shape = [&[image[0], channels], &window.image[..]].concat();
        Ok(vec![Fact::new(x.dtype, shape.into_iter().map(Axis::Size).collect())])
    }

    fn work(&self, inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        let taps = inputs.get(1).and_then(|w| w.sizes()).map_or(0, |w| elements(w.get(1..)));
        inputs.first().and_then(Fact::sizes).map_or(0, |x| elements(Some(&x))).saturating_mul(taps)
    }
}

/// The sizes of a convolution: images, input channels and output channels in all, groups of channels.
#[derive(Clone, Copy)]
struct Channels {
    images: usize,
    from: usize,
    to: usize,
    groups: usize,
}

/// Checks ranks and channels. `transposed`: the weights have the input channels first.
fn channels(groups: usize, x: &Array, w: &Array, bias: Option<&Array>, transposed: bool) -> Result<Channels> {
    let mismatch = |what: String| {
        Error::invalid(format!("an image of shape {:?} and weights of shape {:?}: {what}", x.shape(), w.shape()))
    };
    if x.rank() < 3 || w.rank() != x.rank() {
        return Err(mismatch("expected both with the same number of axes, 3 or more".into()));
    }
    let (images, from) = (x.shape()[0], x.shape()[1]);
    let per_group = groups > 0 && from.is_multiple_of(groups);
    let fits = if transposed {
        w.shape()[0] == from
    } else {
        per_group && w.shape()[1] == from / groups && w.shape()[0].is_multiple_of(groups)
    };
    if !per_group || !fits {
        return Err(mismatch(format!("the channels do not fit in {groups} groups")));
    }
    let to = if transposed { w.shape()[1] * groups } else { w.shape()[0] };
    if let Some(bias) = bias.filter(|bias| bias.len() != to) {
        return Err(mismatch(format!("a bias of {} values for {to} channels", bias.len())));
    }
    Ok(Channels { images, from, to, groups })
}

fn convolve<T: Real>(conv: &Conv, x: &Array, w: &Array, bias: Option<&Array>) -> Result<Array> {
    let (window, values) = convolved::<T>(conv, x, w, &read::<T>(x)?, &read::<T>(w)?, bias)?;
    write(x.dtype(), [&[x.shape()[0], w.shape()[0]], &window.out[..]].concat(), values)
}

/// The values of a convolution; those of image and weights may differ from what the arrays hold (their zero points taken off).
pub(super) fn convolved<T: Real>(
    conv: &Conv,
    x: &Array,
    w: &Array,
    x_values: &[T],
    w_values: &[T],
    bias: Option<&Array>,
) -> Result<(Window, Vec<T>)> {
    let channels = channels(conv.groups, x, w, bias, false)?;
    let window = Window::new(&conv.windows, &x.shape()[2..], Some(&w.shape()[2..]))?;
    let plane = count(&window.out)?;
    let mut y = filled::<T>([channels.images, channels.to, plane], bias)?;
    Groups { window: &window, channels, plane }.convolve(x_values, w_values, &mut y)?;
    Ok((window, y))
}

/// Values for the result, each channel full of its bias.
pub(super) fn filled<T: Real>([images, channels, plane]: [usize; 3], bias: Option<&Array>) -> Result<Vec<T>> {
    let mut y = zeros(&[images, channels, plane])?;
    if let Some(bias) = bias.filter(|_| plane > 0) {
        let bias = read::<T>(bias)?;
        y.chunks_exact_mut(plane).enumerate().for_each(|(i, plane)| plane.fill(bias[i % channels]));
    }
    Ok(y)
}

/// A convolution, group after group. `plane`: windows of an image.
struct Groups<'w> {
    window: &'w Window,
    channels: Channels,
    plane: usize,
}

impl Groups<'_> {
    fn convolve<T: Real>(&self, x: &[T], w: &[T], y: &mut [T]) -> Result<()> {
        let Channels { images, from, to, groups } = self.channels;
        let (from, to, taps) = (from / groups, to / groups, self.window.taps()?);
        let (pixels, terms) = (count(&self.window.image)?, count(&[from, taps])?);
        if self.plane == 0 || to == 0 || pixels == 0 || terms == 0 {
            return Ok(());
        }
        let width = (BLOCK / terms).clamp(64, self.plane.max(64));
        let mut columns = zeros::<T>(&[terms, width.min(self.plane)])?;
        for start in (0..self.plane).step_by(width) {
            let count = width.min(self.plane - start);
            let segments: Vec<_> = (0..taps).map(|tap| self.window.segments(tap, start..start + count)).collect();
            for group in 0..images * groups {
                crate::limit::time()?;
                let x = &x[group * from * pixels..][..from * pixels];
                let w = &w[group % groups * to * terms..][..to * terms];
                let y = &mut y[group * to * self.plane..][..to * self.plane];
                if to < 3 {
                    self.directly(x, w, y, &segments);
                    continue;
                }
                let columns = &mut columns[..terms * count];
                columns.fill(T::default());
                for (row, columns) in columns.chunks_exact_mut(count).enumerate() {
                    let x = &x[row / taps * pixels..][..pixels];
                    for segment in &segments[row % taps] {
                        let target = &mut columns[segment.position - start..][..segment.count];
                        self.pixels(x, segment).zip(target).for_each(|(&x, slot)| *slot = x);
                    }
                }
                add_strided(
                    Matrix::new(w, terms),
                    Matrix::new(columns, count),
                    &mut y[start..],
                    self.plane,
                    Size { m: to, k: terms, n: count },
                );
            }
        }
        Ok(())
    }

    /// For few output channels (as when each channel is its own group): each tap's weight times its pixels, without a matrix.
    fn directly<T: Real>(&self, x: &[T], w: &[T], y: &mut [T], segments: &[Vec<Segment>]) {
        let taps = segments.len();
        let terms = x.len() / self.window.image.iter().product::<usize>() * taps;
        for (y, w) in y.chunks_exact_mut(self.plane).zip(w.chunks_exact(terms)) {
            for (term, &weight) in w.iter().enumerate() {
                let x = &x[term / taps * (x.len() * taps / terms)..];
                for segment in &segments[term % taps] {
                    let target = &mut y[segment.position..][..segment.count];
                    self.pixels(x, segment).zip(target).for_each(|(&x, slot)| *slot += weight * x);
                }
            }
        }
    }

    fn pixels<'x, T>(&self, x: &'x [T], segment: &Segment) -> std::iter::StepBy<std::slice::Iter<'x, T>> {
        x[segment.offset..].iter().step_by(self.window.step())
    }

    /// The transpose: every pixel of `x` is spread over its window in `y`. Here the windows are those of `y`.
    fn spread<T: Real>(&self, x: &[T], w: &[T], y: &mut [T]) -> Result<()> {
        let Channels { images, from, to, groups } = self.channels;
        let (from, to, taps) = (from / groups, to / groups, self.window.taps()?);
        let (pixels, terms) = (count(&self.window.image)?, count(&[to, taps])?);
        if self.plane == 0 || from == 0 || pixels == 0 || terms == 0 {
            return Ok(());
        }
        let width = (BLOCK / terms).clamp(64, self.plane.max(64));
        let mut columns = zeros::<T>(&[terms, width.min(self.plane)])?;
        let step = self.window.step();
        for start in (0..self.plane).step_by(width) {
            let count = width.min(self.plane - start);
            let segments: Vec<_> = (0..taps).map(|tap| self.window.segments(tap, start..start + count)).collect();
            for group in 0..images * groups {
                crate::limit::time()?;
                let x = &x[group * from * self.plane..][..from * self.plane];
                let w = &w[group % groups * from * terms..][..from * terms];
                let y = &mut y[group * to * pixels..][..to * pixels];
                let columns = &mut columns[..terms * count];
                columns.fill(T::default());
                let x = Matrix { values: &x[start..], rows: self.plane, columns: 1 };
                add_strided(Matrix::transposed(w, terms), x, columns, count, Size { m: terms, k: from, n: count });
                for (row, columns) in columns.chunks_exact(count).enumerate() {
                    let y = &mut y[row / taps * pixels..][..pixels];
                    for segment in &segments[row % taps] {
                        let source = &columns[segment.position - start..][..segment.count];
                        y[segment.offset..]
                            .iter_mut()
                            .step_by(step)
                            .zip(source)
                            .for_each(|(slot, &value)| *slot += value);
                    }
                }
            }
        }
        Ok(())
    }
}

fn transpose<T: Real>(conv: &ConvTranspose, x: &Array, w: &Array, bias: Option<&Array>) -> Result<Array> {
    let channels = channels(conv.groups, x, w, bias, true)?;
    let window = conv.window(&x.shape()[2..], &w.shape()[2..])?;
    let (plane, pixels) = (count(&window.out)?, count(&window.image)?);
    let mut y = filled::<T>([channels.images, channels.to, pixels], bias)?;
    Groups { window: &window, channels, plane }.spread(&read::<T>(x)?, &read::<T>(w)?, &mut y)?;
    write(x.dtype(), [&[channels.images, channels.to], &window.image[..]].concat(), y)
}
