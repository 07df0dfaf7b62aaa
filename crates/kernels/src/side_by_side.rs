//! Planes of sixteen channels as pixels of sixteen values, and back.
#![allow(unsafe_code)]

use crate::lanes::{Isa, Lanes, Work};

/// Channels that are side by side.
pub(crate) const CHANNELS: usize = 16;

/// Some pixels of the planes of up to [`CHANNELS`] channels.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Channels there are; the others are zero.
    pub channels: usize,
    /// Values from one plane to the next.
    pub plane: usize,
    /// Pixels.
    pub pixels: usize,
}

/// [`Run::join`] with the widest vectors.
struct Join {
    run: Run,
    from: *const f32,
    to: *mut f32,
}

impl Work for Join {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        lanes.run(
            #[inline(always)]
            // SAFETY: whoever made it answers for it.
            || unsafe { self.run.join(lanes, self.from, self.to) },
        );
    }
}

impl Run {
    /// Writes `[pixels, CHANNELS]`.
    ///
    /// # Panics
    /// When there are not as many values to read or to write.
    pub fn join_into(self, from: &[f32], to: &mut [f32]) {
        let Self { channels, plane, pixels } = self;
        assert!(channels <= CHANNELS && to.len() >= pixels * CHANNELS, "room for all pixels");
        assert!(channels == 0 || (channels - 1) * plane + pixels <= from.len(), "pixels of all channels");
        Isa::best().dispatch(Join { run: self, from: from.as_ptr(), to: to.as_mut_ptr() });
    }

    /// Writes `[pixels, CHANNELS]`.
    ///
    /// # Safety
    /// As many values can be read and written.
    #[allow(clippy::needless_range_loop, reason = "a column of the groups")]
    #[inline(always)]
    pub unsafe fn join<L: Lanes>(self, lanes: L, from: *const f32, to: *mut f32) {
        let mut at = 0;
        while at < self.pixels {
            let count = L::LANES.min(self.pixels - at);
            // Loops, here and below: closures may not be compiled for the same vectors.
            let mut rows = [lanes.splat(0.0); CHANNELS];
            for (channel, row) in rows.iter_mut().enumerate() {
                if channel < self.channels {
                    let from = from.wrapping_add(channel * self.plane + at);
                    // SAFETY: the caller's.
                    *row = unsafe { if count == L::LANES { lanes.load(from) } else { lanes.load_first(from, count) } };
                }
            }
            // Every fourth channel together, then these.
            let mut groups = [[lanes.splat(0.0); 4]; 4];
            for (j, group) in groups.iter_mut().enumerate() {
                *group = lanes.join([rows[j], rows[4 + j], rows[8 + j], rows[12 + j]]);
            }
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
    #[allow(clippy::needless_range_loop, reason = "a column of the groups")]
    #[inline(always)]
    pub unsafe fn deal<L: Lanes>(self, lanes: L, from: *const f32, to: *mut f32) {
        let mut at = 0;
        while at < self.pixels {
            let count = L::LANES.min(self.pixels - at);
            let mut pixels = [lanes.splat(0.0); CHANNELS];
            for (i, pixel) in pixels.iter_mut().enumerate() {
                let value = i * L::LANES;
                if value < count * CHANNELS {
                    // SAFETY: a part of a pixel that there is.
                    *pixel = unsafe { lanes.load(from.wrapping_add(at * CHANNELS + value)) };
                }
            }
            let mut groups = [[lanes.splat(0.0); 4]; 4];
            for (g, group) in groups.iter_mut().enumerate() {
                *group = lanes.deal([pixels[4 * g], pixels[4 * g + 1], pixels[4 * g + 2], pixels[4 * g + 3]]);
            }
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
