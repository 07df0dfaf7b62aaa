//! Zero-padded copies of channel planes in which every tap of a kernel is a shift.
//!
//! Walked in lockstep, the output's pixels and the input's pixels under one tap are two rows of equal pitch, a fixed distance apart: so
//! a kernel reads long runs of both, whatever the padding, and no column matrix is ever built. A stride or a dilation splits an axis
//! into lanes of every n-th position, in which neighbours are next to each other again.

/// How the positions that taps see along one axis are copied.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// Source position of the first element of each lane; those outside the source read as zero.
    starts: Vec<isize>,
    /// Distance in the source between neighbours of a lane.
    step: isize,
    /// Elements of each lane.
    pub len: usize,
    /// Lane of each tap and the element of it where the tap begins.
    pub taps: Vec<(usize, usize)>,
}

impl Axis {
    /// An axis where tap `t` sees `count` source positions, from `starts[t]` on in steps of `step`.
    ///
    /// Taps share a lane where they see the same positions, unless a lane each is less to copy (few outputs, much dilation).
    pub fn new(starts: &[isize], step: isize, count: usize) -> Self {
        let mut lanes: Vec<isize> = Vec::new();
        for start in starts {
            match lanes.iter_mut().find(|lane| (**lane - start) % step == 0) {
                Some(lane) => *lane = (*lane).min(*start),
                None => lanes.push(*start),
            }
        }
        let taps: Vec<_> = starts
            .iter()
            .map(|start| {
                let lane = lanes.iter().position(|lane| (lane - start) % step == 0).unwrap_or(0);
                (lane, ((start - lanes[lane]) / step) as usize)
            })
            .collect();
        let len = count.saturating_add(taps.iter().map(|(_, shift)| *shift).max().unwrap_or(0));
        if len.saturating_mul(lanes.len()) <= count * starts.len() {
            return Self { starts: lanes, step, len, taps };
        }
        Self { starts: starts.to_vec(), step, len: count, taps: (0..starts.len()).map(|tap| (tap, 0)).collect() }
    }

    /// An axis copied as it is, with `len` elements.
    pub fn plain(len: usize) -> Self {
        Self { starts: vec![0], step: 1, len, taps: vec![(0, 0)] }
    }

    /// Lanes.
    pub fn lanes(&self) -> usize {
        self.starts.len()
    }

    /// The furthest element of a lane where a tap begins.
    pub fn reach(&self) -> usize {
        self.taps.iter().map(|(_, shift)| *shift).max().unwrap_or(0)
    }
}

/// Zeros after each plane: a vector that starts at a plane's last element stays inside.
const SLACK: usize = 16;

/// The layout of one packed plane: lanes down, lanes across, rows, columns.
#[derive(Clone, Debug)]
pub(crate) struct Planes {
    pub down: Axis,
    pub across: Axis,
}

impl Planes {
    /// Elements of one plane, with the zeros behind it.
    pub fn len(&self) -> usize {
        (self.down.lanes() * self.across.lanes() * self.down.len * self.across.len + self.across.reach())
            .next_multiple_of(SLACK)
            + SLACK
    }

    /// Where the element that a tap sees first is.
    pub fn offset(&self, tap: [usize; 2]) -> usize {
        let ((row_lane, row), (lane, column)) = (self.down.taps[tap[0]], self.across.taps[tap[1]]);
        ((row_lane * self.across.lanes() + lane) * self.down.len + row) * self.across.len + column
    }

    /// Copies a plane of `size` from its row `origin` on, with zeros wherever the source ends.
    pub fn pack(&self, source: &[f32], size: [usize; 2], origin: isize, packed: &mut [f32]) {
        let (rows, columns) = (self.down.len, self.across.len);
        let mut place = packed.chunks_exact_mut(columns);
        for row_start in &self.down.starts {
            for start in &self.across.starts {
                let (step, start) = (self.across.step, *start);
                // Elements before the source, then up to its end.
                let before = steps_until(-start, step, columns);
                let end = steps_until(size[1] as isize - start, step, columns).max(before);
                for row in 0..rows {
                    let Some(out) = place.next() else { return };
                    let y = row_start + origin + row as isize * self.down.step;
                    if y < 0 || y >= size[0] as isize || before == end {
                        out.fill(0.0);
                        continue;
                    }
                    let line = &source[y as usize * size[1]..][..size[1]];
                    out[..before].fill(0.0);
                    out[end..].fill(0.0);
                    let first = (start + before as isize * step) as usize;
                    if step == 1 {
                        out[before..end].copy_from_slice(&line[first..][..end - before]);
                    } else {
                        for (out, value) in out[before..end].iter_mut().zip(line[first..].iter().step_by(step as usize))
                        {
                            *out = *value;
                        }
                    }
                }
            }
        }
        let used = self.down.lanes() * self.across.lanes() * rows * columns;
        packed[used..].fill(0.0);
    }
}

/// How many of `0, step, 2·step, …` are below `end`, at most `most`.
fn steps_until(end: isize, step: isize, most: usize) -> usize {
    if end <= 0 { 0 } else { ((end - 1) / step + 1).unsigned_abs().min(most) }
}
