//! The greatest codes of windows.

use crate::ShapeError;
use crate::arch::Arch;
use crate::channels_last::Pool;
use crate::parallel::{Shared, alone, each, threads};

use super::codes::Run;

/// The greatest code of each window of images whose channels are side by side. Codes of windows have the scale that they had.
///
/// # Errors
/// When a slice has another length than the pool says, or a size is zero.
pub fn max_pool<T: Copy + Ord + Send + Sync>(pool: &Pool, input: &[T], out: &mut [T]) -> Result<(), ShapeError> {
    pool.check()?;
    let [height, width] = pool.input;
    let [down, across] = pool.output;
    ShapeError::length("the input", pool.batch * height * width * pool.channels, input.len())?;
    ShapeError::length("the output", pool.batch * down * across * pool.channels, out.len())?;
    let channels = pool.channels;
    if out.is_empty() || input.is_empty() {
        return Ok(());
    }
    let lines = pool.batch * down;
    let operations = out.len() * (pool.kernel[0] * pool.kernel[1]).div_ceil(4);
    let part = if alone(operations) { lines } else { lines.div_ceil(4 * threads()).max(1) };
    let (shared, arch) = (Shared::new(out), Arch::new());
    each(lines.div_ceil(part), operations, |task| {
        for line in task * part..lines.min((task + 1) * part) {
            #[allow(unsafe_code)]
            // SAFETY: a line of its own, inside of the output.
            let out = unsafe { std::slice::from_raw_parts_mut(shared.at(line * across * channels), across * channels) };
            let [top, rows] = pool.taps(0, line % down);
            let first = line / down * height + top;
            arch.dispatch(Run(
                #[inline(always)]
                || {
                    for (x, out) in out.chunks_exact_mut(channels).enumerate() {
                        let [left, columns] = pool.taps(1, x);
                        let mut begun = false;
                        for row in 0..rows {
                            for column in 0..columns {
                                let pixel = (first + row * pool.dilation[0]) * width + left + column * pool.dilation[1];
                                let pixel = &input[pixel * channels..][..channels];
                                if begun {
                                    out.iter_mut().zip(pixel).for_each(|(out, code)| *out = (*out).max(*code));
                                } else {
                                    out.copy_from_slice(pixel);
                                    begun = true;
                                }
                            }
                        }
                    }
                },
            ));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PoolKind;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pools_are_those_of_floats(
            (batch, channels) in (1usize..3, 1usize..70),
            input in [3usize..14, 3usize..14],
            kernel in [1usize..4, 1usize..4],
            stride in [1usize..3, 1usize..3],
            padding in [[0usize..2, 0usize..2], [0usize..2, 0usize..2]],
        ) {
            let fits = (0..2).all(|axis| padding[axis].iter().all(|pad| *pad < kernel[axis]));
            prop_assume!(fits);
            let output = [0, 1].map(|axis| (input[axis] + padding[axis][0] + padding[axis][1] - kernel[axis]) / stride[axis] + 1);
            let pool = Pool {
                kind: PoolKind::Max, batch, channels, input, output, kernel, stride, padding, dilation: [1; 2],
            };
            let codes: Vec<i8> = (0..batch * input[0] * input[1] * channels).map(|i| (i * 37 % 251) as u8 as i8).collect();
            let floats: Vec<f32> = codes.iter().map(|code| f32::from(*code)).collect();
            let len = batch * output[0] * output[1] * channels;
            let (mut found, mut expected) = (vec![0_i8; len], vec![0.0; len]);
            max_pool(&pool, &codes, &mut found).unwrap();
            let pixels = crate::Pixels { values: &floats, stride: channels };
            pool.forward(pixels, &mut expected, channels).unwrap();
            prop_assert!(found.iter().zip(&expected).all(|(found, expected)| f32::from(*found) == *expected));
        }
    }
}
