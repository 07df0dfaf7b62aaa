//! Windows that slide over the spatial axes of images: those of convolutions and pools.

use std::ops::Range;

use crate::array::strides;
use crate::{Error, Node, Result};

/// How a window slides: everything by spatial axis.
#[derive(Debug, Clone)]
pub(super) struct Window {
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
pub(super) struct Segment {
    pub position: usize,
    pub count: usize,
    pub offset: usize,
}

/// The most that an attribute may say: products of a few of them still fit 64 bits.
const GREATEST: i64 = 1 << 31;

impl Window {
    /// Reads the attributes of a node for an image of these spatial sizes. `kernel` stands in for an absent `kernel_shape`.
    pub fn new(node: &Node, image: &[usize], kernel: Option<&[usize]>, ceil: bool) -> Result<Self> {
        let mut window = Self::without_padding(node, image, kernel)?;
        let rank = image.len();
        let automatic = node.attributes.text_or("auto_pad", "NOTSET")?;
        match automatic {
            "NOTSET" | "" => {
                if let Some(pads) = sizes(node, "pads", 2 * rank, -GREATEST)? {
                    window.begin = pads[..rank].to_vec();
                    window.end = pads[rank..].to_vec();
                }
            }
            "VALID" => {}
            "SAME_UPPER" | "SAME_LOWER" => {
                for (axis, &size) in image.iter().enumerate() {
                    let (size, step) = (size as i64, window.steps[axis] as i64);
                    let windows = (size + step - 1) / step;
                    let needed = ((windows - 1) * step + window.span(axis) - size).max(0);
                    let less = needed / 2;
                    (window.begin[axis], window.end[axis]) =
                        if automatic == "SAME_UPPER" { (less, needed - less) } else { (needed - less, less) };
                }
            }
            other => return Err(Error::invalid(format!("its auto_pad is '{other}'"))),
        }
        for (axis, &size) in image.iter().enumerate() {
            let (size, step) = (size as i64, window.steps[axis] as i64);
            let padded = size + window.begin[axis] + window.end[axis];
            let room = padded - window.span(axis);
            let mut windows = if ceil { -(-room).div_euclid(step) } else { room.div_euclid(step) } + 1;
            if windows < 1 {
                let message = format!(
                    "its window spans {}, more than the {padded} of spatial axis {axis} with padding",
                    window.span(axis)
                );
                return Err(Error::invalid(message));
            }
            // The last window starts inside the image or the padding before it.
            if ceil && (windows - 1) * step >= size + window.begin[axis] {
                windows -= 1;
            }
            window.out.push(windows.max(0) as usize);
        }
        Ok(window)
    }

    /// Reads kernel, strides and dilations alone; padding is 0, and there is no number of windows yet.
    pub fn without_padding(node: &Node, image: &[usize], kernel: Option<&[usize]>) -> Result<Self> {
        let rank = image.len();
        if image.iter().any(|&size| size as i64 > GREATEST) {
            return Err(Error::invalid(format!("an image of sizes {image:?} is too large")));
        }
        let given = sizes(node, "kernel_shape", rank, 1)?.map(unsigned);
        let kernel = match (given, kernel) {
            (Some(given), Some(weights)) if given != weights => {
                return Err(Error::invalid(format!("its kernel_shape is {given:?}, its weights are of {weights:?}")));
            }
            (Some(given), _) => given,
            (None, Some(weights)) if weights.len() == rank && !weights.contains(&0) => weights.to_vec(),
            (None, Some(weights)) => {
                return Err(Error::invalid(format!("a kernel of {weights:?} does not fit an image of {image:?}")));
            }
            (None, None) => return Err(Error::invalid("it has no kernel_shape")),
        };
        let ones = || vec![1; rank];
        let steps = sizes(node, "strides", rank, 1)?.map_or_else(ones, unsigned);
        let dilations = sizes(node, "dilations", rank, 1)?.map_or_else(ones, unsigned);
        let none = vec![0; rank];
        Ok(Self { image: image.to_vec(), kernel, steps, dilations, begin: none.clone(), end: none, out: Vec::new() })
    }

    /// From the first tap to the last, both included.
    pub fn span(&self, axis: usize) -> i64 {
        (self.kernel[axis] as i64 - 1) * self.dilations[axis] as i64 + 1
    }

    /// Number of taps.
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

/// A list of integers, one for each axis, none below `least`.
pub(super) fn sizes(node: &Node, name: &str, length: usize, least: i64) -> Result<Option<Vec<i64>>> {
    let Some(values) = node.attributes.ints(name)? else { return Ok(None) };
    // Some exporters write an empty list for an attribute left out.
    if values.is_empty() && length > 0 {
        return Ok(None);
    }
    if values.len() != length || values.iter().any(|value| !(least..=GREATEST).contains(value)) {
        return Err(Error::invalid(format!("its {name} are {values:?}: expected {length} numbers of {least} or more")));
    }
    Ok(Some(values.to_vec()))
}
