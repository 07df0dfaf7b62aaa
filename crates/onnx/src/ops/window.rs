//! Windows that slide over the spatial axes of images: those of convolutions and pools.

use std::ops::Range;

use crate::array::strides;
use crate::axis::Axis;
use crate::operator::RawNode;
use crate::{Error, Result};

/// How a window slides: everything by spatial axis.
#[derive(Debug, Clone)]
pub struct Window {
    /// Sizes of the image.
    pub image: Vec<usize>,
    /// Taps of the window.
    pub kernel: Vec<usize>,
    /// Distance between windows.
    pub steps: Vec<usize>,
    /// Distance between taps.
    pub dilations: Vec<usize>,
    /// Padding before the image.
    pub begin: Vec<i64>,
    /// Padding after the image.
    pub end: Vec<i64>,
    /// Number of windows.
    pub out: Vec<usize>,
}

/// Where the taps of neighbouring windows meet the image: from window `position` on, `count` windows meet it at `offset`, `offset`
/// + `step`, ….
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// The first window.
    pub position: usize,
    /// How many.
    pub count: usize,
    /// Where the tap of the first is in the image.
    pub offset: usize,
}

/// The most that an attribute may say: products of a few of them still fit 64 bits.
const GREATEST: i64 = 1 << 31;

/// The attributes of a node whose windows slide over images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Taps by spatial axis, if given.
    pub kernel: Option<Vec<usize>>,
    /// Distance between windows; 1 if not given.
    pub strides: Option<Vec<usize>>,
    /// Distance between taps; 1 if not given.
    pub dilations: Option<Vec<usize>>,
    /// What is around the image.
    pub padding: Padding,
    /// Whether a last window may reach past the padded image, as `ceil_mode` says.
    pub ceil: bool,
    /// Whether a window wider than the image is taken where it fits a step, as pools of ONNX Runtime do.
    pub pool: bool,
}

/// What is around an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Padding {
    /// All beginnings, then all ends; none if not given. Negative ones cut off.
    Explicit(Option<Vec<i64>>),
    /// Nothing.
    Valid,
    /// As many windows as the stride fits into the image; what is odd at the end.
    SameUpper,
    /// As many windows as the stride fits into the image; what is odd at the beginning.
    SameLower,
}

impl Windows {
    /// Reads the attributes of a convolution, or with `pool` of a pool.
    ///
    /// # Errors
    /// When one is wrong.
    pub fn parse(node: &RawNode, pool: bool) -> Result<Self> {
        let positive = |name| Ok::<_, Error>(list(node, name, 1)?.map(unsigned));
        let padding = match node.attributes.text_or("auto_pad", "NOTSET")? {
            "NOTSET" | "" => Padding::Explicit(list(node, "pads", -GREATEST)?),
            "VALID" => Padding::Valid,
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            other => return Err(Error::invalid(format!("its auto_pad is '{other}'"))),
        };
        Ok(Self {
            kernel: positive("kernel_shape")?,
            strides: positive("strides")?,
            dilations: positive("dilations")?,
            padding,
            ceil: pool && node.attributes.flag("ceil_mode", false)?,
            pool,
        })
    }

    /// The sizes that the spatial axes of an image have after the windows, as far as they are known.
    ///
    /// # Errors
    /// When the windows do not fit.
    pub fn infer(&self, image: &[Axis], kernel: Option<&[usize]>) -> Result<Vec<Axis>> {
        // An axis that is not known is taken for a large one, and is not known afterwards.
        let assumed: Vec<usize> = image.iter().map(|axis| axis.size().unwrap_or(1 << 16)).collect();
        let window = Window::new(self, &assumed, kernel)?;
        let known = image.iter().zip(&window.out);
        Ok(known.map(|(axis, &out)| axis.size().map_or(Axis::Any, |_| Axis::Size(out))).collect())
    }
}

impl Window {
    /// The windows on an image of these spatial sizes. `kernel` stands in for an absent `kernel_shape`.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn new(windows: &Windows, image: &[usize], kernel: Option<&[usize]>) -> Result<Self> {
        let mut window = Self::without_padding(windows, image, kernel)?;
        let rank = image.len();
        match &windows.padding {
            Padding::Explicit(pads) => {
                if let Some(pads) = for_axes(pads.as_deref(), "pads", 2 * rank)? {
                    window.begin = pads[..rank].to_vec();
                    window.end = pads[rank..].to_vec();
                }
            }
            Padding::Valid => {}
            Padding::SameUpper | Padding::SameLower => {
                for (axis, &size) in image.iter().enumerate() {
                    let (size, step) = (size as i64, window.steps[axis] as i64);
                    let windows_here = (size + step - 1) / step;
                    let needed = ((windows_here - 1) * step + window.span(axis) - size).max(0);
                    let less = needed / 2;
                    (window.begin[axis], window.end[axis]) = if windows.padding == Padding::SameUpper {
                        (less, needed - less)
                    } else {
                        (needed - less, less)
                    };
                }
            }
        }
        for (axis, &size) in image.iter().enumerate() {
            let (size, step) = (size as i64, window.steps[axis] as i64);
            let padded = size + window.begin[axis] + window.end[axis];
            let room = padded - window.span(axis);
            let steps = match room {
                // Towards zero: one window that reaches past the image if its stride is wide enough, then none.
                ..0 if windows.pool => room / step,
                _ if windows.ceil => -(-room).div_euclid(step),
                _ => room.div_euclid(step),
            };
            let mut count = steps + 1;
            if count < i64::from(!windows.pool) {
                let message = format!(
                    "its window spans {}, more than the {padded} of spatial axis {axis} with padding",
                    window.span(axis)
                );
                return Err(Error::invalid(message));
            }
            // The last window starts inside the image or the padding before it.
            if windows.ceil && room >= 0 && (count - 1) * step >= size + window.begin[axis] {
                count -= 1;
            }
            window.out.push(count.max(0) as usize);
        }
        Ok(window)
    }

    /// Kernel, strides and dilations alone; padding is 0, and there is no number of windows yet.
    ///
    /// # Errors
    /// When they do not fit the image.
    pub fn without_padding(windows: &Windows, image: &[usize], kernel: Option<&[usize]>) -> Result<Self> {
        let rank = image.len();
        if image.iter().any(|&size| size as i64 > GREATEST) {
            return Err(Error::invalid(format!("an image of sizes {image:?} is too large")));
        }
        let given = for_axes(windows.kernel.as_deref(), "kernel_shape", rank)?;
        let kernel = match (given, kernel) {
            (Some(given), Some(weights)) if given != weights => {
                return Err(Error::invalid(format!("its kernel_shape is {given:?}, its weights are of {weights:?}")));
            }
            (Some(given), _) => given.to_vec(),
            (None, Some(weights)) if weights.len() == rank && !weights.contains(&0) => weights.to_vec(),
            (None, Some(weights)) => {
                return Err(Error::invalid(format!("a kernel of {weights:?} does not fit an image of {image:?}")));
            }
            (None, None) => return Err(Error::invalid("it has no kernel_shape")),
        };
        let or_ones = |list: &Option<Vec<usize>>, name| {
            Ok::<_, Error>(for_axes(list.as_deref(), name, rank)?.map_or_else(|| vec![1; rank], <[usize]>::to_vec))
        };
        let steps = or_ones(&windows.strides, "strides")?;
        let dilations = or_ones(&windows.dilations, "dilations")?;
        let none = vec![0; rank];
        Ok(Self { image: image.to_vec(), kernel, steps, dilations, begin: none.clone(), end: none, out: Vec::new() })
    }

    /// From the first tap to the last, both included.
    pub fn span(&self, axis: usize) -> i64 {
        (self.kernel[axis] as i64 - 1) * self.dilations[axis] as i64 + 1
    }

    /// Number of taps.
    ///
    /// # Errors
    /// When they are too many.
    pub fn taps(&self) -> Result<usize> {
        crate::array::count(&self.kernel)
    }

    /// Distance between neighbours in the image along its last axis when a tap goes from one window to the next.
    pub fn step(&self) -> usize {
        self.steps.last().copied().unwrap_or(1)
    }

    /// Where one tap of the windows in a range meets the image; windows whose tap is in the padding are left out.
    pub fn segments(&self, tap: usize, windows: Range<usize>) -> Vec<Segment> {
        let Some(last) = self.image.len().checked_sub(1) else {
            return vec![Segment { position: 0, count: 1, offset: 0 }];
        };
        let taps = crate::array::index_of(tap, &self.kernel);
        let shift = |axis: usize| taps[axis] as i64 * self.dilations[axis] as i64 - self.begin[axis];
        let image_strides = strides(&self.image);
        let (row_length, step, size) = (self.out[last], self.steps[last] as i64, self.image[last] as i64);
        // Windows of a row whose tap is inside the image: from `low` to before `high`.
        let before = |limit: i64| {
            (limit - shift(last)).div_euclid(step) + i64::from((limit - shift(last)).rem_euclid(step) != 0)
        };
        let (low, high) = (before(0).max(0) as usize, before(size).clamp(0, row_length as i64) as usize);
        let mut segments = Vec::new();
        let mut position = windows.start;
        while position < windows.end {
            let (row, from) = (position / row_length, position % row_length);
            let to = row_length.min(from + windows.end - position);
            let index = crate::array::index_of(row, &self.out[..last]);
            let mut offset = Some(0);
            for axis in 0..last {
                let at = index[axis] as i64 * self.steps[axis] as i64 + shift(axis);
                let inside = (0..self.image[axis] as i64).contains(&at);
                offset = offset.filter(|_| inside).map(|offset| offset + at as usize * image_strides[axis]);
            }
            let (from, end) = (from.max(low), to.min(high));
            if let Some(offset) = offset.filter(|_| from < end) {
                let at = (from as i64 * step + shift(last)) as usize;
                segments.push(Segment { position: row * row_length + from, count: end - from, offset: offset + at });
            }
            position = (row * row_length) + to;
        }
        segments
    }
}

fn unsigned(values: Vec<i64>) -> Vec<usize> {
    values.into_iter().map(|value| value as usize).collect()
}

/// A list of integers, none below `least`.
pub(super) fn list(node: &RawNode, name: &str, least: i64) -> Result<Option<Vec<i64>>> {
    // Some exporters write an empty list for an attribute left out.
    let Some(values) = node.attributes.ints(name)?.filter(|values| !values.is_empty()) else { return Ok(None) };
    if values.iter().any(|value| !(least..=GREATEST).contains(value)) {
        return Err(Error::invalid(format!("its {name} are {values:?}: expected numbers of {least} or more")));
    }
    Ok(Some(values.to_vec()))
}

/// A list that has one number for each of so many axes or ends of axes.
pub(super) fn for_axes<'l, T: std::fmt::Debug>(
    list: Option<&'l [T]>,
    name: &str,
    length: usize,
) -> Result<Option<&'l [T]>> {
    match list {
        Some(values) if values.len() != length => {
            Err(Error::invalid(format!("its {name} are {values:?}: expected {length} numbers")))
        }
        list => Ok(list),
    }
}
