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
mod transpose;
mod values;

pub mod graph;
pub mod import;
pub mod imported;
pub mod infer;
pub mod tree;
pub mod weights;

mod cifar_cnn;
mod fashion_classifier;
mod super_resolution;
mod two_conv;
mod vgg;

pub use cifar_cnn::{CifarCnn, CifarCnnConfig};
pub use config::{Architecture, Forward, Io, ModelConfig};
pub use error::{Invalid, ModelError, check_probability, check_sizes};
pub use fashion_classifier::{FashionClassifier, FashionClassifierConfig};
pub use graph::GraphConfig;
pub use imported::Imported;
pub use infer::Shapes;
pub use network::{Network, class};
pub use registry::{Entry, FILES, FileKind, Registry, entry, open};
pub use summary::{Layer, Summary, grouped};
pub use super_resolution::{SuperResolution, SuperResolutionConfig};
pub use two_conv::{Net, NetConfig, TheModelClass, TheModelClassConfig};
pub use values::{Auxiliary, FromInput, Input, IntoOutputs, Item, Maps, Output, Outputs, Scores};
pub use vgg::{Vgg, VggConfig, VggDepth};

/// The rows of the networks that are built in, in the order of `rekindle models`.
fn built_in() -> Vec<Entry> {
    use VggDepth::{Eleven, Nineteen, Sixteen, Thirteen};
    vec![
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
        entry("vgg11", "torchvision's VGG with 8 convolutions", || VggConfig::of(Eleven, false)),
        entry("vgg11_bn", "torchvision's VGG with 8 convolutions and batch normalisation", || {
            VggConfig::of(Eleven, true)
        }),
        entry("vgg13", "torchvision's VGG with 10 convolutions", || VggConfig::of(Thirteen, false)),
        entry("vgg13_bn", "torchvision's VGG with 10 convolutions and batch normalisation", || {
            VggConfig::of(Thirteen, true)
        }),
        entry("vgg16", "torchvision's VGG with 13 convolutions", || VggConfig::of(Sixteen, false)),
        entry("vgg16_bn", "torchvision's VGG with 13 convolutions and batch normalisation", || {
            VggConfig::of(Sixteen, true)
        }),
        entry("vgg19", "torchvision's VGG with 16 convolutions", || VggConfig::of(Nineteen, false)),
        entry("vgg19_bn", "torchvision's VGG with 16 convolutions and batch normalisation", || {
            VggConfig::of(Nineteen, true)
        }),
    ]
}
