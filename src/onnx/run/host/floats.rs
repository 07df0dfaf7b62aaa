//! Floats in this process's memory.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Shape, Tensor};

use super::buffers::{Buffer, Buffers};
use crate::kernels::{Held, Host};

/// Floats in this process's memory, shared by clones.
#[derive(Debug, Clone)]
pub(in crate::onnx::run) struct Floats(Arc<Shared>);

struct Shared {
    values: Values,
    /// The same values as a tensor of Burn's, once one has been made while others held them.
    held: OnceLock<Box<Held>>,
}

enum Values {
    /// An operator of ours made them.
    Own(Buffer),
    /// An array of the interpreter.
    Array(Arc<Vec<f32>>),
    /// A tensor of Burn's whose values lie in order.
    Held(Box<Held>),
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.slice()).finish()
    }
}

impl Shared {
    fn slice(&self) -> &[f32] {
        match &self.values {
            Values::Own(buffer) => buffer.values(),
            Values::Array(values) => values,
            Values::Held(held) => match held.values() {
                Cow::Borrowed(values) => values,
                Cow::Owned(_) => unreachable!("values that do not lie in order are not held"),
            },
        }
    }
}

impl From<Buffer> for Floats {
    fn from(buffer: Buffer) -> Self {
        Self::new(Values::Own(buffer))
    }
}

impl From<Arc<Vec<f32>>> for Floats {
    fn from(values: Arc<Vec<f32>>) -> Self {
        Self::new(Values::Array(values))
    }
}

impl From<Vec<f32>> for Floats {
    fn from(values: Vec<f32>) -> Self {
        Self::new(Values::Own(values.into()))
    }
}

impl Floats {
    fn new(values: Values) -> Self {
        Self(Arc::new(Shared { values, held: OnceLock::new() }))
    }

    /// The values of a tensor of a CPU backend, without a copy where they lie in order; none of others.
    pub fn of(tensor: Tensor<1>) -> Option<Self> {
        let held = Held::of(tensor)?;
        let odd = matches!(held.values(), Cow::Owned(_));
        Some(Self::new(if odd { Values::Array(Arc::new(held.into_values())) } else { Values::Held(Box::new(held)) }))
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        self.0.slice()
    }

    /// Whether both are the same memory.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether [`Self::into_buffer`] takes no copy.
    pub fn is_own(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && matches!(self.0.values, Values::Own(_))
    }

    /// The values, to write over them: without a copy where nobody else holds them.
    pub fn into_buffer(self, buffers: &Arc<Buffers>) -> Buffer {
        match Arc::try_unwrap(self.0) {
            Ok(Shared { values: Values::Own(buffer), .. }) => buffer,
            Ok(shared) => copied(shared.slice(), buffers),
            Err(shared) => copied(shared.slice(), buffers),
        }
    }

    /// The values as an array of the interpreter has them, without a copy where nobody else holds them.
    pub fn to_array(&self) -> Arc<Vec<f32>> {
        match &self.0.values {
            Values::Array(values) => values.clone(),
            _ => Arc::new(self.values().to_vec()),
        }
    }

    /// As [`Self::to_array`].
    pub fn into_array(self) -> Arc<Vec<f32>> {
        match Arc::try_unwrap(self.0) {
            Ok(Shared { values: Values::Own(buffer), .. }) => Arc::new(buffer.into_vec()),
            Ok(shared) => Self(Arc::new(shared)).to_array(),
            Err(shared) => Self(shared).to_array(),
        }
    }

    /// The values as a tensor of a CPU backend, copied at most once.
    pub fn into_tensor(self, host: Host) -> Tensor<1> {
        let made = |values: Vec<f32>| {
            let shape = Shape::from([values.len()]);
            host.tensor::<1>(values, shape)
        };
        let shared = match Arc::try_unwrap(self.0) {
            Ok(Shared { values: Values::Own(buffer), .. }) => return made(buffer.into_vec()),
            Ok(shared) => Arc::new(shared),
            Err(shared) => shared,
        };
        match &shared.values {
            Values::Held(held) => held.tensor(),
            _ => {
                let held = |values| Held::of(made(values)).expect("a tensor that was made on a CPU backend is on it");
                let copy = || Box::new(held(shared.slice().to_vec()));
                shared.held.get_or_init(copy).tensor()
            }
        }
    }
}

fn copied(values: &[f32], buffers: &Arc<Buffers>) -> Buffer {
    let mut buffer = buffers.take(values.len());
    buffer.values_mut().copy_from_slice(values);
    buffer
}
