//! `report.html`: what a training did, as one page that needs no network.
//!
//! [`gather`] reads a run into a [`RunData`], [`page`] makes the page of one or several.

mod chart;
mod compare;
mod data;
mod evaluate;
mod gather;
mod masks;
mod page;
mod samples;

pub use chart::{bytes, number, seconds};
pub use data::{CheckpointData, ClassesData, Epoch, Evaluation, ImagesData, LayerRow, Layers, Mistake, Pair, RunData};
pub use gather::{gather, gather_live, layers_of};
pub use masks::{Masked, MasksData};
pub use page::{flatten, live_page, page, timestamp};
