//! Losses and their gradients against PyTorch's.

use burn::Tensor;
use burn::tensor::{Int, TensorData};
use rekindle::optim::{Compute, LossConfig};
use serde_json::Value as Json;

use super::support::*;

#[test]
fn losses_and_gradients_are_those_of_torch() {
    let fixture = fixture("optim/losses.json");
    let tensor = |json: &Json| TensorData::new(floats(json), shape(json));
    for (device_name, device) in devices() {
        for name in ["cross-entropy", "nll", "mse", "l1", "smooth-l1"] {
            let loss: LossConfig = name.parse().unwrap();
            let (value, grad) = match loss.compute() {
                Compute::Scores(compute) | Compute::LogProbabilities(compute) => {
                    let scores = Tensor::<2>::from_data(tensor(&fixture["scores"]), &device).require_grad();
                    let classes: Vec<i64> =
                        numbers(&fixture["classes"]).into_iter().map(|class| class as i64).collect();
                    let classes =
                        Tensor::<1, Int>::from_data(TensorData::new(classes.clone(), [classes.len()]), &device);
                    let loss = compute(scores.clone(), classes);
                    (loss.clone(), scores.grad(&loss.backward()).unwrap().into_data())
                }
                Compute::Values(compute) => {
                    let values = Tensor::<3>::from_data(tensor(&fixture["values"]), &device).require_grad();
                    let targets = Tensor::<3>::from_data(tensor(&fixture["targets"]), &device);
                    let loss = compute(values.clone().unsqueeze(), targets.unsqueeze());
                    (loss.clone(), values.grad(&loss.backward()).unwrap().into_data())
                }
            };
            let expected = &fixture[name];
            let gap = distance(&[value.into_scalar()], &[expected["loss"].as_f64().unwrap() as f32]);
            assert!(gap < 1e-6, "{name} on {device_name}: differs by {gap}");
            let grad: Vec<f32> = grad.iter().collect();
            let gap = distance(&grad, &floats(&expected["grad"]));
            assert!(gap < 1e-5, "gradient of {name} on {device_name}: differs by {gap}");
        }
    }
}

#[test]
fn names_are_read_and_refused() {
    assert_eq!("cross_entropy".parse::<LossConfig>().unwrap(), LossConfig::CROSS_ENTROPY);
    assert_eq!(serde_json::from_str::<LossConfig>("\"nll\"").unwrap(), LossConfig::NLL);
    assert_eq!(serde_json::to_string(&LossConfig::CROSS_ENTROPY).unwrap(), "\"cross-entropy\"");
    let error = "huber".parse::<LossConfig>().unwrap_err().to_string();
    assert_eq!(error, "unknown loss 'huber': expected one of cross-entropy, nll, mse, l1, smooth-l1");
    let of_values = LossConfig::names(|compute| matches!(compute, Compute::Values(_)));
    assert_eq!(of_values, "mse or l1 or smooth-l1");
}
