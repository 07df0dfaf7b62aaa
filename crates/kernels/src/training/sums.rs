//! Sums of many values, as sums side by side: short chains of additions, that vectors can make.

/// Sums that run side by side.
pub(super) const WIDTH: usize = 32;

/// The sum of all sums.
#[inline(always)]
pub(super) fn folded(mut sums: [f32; WIDTH]) -> f32 {
    let mut width = WIDTH;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sums[i] += sums[i + width];
        }
    }
    sums[0]
}

/// Adds up a function of each value.
#[inline(always)]
pub(super) fn sum(values: &[f32], function: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; WIDTH];
    let (rows, rest) = values.as_chunks::<WIDTH>();
    for row in rows {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += function(*value);
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += function(*value);
    }
    folded(sums)
}

/// Adds up the values of one slice, and their products with a function of those of another.
#[inline(always)]
pub(super) fn sums_beside(values: &[f32], others: &[f32], function: impl Fn(f32) -> f32) -> [f32; 2] {
    let (mut plain, mut products) = ([0.0f32; WIDTH], [0.0f32; WIDTH]);
    let ((rows, rest), (other_rows, other_rest)) = (values.as_chunks::<WIDTH>(), others.as_chunks::<WIDTH>());
    for (row, others) in rows.iter().zip(other_rows) {
        for i in 0..WIDTH {
            plain[i] += row[i];
            products[i] += row[i] * function(others[i]);
        }
    }
    for (i, (value, other)) in rest.iter().zip(other_rest).enumerate() {
        plain[i] += value;
        products[i] += value * function(*other);
    }
    [folded(plain), folded(products)]
}
