//! torchvision's ResNet, ResNeXt and wide ResNet: residual blocks in four stages.
//!
//! Sources: He et al., *Deep Residual Learning for Image Recognition*, 2015; Xie et al., *Aggregated Residual Transformations*,
//! 2017; Zagoruyko and Komodakis, *Wide Residual Networks*, 2016.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{Initializer, Linear};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{ConvConfig, global_mean, max_pool};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_sizes};
use crate::kernels::Activation;
use crate::layers::{self, BatchNorm2d};

/// The kind of residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResNetBlock {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3 and 1×1 convolutions, with four times as many channels outside as inside.
    #[default]
    Bottleneck,
}

impl ResNetBlock {
    /// Channels that leave a block for each of its width.
    const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// The arguments of torchvision's ResNet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetConfig {
    /// The kind of block.
    pub block: ResNetBlock,
    /// Blocks of the four stages.
    pub layers: [usize; 4],
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Whether each block begins as the identity: the scale of its last normalisation is 0.
    pub zero_init_residual: bool,
    /// Groups of the 3×3 convolutions in bottlenecks.
    pub groups: usize,
    /// Channels of a group in the first stage's bottlenecks.
    pub width_per_group: usize,
    /// Whether the last three stages keep the size of the image and dilate their kernels.
    pub replace_stride_with_dilation: [bool; 3],
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self::resnet50()
    }
}

impl ResNetConfig {
    /// Blocks of a kind, so many a stage.
    pub fn new(block: ResNetBlock, layers: [usize; 4]) -> Self {
        Self {
            block,
            layers,
            classes: 1000,
            zero_init_residual: false,
            groups: 1,
            width_per_group: 64,
            replace_stride_with_dilation: [false; 3],
        }
    }

    /// 18 layers.
    pub fn resnet18() -> Self {
        Self::new(ResNetBlock::Basic, [2, 2, 2, 2])
    }

    /// 34 layers.
    pub fn resnet34() -> Self {
        Self::new(ResNetBlock::Basic, [3, 4, 6, 3])
    }

    /// 50 layers.
    pub fn resnet50() -> Self {
        Self::new(ResNetBlock::Bottleneck, [3, 4, 6, 3])
    }

    /// 101 layers.
    pub fn resnet101() -> Self {
        Self::new(ResNetBlock::Bottleneck, [3, 4, 23, 3])
    }

    /// 152 layers.
    pub fn resnet152() -> Self {
        Self::new(ResNetBlock::Bottleneck, [3, 8, 36, 3])
    }

    /// ResNeXt of 50 layers, 32 groups of 4 channels.
    pub fn resnext50_32x4d() -> Self {
        Self { groups: 32, width_per_group: 4, ..Self::resnet50() }
    }

    /// ResNeXt of 101 layers, 32 groups of 8 channels.
    pub fn resnext101_32x8d() -> Self {
        Self { groups: 32, width_per_group: 8, ..Self::resnet101() }
    }

    /// ResNeXt of 101 layers, 64 groups of 4 channels.
    pub fn resnext101_64x4d() -> Self {
        Self { groups: 64, width_per_group: 4, ..Self::resnet101() }
    }

    /// ResNet of 50 layers with bottlenecks twice as wide.
    pub fn wide_resnet50_2() -> Self {
        Self { width_per_group: 128, ..Self::resnet50() }
    }

    /// ResNet of 101 layers with bottlenecks twice as wide.
    pub fn wide_resnet101_2() -> Self {
        Self { width_per_group: 128, ..Self::resnet101() }
    }

    /// Whether basic blocks are asked for what they can't do.
    fn problem(&self) -> Option<Invalid> {
        let plain = self.groups == 1 && self.width_per_group == 64 && self.replace_stride_with_dilation == [false; 3];
        (self.block == ResNetBlock::Basic && !plain).then(|| {
            let problem = "basic blocks have neither groups nor another width nor dilation; use \"bottleneck\"";
            Invalid::new("block", problem)
        })
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> ResNet {
        let mut network = self.backbone(device);
        network.fc = Some(layers::linear_config(512 * self.block.expansion(), self.classes).init(device));
        network
    }

    /// The stages without a classifier.
    pub(super) fn backbone(&self, device: &Device) -> ResNet {
        let mut stages = Stages { config: self, channels: 64, dilation: 1 };
        let [second, third, fourth] = self.replace_stride_with_dilation;
        let mut stage = |at: usize, stride, dilate| stages.next(64 << at, self.layers[at], stride, dilate, device);
        let (layer1, layer2) = (stage(0, 1, false), stage(1, 2, second));
        let (layer3, layer4) = (stage(2, 2, third), stage(3, 2, fourth));
        ResNet {
            conv1: ConvConfig::new([3, 64], 7).stride(2).init(device),
            bn1: BatchNorm2d::new(64, device),
            maxpool: max_pool(3, 2, 1, false),
            layer1,
            layer2,
            layer3,
            layer4,
            fc: None,
        }
    }
}

/// Stages as they are built one after another.
struct Stages<'a> {
    config: &'a ResNetConfig,
    channels: usize,
    dilation: usize,
}

impl Stages<'_> {
    fn next(&mut self, width: usize, blocks: usize, stride: usize, dilate: bool, device: &Device) -> Vec<Block> {
        let before = self.dilation;
        let stride = if dilate {
            self.dilation *= stride;
            1
        } else {
            stride
        };
        let block = |channels, stride, dilation| match self.config.block {
            ResNetBlock::Basic => Block::Basic(BasicBlock::new([channels, width], stride, self.config, device)),
            ResNetBlock::Bottleneck => {
                Block::Bottleneck(Bottleneck::new([channels, width], stride, dilation, self.config, device))
            }
        };
        let first = block(self.channels, stride, before);
        let channels = width * self.config.block.expansion();
        let rest = (1..blocks).map(|_| block(channels, 1, self.dilation));
        let stage = std::iter::once(first).chain(rest).collect();
        self.channels = channels;
        stage
    }
}

/// torchvision's ResNet of any depth.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    maxpool: MaxPool2d,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
    fc: Option<Linear>,
}

impl ResNet {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`; without a classifier, to the mean of each channel.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let [_, x] = self.stages(x);
        let x = global_mean(x);
        match &self.fc {
            Some(fc) => layers::linear(fc, x),
            None => x,
        }
    }

    /// What leaves the third and the fourth stage.
    pub(super) fn stages(&self, x: Tensor<4>) -> [Tensor<4>; 2] {
        let x = layers::conv2d_norm(&self.conv1, &self.bn1, x, Activation::Relu);
        let x = layers::max_pool2d(&self.maxpool, x);
        let through = |stage: &[Block], x| stage.iter().fold(x, |x, block| block.forward(x));
        let x = through(&self.layer2, through(&self.layer1, x));
        let third = through(&self.layer3, x);
        let fourth = through(&self.layer4, third.clone());
        [third, fourth]
    }
}

impl Forward for ResNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for ResNetConfig {
    type Model = ResNet;
    const NAME: &'static str = "resnet";

    fn init(&self, device: &Device) -> ResNet {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(1)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes), ("groups", self.groups), ("width_per_group", self.width_per_group)])?;
        check_sizes(&self.layers.map(|blocks| ("layers", blocks)))?;
        self.problem().map_or(Ok(()), Err)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("fc.weight", 0)?, ..self.clone() })
    }
}

/// A residual block of either kind.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few of them, and a box would be one more hop to each layer"
)]
enum Block {
    Basic(BasicBlock),
    Bottleneck(Bottleneck),
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Basic(block) => block.forward(x),
            Self::Bottleneck(block) => block.forward(x),
        }
    }
}

/// A convolution and a normalisation on the way around a block that changes size or channels.
type Shortcut = (Conv2d, BatchNorm2d);

fn shortcut([from, to]: [usize; 2], stride: usize, device: &Device) -> Option<Shortcut> {
    let changes = stride != 1 || from != to;
    changes.then(|| (ConvConfig::new([from, to], 1).stride(stride).init(device), BatchNorm2d::new(to, device)))
}

fn around(shortcut: Option<&Shortcut>, x: Tensor<4>) -> Tensor<4> {
    match shortcut {
        Some((conv, norm)) => layers::conv2d_norm(conv, norm, x, Activation::None),
        None => x,
    }
}

/// The last normalisation of a block.
fn last_norm(channels: usize, config: &ResNetConfig, device: &Device) -> BatchNorm2d {
    let mut norm = BatchNorm2d::new(channels, device);
    if config.zero_init_residual {
        norm.weight = Initializer::Zeros.init([channels], device);
    }
    norm
}

#[derive(Module, Debug)]
struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    downsample: Option<Shortcut>,
}

impl BasicBlock {
    fn new([from, to]: [usize; 2], stride: usize, config: &ResNetConfig, device: &Device) -> Self {
        Self {
            conv1: ConvConfig::new([from, to], 3).stride(stride).init(device),
            bn1: BatchNorm2d::new(to, device),
            conv2: ConvConfig::new([to, to], 3).init(device),
            bn2: last_norm(to, config, device),
            downsample: shortcut([from, to], stride, device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = layers::conv2d_norm(&self.conv1, &self.bn1, x.clone(), Activation::Relu);
        let x = around(self.downsample.as_ref(), x);
        layers::conv2d_norm_added(&self.conv2, &self.bn2, y, x, Activation::Relu)
    }
}

#[derive(Module, Debug)]
struct Bottleneck {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    conv3: Conv2d,
    bn3: BatchNorm2d,
    downsample: Option<Shortcut>,
}

impl Bottleneck {
    fn new([from, width]: [usize; 2], stride: usize, dilation: usize, config: &ResNetConfig, device: &Device) -> Self {
        let inside = width * config.width_per_group / 64 * config.groups;
        let to = width * ResNetBlock::Bottleneck.expansion();
        let middle = ConvConfig::new([inside, inside], 3).stride(stride).groups(config.groups).dilation(dilation);
        Self {
            conv1: ConvConfig::new([from, inside], 1).init(device),
            bn1: BatchNorm2d::new(inside, device),
            conv2: middle.init(device),
            bn2: BatchNorm2d::new(inside, device),
            conv3: ConvConfig::new([inside, to], 1).init(device),
            bn3: last_norm(to, config, device),
            downsample: shortcut([from, to], stride, device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = layers::conv2d_norm(&self.conv1, &self.bn1, x.clone(), Activation::Relu);
        let y = layers::conv2d_norm(&self.conv2, &self.bn2, y, Activation::Relu);
        let x = around(self.downsample.as_ref(), x);
        layers::conv2d_norm_added(&self.conv3, &self.bn3, y, x, Activation::Relu)
    }
}
