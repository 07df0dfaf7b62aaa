//! candle on networks and PyTorch's files.

use std::path::Path;

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor, pickle};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, SGD, VarBuilder, VarMap, loss};

use crate::candle_models::Network;
use crate::tract_work::image;
use crate::turns;

const CPU: Device = Device::Cpu;

fn images(shape: [usize; 4]) -> Result<Tensor> {
    let values: Vec<f32> = (0..shape.iter().product()).map(image).collect();
    Ok(Tensor::from_vec(values, &shape[..], &CPU)?)
}

fn input(model: &str, batch: usize, side: usize) -> Result<Tensor> {
    let [channels, height, width] = Network::input(model);
    let [height, width] = if side > 0 { [side, side] } else { [height, width] };
    images([batch, channels, height, width])
}

/// A forward pass of fresh weights; a side of 0 is the usual one.
pub fn forward(model: &str, batch: usize, side: usize, once: bool) -> Result<()> {
    let map = VarMap::new();
    let network = Network::new(model, &VarBuilder::from_varmap(&map, DType::F32, &CPU))?;
    let input = input(model, batch, side)?;
    turns::take(once, || {
        network.forward(&input.detach(), false)?;
        Ok(())
    })
}

/// A step of training. candle has no Adam apart from AdamW: without decay the two are the same.
pub fn train(model: &str, optimizer: &str, batch: usize, once: bool) -> Result<()> {
    let map = VarMap::new();
    let network = Network::new(model, &VarBuilder::from_varmap(&map, DType::F32, &CPU))?;
    let input = input(model, batch, 0)?;
    let output = network.forward(&input, false)?;
    let target = match output.dims() {
        [_, classes] => Tensor::from_vec((0..batch).map(|i| (i % classes) as u32).collect(), batch, &CPU)?,
        shape => images([shape[0], shape[1], shape[2], shape[3]])?,
    };
    let loss_of = |output: &Tensor| match (output.rank(), model) {
        (4, _) => loss::mse(output, &target),
        (_, "fashion_classifier") => loss::nll(output, &target),
        _ => loss::cross_entropy(output, &target),
    };
    match optimizer {
        "sgd" => {
            let mut optimizer = SGD::new(map.all_vars(), 1e-3)?;
            turns::take(once, || Ok(optimizer.backward_step(&loss_of(&network.forward(&input, true)?)?)?))
        }
        "adam" => {
            let mut optimizer = AdamW::new(map.all_vars(), ParamsAdamW { lr: 1e-4, weight_decay: 0.0, ..ParamsAdamW::default() })?;
            turns::take(once, || Ok(optimizer.backward_step(&loss_of(&network.forward(&input, true)?)?)?))
        }
        other => bail!("there is no optimizer '{other}'"),
    }
}

/// VGG16 with the weights of a PyTorch file.
pub fn load(file: &Path, once: bool) -> Result<()> {
    turns::take(once, || {
        Network::new("vgg16", &VarBuilder::from_pth(file, DType::F32, &CPU)?)?;
        Ok(())
    })
}

/// Names and shapes of a PyTorch file.
pub fn list(file: &Path, once: bool) -> Result<()> {
    turns::take(once, || {
        if pickle::read_pth_tensor_info(file, false, None)?.is_empty() {
            bail!("{}: no tensors", file.display());
        }
        Ok(())
    })
}

/// One prediction of super-resolution with the weights of a PyTorch file.
pub fn predict(file: &Path) -> Result<()> {
    let network = Network::new("super_resolution", &VarBuilder::from_pth(file, DType::F32, &CPU)?)?;
    println!("{}", network.forward(&input("super_resolution", 1, 0)?, false)?.sum_all()?.to_scalar::<f32>()?);
    Ok(())
}
