//! How far numbers are off.

use rekindle_state::{DType, StateDict, Tensor, gap};

use super::{CheckError, Result};

/// The largest difference of a comparison.
#[derive(Debug, Clone)]
pub struct Measure {
    /// The largest difference, in the terms of the comparison.
    pub error: f64,
    /// What is allowed on a CPU.
    pub allowed: f64,
    /// Whether rounding makes the difference, which is larger on a GPU.
    pub rounding: bool,
    /// Where the difference is.
    pub place: String,
}

impl Measure {
    /// No difference yet.
    pub fn none(allowed: f64) -> Self {
        Self { error: 0.0, allowed, rounding: true, place: "nothing".to_string() }
    }

    /// Takes note of a difference; what is no number counts as infinitely far.
    pub fn note(&mut self, error: f64, place: &str) {
        let error = if error.is_nan() { f64::INFINITY } else { error };
        if error > self.error {
            self.error = error;
            self.place = place.to_string();
        }
    }

    /// Notes numbers by |a−b| ≤ floor·allowed + allowed·|b|.
    pub fn relative(&mut self, found: &[f32], expected: &[f32], floor: f64, place: &str) {
        if !self.same_length(found, expected, place) {
            return;
        }
        for (found, expected) in found.iter().zip(expected) {
            self.note(gap(f64::from(*found), f64::from(*expected)) / (f64::from(expected.abs()) + floor), place);
        }
    }

    /// Notes numbers by their largest difference, as a part of a scale.
    pub fn scaled(&mut self, found: &[f32], expected: &[f32], scale: f64, place: &str) {
        if !self.same_length(found, expected, place) {
            return;
        }
        for (found, expected) in found.iter().zip(expected) {
            let distance = gap(f64::from(*found), f64::from(*expected));
            // Nothing is far from itself, whatever the scale.
            self.note(if distance == 0.0 { 0.0 } else { distance / scale }, place);
        }
    }

    fn same_length(&mut self, found: &[f32], expected: &[f32], place: &str) -> bool {
        if found.len() != expected.len() {
            self.note(f64::INFINITY, &format!("{place} with {} values instead of {}", found.len(), expected.len()));
        }
        found.len() == expected.len()
    }
}

/// The largest of some numbers without their signs.
pub fn largest(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |largest, value| largest.max(f64::from(value.abs())))
}

/// The numbers of a tensor as float32.
pub fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.cast(DType::F32)?;
    Ok(tensor.bytes()?.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// The names and numbers of the tensors of a state dict.
pub fn named(dict: &StateDict) -> Result<Vec<(&str, Vec<f32>)>> {
    dict.tensors().map(|(name, tensor)| Ok((name, floats(tensor)?))).collect()
}

/// The numbers of a tensor that must be there.
pub fn tensor(dict: &StateDict, name: &str) -> Result<Vec<f32>> {
    floats(dict.tensor(name).ok_or_else(|| CheckError::Wrong(format!("the network has no '{name}'")))?)
}

/// A floor for the scale of each tensor: a hundredth of the largest number of all.
pub fn floor<'a>(tensors: impl Iterator<Item = &'a [f32]>) -> f64 {
    tensors.map(largest).fold(0.0, f64::max) / 100.0
}
