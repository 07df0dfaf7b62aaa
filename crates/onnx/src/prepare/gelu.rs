//! GELU written out in single operators becomes one.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::draft::{Draft, input};
use crate::graph::{Attributes, Body, Node, ValueId};
use crate::ops;

/// The version of the operator set that has `Gelu`.
const VERSION: i64 = 20;

/// `x * (1 + erf(x / sqrt(2))) * 0.5`, the three factors in any order.
pub(super) fn merge(draft: &mut Draft, at: usize) -> Option<()> {
    let last = draft.standard(at, &["Mul"]).filter(|last| last.version >= 7)?;
    let (a, b) = (input(last, 0)?, input(last, 1)?);
    let factors = |id: ValueId| -> Option<[ValueId; 2]> {
        let product = draft.standard(draft.only_for_one(id)?, &["Mul"])?;
        Some([input(product, 0)?, input(product, 1)?])
    };
    let triples = [factors(a).map(|[c, d]| [c, d, b]), factors(b).map(|[c, d]| [c, d, a])];
    let x = triples.into_iter().flatten().find_map(|factors| argument(draft, factors))?;
    let name = last.name.clone();
    let last = draft.take(at)?;
    // What came before is left out when nothing else uses it.
    let (operator, attributes) = ("Gelu".to_string(), Attributes::default());
    let mut node = Node { name, operator, version: VERSION, inputs: vec![Some(x)], attributes, ..last };
    node.body = Body::Operator(ops::find("", "Gelu")?.parse(&node.raw()).ok()?);
    draft.put(at, node);
    Some(())
}

/// The value `x` if the factors are `x`, a half, and `1 + erf(x / sqrt(2))`.
fn argument(draft: &Draft, factors: [ValueId; 3]) -> Option<ValueId> {
    [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].into_iter().find_map(|order| {
        let [x, half, sum] = order.map(|place| factors[place]);
        let fits = draft.weight(Some(x)).is_none()
            && draft.number(Some(half)) == Some(0.5)
            && inside_erf(draft, sum) == Some(x);
        fits.then_some(x)
    })
}

/// The value `x` if a value is `1 + erf(x / sqrt(2))`.
fn inside_erf(draft: &Draft, id: ValueId) -> Option<ValueId> {
    let add = draft.standard(draft.only_for_one(id)?, &["Add"])?;
    let (erf, one) = draft.with_constant(add)?;
    let erf = draft.standard(draft.only_for_one(erf)?, &["Erf"])?;
    let scaled = draft.standard(draft.only_for_one(input(erf, 0)?)?, &["Div", "Mul"])?;
    let (x, scale) = draft.with_constant(scaled)?;
    let wanted = if scaled.operator == "Mul" { FRAC_1_SQRT_2 } else { SQRT_2 };
    let near = (draft.number(Some(scale))? - wanted).abs() < 1e-6;
    let in_order = scaled.operator == "Mul" || input(scaled, 0) == Some(x);
    (near && in_order && draft.number(Some(one))? == 1.0).then_some(x)
}
