//! Trees of values in formats that know only named tensors and text.
//!
//! The tensors go under their path names; everything else (which dictionary, integer keys, plain values, which tensors share
//! memory) goes into one text, the *structure*, which [`unflatten`] rebuilds the tree from. Simple files have none: what is no
//! more than a dictionary of plain tensors looks as other programs write it.
//!
//! The structure is JSON: `{"version": 1, "storages": [numbers of elements], "nodes": […], "root": node}`. A node is null, a truth value, an
//! integer, a text or a list, which stand for themselves, or an object whose first key says what it is: `float`, `int`,
//! `complex`, `bytes`, `tuple`, `set`, `dict`, `OrderedDict`, `tensor`, `sparse_coo`, `sparse_compressed`, `quantized`, `meta`,
//! `array`, `dtype`, `device`, `global`, `object`. Dictionaries are lists of keys and values in turn. A tensor that shares its
//! storage says which, at what offset and with what strides. Every twentieth level stands apart in `nodes`, after those that it
//! contains, and is referred to as `{"node": index}`: JSON readers stop at about a hundred levels.

mod flatten;
mod rebuild;
mod scatter;

pub(crate) use flatten::{Flat, flatten};
pub(crate) use rebuild::unflatten;

/// The metadata key that the structure is stored under.
pub(crate) const KEY: &str = "rekindle";
/// The version of the structure.
const VERSION: i64 = 1;
/// How deep values may nest.
const MAX_DEPTH: usize = 500;
/// The number of levels after which a node stands apart.
const APART: usize = 20;
/// How many times larger than what is seen of it a shared storage may be to be rebuilt.
const SPARSENESS: u64 = 16;

/// Whether a shared storage of some elements may be rebuilt from tensors of so many elements in all.
fn rebuildable(elements: u64, seen: u64) -> bool {
    elements / SPARSENESS <= seen.saturating_add(64)
}
