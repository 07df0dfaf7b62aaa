//! The networks of `rekindle models` in candle, under the names of their state dicts.

use anyhow::{Result, bail};
use candle_core::{D, Tensor};
use candle_nn::ops::log_softmax;
use candle_nn::{Conv2d, Conv2dConfig, Dropout, Linear, Module, VarBuilder, conv2d, linear};

/// A network.
pub enum Network {
    TwoConv { convolutions: [Conv2d; 2], linears: [Linear; 3], pool: usize },
    Fashion { linears: Vec<Linear>, dropout: Dropout },
    Cifar { convolutions: [Conv2d; 3], linears: [Linear; 2], dropout: Dropout },
    SuperResolution { convolutions: [Conv2d; 4] },
    Vgg { features: Vec<Option<Conv2d>>, linears: [Linear; 3], dropout: Dropout },
}

/// Outputs of VGG16's convolutions; `None` is a pool.
const VGG16: &[Option<usize>] = &[
    Some(64),
    Some(64),
    None,
    Some(128),
    Some(128),
    None,
    Some(256),
    Some(256),
    Some(256),
    None,
    Some(512),
    Some(512),
    Some(512),
    None,
    Some(512),
    Some(512),
    Some(512),
    None,
];

fn conv(from: usize, to: usize, kernel: usize, padding: usize, names: VarBuilder<'_>) -> candle_core::Result<Conv2d> {
    conv2d(from, to, kernel, Conv2dConfig { padding, ..Conv2dConfig::default() }, names)
}

impl Network {
    /// The network of a name with rekindle's default configuration.
    pub fn new(name: &str, vars: &VarBuilder<'_>) -> Result<Self> {
        let at = |name: &str| vars.pp(name);
        Ok(match name {
            "the_model_class" => Self::TwoConv {
                convolutions: [conv(4, 7, 6, 0, at("conv"))?, conv(7, 17, 6, 0, at("conv1"))?],
                linears: [linear(425, 120, at("fc1"))?, linear(120, 84, at("fc2"))?, linear(84, 10, at("fc3"))?],
                pool: 3,
            },
            "net" => Self::TwoConv {
                convolutions: [conv(5, 8, 7, 0, at("conv"))?, conv(8, 18, 7, 0, at("conv1"))?],
                linears: [linear(882, 140, at("fc"))?, linear(140, 86, at("fc1"))?, linear(86, 12, at("fc2"))?],
                pool: 4,
            },
            "fashion_classifier" => {
                let sizes = [784, 514, 258, 130, 66, 12];
                let names = ["fc", "fc1", "fc2", "fc3", "fc4"];
                let linears = names.iter().zip(sizes.windows(2)).map(|(name, size)| linear(size[0], size[1], at(name)));
                Self::Fashion { linears: linears.collect::<candle_core::Result<_>>()?, dropout: Dropout::new(0.2) }
            }
            "cifar_cnn" => Self::Cifar {
                convolutions: [conv(3, 66, 7, 1, at("conv"))?, conv(66, 66, 7, 3, at("conv1"))?, conv(66, 130, 7, 3, at("conv2"))?],
                linears: [linear(130, 1000, at("fc"))?, linear(1000, 10, at("fc1"))?],
                dropout: Dropout::new(0.2),
            },
            "super_resolution" => Self::SuperResolution {
                convolutions: [
                    conv(1, 64, 5, 2, at("conv1"))?,
                    conv(64, 64, 3, 1, at("conv2"))?,
                    conv(64, 32, 3, 1, at("conv3"))?,
                    conv(32, 9, 3, 1, at("conv4"))?,
                ],
            },
            "vgg16" => {
                let (mut features, mut from, mut place) = (Vec::new(), 3, 0);
                for to in VGG16 {
                    features.push(match to {
                        Some(to) => Some(conv(from, *to, 3, 1, at(&format!("features.{place}")))?),
                        None => None,
                    });
                    place += if to.is_some() { 2 } else { 1 };
                    from = to.unwrap_or(from);
                }
                let linears = [
                    linear(25088, 4096, at("classifier.0"))?,
                    linear(4096, 4096, at("classifier.3"))?,
                    linear(4096, 1000, at("classifier.6"))?,
                ];
                Self::Vgg { features, linears, dropout: Dropout::new(0.5) }
            }
            other => bail!("there is no network '{other}'"),
        })
    }

    /// Channels, height and width of the usual input.
    pub fn input(name: &str) -> [usize; 3] {
        match name {
            "the_model_class" => [4, 65, 65],
            "net" => [5, 142, 142],
            "fashion_classifier" => [1, 28, 28],
            "cifar_cnn" => [3, 32, 32],
            "super_resolution" => [1, 224, 224],
            _ => [3, 224, 224],
        }
    }

    /// Scores, or images for super-resolution.
    pub fn forward(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        match self {
            Self::TwoConv { convolutions, linears: [a, b, c], pool } => {
                let mut x = x.clone();
                for convolution in convolutions {
                    x = convolution.forward(&x)?.relu()?.max_pool2d(*pool)?;
                }
                let x = a.forward(&x.flatten_from(1)?)?.relu()?;
                c.forward(&b.forward(&x)?.relu()?)
            }
            Self::Fashion { linears, dropout } => {
                let (last, first) = linears.split_last().expect("five layers");
                let mut x = x.flatten_from(1)?;
                for layer in first {
                    x = dropout.forward(&layer.forward(&x)?.relu()?, train)?;
                }
                log_softmax(&last.forward(&x)?, D::Minus1)
            }
            Self::Cifar { convolutions: [a, b, c], linears: [d, e], dropout } => {
                let x = dropout.forward(&a.forward(x)?.relu()?, train)?.max_pool2d_with_stride(5, 4)?;
                let x = b.forward(&x)?.relu()?.max_pool2d_with_stride(5, 4)?;
                let x = c.forward(&x)?.relu()?.mean(3)?.mean(2)?;
                e.forward(&dropout.forward(&d.forward(&x)?.relu()?, train)?)
            }
            Self::SuperResolution { convolutions: [a, b, c, d] } => {
                let x = c.forward(&b.forward(&a.forward(x)?.relu()?)?.relu()?)?.relu()?;
                candle_nn::ops::pixel_shuffle(&d.forward(&x)?, 3)
            }
            Self::Vgg { features, linears: [a, b, c], dropout } => {
                let mut x = x.clone();
                for layer in features {
                    x = match layer {
                        Some(convolution) => convolution.forward(&x)?.relu()?,
                        None => x.max_pool2d(2)?,
                    };
                }
                let x = dropout.forward(&a.forward(&x.flatten_from(1)?)?.relu()?, train)?;
                c.forward(&dropout.forward(&b.forward(&x)?.relu()?, train)?)
            }
        }
    }
}
