//! The sums of a tile: every product of matrices ends in them.
#![allow(unsafe_code)]

use crate::lanes::Lanes;

/// Steps whose addresses are found at once: those of all rows are more integers than there are registers.
const STEPS: usize = 4;

/// Adds, for each of `depth` steps, the products of one value of each row with `V` vectors.
///
/// Each operand is where it begins (of the left one each row) and how many values apart its steps are.
///
/// # Safety
/// There is a value at each step of each row, and there are `V` vectors at each step of the right operand.
#[inline(always)]
pub(crate) unsafe fn accumulate<L: Lanes, const R: usize, const V: usize>(
    lanes: L,
    sums: &mut [[L::Vector; V]; R],
    depth: usize,
    (mut left, left_step): ([*const f32; R], usize),
    (mut right, right_step): (*const f32, usize),
) {
    // SAFETY: the caller's.
    unsafe {
        for _ in 0..depth / STEPS {
            for step in 0..STEPS {
                add(lanes, sums, left.map(|left| *left.add(step * left_step)), right.add(step * right_step));
            }
            left = left.map(|left| left.wrapping_add(STEPS * left_step));
            right = right.wrapping_add(STEPS * right_step);
        }
        for _ in 0..depth % STEPS {
            add(lanes, sums, left.map(|left| *left), right);
            left = left.map(|left| left.wrapping_add(left_step));
            right = right.wrapping_add(right_step);
        }
    }
}

/// Adds the products of one step.
///
/// # Safety
/// `V` vectors begin at `right`.
#[inline(always)]
unsafe fn add<L: Lanes, const R: usize, const V: usize>(
    lanes: L,
    sums: &mut [[L::Vector; V]; R],
    left: [f32; R],
    right: *const f32,
) {
    let mut columns = [lanes.splat(0.0); V];
    for (v, column) in columns.iter_mut().enumerate() {
        // SAFETY: the caller's.
        *column = unsafe { lanes.load(right.add(v * L::LANES)) };
    }
    for (value, sums) in left.into_iter().zip(sums) {
        let value = lanes.splat(value);
        for (sum, column) in sums.iter_mut().zip(columns) {
            *sum = lanes.mul_add(value, column, *sum);
        }
    }
}
