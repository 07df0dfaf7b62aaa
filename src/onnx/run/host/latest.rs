//! What was worked out for the last shape.

use std::sync::{Mutex, PoisonError};

use rekindle_onnx::Result;

/// What follows from the shape of an input, kept until another shape comes.
#[derive(Debug)]
pub struct Latest<T>(Mutex<Option<(Vec<usize>, T)>>);

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Latest<T> {
    /// What follows from a shape; `work` finds it out.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn of(&self, shape: &[usize], work: impl FnOnce() -> Result<Option<T>>) -> Result<Option<T>> {
        if let Some((known, value)) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner)
            && known == shape
        {
            return Ok(Some(value.clone()));
        }
        let value = work()?;
        if let Some(value) = &value {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((shape.to_vec(), value.clone()));
        }
        Ok(value)
    }
}
