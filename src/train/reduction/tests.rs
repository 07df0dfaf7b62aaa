use burn::nn::Linear;
use burn::train::Learner;

use super::*;
use crate::data::{Batch, BatchTarget};
use crate::distributed::threads;
use crate::layers;
use crate::prelude::{Deserialize, Forward, Io, ModelConfig, Registry, Serialize};
use crate::train::{Plan, Position, StepInput, recipe};

/// Layers with more values than a bucket has: one is used once, one twice, one by an operation of Burn's too; and one that gets a
/// second use with small batches alone.
#[derive(Module, Debug)]
struct Uses {
    first: Linear,
    once: Linear,
    twice: Linear,
    elsewhere: Linear,
    sometimes: Linear,
}

impl Forward for Uses {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let small = x.dims()[0] < 3;
        let x = layers::linear(&self.first, x.flatten(1, 3));
        let x = layers::linear(&self.twice, layers::linear_relu(&self.twice, layers::linear(&self.once, x)));
        let x = layers::linear(&self.elsewhere, x) + self.elsewhere.weight.val().mean().reshape([1, 1]);
        let x = layers::linear(&self.sometimes, x);
        if small { x + self.sometimes.weight.val().mean().reshape([1, 1]) } else { x }
    }
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
struct UsesConfig {}

impl ModelConfig for UsesConfig {
    type Model = Uses;
    const NAME: &'static str = "uses";

    fn init(&self, device: &Device) -> Uses {
        let layer = |inputs| layers::linear_config(inputs, 520).init(device);
        Uses { first: layer(784), once: layer(520), twice: layer(520), elsewhere: layer(520), sometimes: layer(520) }
    }

    fn io(&self) -> Io {
        Io::classifier([1, 28, 28], 520)
    }
}

/// A learner, and batches of any size for it.
fn learner() -> (Learner<Network>, impl Fn(usize) -> StepInput) {
    let text = "name = 'uses'\nmodel = { name = 'uses' }\n[data]\nname = 'fashion-mnist-sample'\n[optimizer]\nname = 'sgd'\nlr = 0.1";
    let registry = Registry::built_in().with::<UsesConfig>();
    let plan = Plan::new(&registry, recipe::parse(&registry, text, &[], "test").unwrap(), "test").unwrap();
    let device = Device::flex().autodiff();
    let network = plan.architecture.build(&Device::flex());
    let learner = plan.learner(network, None, Position::default(), 1, &device).unwrap();
    let input = move |items: usize| {
        let values = (0..items * 784).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
        let input = Tensor::<4>::from_data(TensorData::new(values, [items, 1, 28, 28]), &device);
        let target = BatchTarget::Classes(Tensor::zeros([items], &device));
        StepInput { batch: Batch { input: input.into(), target, len: items }, objective: plan.objective.clone() }
    };
    (learner, input)
}

/// All gradients, one after another.
fn values(network: &Network, grads: &GradientsParams) -> Vec<f32> {
    held(network, grads).unwrap().into_iter().flat_map(|held| held.unwrap().values().into_owned()).collect()
}

#[test]
fn what_travels_early_is_what_the_backward_pass_gives_in_the_end() {
    let ranks = threads::run(2, |group| {
        let group = Arc::new(group);
        let (learner, input) = learner();
        let network = learner.model();
        let mut reduction = Reduction::new(Arc::clone(&group), None);
        let before = learner.train_step(input(3)).grads;
        // Rank 1 has no batch the second time; the last batch is used otherwise than those before.
        let steps = [(4, false, 0, false), (4, group.rank() == 1, 3, false), (2, false, 3, true), (4, false, 0, false)];
        for (items, idle, early, stale) in steps {
            let own = (!idle).then(|| {
                let step = || Ok(learner.train_step(input(items)));
                let (own, item) = reduction.last_batch(&network, &before, 0.25, step).unwrap();
                item.reported().unwrap();
                assert_eq!((own.sent.len(), own.stale), (early, stale), "{items} items");
                own
            });
            let expected = match idle {
                false => {
                    let last = values(&network, &learner.train_step(input(items)).grads);
                    let before = values(&network, &before);
                    before.iter().zip(last).map(|(before, last)| before + last * 0.25).collect()
                }
                true => vec![0.0; lens(&network).iter().sum()],
            };
            let sent = reduction.send(&network, own);
            let stale = group.any(sent.is_stale()).unwrap();
            let sent = if stale { reduction.send_again(&network, sent) } else { sent };
            let sums = values(&network, &reduction.receive(&network, sent).unwrap());
            let expected = group.wait(group.sum(expected)).unwrap();
            assert!(sums.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{items} items");
        }
        reduction.early.map(|early| early.len())
    });
    assert_eq!(ranks, [Some(0), Some(0)]);
}

#[test]
fn parameters_that_are_used_once_travel_early() {
    let plans = threads::run(2, |group| {
        let (learner, input) = learner();
        let network = learner.model();
        let mut reduction = Reduction::new(Arc::new(group), None);
        let (own, _) =
            reduction.last_batch(&network, &GradientsParams::new(), 1.0, || Ok(learner.train_step(input(4)))).unwrap();
        let sent = reduction.send(&network, Some(own));
        reduction.receive(&network, sent).unwrap();
        reduction.early.unwrap().to_vec()
    });
    // Weights of the last layer, the second, the first. The one before the last has another use; biases are no bucket together.
    let expected = [vec![8], vec![2], vec![0]];
    assert!(plans.iter().all(|plan| *plan == expected), "{plans:?}");
}
