//! Memory of large values, handed from one node to the next.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

/// Values from which on a buffer is kept.
const LARGE: usize = 1 << 14;
/// A buffer serves for as few values as this part of it.
const SLACK: usize = 8;
/// Values that may lie idle.
const IDLE: usize = 1 << 25;

/// Buffers that no value is in at the moment. A system's memory would have to be cleared for each value.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Vec<f32>>>);

impl Buffers {
    /// A buffer of `len` values, whatever they are: each is to be written.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer {
        if len < LARGE {
            return Buffer { values: vec![0.0; len], home: None };
        }
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = idle.iter().enumerate().filter(|(_, buffer)| (len..=len * SLACK).contains(&buffer.capacity()));
        let smallest = fitting.min_by_key(|(_, buffer)| buffer.capacity()).map(|(at, _)| at);
        let mut values = smallest.map(|at| idle.swap_remove(at)).unwrap_or_default();
        drop(idle);
        // What a buffer held before stays in it.
        values.resize(len, 0.0);
        Buffer { values, home: Some(self.clone()) }
    }

    fn keep(&self, buffer: Vec<f32>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.iter().map(Vec::capacity).sum::<usize>() + buffer.capacity() <= IDLE {
            idle.push(buffer);
        }
    }
}

/// Values that go back to where their memory came from.
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    home: Option<Arc<Buffers>>,
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        Self { values, home: None }
    }
}

impl Buffer {
    /// The values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, to change them.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The values alone: their memory does not come back.
    pub fn into_vec(mut self) -> Vec<f32> {
        self.home = None;
        take(&mut self.values)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.keep(take(&mut self.values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_serves_again_where_it_is_large_enough_and_not_much_too_large() {
        let buffers = Arc::new(Buffers::default());
        let address = |buffer: &Buffer| buffer.values().as_ptr();
        let (small, large) = (buffers.take(LARGE), buffers.take(LARGE * 4));
        let (at_small, at_large) = (address(&small), address(&large));
        drop((small, large));
        let first = buffers.take(LARGE);
        assert_eq!(address(&first), at_small);
        let second = buffers.take(LARGE + 1);
        assert_eq!((address(&second), second.values().len()), (at_large, LARGE + 1));
        let third = buffers.take(LARGE * 2);
        assert!(third.values().iter().all(|&value| value == 0.0));
        drop((first, third));
        // A result leaves with its memory.
        assert_eq!(second.into_vec().len(), LARGE + 1);
        assert_eq!(buffers.0.lock().unwrap().len(), 2);
        drop((buffers.take(LARGE * 3), buffers.take(LARGE - 1)));
        assert_eq!(buffers.0.lock().unwrap().len(), 3);
    }

    #[test]
    fn little_enough_lies_idle() {
        let buffers = Arc::new(Buffers::default());
        let taken: Vec<Buffer> = (0..5).map(|_| buffers.take(IDLE / 4)).collect();
        drop(taken);
        assert!(buffers.0.lock().unwrap().iter().map(Vec::capacity).sum::<usize>() <= IDLE);
    }
}
