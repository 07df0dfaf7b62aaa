//! Each of Burn's layers with PyTorch's of the same kind.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig, ConvTranspose3dConfig,
};
use burn::nn::{
    BatchNormConfig, BiGruConfig, BiLstmConfig, BiRnnConfig, EmbeddingConfig, GroupNormConfig, GruConfig,
    InstanceNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, LinearLayout, Lstm, LstmConfig, PRelu,
    PReluConfig, RmsNormConfig, RnnConfig,
};
use burn::tensor::{Bool, Int};

use super::{check, ids};

/// A network whose only module is `m`.
#[derive(Module, Debug)]
struct One<M: Module> {
    m: M,
}

/// A test of one layer: its name in the fixture, how it is made, and what it computes.
macro_rules! layer {
    ($name:ident, $make:expr, $forward:expr) => {
        #[test]
        fn $name() {
            check(stringify!($name), |device| One { m: $make.init(device) }, $forward);
        }
    };
}

layer!(linear, LinearConfig::new(3, 5), |n: &One<_>, x: Tensor<2>| n.m.forward(x));
layer!(linear_plain, LinearConfig::new(4, 4).with_bias(false), |n: &One<_>, x: Tensor<2>| n.m.forward(x));
layer!(conv1d, Conv1dConfig::new(2, 4, 3), |n: &One<_>, x: Tensor<3>| n.m.forward(x));
layer!(conv2d, Conv2dConfig::new([2, 4], [3, 3]).with_groups(2), |n: &One<_>, x: Tensor<4>| n.m.forward(x));
layer!(conv3d, Conv3dConfig::new([1, 2], [2, 2, 2]).with_bias(false), |n: &One<_>, x: Tensor<5>| n.m.forward(x));
layer!(conv_transpose1d, ConvTranspose1dConfig::new([2, 3], 2), |n: &One<_>, x: Tensor<3>| n.m.forward(x));
layer!(conv_transpose2d, ConvTranspose2dConfig::new([4, 6], [2, 2]).with_groups(2), |n: &One<_>, x: Tensor<4>| n
    .m
    .forward(x));
layer!(conv_transpose3d, ConvTranspose3dConfig::new([2, 1], [2, 2, 2]), |n: &One<_>, x: Tensor<5>| n.m.forward(x));
layer!(embedding, EmbeddingConfig::new(6, 4), |n: &One<_>, x: Tensor<2>| n.m.forward(ids(x)));
layer!(batch_norm, BatchNormConfig::new(3), |n: &One<_>, x: Tensor<2>| n.m.forward(x));
layer!(batch_norm2d, BatchNormConfig::new(2), |n: &One<_>, x: Tensor<4>| n.m.forward(x));
layer!(layer_norm, LayerNormConfig::new(5), |n: &One<_>, x: Tensor<2>| n.m.forward(x));
layer!(layer_norm_plain, LayerNormConfig::new(5).with_bias(false), |n: &One<_>, x: Tensor<2>| n.m.forward(x));
layer!(group_norm, GroupNormConfig::new(2, 4), |n: &One<_>, x: Tensor<3>| n.m.forward(x));
layer!(instance_norm, InstanceNormConfig::new(3), |n: &One<_>, x: Tensor<3>| n.m.forward(x));
layer!(rms_norm, RmsNormConfig::new(5), |n: &One<_>, x: Tensor<2>| n.m.forward(x));
layer!(prelu, PReluConfig::new().with_num_parameters(3), |n: &One<_>, x: Tensor<3>| n.m.forward(x));
layer!(lstm, LstmConfig::new(3, 4, true), |n: &One<_>, x: Tensor<3>| n.m.forward(x, None).0);
layer!(lstm_plain, LstmConfig::new(3, 3, false), |n: &One<_>, x: Tensor<3>| n.m.forward(x, None).0);
layer!(bilstm, BiLstmConfig::new(3, 2, true), |n: &One<_>, x: Tensor<3>| n.m.forward(x, None).0);
layer!(gru, GruConfig::new(3, 4, true), |n: &One<_>, x: Tensor<3>| n.m.forward(x, None));
layer!(bigru, BiGruConfig::new(2, 3, true), |n: &One<_>, x: Tensor<3>| n.m.forward(x, None).0);
layer!(rnn, RnnConfig::new(3, 4, true), |n: &One<_>, x: Tensor<3>| n.m.forward(x, None).0);
layer!(birnn, BiRnnConfig::new(2, 3, true), |n: &One<_>, x: Tensor<3>| n.m.forward(x, None).0);

fn attend(n: &One<MultiHeadAttention>, x: Tensor<3>) -> Tensor<3> {
    n.m.forward(MhaInput::self_attn(x)).context
}

layer!(attention, MultiHeadAttentionConfig::new(6, 2).with_dropout(0.0), attend);
layer!(
    attention_plain,
    MultiHeadAttentionConfig::new(4, 2)
        .with_dropout(0.0)
        .with_query_bias(false)
        .with_key_bias(false)
        .with_value_bias(false)
        .with_output_bias(false),
    attend
);

#[test]
fn a_linear_layer_in_the_other_layout_is_the_same_linear_layer() {
    let make = LinearConfig::new(3, 5).with_layout(LinearLayout::Col);
    check("linear", |device| One { m: make.init(device) }, |n, x: Tensor<2>| n.m.forward(x));
    let make = LinearConfig::new(4, 4).with_bias(false).with_layout(LinearLayout::Col);
    check("linear_plain", |device| One { m: make.init(device) }, |n, x: Tensor<2>| n.m.forward(x));
}

/// A step of a head: variants leave no trace in names.
#[derive(Module, Debug)]
enum Step {
    Linear(Linear),
    PRelu(PRelu),
}

/// Lists, tuples, arrays, enums, options, and parameters of its own after its modules.
#[derive(Module, Debug)]
struct Nested {
    blocks: Vec<(Linear, LayerNorm)>,
    head: Vec<Step>,
    lstms: [Lstm; 2],
    r#match: Option<Linear>,
    nothing: Option<Linear>,
    scale: Param<Tensor<1>>,
    order: Param<Tensor<1, Int>>,
    mask: Param<Tensor<1, Bool>>,
}

#[test]
fn nested() {
    let make = |device: &burn::tensor::Device| {
        let block = || (LinearConfig::new(4, 4).init(device), LayerNormConfig::new(4).init(device));
        let lstm = || LstmConfig::new(3, 3, true).init(device);
        Nested {
            blocks: vec![block(), block()],
            head: vec![
                Step::Linear(LinearConfig::new(4, 3).init(device)),
                Step::PRelu(PReluConfig::new().init(device)),
                Step::Linear(LinearConfig::new(3, 3).with_bias(false).init(device)),
            ],
            lstms: [lstm(), lstm()],
            r#match: Some(LinearConfig::new(3, 2).init(device)),
            nothing: None,
            scale: Param::from_tensor(Tensor::zeros([4], device)),
            order: Param::initialized(Default::default(), Tensor::from_data([0, 0, 0, 0], device)),
            mask: Param::initialized(Default::default(), Tensor::from_data([false; 4], device)),
        }
    };
    let forward = |n: &Nested, x: Tensor<3>| {
        let scale = n.scale.val() * n.mask.val().float();
        let mut x = (x * scale.unsqueeze()).select(2, n.order.val());
        for (linear, norm) in &n.blocks {
            x = x.clone() + norm.forward(linear.forward(x));
        }
        for step in &n.head {
            x = match step {
                Step::Linear(linear) => linear.forward(x),
                Step::PRelu(prelu) => prelu.forward(x),
            };
        }
        for lstm in &n.lstms {
            x = lstm.forward(x, None).0;
        }
        n.r#match.as_ref().unwrap().forward(x)
    };
    check("nested", make, forward);
}
