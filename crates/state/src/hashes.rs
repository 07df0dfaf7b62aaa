//! Hashes of tensors: of the values in row-major order, little endian.

use serde_json::{Map, Value as Json};

use crate::{DType, Data, ErrorKind, Quantization, Result, Tensor};

/// A repeated view of more bytes than this is not hashed when its storage is much smaller.
const REPEATED: u64 = 64 << 20;
/// The largest dense form of a sparse tensor that is made to be hashed.
const DENSE: u64 = 64 << 20;

/// What makes two strided tensors the same values: storage, offset, shape, strides, element type and marks.
pub(crate) type Identity = (u64, u64, Vec<u64>, Vec<u64>, &'static str, bool, bool);

/// The identity of a strided tensor.
pub(crate) fn identity(tensor: &Tensor) -> Option<Identity> {
    let view = tensor.view()?;
    let (shape, strides) = (tensor.shape().to_vec(), view.strides.clone());
    Some((view.storage.id(), view.offset, shape, strides, tensor.dtype().name(), view.conjugate, view.negative))
}

/// Lower-case hexadecimal SHA-256.
pub(crate) fn hex(bytes: &[u8]) -> String {
    crate::fs::sha256(bytes)
}

/// The hash of a tensor's values; none for one that repeats few elements very often, or that would only fill memory.
pub(crate) fn sha256(tensor: &Tensor) -> Result<Option<String>> {
    let held = tensor.view().map_or(0, |view| view.storage.len());
    if tensor.nbytes() > REPEATED && tensor.nbytes() / 4 > held {
        return Ok(None);
    }
    match tensor.bytes() {
        Ok(bytes) => Ok(Some(hex(&bytes))),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a tensor that is not strided is made of.
pub(crate) fn parts(tensor: &Tensor, hash: bool) -> Result<Map<String, Json>> {
    let mut parts = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            parts.insert(name.to_string(), Json::from(value));
        }
    };
    match tensor.data() {
        Data::Quantized { scheme, .. } => {
            if hash {
                put("sha256_of_integers", sha256(tensor)?);
            }
            let name = match scheme {
                Quantization::PerTensor { .. } => "torch.per_tensor_affine",
                Quantization::PerChannel { float_params: false, .. } => "torch.per_channel_affine",
                Quantization::PerChannel { .. } => "torch.per_channel_affine_float_qparams",
            };
            put("qscheme", Some(name.to_string()));
            if let Quantization::PerTensor { scale, zero_point } = scheme {
                parts.insert("scale".to_string(), Json::from(*scale));
                parts.insert("zero_point".to_string(), Json::from(*zero_point));
            }
        }
        Data::SparseCoo { indices, values, .. } => {
            if hash {
                put("indices_sha256", sha256(indices)?);
                put("values_sha256", sha256(values)?);
                put("dense_sha256", dense_coo(tensor, indices, values)?.map(|dense| hex(&dense)));
            }
            parts.insert("nnz".to_string(), Json::from(values.shape().first().copied().unwrap_or(0)));
        }
        Data::SparseCompressed { layout, compressed, plain, values } => {
            if hash {
                put("compressed_sha256", sha256(compressed)?);
                put("plain_sha256", sha256(plain)?);
                put("values_sha256", sha256(values)?);
                put(
                    "dense_sha256",
                    dense_compressed(tensor, layout, compressed, plain, values)?.map(|dense| hex(&dense)),
                );
            }
            parts.insert("nnz".to_string(), Json::from(plain.shape().last().copied().unwrap_or(0)));
        }
        Data::Strided(_) | Data::Meta => {}
    }
    Ok(parts)
}

/// The values of an integer tensor.
fn integers(tensor: &Tensor) -> Result<Option<Vec<u64>>> {
    let bytes = tensor.bytes()?;
    Ok(match tensor.dtype() {
        DType::I64 => Some(bytes.as_chunks::<8>().0.iter().map(|&chunk| u64::from_le_bytes(chunk)).collect()),
        DType::I32 => {
            Some(bytes.as_chunks::<4>().0.iter().map(|&chunk| u64::from(u32::from_le_bytes(chunk))).collect())
        }
        _ => None,
    })
}

/// Puts blocks of values at element positions. Values at one position are added; none where that is not known how.
fn scatter(
    tensor: &Tensor,
    values: &[u8],
    block: usize,
    positions: impl Iterator<Item = Option<u64>>,
) -> Option<Vec<u8>> {
    let mut dense = vec![0; tensor.nbytes() as usize];
    let mut taken = vec![false; dense.len().checked_div(block)?];
    for (value, position) in values.chunks_exact(block).zip(positions) {
        let place = usize::try_from(position?).ok()?;
        let target = dense.get_mut(place.checked_mul(block)?..(place + 1).checked_mul(block)?)?;
        if std::mem::replace(taken.get_mut(place)?, true) {
            add(tensor.dtype(), target, value)?;
        } else {
            target.copy_from_slice(value);
        }
    }
    Some(dense)
}

/// Adds little-endian elements in place.
fn add(dtype: DType, target: &mut [u8], value: &[u8]) -> Option<()> {
    match dtype {
        DType::F32 => {
            for (to, from) in target.as_chunks_mut::<4>().0.iter_mut().zip(value.as_chunks::<4>().0) {
                *to = (f32::from_le_bytes(*to) + f32::from_le_bytes(*from)).to_le_bytes();
            }
        }
        DType::F64 => {
            for (to, from) in target.as_chunks_mut::<8>().0.iter_mut().zip(value.as_chunks::<8>().0) {
                *to = (f64::from_le_bytes(*to) + f64::from_le_bytes(*from)).to_le_bytes();
            }
        }
        DType::I64 => {
            for (to, from) in target.as_chunks_mut::<8>().0.iter_mut().zip(value.as_chunks::<8>().0) {
                *to = i64::from_le_bytes(*to).wrapping_add(i64::from_le_bytes(*from)).to_le_bytes();
            }
        }
        _ => return None,
    }
    Some(())
}

fn dense_coo(tensor: &Tensor, indices: &Tensor, values: &Tensor) -> Result<Option<Vec<u8>>> {
    if tensor.nbytes() > DENSE {
        return Ok(None);
    }
    let (Some(at), shape) = (integers(indices)?, tensor.shape()) else { return Ok(None) };
    let sparse = indices.shape()[0] as usize;
    let count = indices.shape()[1] as usize;
    let inner = shape[sparse..].iter().try_fold(1_u64, |n, &axis| n.checked_mul(axis));
    let block = inner
        .and_then(|inner| inner.checked_mul(tensor.dtype().size() as u64))
        .filter(|&block| block <= DENSE)
        .unwrap_or(0) as usize;
    let values = values.bytes()?;
    if block == 0 || Some(values.len()) != count.checked_mul(block) {
        return Ok(None);
    }
    let positions = (0..count).map(|i| {
        shape[..sparse].iter().enumerate().try_fold(0_u64, |place, (axis, &len)| {
            let index = *at.get(axis.checked_mul(count)?.checked_add(i)?)?;
            if index < len { place.checked_mul(len)?.checked_add(index) } else { None }
        })
    });
    Ok(scatter(tensor, &values, block, positions))
}

fn dense_compressed(
    tensor: &Tensor,
    layout: &str,
    compressed: &Tensor,
    plain: &Tensor,
    values: &Tensor,
) -> Result<Option<Vec<u8>>> {
    let &[rows, columns] = tensor.shape() else { return Ok(None) };
    if tensor.nbytes() > DENSE || !matches!(layout, "sparse_csr" | "sparse_csc") {
        return Ok(None);
    }
    let (Some(offsets), Some(plain)) = (integers(compressed)?, integers(plain)?) else { return Ok(None) };
    let values = values.bytes()?;
    let size = tensor.dtype().size();
    if Some(values.len()) != plain.len().checked_mul(size) {
        return Ok(None);
    }
    let by_row = layout == "sparse_csr";
    let mut outer = 0_usize;
    let positions = plain.iter().enumerate().map(move |(i, &inner)| {
        while offsets.get(outer + 1).is_some_and(|&end| end <= i as u64) {
            outer += 1;
        }
        let (row, column) = if by_row { (outer as u64, inner) } else { (inner, outer as u64) };
        (row < rows && column < columns).then(|| row.checked_mul(columns)?.checked_add(column)).flatten()
    });
    Ok(scatter(tensor, &values, size, positions))
}
