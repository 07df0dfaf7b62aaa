//! rekindle carries a model through its whole life on [Burn](https://burn.dev): define, train, save, checkpoint, resume, load,
//! convert, export, verify. It speaks PyTorch's and ONNX's files in both directions.
//!
//! # A network of one's own
//!
//! A network is a Burn module that implements [`models::Forward`], with a serde configuration that implements
//! [`models::ModelConfig`]. That is all: it then has everything that the built-in networks have.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, conv::{Conv2d, Conv2dConfig}};
//! use burn::tensor::{Device, Tensor, activation::relu};
//! use rekindle::prelude::*;
//!
//! #[derive(Module, Debug)]
//! struct Small {
//!     conv: Conv2d,
//!     norm: BatchNorm,
//!     fc: Linear,
//! }
//!
//! impl Forward for Small {
//!     type Input = Tensor<4>; // [batch, 1, 28, 28]
//!     type Output = Tensor<2>; // [batch, classes]
//!
//!     fn forward(&self, x: Tensor<4>) -> Tensor<2> {
//!         self.fc.forward(relu(self.norm.forward(self.conv.forward(x))).flatten(1, 3))
//!     }
//! }
//!
//! #[derive(Serialize, Deserialize, Clone, Debug)]
//! #[serde(crate = "rekindle::serde", default, deny_unknown_fields)]
//! struct SmallConfig {
//!     channels: usize,
//!     classes: usize,
//! }
//!
//! impl Default for SmallConfig {
//!     fn default() -> Self {
//!         Self { channels: 2, classes: 10 }
//!     }
//! }
//!
//! impl ModelConfig for SmallConfig {
//!     type Model = Small;
//!     const NAME: &'static str = "small";
//!
//!     fn init(&self, device: &Device) -> Small {
//!         Small {
//!             conv: Conv2dConfig::new([1, self.channels], [3, 3]).with_stride([3, 3]).init(device),
//!             norm: BatchNormConfig::new(self.channels).init(device),
//!             fc: LinearConfig::new(self.channels * 9 * 9, self.classes).init(device),
//!         }
//!     }
//!
//!     fn io(&self) -> Io {
//!         Io::classifier([1, 28, 28], self.classes)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // First in `main`, before anything starts a thread.
//! rekindle::init()?;
//! let folder = std::env::temp_dir().join(format!("rekindle-doc-{}", std::process::id()));
//! # let _ = std::fs::remove_dir_all(&folder);
//! let data = DataConfig { limit: Some(Limit { train: Some(64), test: Some(32) }), ..DatasetName::FASHION_MNIST_SAMPLE.into() };
//! let run = Training::of(SmallConfig::default()).data(data).epochs(1).device(DeviceName::FLEX).run(folder.join("small"))?;
//! let model = run.best::<SmallConfig>(&Device::flex())?;
//! model.save(folder.join("small.pth"))?; // torch.load(weights_only=True), strict
//! let again = Trained::load(SmallConfig::default(), folder.join("small.pth"), &Device::flex())?.0;
//! assert_eq!(again.state_dict()?.len(), model.state_dict()?.len());
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok(())
//! # }
//! ```
//!
//! The whole command line for it (`train`, `resume`, `eval`, `predict`, `export`, … with `model.name = "small"` in a recipe) is one
//! more line: [`cli::run_with`]`(Registry::built_in().with::<SmallConfig>())`.
//!
//! # Where things are
//!
//! - [`models`]: the traits, the built-in networks, the [`models::Registry`]; weights of any file into any module
//!   ([`models::import`]) and out again under PyTorch's names ([`models::weights`])
//! - [`tasks`]: what a network is for: loss, metric, which data fits
//! - [`data`]: data sets, transforms, and a loader whose order is a function of seed and epoch
//! - [`optim`]: optimizers and schedules with PyTorch's rules, their state to and from PyTorch's files
//! - [`train`]: recipes, the [`train::Training`] builder, sessions that resume to the bit, events
//! - [`checkpoint`]: run directories
//! - [`distributed`]: several processes that train together
//! - [`onnx`]: graphs run on any device, networks written as graphs and verified
//! - [`state`]: model files of any format without Burn
//! - [`cli`]: the command line; the only module that prints

pub mod check;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod device;
pub mod distributed;
pub mod error;
pub mod kernels;
mod keys;
pub mod layers;
pub mod models;
pub mod onnx;
pub mod optim;
pub mod prelude;
pub mod random;
pub mod report;
#[cfg(feature = "serve")]
pub mod serve;
pub mod tasks;
pub mod train;

mod environment;

pub use environment::{InitError, init};
pub use rekindle_state as state;
// For configurations of one's own, in crates that do not depend on serde themselves.
pub use serde;

/// The version of Burn whose records checkpoints hold.
pub const BURN_VERSION: &str = "0.22.1";
