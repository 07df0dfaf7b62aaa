//! Tensors of the CPU backends that are read where they lie while their owner goes on.
//!
//! A checkpoint is written from the tensors of the training that goes on meanwhile. Burn's tensors are copied on their first change
//! as long as somebody else holds them: what is lent and not changed is in memory once, what is changed twice.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use burn::tensor::{AllocationProperty, Bytes, DType, Shape, Tensor, TensorData};
use rekindle_kernels::as_bytes;

use super::host::Held;

/// Bytes that are lent at present, by the whole process.
static LENT: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// The data of a tensor: lent where that goes, else a copy.
pub fn data<const D: usize>(tensor: &Tensor<D>) -> TensorData {
    lend(tensor).unwrap_or_else(|| tensor.to_data())
}

/// The data of a tensor of 32-bit floats that lie in order in this process's memory, where they are. The tensor's next change makes it
/// a new place: many can be lent at once without being in memory twice.
pub fn lend<const D: usize>(tensor: &Tensor<D>) -> Option<TensorData> {
    let shape = tensor.shape();
    let lent = Lent::new(Held::of(tensor.clone())?, &shape)?;
    let bytes = prost::bytes::Bytes::from_owner(lent);
    Some(TensorData::from_bytes(Bytes::from_shared(bytes, AllocationProperty::Native), shape, DType::F32))
}

/// Waits for some time until at most so many bytes are lent; whether that is so.
pub fn lent_at_most(bytes: usize, time: Duration) -> bool {
    let (lent, changed) = &LENT;
    let lent = lent.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = changed.wait_timeout_while(lent, time, |lent| *lent > bytes);
    *waited.unwrap_or_else(PoisonError::into_inner).0 <= bytes
}

/// A tensor that is lent, and counted.
struct Lent {
    tensor: Held,
    bytes: usize,
}

impl Lent {
    /// None when the values do not lie in order.
    fn new(tensor: Held, shape: &Shape) -> Option<Self> {
        let bytes = shape.num_elements() * size_of::<f32>();
        (size_of_val(tensor.slice()?) == bytes).then_some(())?;
        *LENT.0.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        Some(Self { tensor, bytes })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *LENT.0.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        LENT.1.notify_all();
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.tensor.slice().map_or(&[][..], as_bytes)
    }
}
