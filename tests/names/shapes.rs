//! What is taken for one of Burn's layers and what is not, and what is said of layers that PyTorch lacks.

use burn::Tensor;
use burn::module::{Module, Param, RunningState};
use burn::nn::transformer::TransformerEncoderConfig;
use burn::nn::{Linear as BurnLinear, LinearConfig, Lstm, LstmConfig};
use burn::tensor::Device;
use rekindle::models::weights;

/// A linear layer of somebody's own, with PyTorch's layout.
#[derive(Module, Debug)]
struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// A linear layer of somebody's own with one more parameter.
mod gated {
    use super::*;

    #[derive(Module, Debug)]
    pub struct Linear {
        pub weight: Param<Tensor<2>>,
        pub gate: Param<Tensor<1>>,
    }
}

#[derive(Module, Debug)]
struct Own {
    plain: Linear,
    gated: gated::Linear,
    burn: BurnLinear,
    average: RunningState<Tensor<1>>,
    gamma: Param<Tensor<1>>,
}

fn names<M: Module>(module: &M) -> Vec<(String, Vec<usize>, bool)> {
    weights::entries(module).into_iter().map(|entry| (entry.name, entry.shape, entry.trained)).collect()
}

#[test]
fn structs_of_ones_own_are_left_alone() {
    let device = Device::flex();
    let vector = |size: usize| Param::from_tensor(Tensor::<1>::zeros([size], &device));
    let own = Own {
        plain: Linear { weight: Param::from_tensor(Tensor::zeros([5, 3], &device)), bias: vector(5) },
        gated: gated::Linear { weight: Param::from_tensor(Tensor::zeros([2, 3], &device)), gate: vector(3) },
        burn: LinearConfig::new(3, 5).init(&device),
        average: RunningState::new(Tensor::zeros([4], &device)),
        gamma: vector(2),
    };
    let entry = |name: &str, shape: &[usize], trained| (name.to_string(), shape.to_vec(), trained);
    assert_eq!(
        names(&own),
        [
            entry("gamma", &[2], true),
            entry("average", &[4], false),
            entry("plain.weight", &[5, 3], true),
            entry("plain.bias", &[5], true),
            entry("gated.weight", &[2, 3], true),
            entry("gated.gate", &[3], true),
            entry("burn.weight", &[5, 3], true),
            entry("burn.bias", &[5], true),
        ]
    );
    assert_eq!(weights::notes(&own), Vec::<String>::new());
    let dict = weights::to_state_dict(&own).unwrap();
    assert_eq!(dict.len(), 8);
}

#[derive(Module, Debug)]
struct Coupled {
    lstm: Lstm,
}

#[test]
fn layers_that_pytorch_lacks_are_named_and_keep_burns_names() {
    let device = Device::flex();
    let coupled = Coupled { lstm: LstmConfig::new(2, 3, true).with_input_forget(true).init(&device) };
    let notes = weights::notes(&coupled);
    assert_eq!(notes, ["'lstm' is a Lstm that has no form as torch.nn.LSTM: its parameters keep Burn's names"],);
    let names = names(&coupled);
    assert_eq!(names.len(), 12);
    assert_eq!(names[0], ("lstm.input_gate.input_transform.weight".to_string(), vec![3, 2], true));
    let encoder = TransformerEncoderConfig::new(4, 8, 2, 1).init(&device);
    assert!(weights::notes(&encoder)[0].contains("'layers.0' is a TransformerEncoderLayer"));
    let names: Vec<String> = weights::entries(&encoder).into_iter().map(|entry| entry.name).collect();
    assert_eq!(names[0], "layers.0.mha.in_proj_weight");
}

#[test]
fn frozen_names_freeze_every_part() {
    let lstm = Coupled { lstm: LstmConfig::new(2, 3, true).init(&Device::flex()) };
    let pattern = [regex::Regex::new("^lstm.weight_ih").unwrap()];
    let device = Device::flex().autodiff();
    let frozen = weights::freeze(lstm, &pattern).to_device(&device).train();
    let moves = |gate: &burn::nn::GateController| {
        let (input, hidden) = (&gate.input_transform.weight, &gate.hidden_transform.weight);
        (input.val().is_require_grad(), hidden.val().is_require_grad())
    };
    assert_eq!(moves(&frozen.lstm.input_gate), (false, true));
    assert_eq!(moves(&frozen.lstm.cell_gate), (false, true));
}
