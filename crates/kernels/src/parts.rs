//! Sums over many samples in parts, whose number is a function of the sizes alone: so are the bits of the result.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::Conv2d;
use crate::dots::FILTERS;
use crate::parallel::{each, each_chunk};
use crate::room::Room;

/// Values of the packed input and gradient that are worked on at once: about half of a core's second-level cache.
pub(crate) const BLOCK: usize = 1 << 17;
/// Partial sums that are made side by side.
pub(crate) const PARTS: usize = 8;
/// Values of all partial sums together.
const PART_VALUES: usize = 1 << 23;
/// Values that one thread adds up at a time.
const PIECE: usize = 1 << 13;

/// The gradient of the weights, which `add` sums up over all blocks, some of them and some filters at a time, on all threads.
///
/// `add` is called with blocks, a group, filters of it, and their gradients, zero at first.
pub(crate) fn in_parts(
    shape: &Conv2d,
    blocks: usize,
    add: impl Fn(Range<usize>, usize, Range<usize>, &mut [f32]) + Sync + Send,
) -> Vec<f32> {
    let len = shape.weight_len();
    let parts = blocks.min(PARTS).min(PART_VALUES / len + 1);
    if parts == 0 {
        return vec![0.0; len];
    }
    // Few parts: the filters of each are divided too.
    let group_out = shape.out_channels / shape.groups;
    let filters = group_out.div_ceil(PARTS.div_ceil(parts)).next_multiple_of(FILTERS).min(group_out);
    let (chunks, filter_len) = (group_out.div_ceil(filters), len / shape.out_channels);
    // Of the first part, and of the others.
    let rooms = [Room::new(len), Room::new(len * (parts - 1))];
    let operations = 2 * shape.output_len() * filter_len;
    each(parts * shape.groups * chunks, operations, |task| {
        let (part, group, chunk) = (task / chunks / shape.groups, task / chunks % shape.groups, task % chunks);
        let first = group * group_out + chunk * filters;
        let filters = first..(first + filters).min((group + 1) * group_out);
        let start = part.saturating_sub(1) * len;
        let place = start + filters.start * filter_len..start + filters.end * filter_len;
        // SAFETY: each task has filters of a part of its own.
        let sums = unsafe { rooms[usize::from(part > 0)].zeros(place) };
        add(blocks * part / parts..blocks * (part + 1) / parts, group, filters, sums);
    });
    // SAFETY: the filters of all groups and parts are all values.
    let [mut sums, others] = rooms.map(|room| unsafe { room.filled() });
    if parts > 1 {
        each_chunk(&mut sums, PIECE, 4 * len * parts, |piece, sums| {
            for part in others.chunks_exact(len) {
                sums.iter_mut().zip(&part[piece * PIECE..]).for_each(|(sum, value)| *sum += value);
            }
        });
    }
    sums
}
