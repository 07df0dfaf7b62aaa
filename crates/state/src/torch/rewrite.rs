//! An archive that holds a program, with other values in the place of its tensors' and all else byte for byte as it was.

use std::ops::Range;
use std::path::Path;

use super::zip::restore_checksums;
use crate::{Error, Map, Result, StateDict, Tensor, Value, show_shape, write_atomic};

/// Writes the archive at `path` to `output` with the values that `values` has for tensors of its state dict.
///
/// Each keeps its element type and its place in the file, so that what reads the program finds everything where it was; tensors
/// that share a storage change together.
///
/// # Errors
/// When the archive cannot be read, has no tensor of a name or one of another shape, or keeps it deflated.
pub fn rewrite_program(path: &Path, output: &Path, values: &StateDict) -> Result<()> {
    let map = Map::open(path)?;
    let file = crate::read(&map)?;
    let Value::Dict(own) = &file.content.root else {
        return Err(Error::unsupported("its values are no dictionary of names").at(path));
    };
    let mut bytes = map.bytes().to_vec();
    let mut changed = Vec::new();
    for (name, value) in values.tensors() {
        let tensor = own.tensor(name).ok_or_else(|| Error::damaged(format!("it has no tensor '{name}'")).at(path))?;
        let put = place(&map, tensor).and_then(|place| put(&mut bytes, place, tensor, value, &mut changed));
        put.map_err(|error| error.within(format!("tensor '{name}'")).at(path))?;
    }
    restore_checksums(&mut bytes, &changed)?;
    write_atomic(output, &bytes)
}

/// Where the storage of a tensor begins in its file.
fn place(map: &Map, tensor: &Tensor) -> Result<usize> {
    let stored = tensor.view().and_then(|view| view.storage.resident());
    let start = stored.and_then(|stored| (stored.as_ptr() as usize).checked_sub(map.bytes().as_ptr() as usize));
    start.filter(|&start| start < map.bytes().len().max(1)).ok_or_else(|| {
        Error::unsupported("its values are deflated in the archive, and cannot be replaced in their place")
    })
}

/// Puts the values of a tensor where another one's lie.
fn put(bytes: &mut [u8], place: usize, tensor: &Tensor, value: &Tensor, changed: &mut Vec<Range<usize>>) -> Result<()> {
    let Some(view) = tensor.view().filter(|view| !view.conjugate && !view.negative) else {
        return Err(Error::unsupported("it is no plain tensor"));
    };
    if value.shape() != tensor.shape() {
        let (old, new) = (show_shape(tensor.shape()), show_shape(value.shape()));
        return Err(Error::unsupported(format!("its shape in the archive is {old}, of the new values {new}")));
    }
    let value = value.cast(tensor.dtype())?;
    let new = value.bytes()?;
    let size = tensor.dtype().size();
    if new.is_empty() {
        return Ok(());
    }
    let (mut first, mut last) = (usize::MAX, 0);
    let mut index = vec![0_u64; tensor.shape().len()];
    for element in new.chunks_exact(size) {
        let at = view.offset + index.iter().zip(&view.strides).map(|(index, stride)| index * stride).sum::<u64>();
        let at = place + at as usize * size;
        let slot = bytes.get_mut(at..at + size).ok_or_else(|| Error::damaged("it lies outside the file"))?;
        slot.copy_from_slice(element);
        if view.storage.is_big_endian() {
            slot.reverse();
        }
        (first, last) = (first.min(at), last.max(at + size));
        for (axis, &length) in tensor.shape().iter().enumerate().rev() {
            index[axis] += 1;
            if index[axis] < length {
                break;
            }
            index[axis] = 0;
        }
    }
    changed.push(first..last);
    Ok(())
}
