//! A network of one's own with everything that the built-in ones have.
//!
//! ```text
//! cargo run --release -- train recipe.toml
//! cargo run --release -- resume checkpoints/columns
//! cargo run --release -- export checkpoints/columns columns.onnx
//! cargo run --release                                              the same as a library
//! ```

use std::process::ExitCode;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, GroupNorm, GroupNormConfig, Linear, LinearConfig,
};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};
use rekindle::prelude::*;

/// Two convolutions with normalization, a learned vector for each column, then a linear layer.
#[derive(Module, Debug)]
struct Columns {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: GroupNorm,
    position: Embedding,
    fc: Linear,
}

/// Side of the images, and of the grid after both convolutions (stride 2 each).
const SIDE: usize = 28;
const GRID: usize = 7;

impl Forward for Columns {
    type Input = Tensor<4>; // [batch, 1, 28, 28]
    type Output = Tensor<2>; // [batch, classes]

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let device = x.device();
        let x = relu(self.norm1.forward(self.conv1.forward(x)));
        let x = relu(self.norm2.forward(self.conv2.forward(x))); // [batch, channels, 7, 7]
        // A vector of all channels for each column, added to every row.
        let columns: Vec<i64> = (0..GRID as i64).collect();
        let ids = Tensor::<1, Int>::from_data(columns.as_slice(), &device).unsqueeze::<2>();
        let position: Tensor<3> = self.position.forward(ids); // [1, 7, channels]
        let x = x + position.swap_dims(1, 2).unsqueeze_dim::<4>(2);
        self.fc.forward(x.flatten(1, 3))
    }
}

/// The arguments of its constructor: the keys of a recipe's `[model]`.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(default, deny_unknown_fields)]
struct ColumnsConfig {
    channels: usize,
    groups: usize,
    classes: usize,
}

impl Default for ColumnsConfig {
    fn default() -> Self {
        Self { channels: 16, groups: 4, classes: 10 }
    }
}

impl ModelConfig for ColumnsConfig {
    type Model = Columns;
    const NAME: &'static str = "columns";

    fn init(&self, device: &Device) -> Columns {
        let conv = |channels| {
            Conv2dConfig::new(channels, [3, 3])
                .with_stride([2, 2])
                .with_padding(burn::nn::PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        Columns {
            conv1: conv([1, self.channels]),
            norm1: BatchNormConfig::new(self.channels).init(device),
            conv2: conv([self.channels, self.channels]),
            norm2: GroupNormConfig::new(self.groups, self.channels).init(device),
            position: EmbeddingConfig::new(GRID, self.channels).init(device),
            fc: LinearConfig::new(self.channels * GRID * GRID, self.classes).init(device),
        }
    }

    fn io(&self) -> Io {
        Io::classifier([1, SIDE, SIDE], self.classes)
    }

    fn check(&self) -> Result<(), Invalid> {
        if self.groups > 0 && self.channels.is_multiple_of(self.groups) {
            Ok(())
        } else {
            Err(Invalid::new("groups", format!("must divide channels = {}, found {}", self.channels, self.groups)))
        }
    }
}

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        // The whole command line: train, resume, eval, predict, export, inspect, … for `model.name = "columns"`.
        return rekindle::cli::run_with(Registry::built_in().with::<ColumnsConfig>());
    }
    match as_a_library() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The same without a command line and without TOML.
fn as_a_library() -> Result<(), Box<dyn std::error::Error>> {
    rekindle::init()?;
    let run = Training::of(ColumnsConfig::default())
        .data(DataConfig { batch_size: 50, ..DatasetName::FASHION_MNIST_SAMPLE.into() })
        .optimizer(OptimizerConfig::new("adam", &Settings::new().with("lr", 1e-3))?)
        .epochs(2)
        .device(DeviceName::FLEX)
        .observe(|event: &Event| {
            if let Event::EpochEnded(report) = event {
                println!("epoch {} of {}: {:?}", report.epoch, report.epochs, report.metrics);
            }
        })
        .run("runs/columns")?;
    let model = run.best::<ColumnsConfig>(&Device::flex())?;
    model.save("columns.pth")?; // torch.load(…, weights_only=True), load_state_dict(strict=True)
    for finding in model.export_onnx("columns.onnx")?.findings {
        println!("{} at batch size {}: {}", finding.engine, finding.batch, finding.difference);
    }
    Ok(())
}
