//! Data-parallel training: several processes (ranks) train one network, each on its part of every batch.
//!
//! A [`Group`] is what ranks have in common: it sums gradients in rank order, so that every rank holds the same bits and the same
//! number of ranks gives the same bits again. How bytes travel is a [`Transport`]: MPI between processes (feature `mpi`), or
//! memory between threads of one process ([`threads`]), which is what tests run on.

mod agreement;
mod error;
mod group;
mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
mod scope;
mod sums;
pub mod threads;
mod transport;

pub use error::GroupError;
pub use group::{Group, Pending};
pub use launcher::{Launch, connect, launched};
pub use scope::{Scope, current, within};
pub use transport::{Link, Transport};
