//! Kernels larger than their image: the taps that only ever fall on padding are left out.
//!
//! Late in a network images get small. A kernel of 7x7 over one pixel has one tap that matters, and 48 that cost as much.

use crate::Conv2d;

/// A convolution with the taps that fall on the input, which gives the same output.
pub(crate) struct Trimmed {
    /// Its geometry.
    pub(crate) shape: Conv2d,
    /// Its taps, as numbers of those of the whole kernel.
    taps: Vec<usize>,
    /// Taps of the whole kernel.
    area: usize,
}

impl Trimmed {
    /// Without those taps; none where they are fewer than half of all, since to leave them out costs a copy of the others' weights.
    pub(crate) fn of(shape: &Conv2d) -> Option<Self> {
        let area = shape.kernel[0] * shape.kernel[1];
        let [(down, top), (across, left)] = [live(shape, 0)?, live(shape, 1)?];
        if 2 * down.len() * across.len() > area {
            return None;
        }
        let taps = down.clone().flat_map(|y| across.clone().map(move |x| y * shape.kernel[1] + x)).collect();
        let trimmed = Conv2d { kernel: [down.len(), across.len()], padding: [top, left], ..*shape };
        let same = trimmed.check().is_ok() && trimmed.output() == shape.output();
        same.then_some(Self { shape: trimmed, taps, area })
    }

    /// The weights of its taps from those of all, `row` values for each tap.
    pub(crate) fn take(&self, whole: &[f32], row: usize) -> Vec<f32> {
        let filters = whole.chunks_exact(self.area * row);
        filters.flat_map(|filter| self.taps.iter().flat_map(|tap| &filter[tap * row..][..row])).copied().collect()
    }

    /// Gradients of its weights among those of all, which are zero elsewhere.
    pub(crate) fn spread(&self, part: &[f32]) -> Vec<f32> {
        let mut whole = vec![0.0; part.len() / self.taps.len() * self.area];
        for (part, whole) in part.chunks_exact(self.taps.len()).zip(whole.chunks_exact_mut(self.area)) {
            self.taps.iter().zip(part).for_each(|(tap, value)| whole[*tap] = *value);
        }
        whole
    }
}

/// The taps of an axis from the first to the last that falls on the input for some output, and the padding before and after it that is
/// left; none where these are not just fewer taps with less padding.
fn live(shape: &Conv2d, axis: usize) -> Option<(std::ops::Range<usize>, [usize; 2])> {
    let (size, stride, dilation) = (shape.input[axis], shape.stride[axis], shape.dilation[axis]);
    let (outputs, before) = (shape.output()[axis], shape.padding[axis][0]);
    // The last output whose tap is not past the input sees the most of it.
    let falls = |tap: usize| {
        let at = tap.checked_mul(dilation)?;
        let last = (before.checked_add(size - 1)?.checked_sub(at)? / stride).min(outputs - 1);
        (last.checked_mul(stride)?.checked_add(at)? >= before).then_some(())
    };
    let first = (0..shape.kernel[axis]).find(|tap| falls(*tap).is_some())?;
    let last = (first..shape.kernel[axis]).rfind(|tap| falls(*tap).is_some())?;
    let before = before.checked_sub(first * dilation)?;
    let reach =
        (outputs - 1).checked_mul(stride)?.checked_add((last - first).checked_mul(dilation)?)?.checked_add(1)?;
    Some((first..last + 1, [before, reach.saturating_sub(before.checked_add(size)?)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(side: usize, kernel: usize, padding: usize) -> Conv2d {
        let (input, kernel, padding) = ([side; 2], [kernel; 2], [[padding; 2]; 2]);
        Conv2d {
            batch: 1,
            in_channels: 2,
            out_channels: 3,
            input,
            kernel,
            stride: [1; 2],
            padding,
            dilation: [1; 2],
            groups: 1,
        }
    }

    #[test]
    fn only_taps_on_the_input_are_left() {
        let one = Trimmed::of(&shape(1, 7, 3)).unwrap();
        assert_eq!((one.shape.kernel, one.shape.padding, one.taps.as_slice()), ([1; 2], [[0; 2]; 2], &[24][..]));
        let two = Trimmed::of(&shape(2, 7, 3)).unwrap();
        assert_eq!((two.shape.kernel, two.shape.padding), ([3; 2], [[1; 2]; 2]));
        assert!(Trimmed::of(&shape(2, 3, 1)).is_none() && Trimmed::of(&shape(8, 7, 3)).is_none());
        let strided = Trimmed::of(&Conv2d { stride: [2; 2], dilation: [3; 2], ..shape(1, 3, 3) }).unwrap();
        assert_eq!((strided.shape.kernel, strided.shape.output()), ([1; 2], [1; 2]));
    }

    #[test]
    fn weights_are_taken_and_put_back() {
        let trimmed = Trimmed::of(&shape(1, 3, 1)).unwrap();
        let whole: Vec<f32> = (0..2 * 9 * 2).map(|i| i as f32).collect();
        assert_eq!(trimmed.take(&whole, 2), [8.0, 9.0, 26.0, 27.0]);
        let back = trimmed.spread(&[5.0, 7.0]);
        assert_eq!((back[4], back[13], back.iter().sum::<f32>()), (5.0, 7.0, 12.0));
    }
}
