//! Python pickles, read as data: the machine builds a graph of what a pickle describes, the tree turns it into values.
//!
//! Nothing is imported or called. Every class and function that Python's unpickler would have looked up is recorded.

mod atoms;
mod containers;
mod graph;
mod machine;
mod objects;
mod stack;
mod text;
mod tree;

pub(crate) use graph::{Graph, Item, Node};
pub(crate) use machine::read;
pub(crate) use tree::{Loader, build};
