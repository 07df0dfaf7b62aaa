//! Sums of weighted, shifted planes for a panel of channels, in tiles that fill the registers.

#![allow(unsafe_code)]

use crate::lanes::{Lanes, Work};

/// How many channels to compute together.
pub(crate) struct Panel {
    pub channels: usize,
}

impl Work for Panel {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> usize {
        let panels: &[usize] = if L::ROWS >= 8 { &[8, 6, 4, 2, 1] } else { &[4, 6, 2, 1] };
        // Channels of the last panel that are none cost as much as those that are.
        panels
            .iter()
            .copied()
            .min_by_key(|panel| self.channels.next_multiple_of(*panel) * (panel + 1) / panel)
            .unwrap_or(1)
    }
}

/// One tap.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Where its values begin in a packed plane.
    pub start: usize,
    /// Where its weight is among those of a plane.
    pub weight: usize,
}

/// The sums of one panel over a run of values.
pub(crate) struct Sums<'a> {
    pub grad: &'a [f32],
    /// Values of a packed plane.
    pub plane: usize,
    pub places: &'a [Place],
    /// The value for a plane, place and channel is at `plane * steps[0] + place.weight + channel * steps[1]`.
    pub weights: &'a [f32],
    pub steps: [usize; 2],
    /// Channels that a tile has.
    pub panel: usize,
    /// Channels that there are weights of; the others' sums are the last one's.
    pub channels: usize,
    /// Values to compute of each channel.
    pub run: usize,
    /// Values from one channel to the next in the sums.
    pub pitch: usize,
    /// `[channel, pitch]`; the first `run` of each are written.
    pub sums: &'a mut [f32],
}

impl Work for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        match (L::ROWS >= 8, self.panel) {
            (true, 8) => lanes.run(|| self.tiles::<L, 8, 3>(lanes)),
            (true, 6) => lanes.run(|| self.tiles::<L, 6, 4>(lanes)),
            (true, 4) => lanes.run(|| self.tiles::<L, 4, 6>(lanes)),
            (true, 2) => lanes.run(|| self.tiles::<L, 2, 8>(lanes)),
            (false, 6) => lanes.run(|| self.tiles::<L, 6, 2>(lanes)),
            // With twelve sums here, the compiler keeps some of them in memory: AVX2 has sixteen registers.
            (false, 4) => lanes.run(|| self.tiles::<L, 4, 2>(lanes)),
            (false, 2) => lanes.run(|| self.tiles::<L, 2, 4>(lanes)),
            _ => lanes.run(|| self.tiles::<L, 1, 8>(lanes)),
        }
    }
}

impl Sums<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, const M: usize, const N: usize>(mut self, lanes: L) {
        let furthest = self.places.iter().map(|place| place.start).max().unwrap_or(0);
        let last = self.places.iter().map(|place| place.weight).max().unwrap_or(0);
        let planes = self.grad.len() / self.plane;
        assert!(self.run.is_multiple_of(L::LANES) && furthest + self.run <= self.plane);
        assert!(self.sums.len() >= (M - 1) * self.pitch + self.run && (1..=M).contains(&self.channels));
        let furthest = (planes - 1) * self.steps[0] + last + (self.channels - 1) * self.steps[1];
        assert!(self.places.is_empty() || furthest < self.weights.len());
        let mut at = 0;
        while at + N * L::LANES <= self.run {
            self.tile::<L, M, N>(lanes, at);
            at += N * L::LANES;
        }
        while at + 2 * L::LANES <= self.run {
            self.tile::<L, M, 2>(lanes, at);
            at += 2 * L::LANES;
        }
        while at < self.run {
            self.tile::<L, M, 1>(lanes, at);
            at += L::LANES;
        }
    }

    /// `M` channels of `N` vectors, from value `at` on.
    #[inline(always)]
    fn tile<L: Lanes, const M: usize, const N: usize>(&mut self, lanes: L, at: usize) {
        let mut sums = [[lanes.splat(0.0); N]; M];
        let mut weights: [*const f32; M] =
            std::array::from_fn(|m| self.weights.as_ptr().wrapping_add(m.min(self.channels - 1) * self.steps[1]));
        for plane in self.grad.chunks_exact(self.plane) {
            for place in self.places {
                // SAFETY: the furthest place and a whole run after it are inside the plane, as `tiles` asserted.
                let values: [L::Vector; N] =
                    std::array::from_fn(|n| unsafe { lanes.load(plane.as_ptr().add(place.start + at + n * L::LANES)) });
                for (weights, sums) in weights.iter().zip(&mut sums) {
                    // SAFETY: the last plane has a weight for the last place of the last channel, as `tiles` asserted.
                    let weight = lanes.splat(unsafe { *weights.add(place.weight) });
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = lanes.mul_add(weight, value, *sum);
                    }
                }
            }
            weights = weights.map(|weights| weights.wrapping_add(self.steps[0]));
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                // SAFETY: the last channel's run is inside the sums, as `tiles` asserted, and this vector is inside its run.
                unsafe { lanes.store(self.sums.as_mut_ptr().add(m * self.pitch + at + n * L::LANES), sum) };
            }
        }
    }
}
