//! Planes of sixteen channels as pixels of sixteen values, and back.
#![allow(unsafe_code)]

use std::array::from_fn;

use crate::lanes::Lanes;

/// Channels that are side by side.
pub(super) const CHANNELS: usize = 16;

/// Some pixels of the planes of up to [`CHANNELS`] channels.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Channels there are; the others are zero.
    pub channels: usize,
    /// Values from one plane to the next.
    pub plane: usize,
    /// Pixels.
    pub pixels: usize,
}

impl Run {
    /// Writes `[pixels, CHANNELS]`.
    ///
    /// # Safety
    /// As many values can be read and written.
    #[inline(always)]
    pub unsafe fn join<L: Lanes>(self, lanes: L, from: *const f32, to: *mut f32) {
        let mut at = 0;
        while at < self.pixels {
            let count = L::LANES.min(self.pixels - at);
            let rows: [L::Vector; CHANNELS] = from_fn(|channel| {
                if channel >= self.channels {
                    return lanes.splat(0.0);
                }
                let from = from.wrapping_add(channel * self.plane + at);
                // SAFETY: the caller's.
                unsafe { if count == L::LANES { lanes.load(from) } else { lanes.load_first(from, count) } }
            });
            // Every fourth channel together, then these.
            let groups: [[L::Vector; 4]; 4] =
                from_fn(|j| lanes.join([rows[j], rows[4 + j], rows[8 + j], rows[12 + j]]));
            for g in 0..4 {
                let joined = lanes.join(groups.map(|group| group[g]));
                for (i, vector) in joined.into_iter().enumerate() {
                    let value = (4 * g + i) * L::LANES;
                    if value < count * CHANNELS {
                        // SAFETY: a part of a pixel that there is.
                        unsafe { lanes.store(to.wrapping_add(at * CHANNELS + value), vector) };
                    }
                }
            }
            at += count;
        }
    }

    /// The inverse: writes the planes of the channels that there are.
    ///
    /// # Safety
    /// As many values can be read and written.
    #[inline(always)]
    pub unsafe fn deal<L: Lanes>(self, lanes: L, from: *const f32, to: *mut f32) {
        let mut at = 0;
        while at < self.pixels {
            let count = L::LANES.min(self.pixels - at);
            let pixels: [L::Vector; CHANNELS] = from_fn(|i| {
                let value = i * L::LANES;
                if value >= count * CHANNELS {
                    return lanes.splat(0.0);
                }
                // SAFETY: a part of a pixel that there is.
                unsafe { lanes.load(from.wrapping_add(at * CHANNELS + value)) }
            });
            let groups: [[L::Vector; 4]; 4] =
                from_fn(|g| lanes.deal([pixels[4 * g], pixels[4 * g + 1], pixels[4 * g + 2], pixels[4 * g + 3]]));
            for j in 0..4 {
                let rows = lanes.deal(groups.map(|group| group[j]));
                for (m, row) in rows.into_iter().enumerate() {
                    let channel = 4 * m + j;
                    if channel >= self.channels {
                        continue;
                    }
                    let to = to.wrapping_add(channel * self.plane + at);
                    // SAFETY: the caller's.
                    unsafe { if count == L::LANES { lanes.store(to, row) } else { lanes.store_first(to, row, count) } };
                }
            }
            at += count;
        }
    }
}
