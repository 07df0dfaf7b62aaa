//! A network of one's own: any Burn module goes to PyTorch's files and back.

use std::path::Path;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use rekindle::models::import::{ImportOptions, import};
use rekindle::models::weights;
use rekindle::state::{SaveOptions, save, show_shape};

/// The names of the fields are the names in the state dict.
#[derive(Module, Debug)]
struct Small {
    fc1: Linear,
    fc2: Linear,
}

impl Small {
    /// No backend is named: the device says which one computes.
    fn new(device: &Device) -> Self {
        Self { fc1: LinearConfig::new(8, 16).init(device), fc2: LinearConfig::new(16, 3).init(device) }
    }

    /// `[batch, 8]` to `[batch, 3]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(relu(self.fc1.forward(x)))
    }
}

pub fn run(scratch: &Path) -> crate::Answer {
    let device = Device::flex();
    let model = Small::new(&device);
    let path = scratch.join("small.safetensors");
    let state = weights::to_state_dict(&model)?;
    for (name, tensor) in state.tensors() {
        println!("{name}\t{}", show_shape(tensor.shape()));
    }
    save(&path, &state.into(), &SaveOptions::default())?;

    let (loaded, _) = import(Small::new(&device), &path, &ImportOptions::default())?;
    let x = Tensor::<2>::ones([2, 8], &device);
    let (a, b) = (model.forward(x.clone()).into_data(), loaded.forward(x).into_data());
    assert_eq!(a, b);
    println!("the loaded model answers the same: {:?}", a.iter::<f32>().take(3).collect::<Vec<_>>());
    Ok(())
}
