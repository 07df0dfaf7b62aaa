//! A tensor's values where they lie, without a copy.

use std::borrow::Cow;
use std::ops::Range;

use crate::{Error, Result, Storage, Tensor};

/// The values of a tensor in memory or in a mapped file; the memory lives as long as this does.
///
/// For owners that outlive the tensor and its file: a network whose parameters are the pages of the file.
#[derive(Clone, Debug)]
pub struct Resident {
    storage: Storage,
    range: Range<usize>,
}

impl Resident {
    /// A copy of a range of the bytes. Those of a mapped file are read from it anew, so that its pages take no memory beside the
    /// copy.
    ///
    /// # Errors
    /// When there are not as many, or the file can no longer be read.
    pub fn copy(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let outside = || Error::damaged(format!("bytes {range:?} are past the end of {}", self.range.len()));
        if range.start > range.end || range.end > self.range.len() {
            return Err(outside());
        }
        self.storage.copy(self.range.start + range.start..self.range.start + range.end)
    }
}

impl AsRef<[u8]> for Resident {
    fn as_ref(&self) -> &[u8] {
        self.storage.resident().and_then(|bytes| bytes.get(self.range.clone())).unwrap_or_default()
    }
}

impl Tensor {
    /// The values in row-major order, little endian, where they lie so already; `None` where [`Tensor::bytes`] would copy them.
    ///
    /// # Errors
    /// As [`Tensor::bytes`], which checks them.
    pub fn resident(&self) -> Result<Option<Resident>> {
        let Cow::Borrowed(values) = self.bytes()? else { return Ok(None) };
        let Some(view) = self.view() else { return Ok(None) };
        let start = view.offset as usize * self.dtype().size();
        let resident = Resident { storage: view.storage.clone(), range: start..start + values.len() };
        // A storage may borrow from what it alone can reach.
        Ok((resident.as_ref().len() == values.len()).then_some(resident))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::View;

    #[test]
    fn values_stay_where_they_are() {
        let tensor = Tensor::from_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let resident = tensor.resident().unwrap().unwrap();
        let address = tensor.bytes().unwrap().as_ptr();
        drop(tensor);
        assert_eq!(resident.as_ref().as_ptr(), address);
        assert_eq!(resident.as_ref()[4..8], 2_f32.to_le_bytes());
        assert_eq!(resident.copy(4..8).unwrap(), 2_f32.to_le_bytes());
        assert!(resident.copy(20..25).is_err());
    }

    #[test]
    fn a_window_is_only_its_part_and_a_transposed_view_is_none() {
        let tensor = Tensor::from_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let view = tensor.view().unwrap().clone();
        let row = Tensor::strided(tensor.dtype(), &[3], View { offset: 3, strides: vec![1], ..view.clone() }).unwrap();
        assert_eq!(row.resident().unwrap().unwrap().as_ref(), row.bytes().unwrap().as_ref());
        let turned = Tensor::strided(tensor.dtype(), &[3, 2], View { strides: vec![1, 3], ..view.clone() }).unwrap();
        assert!(turned.resident().unwrap().is_none());
        let negative = Tensor::strided(tensor.dtype(), &[2, 3], View { negative: true, ..view }).unwrap();
        assert!(negative.resident().unwrap().is_none());
    }
}
