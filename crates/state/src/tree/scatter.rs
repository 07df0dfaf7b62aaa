//! A storage put together again from the tensors that view it.

use std::borrow::Cow;

use crate::{Error, Result, Source, Tensor};

/// One tensor's place in a storage.
pub(super) struct Part {
    /// The values, row-major.
    pub tensor: Tensor,
    /// Index of the first element in the storage.
    pub offset: u64,
    /// Distances between neighbours in the storage.
    pub strides: Vec<u64>,
}

/// Elements that no part views are zero: nothing can read them.
pub(super) struct Scatter {
    /// Elements of the storage.
    pub elements: u64,
    /// Bytes of an element.
    pub size: usize,
    /// All the views.
    pub parts: Vec<Part>,
}

impl Source for Scatter {
    fn len(&self) -> u64 {
        self.elements.saturating_mul(self.size as u64)
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let length = usize::try_from(self.len()).map_err(|_| too_large())?;
        let mut out = Vec::new();
        out.try_reserve_exact(length).map_err(|_| too_large())?;
        out.resize(length, 0);
        for part in &self.parts {
            self.place(part, &mut out)?;
        }
        Ok(Cow::Owned(out))
    }
}

impl Scatter {
    fn place(&self, part: &Part, out: &mut [u8]) -> Result<()> {
        let values = part.tensor.bytes()?;
        let shape = part.tensor.shape();
        let mut index = vec![0_u64; shape.len()];
        let mut at = part.offset;
        for element in values.chunks_exact(self.size) {
            let start = at as usize * self.size;
            let target = out
                .get_mut(start..start + self.size)
                .ok_or_else(|| Error::damaged("a view lies outside its storage"))?;
            target.copy_from_slice(element);
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                at += part.strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                at -= part.strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        Ok(())
    }
}

fn too_large() -> Error {
    Error::unsupported("not enough memory for a storage that several tensors share")
}
