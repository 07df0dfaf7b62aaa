//! Networks: the traits that make one, those that are built in, and the registry that knows them by name.
//!
//! A network is a Burn module whose parameter names and order are exactly those of the PyTorch module. It implements [`Forward`],
//! its configuration [`ModelConfig`]; a row of the [`Registry`] gives it a name on the command line. [`Network`] holds a network of
//! any type, [`Architecture`] a configuration of any type. [`weights`] moves a network's state in and out as a
//! [`rekindle_state::StateDict`].

mod config;
mod error;
mod network;
mod registry;
mod summary;
mod values;

pub mod blocks;
pub mod graph;
pub mod import;
pub mod imported;
pub mod infer;
pub mod published;
mod recognise;
pub(crate) mod record;
pub mod tree;
pub mod weights;

mod alexnet;
mod cifar_cnn;
mod convnext;
mod densenet;
mod efficientnet;
mod fashion_classifier;
mod googlenet;
mod inception;
mod maxvit;
mod mnasnet;
mod mobilenet_v2;
mod mobilenet_v3;
mod regnet;
mod resnet;
mod segmentation;
mod shufflenet;
mod squeezenet;
mod super_resolution;
mod swin;
mod two_conv;
mod vgg;
mod vit;
mod zoo;

pub use alexnet::{AlexNet, AlexNetConfig};
pub use cifar_cnn::{CifarCnn, CifarCnnConfig};
pub use config::{Architecture, Forward, Io, ModelConfig};
pub use convnext::{ConvNext, ConvNextConfig};
pub use densenet::{DenseNet, DenseNetConfig};
pub use efficientnet::{EfficientNet, EfficientNetConfig, EfficientNetStage};
pub use error::{Invalid, ModelError, check_probability, check_sizes};
pub use fashion_classifier::{FashionClassifier, FashionClassifierConfig};
pub use googlenet::{GoogLeNet, GoogLeNetConfig};
pub use graph::GraphConfig;
pub use imported::Imported;
pub use inception::{Inception, InceptionConfig};
pub use infer::Shapes;
pub use maxvit::{MaxVit, MaxVitConfig};
pub use mnasnet::{MnasNet, MnasNetConfig};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use mobilenet_v3::{MobileNetV3, MobileNetV3Config, MobileNetV3Size};
pub use network::{Network, class};
pub use recognise::{Recognised, recognise, unwrapped};
pub use registry::{Entry, FILES, FileKind, Registry, entry, open};
pub use regnet::{RegNet, RegNetConfig};
pub use resnet::{ResNet, ResNetBlock, ResNetConfig};
pub use segmentation::{SegmentationBackbone, SegmentationConfig, SegmentationHead, Segmenter};
pub use shufflenet::{ShuffleNet, ShuffleNetConfig};
pub use squeezenet::{SqueezeNet, SqueezeNetConfig, SqueezeNetVersion};
pub use summary::{Layer, Summary, grouped};
pub use super_resolution::{SuperResolution, SuperResolutionConfig};
pub use swin::{Swin, SwinConfig};
pub use two_conv::{Net, NetConfig, TheModelClass, TheModelClassConfig};
pub use values::{Auxiliary, FromInput, Input, IntoOutputs, Item, Maps, Output, Outputs, Scores};
pub use vgg::{Vgg, VggConfig, VggDepth};
pub use vit::{Vit, VitConfig};

/// The rows of the networks that are built in, in the order of `rekindle models`.
fn built_in() -> Vec<Entry> {
    let mut rows = vec![
        entry(
            "the_model_class",
            "two convolutions, three linear layers; the tutorial's first classifier",
            TheModelClassConfig::default,
        ),
        entry("net", "two convolutions, three linear layers; the tutorial's checkpoint example", NetConfig::default),
        entry(
            "fashion_classifier",
            "five linear layers with dropout for Fashion-MNIST; gives log-probabilities",
            FashionClassifierConfig::default,
        ),
        entry("cifar_cnn", "three convolutions with dropout for CIFAR-10", CifarCnnConfig::default),
        entry(
            "super_resolution",
            "ESPCN: four convolutions and a pixel shuffle enlarge a luma image",
            SuperResolutionConfig::default,
        ),
    ];
    rows.extend(zoo::rows());
    rows
}
