//! Sums and products up to each element.

use super::{around, one};
use crate::array::axis;
use crate::infer::Rule;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("CumSum", &[11, 14], (2, 2)).attributes(&["exclusive", "reverse"]).rule(Rule::Same),
        |node| cumulate(node, (0.0, |a, b| a + b), (0, i128::wrapping_add)),
    ),
    Entry::new(Schema::new("CumProd", &[26], (2, 2)).attributes(&["exclusive", "reverse"]).rule(Rule::Same), |node| {
        cumulate(node, (1.0, |a, b| a * b), (1, i128::wrapping_mul))
    }),
];

/// A first value, and how the next joins in.
type Fold<T> = (T, fn(T, T) -> T);

fn cumulate(node: &RawNode, floats: Fold<f64>, ints: Fold<i128>) -> Parsed {
    let exclusive = node.attributes.flag("exclusive", false)?;
    let reverse = node.attributes.flag("reverse", false)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let axis = axis(inputs.array(1)?.int()?, x.rank())?;
        let walk = Walk { around: around(x.shape(), axis), exclusive, reverse };
        let shape = x.shape().to_vec();
        one(if x.dtype().is_float() {
            Array::of_floats(x.dtype(), shape, walk.run(x.floats()?, floats))?
        } else if x.dtype().is_int() {
            Array::of_ints(x.dtype(), shape, walk.run(x.ints()?, ints))?
        } else {
            return Err(Error::invalid(format!("expected numbers, found {}", x.dtype())));
        })
    })
}

struct Walk {
    around: (usize, usize, usize),
    /// Each element is left out of its own result.
    exclusive: bool,
    /// From the end.
    reverse: bool,
}

impl Walk {
    fn run<T: Copy>(&self, mut values: Vec<T>, (first, join): Fold<T>) -> Vec<T> {
        let (outer, size, inner) = self.around;
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let mut total = first;
            for step in 0..size {
                let at = (o * size + if self.reverse { size - 1 - step } else { step }) * inner + i;
                let next = join(total, values[at]);
                values[at] = if self.exclusive { total } else { next };
                total = next;
            }
        }
        values
    }
}
