//! A model read from a file: names resolved to numbers, nodes in an order in which they can run.

mod attributes;
mod build;
mod domain;
mod frees;
mod functions;
mod model;
mod open;
mod order;
mod ports;
mod scope;
pub mod weight;

pub use attributes::{Attribute, Attributes};
pub use model::{Body, Control, FUSED, Graph, Model, Node};
pub use ports::{Kind, Port, ValueId};
pub use weight::Weight;

pub use crate::axis::Axis;
