//! A tensor: element type, shape, and a view of a storage that is read when asked.

use std::borrow::Cow;

use crate::{DType, Error, Result, Storage};

/// A tensor of a model file. Cheap to clone: the bytes stay where they are.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<u64>,
    data: Data,
    /// Saved as `torch.nn.Parameter`.
    pub parameter: bool,
    /// Whether PyTorch would compute a gradient for it.
    pub requires_grad: bool,
}

/// How a tensor's values are laid out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Data {
    /// A strided view of a storage: what nearly every tensor is.
    Strided(View),
    /// Shape and element type only (PyTorch's meta device).
    Meta,
    /// Coordinate format: `indices` `[sparse dims, n]` (int64) and `values` `[n, dense dims…]`.
    SparseCoo {
        /// Coordinates of the stored values, `[sparse dims, n]`.
        indices: Box<Tensor>,
        /// The stored values, `[n, dense dims…]`.
        values: Box<Tensor>,
        /// Whether coordinates are unique and sorted, when the file says so.
        coalesced: Option<bool>,
    },
    /// Compressed rows or columns, plain or in blocks.
    SparseCompressed {
        /// PyTorch's name of the layout: `sparse_csr`, `sparse_csc`, `sparse_bsr`, `sparse_bsc`.
        layout: &'static str,
        /// Offsets of the compressed dimension.
        compressed: Box<Tensor>,
        /// Indices of the plain dimension.
        plain: Box<Tensor>,
        /// The stored values.
        values: Box<Tensor>,
    },
    /// Integers with a scale: the view holds the integers.
    Quantized {
        /// The integers, of the tensor's own (quantized) element type.
        view: View,
        /// How integers become real numbers.
        scheme: Quantization,
    },
}

/// How the integers of a quantized tensor become real numbers: `(integer - zero point) × scale`.
#[derive(Debug, Clone)]
pub enum Quantization {
    /// One scale and zero point for all.
    PerTensor {
        /// The scale.
        scale: f64,
        /// The integer that stands for zero.
        zero_point: i64,
    },
    /// One scale and zero point for each index along an axis.
    PerChannel {
        /// Scales along the axis, float64.
        scales: Box<Tensor>,
        /// Zero points along the axis.
        zero_points: Box<Tensor>,
        /// The axis.
        axis: i64,
        /// Whether scales and zero points are floats (PyTorch's `per_channel_affine_float_qparams`).
        float_params: bool,
    },
}

/// A strided window on a storage. Offset and strides count elements, as PyTorch's do.
#[derive(Debug, Clone)]
pub struct View {
    /// The storage.
    pub storage: Storage,
    /// Index of the first element.
    pub offset: u64,
    /// Distance between neighbours along each axis.
    pub strides: Vec<u64>,
    /// Whether values are the conjugate of those stored (complex tensors).
    pub conjugate: bool,
    /// Whether values are the negative of those stored.
    pub negative: bool,
}

impl Tensor {
    /// A row-major tensor of its own from little-endian bytes.
    ///
    /// # Errors
    /// When `bytes` is not as long as `shape` and `dtype` say.
    pub fn from_bytes(dtype: DType, shape: &[u64], bytes: Vec<u8>) -> Result<Self> {
        let storage = Storage::new(bytes, "");
        Self::contiguous(dtype, shape, storage, 0)
    }

    /// A float32 tensor from its values in row-major order.
    ///
    /// # Errors
    /// When the number of values is not that of `shape`.
    pub fn from_f32(shape: &[u64], values: &[f32]) -> Result<Self> {
        Self::from_bytes(DType::F32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// An int64 tensor from its values in row-major order.
    ///
    /// # Errors
    /// When the number of values is not that of `shape`.
    pub fn from_i64(shape: &[u64], values: &[i64]) -> Result<Self> {
        Self::from_bytes(DType::I64, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A row-major tensor at an element offset of a storage.
    ///
    /// # Errors
    /// When the tensor does not fit in its storage.
    pub fn contiguous(dtype: DType, shape: &[u64], storage: Storage, offset: u64) -> Result<Self> {
        let strides = contiguous_strides(shape)?;
        Self::strided(dtype, shape, View { storage, offset, strides, conjugate: false, negative: false })
    }

    /// A view of a storage.
    ///
    /// # Errors
    /// When ranks differ or an element would lie outside the storage; sizes and strides may be any number without overflow.
    pub fn strided(dtype: DType, shape: &[u64], view: View) -> Result<Self> {
        check_view(dtype, shape, &view)?;
        Ok(Self::with_data(dtype, shape, Data::Strided(view)))
    }

    /// A tensor of another layout; the caller has checked its parts.
    pub fn with_data(dtype: DType, shape: &[u64], data: Data) -> Self {
        Self { dtype, shape: shape.to_vec(), data, parameter: false, requires_grad: false }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The length of each axis; empty for a scalar.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The layout and where the values are.
    pub fn data(&self) -> &Data {
        &self.data
    }

    pub(crate) fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    /// Number of elements (saturating: a view with stride 0 may claim more than memory holds).
    pub fn numel(&self) -> u64 {
        self.shape.iter().fold(1_u64, |n, &axis| n.saturating_mul(axis))
    }

    /// Bytes of the values in row-major order (saturating).
    pub fn nbytes(&self) -> u64 {
        self.numel().saturating_mul(self.dtype.size() as u64)
    }

    /// The view of a strided or quantized tensor.
    pub fn view(&self) -> Option<&View> {
        match &self.data {
            Data::Strided(view) | Data::Quantized { view, .. } => Some(view),
            _ => None,
        }
    }

    /// PyTorch's name of the layout: `strided`, `sparse_coo`, `quantized`, `meta`, …
    pub fn layout(&self) -> &'static str {
        match &self.data {
            Data::Strided(_) => "strided",
            Data::Meta => "meta",
            Data::SparseCoo { .. } => "sparse_coo",
            Data::SparseCompressed { layout, .. } => layout,
            Data::Quantized { .. } => "quantized",
        }
    }

    /// Whether the values lie in row-major order without gaps (axes of length 1 aside).
    pub fn is_contiguous(&self) -> bool {
        let Some(view) = self.view() else { return false };
        if self.numel() == 0 {
            return true;
        }
        let mut expected = 1_u64;
        for (&axis, &stride) in self.shape.iter().zip(&view.strides).rev() {
            if axis != 1 {
                if stride != expected {
                    return false;
                }
                expected = expected.saturating_mul(axis);
            }
        }
        true
    }
}

impl Tensor {
    /// The values in row-major order, little endian; borrowed from the file where they lie so already.
    ///
    /// # Errors
    /// When the storage cannot be read, the layout has no dense values, or a view with stride 0 claims more than
    /// [`Tensor::MATERIALIZE_LIMIT`] times what its storage holds.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let Some(view) = self.view() else {
            return Err(Error::unsupported(format!("a {} tensor has no dense values: read its parts", self.layout())));
        };
        let size = self.dtype.size();
        let numel = self.numel();
        if numel == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        let wanted = self.nbytes();
        if wanted / Self::MATERIALIZE_LIMIT > view.storage.len() {
            return Err(Error::unsupported(format!(
                "a view of {wanted} bytes on a storage of {} is not copied: it repeats the same elements",
                view.storage.len()
            )));
        }
        let wanted = wanted as usize;
        let plain = !view.conjugate && !view.negative && (!view.storage.is_big_endian() || self.dtype.swap_unit() == 1);
        let stored = view.storage.bytes()?;
        let start = (view.offset as usize).checked_mul(size).filter(|&start| start <= stored.len());
        let Some(start) = start else {
            return Err(Error::damaged("the tensor lies outside its storage"));
        };
        if self.is_contiguous() {
            let end = start.checked_add(wanted).filter(|&end| end <= stored.len());
            let Some(end) = end else {
                return Err(Error::damaged(format!(
                    "the storage holds {} bytes, the tensor needs {wanted} from byte {start}",
                    stored.len()
                )));
            };
            match stored {
                Cow::Borrowed(bytes) if plain => return Ok(Cow::Borrowed(&bytes[start..end])),
                Cow::Owned(mut bytes) if start == 0 => {
                    bytes.truncate(end);
                    self.normalize(&mut bytes, view);
                    return Ok(Cow::Owned(bytes));
                }
                _ => {
                    let mut bytes = stored[start..end].to_vec();
                    self.normalize(&mut bytes, view);
                    return Ok(Cow::Owned(bytes));
                }
            }
        }
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(wanted)
            .map_err(|_| Error::unsupported(format!("not enough memory for a tensor of {wanted} bytes")))?;
        // Axes of length 1 do not move: a tensor may have very many.
        let (shape, strides): (Vec<_>, Vec<_>) = self
            .shape
            .iter()
            .zip(&view.strides)
            .filter(|&(&axis, _)| axis != 1)
            .map(|(&axis, &stride)| (axis, stride))
            .unzip();
        gather(&stored, start, size, &shape, &strides, &mut bytes)?;
        self.normalize(&mut bytes, view);
        Ok(Cow::Owned(bytes))
    }

    /// How many times larger than its storage a repeated (stride 0) view may be to be copied.
    pub const MATERIALIZE_LIMIT: u64 = 1 << 20;

    /// Turns stored bytes into little-endian values: byte order, then the conjugate and negative marks.
    fn normalize(&self, bytes: &mut [u8], view: &View) {
        let unit = self.dtype.swap_unit();
        if view.storage.is_big_endian() && unit > 1 {
            for element in bytes.chunks_exact_mut(unit) {
                element.reverse();
            }
        }
        // The sign is the top bit of the last byte of a little-endian float.
        if view.negative {
            for element in bytes.chunks_exact_mut(unit) {
                element[unit - 1] ^= 0x80;
            }
        }
        if view.conjugate && self.dtype.is_complex() {
            for pair in bytes.chunks_exact_mut(2 * unit) {
                pair[2 * unit - 1] ^= 0x80;
            }
        }
    }
}

/// Strides of a row-major tensor, in elements.
fn contiguous_strides(shape: &[u64]) -> Result<Vec<u64>> {
    let mut strides = vec![1_u64; shape.len()];
    let empty = shape.contains(&0);
    let mut step = 1_u64;
    for (stride, &axis) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = match step.checked_mul(axis.max(1)) {
            Some(step) => step,
            None if empty => u64::MAX,
            None => return Err(Error::damaged(format!("the shape {} has more than 2^64 elements", show_shape(shape)))),
        };
    }
    Ok(strides)
}

/// That every element of the view lies inside the storage, without overflow on the way.
fn check_view(dtype: DType, shape: &[u64], view: &View) -> Result<()> {
    if shape.len() != view.strides.len() {
        return Err(Error::damaged(format!("{} sizes but {} strides", shape.len(), view.strides.len())));
    }
    let held = view.storage.len() / dtype.size() as u64;
    if shape.contains(&0) {
        return Ok(());
    }
    let last = shape
        .iter()
        .zip(&view.strides)
        .try_fold(view.offset, |at, (&axis, &stride)| at.checked_add((axis - 1).checked_mul(stride)?));
    let inside = last.is_some_and(|last| last < held);
    let countable = shape.iter().try_fold(1_u64, |n, &axis| n.checked_mul(axis)).is_some_and(|n| n < 1 << 63);
    if inside && countable {
        return Ok(());
    }
    Err(Error::damaged(format!(
        "a {dtype} tensor of shape {} at offset {} needs more than its storage of {held} elements",
        show_shape(shape),
        view.offset
    )))
}

/// Copies the elements of a view in row-major order.
fn gather(stored: &[u8], start: usize, size: usize, shape: &[u64], strides: &[u64], out: &mut Vec<u8>) -> Result<()> {
    let Some((&inner, outer_shape)) = shape.split_last() else {
        let element = stored.get(start..start + size).ok_or_else(outside)?;
        out.extend_from_slice(element);
        return Ok(());
    };
    let inner_step = strides[outer_shape.len()] as usize * size;
    let inner = inner as usize;
    let mut index = vec![0_u64; outer_shape.len()];
    let mut row = start;
    loop {
        if inner_step == size {
            out.extend_from_slice(stored.get(row..row + inner * size).ok_or_else(outside)?);
        } else {
            for i in 0..inner {
                let at = row + i * inner_step;
                out.extend_from_slice(stored.get(at..at + size).ok_or_else(outside)?);
            }
        }
        // Advance the odometer of the outer axes.
        let mut axis = outer_shape.len();
        loop {
            if axis == 0 {
                return Ok(());
            }
            axis -= 1;
            index[axis] += 1;
            row += strides[axis] as usize * size;
            if index[axis] < outer_shape[axis] {
                break;
            }
            row -= strides[axis] as usize * size * outer_shape[axis] as usize;
            index[axis] = 0;
        }
    }
}

fn outside() -> Error {
    Error::damaged("the tensor lies outside its storage")
}

/// `[2, 3]`, shortened when there are very many axes.
pub fn show_shape(shape: &[u64]) -> String {
    if shape.len() > 16 { format!("[{}, … {} axes]", shape[0], shape.len()) } else { format!("{shape:?}") }
}
