//! What a program with a network of its own needs: `use rekindle::prelude::*;`.

pub use serde::{Deserialize, Serialize};

pub use crate::checkpoint::{Run, Which};
pub use crate::data::{DataConfig, DatasetName, Limit};
pub use crate::device::DeviceName;
pub use crate::models::{
    CifarCnnConfig, Forward, Input, Invalid, Io, Item, Maps, ModelConfig, ModelError, Output, Registry, Scores, Shapes,
    VggConfig, VggDepth, entry,
};
pub use crate::optim::{LossConfig, OptimizerConfig, SchedulerConfig, Settings};
pub use crate::tasks::{Classification, ImageToImage, Task};
pub use crate::train::{EpochReport, Event, Observer, Trained, Training};
