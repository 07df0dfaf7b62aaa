//! Products of many pairs of matrices.

use crate::parallel::{Shared, each};
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
        let shared = Shared::new(output);
        let (before, beside, after) = (self.input_len(), self.weight_len(), self.output_len());
        each(count, 2 * count * self.batch * self.weight_len(), |at| {
            let (left, right) = (&left[at * before..][..before], &right[at * beside..][..beside]);
            #[allow(unsafe_code)]
            // SAFETY: a product of its own, inside of the output.
            let output = unsafe { std::slice::from_raw_parts_mut(shared.at(at * after), after) };
            self.forward(left, right, order, None, Activation::None, output).expect("sizes that were checked");
        });
        Ok(())
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
