//! Which bytes a PyTorch file has to hold for a tree of values: each storage once, under the keys `0`, `1`, `2`, …

use std::borrow::Cow;
use std::collections::HashMap;

use crate::{DType, Data, Error, Quantization, Result, Storage, Tensor, Value, View};

/// A storage as the file will hold it.
pub(super) struct PlannedStorage {
    source: Bytes,
    /// Bytes that are written.
    pub nbytes: u64,
    /// Bytes of what the pickle counts the storage in.
    pub element_size: u64,
}

/// Where the bytes come from when their turn has come.
enum Bytes {
    /// A whole storage, in little endian by elements of some bytes.
    Whole { storage: Storage, swap_unit: usize },
    /// The values of one tensor: what cannot share.
    Values(Tensor),
}

impl PlannedStorage {
    /// Gives the bytes to a function; produced for this call alone where they do not lie in memory or in a mapped file.
    pub fn with_bytes<T>(&self, write: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let bytes = match &self.source {
            Bytes::Whole { storage, swap_unit } => {
                let bytes = storage.bytes()?;
                if storage.is_big_endian() && *swap_unit > 1 {
                    Cow::Owned(swapped(bytes.into_owned(), *swap_unit))
                } else {
                    bytes
                }
            }
            Bytes::Values(tensor) => tensor.bytes()?,
        };
        let bytes = bytes.get(..self.nbytes as usize).ok_or_else(|| {
            Error::damaged(format!("a storage gave {} bytes where it had announced {}", bytes.len(), self.nbytes))
        })?;
        write(bytes)
    }
}

fn swapped(mut bytes: Vec<u8>, unit: usize) -> Vec<u8> {
    for element in bytes.chunks_exact_mut(unit) {
        element.reverse();
    }
    bytes
}

/// How the pickle refers to a tensor's bytes.
pub(super) struct Placed {
    /// The number of the storage.
    pub key: usize,
    /// Bytes of the storage.
    pub nbytes: u64,
    /// Whether the storage is written without an element type, because tensors of several types view it or its type has no class.
    pub untyped: bool,
    /// Index of the first element.
    pub offset: u64,
    /// Distances between neighbours, in elements.
    pub strides: Vec<u64>,
    /// The marks of the view that stay marks.
    pub conjugate: bool,
    /// As `conjugate`.
    pub negative: bool,
}

/// The storages of a file, in the order in which the pickle names them.
#[derive(Default)]
pub(super) struct StoragePlan {
    pub storages: Vec<PlannedStorage>,
    by_id: HashMap<u64, usize>,
    /// The element types that view each storage.
    types: HashMap<u64, Vec<DType>>,
}

impl StoragePlan {
    /// A plan that knows which storages are viewed as more than one element type.
    pub fn new(root: &Value) -> Self {
        let mut plan = Self::default();
        plan.note_types(root, 0);
        plan
    }

    fn note_types(&mut self, value: &Value, depth: usize) {
        if depth > crate::walk::MAX_DEPTH {
            return; // The pickler refuses it with a sentence.
        }
        match value {
            Value::Tensor(tensor) => self.note_tensor(tensor),
            Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
                items.iter().for_each(|item| self.note_types(item, depth + 1));
            }
            Value::Dict(dict) => {
                dict.iter().for_each(|(_, item)| self.note_types(item, depth + 1));
                dict.metadata().into_iter().for_each(|item| self.note_types(item, depth + 1));
            }
            Value::Array(array) => {
                array.tensor.iter().for_each(|tensor| self.note_tensor(tensor));
                array.objects.iter().for_each(|item| self.note_types(item, depth + 1));
            }
            _ => {}
        }
    }

    fn note_tensor(&mut self, tensor: &Tensor) {
        match tensor.data() {
            Data::Strided(view) => self.note_type(view, tensor.dtype()),
            Data::Quantized { view, scheme } => {
                self.note_type(view, tensor.dtype());
                if let Quantization::PerChannel { scales, zero_points, .. } = scheme {
                    self.note_tensor(scales);
                    self.note_tensor(zero_points);
                }
            }
            Data::SparseCoo { indices, values, .. } => {
                self.note_tensor(indices);
                self.note_tensor(values);
            }
            Data::SparseCompressed { compressed, plain, values, .. } => {
                self.note_tensor(compressed);
                self.note_tensor(plain);
                self.note_tensor(values);
            }
            Data::Meta => {}
        }
    }

    fn note_type(&mut self, view: &View, dtype: DType) {
        let types = self.types.entry(view.storage.id()).or_default();
        if !types.contains(&dtype) {
            types.push(dtype);
        }
    }

    /// Reserves a place for a strided or quantized tensor's bytes; `untyped_only` when its type has no class of storages.
    pub fn place(&mut self, tensor: &Tensor, view: &View, untyped_only: bool) -> Placed {
        let size = tensor.dtype().size() as u64;
        let types = self.types.get(&view.storage.id()).map_or(&[][..], Vec::as_slice);
        let mixed = types.len() > 1;
        let untyped = mixed || untyped_only;
        let quantized = matches!(tensor.data(), Data::Quantized { .. });
        // Bytes of several types cannot be swapped as one run, and quantized tensors have no untyped form.
        if mixed && (view.storage.is_big_endian() || quantized) {
            let nbytes = tensor.nbytes();
            let key = self.push(Bytes::Values(tensor.clone()), nbytes, if untyped_only { 1 } else { size });
            let strides = contiguous(tensor.shape());
            return Placed {
                key,
                nbytes,
                untyped: untyped_only,
                offset: 0,
                strides,
                conjugate: false,
                negative: false,
            };
        }
        let key = match self.by_id.get(&view.storage.id()) {
            Some(&key) => key,
            None => {
                let held = view.storage.len();
                // PyTorch counts elements: a fraction of one at the end cannot be said, and nothing views it.
                let nbytes = if untyped { held } else { held / size * size };
                let source = Bytes::Whole { storage: view.storage.clone(), swap_unit: tensor.dtype().swap_unit() };
                let key = self.push(source, nbytes, if untyped { 1 } else { size });
                self.by_id.insert(view.storage.id(), key);
                key
            }
        };
        let nbytes = self.storages[key].nbytes;
        let (mut offset, mut strides) = (view.offset, view.strides.clone());
        let empty = tensor.shape().contains(&0);
        if empty {
            offset = offset.min(nbytes / size);
        }
        // Strides that are never taken can be any number; PyTorch refuses those beyond its own.
        for (stride, &axis) in strides.iter_mut().zip(tensor.shape()) {
            if empty || axis == 1 {
                *stride = (*stride).min(1 << 32);
            }
        }
        Placed { key, nbytes, untyped, offset, strides, conjugate: view.conjugate, negative: view.negative }
    }

    fn push(&mut self, source: Bytes, nbytes: u64, element_size: u64) -> usize {
        self.storages.push(PlannedStorage { source, nbytes, element_size });
        self.storages.len() - 1
    }
}

/// Row-major strides, for a tensor whose number of elements is known to fit.
pub(super) fn contiguous(shape: &[u64]) -> Vec<u64> {
    let mut step = 1_u64;
    let mut strides: Vec<u64> = shape
        .iter()
        .rev()
        .map(|&axis| {
            let stride = step;
            step = step.saturating_mul(axis.max(1)).min(1 << 62);
            stride
        })
        .collect();
    strides.reverse();
    strides
}
