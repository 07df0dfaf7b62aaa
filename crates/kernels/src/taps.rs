//! Weights in the order in which the gradient of the input reads them: channels of a panel side by side.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use crate::Conv2d;
use crate::parallel::each;
use crate::room::Room;

/// Some taps of a convolution's weights, for panels of some channels.
pub(crate) struct Taps<'a> {
    shape: &'a Conv2d,
    weight: &'a [f32],
    /// Where the taps are in a channel of a filter.
    offsets: Vec<usize>,
    panel: usize,
}

impl<'a> Taps<'a> {
    /// Of all weights of `shape`.
    pub fn new(shape: &'a Conv2d, weight: &'a [f32], taps: &[[usize; 2]], panel: usize) -> Self {
        assert_eq!(weight.len(), shape.weight_len(), "the weights of all taps");
        let offsets = taps.iter().map(|tap| tap[0] * shape.kernel[1] + tap[1]).collect();
        Self { shape, weight, offsets, panel }
    }

    /// Values of a panel.
    pub fn len(&self) -> usize {
        self.shape.out_channels / self.shape.groups * self.offsets.len() * self.panel
    }

    /// Panels of a group.
    pub fn panels(&self) -> usize {
        (self.shape.in_channels / self.shape.groups).div_ceil(self.panel)
    }

    /// Writes one panel of all groups': `[filter, tap, channel in panel]`, with zeros for channels that there are none of.
    pub fn pack(&self, panel: usize, packed: &mut [MaybeUninit<f32>]) {
        let shape = self.shape;
        let (group_in, group_out) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let area = shape.kernel[0] * shape.kernel[1];
        let (group, first) = (panel / self.panels(), panel % self.panels() * self.panel);
        let count = self.panel.min(group_in - first);
        for (filter, packed) in packed.chunks_exact_mut(self.offsets.len() * self.panel).enumerate() {
            let source = &self.weight[((group * group_out + filter) * group_in + first) * area..][..count * area];
            for (packed, at) in packed.chunks_exact_mut(self.panel).zip(&self.offsets) {
                for (packed, source) in packed.iter_mut().zip(source.chunks_exact(area)) {
                    packed.write(source[*at]);
                }
                packed[count..].iter_mut().for_each(|packed| _ = packed.write(0.0));
            }
        }
    }

    /// All panels of all groups.
    pub fn pack_all(&self) -> Vec<f32> {
        let (len, panels) = (self.len(), self.panels() * self.shape.groups);
        let room = Room::new(panels * len);
        if len > 0 {
            each(panels, 8 * panels * len, |panel| {
                // SAFETY: each task has a panel of its own.
                self.pack(panel, unsafe { room.part(panel * len..(panel + 1) * len) });
            });
        }
        // SAFETY: all panels were written.
        unsafe { room.filled() }
    }
}
