//! `Resize` and `Upsample`: every axis by itself, each value from some values of the axis by their weights.

use super::real::{Real, read, with_real, write, zeros};
use super::resize_axis::{Coordinates, Kernel, Nearest, Scale, Taps};
use super::{Inputs, around, one};
use crate::array::{axis, count};
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("Resize", &[10, 11, 13, 18, 19], (1, 4)).attributes(&[
            "antialias@18",
            "axes@18",
            "coordinate_transformation_mode@11",
            "cubic_coeff_a@11",
            "exclude_outside@11",
            "extrapolation_value@11",
            "keep_aspect_ratio_policy@18",
            "mode",
            "nearest_mode@11",
        ]),
        |node| if node.version < 11 { parsed(Upsample::parse(node)?) } else { parsed(Resize::parse(node)?) },
    ),
    Entry::new(
        Schema::new("Upsample", &[1, 7, 9, 10], (1, 2)).attributes(&[
            "height_scale<7",
            "mode",
            "scales@7<9",
            "width_scale<7",
        ]),
        |node| parsed(Upsample::parse(node)?),
    ),
];

/// The new size of an axis, and the region that it shows.
struct Target {
    axis: usize,
    scale: Scale,
    region: (f32, f32),
}

/// `Upsample`, and `Resize` before version 11: there was one way to map places.
#[derive(Debug, Clone)]
pub struct Upsample {
    /// How values make up a place.
    pub kernel: Kernel,
    /// How many times as large each axis becomes, where no input says so.
    pub scales: Vec<f32>,
}

impl Upsample {
    fn parse(node: &RawNode) -> Result<Self> {
        let kernel = match node.attributes.text_or("mode", "nearest")? {
            "nearest" => Kernel::Nearest(Nearest::Old),
            "linear" | "bilinear" => Kernel::Linear { antialias: false },
            other => return Err(Error::invalid(format!("its mode is '{other}'"))),
        };
        let scales = match node.attributes.floats("scales")? {
            Some(scales) => scales.to_vec(),
            // Version 1: images alone.
            None if node.version < 7 => {
                let scale = |name: &str| node.attributes.float_or(name, 1.0);
                vec![1.0, 1.0, scale("height_scale")?, scale("width_scale")?]
            }
            None => Vec::new(),
        };
        Ok(Self { kernel, scales })
    }
}

impl Operator for Upsample {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let axes: Vec<_> = (0..x.rank()).collect();
        let targets = match inputs.optional(1)? {
            Some(scales) => by_scales(x.shape(), &axes, &singles(scales)?)?,
            None => by_scales(x.shape(), &axes, &self.scales)?,
        };
        one(resized(x, &targets, self.kernel, Coordinates::Asymmetric, false, None)?)
    }
}

fn singles(array: &Array) -> Result<Vec<f32>> {
    Ok(array.floats()?.into_iter().map(|value| value as f32).collect())
}

/// What sizes do to the proportions of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Each axis has its size.
    Stretch,
    /// No axis is larger than its size.
    NotLarger,
    /// No axis is smaller than its size.
    NotSmaller,
}

/// `Resize`, since version 11.
#[derive(Debug, Clone)]
pub struct Resize {
    /// The axes that are named; all where none are.
    pub axes: Option<Vec<i64>>,
    /// What sizes do to proportions.
    pub policy: Policy,
    /// Where a place of the result is in the input.
    pub coordinates: Coordinates,
    /// How values make up a place.
    pub kernel: Kernel,
    /// Whether values outside count nothing.
    pub exclude_outside: bool,
    /// What stands outside, for regions that are larger than the input.
    extrapolation: f32,
}

impl Resize {
    fn parse(node: &RawNode) -> Result<Self> {
        let attributes = &node.attributes;
        let antialias = attributes.flag("antialias", false)?;
        let nearest = Nearest::named(attributes.text_or("nearest_mode", "round_prefer_floor")?)?;
        let kernel = match attributes.text_or("mode", "nearest")? {
            "nearest" => Kernel::Nearest(nearest),
            "linear" => Kernel::Linear { antialias },
            "cubic" => Kernel::Cubic { antialias, a: attributes.float_or("cubic_coeff_a", -0.75)? },
            other => return Err(Error::invalid(format!("its mode is '{other}'"))),
        };
        let policy = match attributes.text_or("keep_aspect_ratio_policy", "stretch")? {
            "stretch" => Policy::Stretch,
            "not_larger" => Policy::NotLarger,
            "not_smaller" => Policy::NotSmaller,
            other => return Err(Error::invalid(format!("its keep_aspect_ratio_policy is '{other}'"))),
        };
        let coordinates = attributes.text_or("coordinate_transformation_mode", "half_pixel")?;
        Ok(Self {
            axes: attributes.ints("axes")?.map(<[i64]>::to_vec),
            policy,
            coordinates: Coordinates::named(coordinates)?,
            kernel,
            exclude_outside: attributes.flag("exclude_outside", false)?,
            extrapolation: attributes.float_or("extrapolation_value", 0.0)?,
        })
    }
}

impl Resize {
    /// The axes of an array of some shape that change, for the inputs that say how (position 0, the array itself, is not looked at).
    fn targets(&self, x: &[usize], inputs: &Inputs<'_>) -> Result<Vec<Target>> {
        let axes = match &self.axes {
            Some(axes) => axes.iter().map(|&along| axis(along, x.len())).collect::<Result<Vec<_>>>()?,
            None => (0..x.len()).collect(),
        };
        if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
            return Err(Error::invalid(format!("its axes {axes:?} name one twice")));
        }
        let given = |position: usize| inputs.optional(position).map(|array| array.filter(|array| !array.is_empty()));
        let mut targets = match (given(2)?, inputs.ints(3)?.filter(|sizes| !sizes.is_empty())) {
            (_, Some(sizes)) => by_sizes(x, &axes, &sizes, self.policy)?,
            (Some(scales), None) => by_scales(x, &axes, &singles(scales)?)?,
            (None, None) => return Err(Error::invalid("it has neither scales nor sizes")),
        };
        if self.coordinates == Coordinates::Crop {
            let region = given(1)?.ok_or_else(|| Error::invalid("tf_crop_and_resize without a region"))?.floats()?;
            // Some exporters give the region of all axes although only some are named.
            let all = region.len() == 2 * x.len();
            if !all && region.len() != 2 * axes.len() {
                return Err(Error::invalid(format!("a region of {} numbers for {} axes", region.len(), axes.len())));
            }
            for (i, target) in targets.iter_mut().enumerate() {
                let i = if all { target.axis } else { i };
                target.region = (region[i] as f32, region[region.len() / 2 + i] as f32);
            }
        }
        Ok(targets)
    }

    /// For each axis of an array of some shape that changes, the matrix that its values are multiplied by: as many rows as the axis
    /// has values after, as many columns as it has before. None where values from outside the array stand in the result.
    ///
    /// # Errors
    /// When the inputs do not fit the shape.
    pub fn matrices(&self, x: &[usize], inputs: &Inputs<'_>) -> Result<Option<Vec<(usize, Array)>>> {
        if self.coordinates == Coordinates::Crop {
            return Ok(None);
        }
        let mut matrices = Vec::new();
        for target in self.targets(x, inputs)? {
            let Scale { from, to, factor, .. } = target.scale;
            if from == to && factor == 1.0 {
                continue;
            }
            if from == 0 {
                return Err(Error::invalid(format!("axis {} has no values to resize", target.axis)));
            }
            let taps = Taps::new(target.scale, self.coordinates, target.region, self.kernel, self.exclude_outside)?;
            let mut matrix = zeros::<f32>(&[to, from])?;
            for (row, line) in matrix.chunks_exact_mut(from).enumerate() {
                for tap in 0..taps.width {
                    line[taps.index(row, tap)] += taps.weights[row * taps.width + tap] as f32;
                }
            }
            matrices.push((target.axis, Array::new(vec![to, from], matrix)?));
        }
        Ok(Some(matrices))
    }
}

impl Operator for Resize {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let outside = (self.coordinates == Coordinates::Crop).then_some(f64::from(self.extrapolation));
        let targets = self.targets(x.shape(), inputs)?;
        one(resized(x, &targets, self.kernel, self.coordinates, self.exclude_outside, outside)?)
    }
}

fn by_scales(x: &[usize], axes: &[usize], scales: &[f32]) -> Result<Vec<Target>> {
    if scales.len() != axes.len() || scales.iter().any(|scale| !scale.is_finite() || *scale <= 0.0) {
        return Err(Error::invalid(format!("the scales {scales:?} do not fit {} axes", axes.len())));
    }
    let target = |(&axis, &factor): (&usize, &f32)| {
        let from = x[axis];
        let exact = factor * from as f32;
        Target { axis, scale: Scale { from, to: exact as usize, factor, exact }, region: (0.0, 1.0) }
    };
    Ok(axes.iter().zip(scales).map(target).collect())
}

fn by_sizes(x: &[usize], axes: &[usize], sizes: &[i64], policy: Policy) -> Result<Vec<Target>> {
    if sizes.len() != axes.len() || sizes.iter().any(|&size| !(0..1 << 31).contains(&size)) {
        return Err(Error::invalid(format!("the sizes {sizes:?} do not fit {} axes", axes.len())));
    }
    let factors = axes.iter().zip(sizes).map(|(&axis, &size)| size as f64 / x[axis] as f64);
    let common = match policy {
        Policy::Stretch => None,
        Policy::NotLarger => Some(factors.fold(f64::INFINITY, f64::min)),
        Policy::NotSmaller => Some(factors.fold(0.0, f64::max)),
    };
    let target = |(&axis, &size): (&usize, &i64)| {
        let from = x[axis];
        let scale = match common {
            Some(factor) => {
                let exact = factor * from as f64;
                Scale { from, to: (exact + 0.5) as usize, factor: factor as f32, exact: exact as f32 }
            }
            None => Scale { from, to: size as usize, factor: size as f32 / from as f32, exact: size as f32 },
        };
        Target { axis, scale, region: (0.0, 1.0) }
    };
    Ok(axes.iter().zip(sizes).map(target).collect())
}

/// The array with every axis resized. `extrapolation` is what stands where a place is outside.
fn resized(
    x: &Array,
    targets: &[Target],
    kernel: Kernel,
    coordinates: Coordinates,
    exclude_outside: bool,
    extrapolation: Option<f64>,
) -> Result<Array> {
    let mut shape = x.shape().to_vec();
    let mut plans = Vec::new();
    for target in targets {
        let Scale { from, to, factor, .. } = target.scale;
        shape[target.axis] = to;
        if from == to && factor == 1.0 && target.region == (0.0, 1.0) {
            continue;
        }
        if from == 0 && to > 0 {
            return Err(Error::invalid(format!("axis {} has no values to resize", target.axis)));
        }
        count(&shape)?;
        plans.push((target.axis, Taps::new(target.scale, coordinates, target.region, kernel, exclude_outside)?));
    }
    let outside = plans.iter().any(|(_, taps)| taps.outside.contains(&true));
    if matches!(kernel, Kernel::Nearest(_)) && !outside {
        return nearest(x, &plans);
    }
    if x.dtype().is_float() {
        return with_real!(x.dtype(), T => {
            let values = weighted::<T>(x.shape(), &read::<T>(x)?, &plans, extrapolation)?;
            write(x.dtype(), shape, values)
        });
    }
    let range = x.dtype().int_range().ok_or_else(|| Error::beyond(format!("{} between values", x.dtype())))?;
    let values = weighted::<f64>(x.shape(), &x.floats()?, &plans, extrapolation)?;
    let rounded =
        values.into_iter().map(|value| value.round_ties_even().clamp(range.0 as f64, range.1 as f64)).collect();
    Array::of_floats(x.dtype(), shape, rounded)
}

/// Values of any type, as they are.
fn nearest(x: &Array, plans: &[(usize, Taps)]) -> Result<Array> {
    let mut result = x.clone();
    for (axis, taps) in plans {
        let (outer, from, inner) = around(result.shape(), *axis);
        let mut shape = result.shape().to_vec();
        shape[*axis] = taps.starts.len();
        let mut indices: Vec<usize> = zeros(&shape)?;
        indices.clear();
        for o in 0..outer {
            for i in 0..taps.starts.len() {
                let start = (o * from + taps.index(i, 0)) * inner;
                indices.extend(start..start + inner);
            }
        }
        result = result.take(shape, &indices)?;
    }
    Ok(result)
}

/// Values by their weights, axis after axis.
fn weighted<T: Real>(shape: &[usize], x: &[T], plans: &[(usize, Taps)], extrapolation: Option<f64>) -> Result<Vec<T>> {
    let mut shape = shape.to_vec();
    let mut values = x.to_vec();
    for (axis, taps) in plans {
        let (outer, from, inner) = around(&shape, *axis);
        shape[*axis] = taps.starts.len();
        let mut next = zeros::<T>(&shape)?;
        let weights: Vec<T> = taps.weights.iter().map(|&weight| T::of(weight)).collect();
        for o in 0..if next.is_empty() { 0 } else { outer } {
            for i in 0..taps.starts.len() {
                if i % 64 == 0 {
                    crate::limit::time()?;
                }
                let target = &mut next[(o * taps.starts.len() + i) * inner..][..inner];
                if taps.outside[i] {
                    target.fill(T::of(extrapolation.unwrap_or(0.0)));
                    continue;
                }
                for tap in 0..taps.width {
                    let weight = weights[i * taps.width + tap];
                    if weight != T::default() {
                        let source = &values[(o * from + taps.index(i, tap)) * inner..][..inner];
                        target.iter_mut().zip(source).for_each(|(slot, &value)| *slot += weight * value);
                    }
                }
            }
        }
        values = next;
    }
    Ok(values)
}
