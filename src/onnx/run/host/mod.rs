//! Operators of a CPU backend by kernels of our own, on values as they lie in memory.
//!
//! Each node is looked at once: attributes are read, and an operator is made that runs it on 32-bit floats. What it does not know (rare
//! attributes, other types, shapes that don't fit) is left to Burn's operations or the interpreter's own, which say what is wrong.

mod buffers;
mod choose;
mod conv;
mod elementwise;
mod floats;
mod gather;
mod latest;
mod linear;
mod normalize;
mod permute;
mod pool;
mod recurrent;

pub use buffers::{Buffer, Buffers};
pub(super) use floats::Floats;
use rekindle_onnx::{FUSED, Node, Result};

use super::Outputs;
use super::call::Call;

/// An operator with its attributes. It answers `None`, and takes no input, where something else has to run the node.
pub type HostOp = Box<dyn Fn(&mut Call<'_, '_>) -> Outputs + Send + Sync>;

/// Operators of one kind: that of a node, if it is among them and its attributes are known.
type Family = fn(&Node) -> Result<Option<HostOp>>;

const FAMILIES: &[Family] = &[
    linear::plan,
    elementwise::plan,
    normalize::plan,
    conv::plan,
    pool::plan,
    permute::plan,
    gather::plan,
    choose::plan,
    recurrent::plan,
];

/// The operator of a node. Attributes that cannot be read are for others to tell of.
pub(super) fn plan(node: &Node) -> Option<HostOp> {
    if !matches!(node.domain.as_str(), "" | FUSED) {
        return None;
    }
    FAMILIES.iter().find_map(|family| family(node).ok().flatten())
}
