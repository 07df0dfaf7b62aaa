//! Losses and their gradients against PyTorch's.

use burn::Tensor;
use burn::tensor::{Int, TensorData};
use rekindle::optim::LossConfig;
use serde_json::Value as Json;

use super::support::*;

#[test]
fn losses_and_gradients_are_those_of_torch() {
    let fixture = fixture("optim/losses.json");
    let tensor = |json: &Json| TensorData::new(floats(json), shape(json));
    for (device_name, device) in devices() {
        for name in ["cross-entropy", "nll", "mse", "l1"] {
            let loss: LossConfig = name.parse().unwrap();
            let (value, grad) = if loss.takes_classes() {
                let scores = Tensor::<2>::from_data(tensor(&fixture["scores"]), &device).require_grad();
                let classes: Vec<i64> = numbers(&fixture["classes"]).into_iter().map(|class| class as i64).collect();
                let classes = Tensor::<1, Int>::from_data(TensorData::new(classes.clone(), [classes.len()]), &device);
                let loss = loss.of_classes(scores.clone(), classes).unwrap();
                (loss.clone(), scores.grad(&loss.backward()).unwrap().into_data())
            } else {
                let values = Tensor::<3>::from_data(tensor(&fixture["values"]), &device).require_grad();
                let loss =
                    loss.of_values(values.clone(), Tensor::from_data(tensor(&fixture["targets"]), &device)).unwrap();
                (loss.clone(), values.grad(&loss.backward()).unwrap().into_data())
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
    assert_eq!("cross_entropy".parse::<LossConfig>().unwrap(), LossConfig::CrossEntropy);
    assert_eq!(serde_json::from_str::<LossConfig>("\"nll\"").unwrap(), LossConfig::Nll);
    assert_eq!(serde_json::to_string(&LossConfig::CrossEntropy).unwrap(), "\"cross-entropy\"");
    let error = "huber".parse::<LossConfig>().unwrap_err().to_string();
    assert_eq!(error, "unknown loss 'huber': expected one of cross-entropy, nll, mse, l1");
    let (_, device) = devices().remove(0);
    let (scores, classes) = (Tensor::<2>::zeros([1, 2], &device), Tensor::<1, Int>::zeros([1], &device));
    let error = LossConfig::Mse.of_classes(scores, classes).unwrap_err().to_string();
    assert_eq!(error, "loss 'mse' compares values, the targets are class numbers: use cross-entropy or nll");
}
