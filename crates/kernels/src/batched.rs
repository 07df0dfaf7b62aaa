//! Products of many pairs of matrices.

use rayon::prelude::*;

use crate::parallel::alone;
use crate::{Activation, Linear, ShapeError, WeightOrder};

impl Linear {
    /// The product of each matrix `[batch, inputs]` of `left` with its matrix of `right`; there are `count` of each.
    ///
    /// # Errors
    /// When a size is wrong or a slice has another length than it says.
    pub fn each(
        &self,
        count: usize,
        left: &[f32],
        right: &[f32],
        order: WeightOrder,
        output: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.check()?;
        let lengths =
            [("the left side", self.input_len(), left.len()), ("the right side", self.weight_len(), right.len())];
        for (what, each, found) in lengths.into_iter().chain([("the output", self.output_len(), output.len())]) {
            let expected = each.checked_mul(count).ok_or(ShapeError::Overflow)?;
            if expected != found {
                return Err(ShapeError::Length { what, expected, found });
            }
        }
        if self.batch == 0 || count == 0 {
            return Ok(());
        }
        let pairs = left.par_chunks_exact(self.input_len()).zip(right.par_chunks_exact(self.weight_len()));
        let product = |((left, right), output): ((&[f32], &[f32]), &mut [f32])| {
            self.forward(left, right, order, None, Activation::None, output)
        };
        if alone(2 * count * self.batch * self.weight_len()) {
            let pairs = left.chunks_exact(self.input_len()).zip(right.chunks_exact(self.weight_len()));
            return pairs.zip(output.chunks_exact_mut(self.output_len())).try_for_each(product);
        }
        pairs.zip(output.par_chunks_exact_mut(self.output_len())).try_for_each(product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_product_is_that_of_its_pair() {
        for (count, batch, inputs, outputs) in
            [(1, 1, 1, 1), (3, 2, 5, 4), (8, 128, 32, 128), (8, 128, 128, 32), (40, 7, 19, 33), (0, 2, 3, 4)]
        {
            for order in [WeightOrder::InputsFirst, WeightOrder::OutputsFirst] {
                let layer = Linear { batch, inputs, outputs };
                let values =
                    |count: usize, step: f32| -> Vec<f32> { (0..count).map(|i| (i as f32 * step).sin()).collect() };
                let (left, right) = (values(count * layer.input_len(), 0.7), values(count * layer.weight_len(), 0.3));
                let mut found = vec![f32::NAN; count * layer.output_len()];
                layer.each(count, &left, &right, order, &mut found).unwrap();
                let mut expected = vec![0.0; layer.output_len()];
                for item in 0..count {
                    let (left, right) = (&left[item * layer.input_len()..], &right[item * layer.weight_len()..]);
                    let (left, right) = (&left[..layer.input_len()], &right[..layer.weight_len()]);
                    layer.forward(left, right, order, None, Activation::None, &mut expected).unwrap();
                    assert_eq!(
                        found[item * layer.output_len()..][..layer.output_len()],
                        expected,
                        "{layer:?} {order:?}, pair {item}"
                    );
                }
            }
        }
        let layer = Linear { batch: 1, inputs: 2, outputs: 3 };
        let error = layer.each(2, &[0.0; 4], &[0.0; 11], WeightOrder::InputsFirst, &mut [0.0; 6]).unwrap_err();
        assert_eq!(error.to_string(), "the right side has 11 values, expected 12");
    }
}
