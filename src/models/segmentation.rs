//! torchvision's networks that give each pixel a class: FCN, DeepLab v3 and LR-ASPP on ResNet and MobileNet v3.
//!
//! Sources: Long et al., *Fully Convolutional Networks for Semantic Segmentation*, 2015; Chen et al., *Rethinking Atrous
//! Convolution*, 2017; Howard et al., *Searching for MobileNetV3*, 2019.

use burn::module::{Flag, Module, Param};
use burn::nn::conv::Conv2d;
use burn::tensor::activation::sigmoid;
use burn::tensor::module::{adaptive_avg_pool2d, interpolate};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{Activation, ConvConfig, ConvInit, Layer, conv_norm, named_module, run};
use super::infer::Shapes;
use super::mobilenet_v3::{Feature, MobileNetV3Config};
use super::resnet::{ResNet, ResNetConfig};
use super::{Forward, Invalid, Io, Item, Maps, ModelConfig, check_sizes};
use crate::layers::{self, BatchNorm2d};
use crate::tasks::Segmentation;

/// How features become maps of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentationHead {
    /// Two convolutions.
    #[default]
    Fcn,
    /// Dilated convolutions side by side.
    Deeplabv3,
    /// A pooled scale, and features of an early stage.
    Lraspp,
}

/// What gives the features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentationBackbone {
    /// ResNet-50, dilated in its last two stages.
    #[default]
    Resnet50,
    /// ResNet-101, dilated in its last two stages.
    Resnet101,
    /// The larger MobileNet v3, dilated in its last stage.
    MobilenetV3Large,
}

/// The arguments of torchvision's segmentation networks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationConfig {
    /// How features become maps of classes.
    pub head: SegmentationHead,
    /// What gives the features.
    pub backbone: SegmentationBackbone,
    /// Number of classes, the background among them (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Whether an auxiliary head is trained on features of an earlier stage.
    pub aux_loss: bool,
}

impl Default for SegmentationConfig {
    fn default() -> Self {
        Self::fcn_resnet50()
    }
}

/// Weight of the auxiliary head's loss, as torchvision's reference training takes it.
const AUXILIARY: f32 = 0.5;

/// Channels of DeepLab's head.
const ASPP: usize = 256;

/// Dilations of DeepLab's convolutions side by side.
const RATES: [usize; 3] = [12, 24, 36];

/// Channels of LR-ASPP's head.
const LRASPP: usize = 128;

impl SegmentationConfig {
    fn new(head: SegmentationHead, backbone: SegmentationBackbone) -> Self {
        Self { head, backbone, classes: 21, aux_loss: false }
    }

    /// FCN on ResNet-50.
    pub fn fcn_resnet50() -> Self {
        Self::new(SegmentationHead::Fcn, SegmentationBackbone::Resnet50)
    }

    /// FCN on ResNet-101.
    pub fn fcn_resnet101() -> Self {
        Self::new(SegmentationHead::Fcn, SegmentationBackbone::Resnet101)
    }

    /// DeepLab v3 on ResNet-50.
    pub fn deeplabv3_resnet50() -> Self {
        Self::new(SegmentationHead::Deeplabv3, SegmentationBackbone::Resnet50)
    }

    /// DeepLab v3 on ResNet-101.
    pub fn deeplabv3_resnet101() -> Self {
        Self::new(SegmentationHead::Deeplabv3, SegmentationBackbone::Resnet101)
    }

    /// DeepLab v3 on the larger MobileNet v3.
    pub fn deeplabv3_mobilenet_v3_large() -> Self {
        Self::new(SegmentationHead::Deeplabv3, SegmentationBackbone::MobilenetV3Large)
    }

    /// LR-ASPP on the larger MobileNet v3.
    pub fn lraspp_mobilenet_v3_large() -> Self {
        Self::new(SegmentationHead::Lraspp, SegmentationBackbone::MobilenetV3Large)
    }

    /// Whether parts are combined that torchvision does not combine.
    fn problem(&self) -> Option<Invalid> {
        if self.head == SegmentationHead::Lraspp && self.aux_loss {
            return Some(Invalid::new("aux_loss", "LR-ASPP has no auxiliary head"));
        }
        None
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> Segmenter {
        let (backbone, [early, last], taken) = match self.backbone {
            SegmentationBackbone::Resnet50 => residual(ResNetConfig::resnet50(), device),
            SegmentationBackbone::Resnet101 => residual(ResNetConfig::resnet101(), device),
            SegmentationBackbone::MobilenetV3Large => {
                let config = MobileNetV3Config { dilated: true, ..MobileNetV3Config::mobilenet_v3_large() };
                let (features, channels) = config.features(device);
                // torchvision takes the fourth stage from the end.
                let stages = config.stages();
                let early = stages[stages.len() - 4];
                let last = channels[channels.len() - 1];
                (Backbone::MobileNet(features), [channels[early], last], early)
            }
        };
        let classifier = match self.head {
            SegmentationHead::Fcn => Classifier::Fcn(fcn_head(last, self.classes, device)),
            SegmentationHead::Deeplabv3 => Classifier::DeepLab(DeepLabHead::new(last, self.classes, device)),
            SegmentationHead::Lraspp => Classifier::Lraspp(LrasppHead::new([early, last], self.classes, device)),
        };
        let aux_classifier = self.aux_loss.then(|| fcn_head(early, self.classes, device));
        Segmenter { backbone, classifier, aux_classifier, training: Param::from_bool(true), early: taken }
    }
}

fn residual(config: ResNetConfig, device: &Device) -> (Backbone, [usize; 2], usize) {
    let config = ResNetConfig { replace_stride_with_dilation: [false, true, true], ..config };
    (Backbone::ResNet(config.backbone(device)), [1024, 2048], 0)
}

/// torchvision's segmentation network of any head and backbone.
#[derive(Module, Debug)]
pub struct Segmenter {
    backbone: Backbone,
    classifier: Classifier,
    aux_classifier: Option<Vec<Layer>>,
    training: Param<Flag>,
    /// Which of MobileNet's layers gives the early features.
    early: usize,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a network")]
enum Backbone {
    ResNet(ResNet),
    MobileNet(Vec<Feature>),
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a network")]
enum Classifier {
    Fcn(Vec<Layer>),
    DeepLab(DeepLabHead),
    Lraspp(LrasppHead),
}

impl Segmenter {
    /// `[batch, 3, height, width]` to scores of each pixel `[batch, classes, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Maps {
        let trains = self.training.is_enabled() && x.device().is_autodiff();
        let [_, _, height, width] = x.dims();
        let [early, last] = match &self.backbone {
            Backbone::ResNet(network) => network.stages(x),
            Backbone::MobileNet(features) => {
                let through = |features: &[Feature], x| features.iter().fold(x, |x, feature| feature.forward(x));
                let early = through(&features[..=self.early], x);
                [early.clone(), through(&features[self.early + 1..], early)]
            }
        };
        let auxiliary = self.aux_classifier.as_ref().filter(|_| trains).map(|head| run(head, early.clone()));
        let maps = match &self.classifier {
            Classifier::Fcn(head) => run(head, last),
            Classifier::DeepLab(head) => head.forward(last),
            Classifier::Lraspp(head) => head.forward(early, last),
        };
        let whole = |maps| resize(maps, [height, width]);
        Maps { maps: whole(maps), auxiliary: auxiliary.into_iter().map(|maps| (AUXILIARY, whole(maps))).collect() }
    }
}

impl Forward for Segmenter {
    type Input = Tensor<4>;
    type Output = Maps;

    fn forward(&self, x: Tensor<4>) -> Maps {
        self.forward(x)
    }
}

impl ModelConfig for SegmentationConfig {
    type Model = Segmenter;
    const NAME: &'static str = "segmentation";

    fn init(&self, device: &Device) -> Segmenter {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::new(Item::Image([3, 520, 520]), Segmentation::new(self.classes)).with_sides_from(32)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes)])?;
        self.problem().map_or(Ok(()), Err)
    }

    fn forms(&self) -> Vec<Self> {
        // LR-ASPP has no auxiliary head.
        let other = Self { aux_loss: !self.aux_loss, ..self.clone() };
        if self.head == SegmentationHead::Lraspp { Vec::new() } else { vec![other] }
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        let last = match self.head {
            SegmentationHead::Fcn | SegmentationHead::Deeplabv3 => "classifier.4.weight",
            SegmentationHead::Lraspp => "classifier.low_classifier.weight",
        };
        Some(Self { classes: shapes.axis(last, 0)?, ..self.clone() })
    }
}

/// Another size by bilinear interpolation, corners not aligned.
fn resize(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let options = InterpolateOptions::new(InterpolateMode::Bilinear).with_align_corners(false);
    interpolate(x, options.with_output_size(size))
}

fn conv(channels: [usize; 2], kernel: usize) -> ConvConfig {
    ConvConfig::new(channels, kernel).drawn(ConvInit::Layer)
}

fn relu() -> Layer {
    Layer::Activation(Activation::Relu)
}

/// A convolution, a normalisation and a ReLU.
fn block(config: &ConvConfig, to: usize, device: &Device) -> Vec<Layer> {
    vec![Layer::Conv(config.init(device)), Layer::Norm(BatchNorm2d::new(to, device)), relu()]
}

/// torchvision's `FCNHead`.
fn fcn_head(from: usize, classes: usize, device: &Device) -> Vec<Layer> {
    let inside = from / 4;
    let mut head = block(&conv([from, inside], 3), inside, device);
    head.extend([Layer::dropout(0.1), Layer::Conv(conv([inside, classes], 1).biased().init(device))]);
    head
}

/// torchvision's `DeepLabHead`.
#[derive(Debug, Clone)]
struct DeepLabHead {
    pyramid: Pyramid,
    conv: Conv2d,
    norm: BatchNorm2d,
    last: Conv2d,
}

named_module!(DeepLabHead { pyramid => "0", conv => "1", norm => "2", last => "4" });

impl DeepLabHead {
    fn new(from: usize, classes: usize, device: &Device) -> Self {
        Self {
            pyramid: Pyramid::new(from, device),
            conv: conv([ASPP, ASPP], 3).init(device),
            norm: BatchNorm2d::new(ASPP, device),
            last: conv([ASPP, classes], 1).biased().init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = conv_norm(&self.conv, Some(&self.norm), Activation::Relu, self.pyramid.forward(x));
        layers::conv2d(&self.last, x)
    }
}

/// torchvision's `ASPP`.
#[derive(Module, Debug)]
struct Pyramid {
    convs: Vec<Branch>,
    project: Vec<Layer>,
}

#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few of them, and a box would be one more hop to each layer"
)]
enum Branch {
    Conv(Vec<Layer>),
    Pooled(PooledBranch),
}

/// torchvision's `ASPPPooling`.
#[derive(Debug, Clone)]
struct PooledBranch {
    conv: Conv2d,
    norm: BatchNorm2d,
}

named_module!(PooledBranch { conv => "1", norm => "2" });

impl Pyramid {
    fn new(from: usize, device: &Device) -> Self {
        let channels = [from, ASPP];
        let mut convs = vec![Branch::Conv(block(&conv(channels, 1), ASPP, device))];
        convs.extend(RATES.map(|rate| Branch::Conv(block(&conv(channels, 3).dilation(rate), ASPP, device))));
        let (conv_pooled, norm) = (conv(channels, 1).init(device), BatchNorm2d::new(ASPP, device));
        convs.push(Branch::Pooled(PooledBranch { conv: conv_pooled, norm }));
        let mut project = block(&conv([convs.len() * ASPP, ASPP], 1), ASPP, device);
        project.push(Layer::dropout(0.5));
        Self { convs, project }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let branches = self.convs.iter().map(|branch| match branch {
            Branch::Conv(layers) => run(layers, x.clone()),
            Branch::Pooled(PooledBranch { conv, norm }) => {
                let pooled = adaptive_avg_pool2d(x.clone(), [1, 1]);
                resize(conv_norm(conv, Some(norm), Activation::Relu, pooled), [height, width])
            }
        });
        run(&self.project, Tensor::cat(branches.collect(), 1))
    }
}

/// torchvision's `LRASPPHead`.
#[derive(Module, Debug)]
struct LrasppHead {
    cbr: Vec<Layer>,
    scale: Scale,
    low_classifier: Conv2d,
    high_classifier: Conv2d,
}

#[derive(Debug, Clone)]
struct Scale {
    conv: Conv2d,
}

named_module!(Scale { conv => "1" });

impl LrasppHead {
    fn new([low, high]: [usize; 2], classes: usize, device: &Device) -> Self {
        Self {
            cbr: block(&conv([high, LRASPP], 1), LRASPP, device),
            scale: Scale { conv: conv([high, LRASPP], 1).init(device) },
            low_classifier: conv([low, classes], 1).biased().init(device),
            high_classifier: conv([LRASPP, classes], 1).biased().init(device),
        }
    }

    fn forward(&self, low: Tensor<4>, high: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = low.dims();
        let scale = sigmoid(layers::conv2d(&self.scale.conv, adaptive_avg_pool2d(high.clone(), [1, 1])));
        let x = resize(run(&self.cbr, high) * scale, [height, width]);
        layers::conv2d(&self.low_classifier, low) + layers::conv2d(&self.high_classifier, x)
    }
}
