//! Operators with what follows them in a graph: a bias added to a product, and an activation function.
//!
//! No file has these: they are made when a graph is prepared for inference.

use super::fused_activation::{FusedActivation, activated};
use super::{Inputs, binary, conv, matmul, one};
use crate::graph::{FUSED, Node};
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{Result, Value};

/// Operators with a bias (input 2) and an activation (`activation`, `activation_params`).
pub(crate) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::of(FUSED, "Conv", &[1], (2, 3)).weights(), |node| {
        parsed(Fused { operator: conv::Conv::parse(node)?, activation: activation(node)? })
    }),
    Entry::new(Schema::of(FUSED, "Gemm", &[1], (2, 3)).weights(), |node| {
        parsed(Fused { operator: matmul::Gemm::parse(node)?, activation: activation(node)? })
    }),
    Entry::new(Schema::of(FUSED, "MatMul", &[1], (2, 3)).weights(), |node| {
        parsed(Fused { operator: BiasedMatMul, activation: activation(node)? })
    }),
];

/// An operator and the function applied to what it gives.
#[derive(Debug, Clone)]
pub struct Fused<O> {
    /// The operator.
    pub operator: O,
    /// The function.
    pub activation: Option<FusedActivation>,
}

/// `MatMul` with a bias as its third input.
#[derive(Debug, Clone, Copy)]
pub struct BiasedMatMul;

/// The operator of a node, alone or with a function after it.
pub fn merged<O: Operator>(node: &Node) -> Option<(&O, Option<FusedActivation>)> {
    match node.get::<Fused<O>>() {
        Some(fused) => Some((&fused.operator, fused.activation)),
        None => Some((node.get::<O>()?, None)),
    }
}

impl<O: Operator> Operator for Fused<O> {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let mut values = self.operator.eval(inputs)?;
        values.truncate(1);
        values.into_iter().map(|value| Ok(activated(self.activation, value.into_array()?)?.into())).collect()
    }
}

impl Operator for BiasedMatMul {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let product = matmul::matmul(inputs.array(0)?, inputs.array(1)?)?;
        one(match inputs.optional(2)? {
            Some(bias) => binary::add(&product, bias)?,
            None => product,
        })
    }
}

fn activation(node: &RawNode) -> Result<Option<FusedActivation>> {
    FusedActivation::parse(node, node.attributes.floats("activation_params")?.unwrap_or_default())
}
