//! Data sets, transforms and the ordered loader.
//!
//! A recipe's `[data]` section is a [`DataConfig`]; [`open`] gives the [`ImageDataset`] it names
//! and [`DataConfig::loader`] a [`Loader`] of [`Batch`]es. Images are bytes until the last
//! step, and everything random is a function of the seed, the epoch and the image's number, so
//! that a resumed run sees exactly what an uninterrupted one sees.

mod batch;
mod blob;
mod cache;
pub mod catalog;
pub mod cifar;
mod config;
mod dataset;
pub mod download;
mod embedded;
mod error;
pub mod fetch;
mod folder;
pub mod idx;
pub mod image_file;
mod loader;
pub(crate) mod mask;
mod memory;
mod prefetch;
pub mod prepare;
mod sample;
mod segmentation_folder;
pub mod sets;
mod super_resolution;
pub mod transform;

pub use batch::{Batch, BatchTarget};
pub use cache::cache_dir;
pub use config::{DataConfig, Limit, open};
pub use dataset::{ImageDataset, Packed};
pub use embedded::{SAMPLE, sample};
pub use error::DataError;
pub use fetch::fetch;
pub use folder::FolderDataset;
pub use loader::{Batches, Loader, LoaderConfig, Position, Share};
pub use memory::MemoryDataset;
pub use sample::{IGNORED, Image, Sample, Shape, Split, Target};
pub use segmentation_folder::SegmentationFolder;
pub use sets::DatasetName;
pub use super_resolution::SuperResolution;
