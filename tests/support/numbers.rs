//! Devices to compute on, and how far two lists of numbers are apart.

use burn::tensor::Device;

/// The CPU backends, with gradients.
pub fn devices() -> Vec<(&'static str, Device)> {
    vec![("flex", Device::flex().autodiff()), ("ndarray", ndarray().autodiff())]
}

#[expect(deprecated, reason = "Burn deprecates the backend; it is one of those that are supported here")]
fn ndarray() -> Device {
    Device::ndarray()
}

/// The values of a float32 tensor.
pub fn tensor_values(tensor: &rekindle_state::Tensor) -> Vec<f32> {
    tensor.bytes().unwrap().as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

/// The largest of some differences. One that is no number is infinite: `f64::max` would pass over it.
pub fn greatest(differences: impl Iterator<Item = f64>) -> f64 {
    differences.map(|one| if one.is_nan() { f64::INFINITY } else { one }).fold(0.0, f64::max)
}

/// The largest difference between two lists of numbers, relative to the second with a floor of a hundredth of its largest.
pub fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let floor = expected.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs() * 0.01));
    greatest(found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()) / f64::from(b.abs().max(floor))))
}
