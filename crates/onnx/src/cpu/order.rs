//! Tensors with their axes in another order.

use rekindle_kernels::{Plain, permute};

use super::plan::Planner;
use super::tensor::{Tensor, either_order};
use crate::array::Element;
use crate::{DType, Result, ValueId};

impl Planner<'_> {
    /// A tensor with its channels first.
    ///
    /// # Errors
    /// When it is too large.
    pub fn plain(&mut self, id: ValueId, tensor: &Tensor) -> Result<Tensor> {
        if !tensor.channels_last {
            return Ok(tensor.clone());
        }
        self.reordered(id, tensor, [0, 3, 1, 2])
    }

    /// A tensor of four axes with its channels last.
    ///
    /// # Errors
    /// When it is too large.
    pub fn channels_last(&mut self, id: ValueId, tensor: &Tensor) -> Result<Tensor> {
        if tensor.channels_last || either_order(&tensor.shape) {
            return Ok(tensor.clone());
        }
        self.reordered(id, tensor, [0, 2, 3, 1])
    }

    fn reordered(&mut self, id: ValueId, tensor: &Tensor, order: [usize; 4]) -> Result<Tensor> {
        if let Some(other) = self.others.get(&id) {
            return Ok(other.clone());
        }
        let other = self.allocate(tensor.dtype, tensor.shape.clone(), !tensor.channels_last)?;
        self.permuted(tensor, tensor.stored(), order.to_vec(), &other)?;
        self.others.insert(id, other.clone());
        Ok(other)
    }

    /// `[n, c, w]` as an image of one line with its channels last, in memory of its own.
    ///
    /// # Errors
    /// When it is too large.
    pub fn as_image(&mut self, id: ValueId, x: &Tensor) -> Result<Tensor> {
        let x = self.plain(id, x)?;
        let [n, c, w] = x.shape[..] else { unreachable!("three axes were asked for") };
        let image = self.allocate(x.dtype, vec![n, c, 1, w], true)?;
        self.permuted(&x, vec![n, c, w], vec![0, 2, 1], &image)?;
        Ok(image)
    }

    /// The other way round.
    ///
    /// # Errors
    /// As [`Self::as_image`].
    pub fn as_line(&mut self, image: &Tensor, shape: Vec<usize>) -> Result<Tensor> {
        let [n, c, w] = shape[..] else { unreachable!("three axes were asked for") };
        let line = self.allocate(image.dtype, shape, false)?;
        self.permuted(image, vec![n, w, c], vec![0, 2, 1], &line)?;
        Ok(line)
    }

    /// A step that writes the values of a tensor, stored with these sizes, in another order of axes.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn permuted(&mut self, x: &Tensor, sizes: Vec<usize>, order: Vec<usize>, out: &Tensor) -> Result<()> {
        match x.dtype {
            DType::U8 => self.permuted_as::<u8>(x, sizes, order, out),
            DType::I8 => self.permuted_as::<i8>(x, sizes, order, out),
            DType::I32 => self.permuted_as::<i32>(x, sizes, order, out),
            DType::I64 => self.permuted_as::<i64>(x, sizes, order, out),
            _ => self.permuted_as::<f32>(x, sizes, order, out),
        }
    }

    fn permuted_as<T: Plain + Element>(
        &mut self,
        x: &Tensor,
        sizes: Vec<usize>,
        order: Vec<usize>,
        out: &Tensor,
    ) -> Result<()> {
        let (source, len) = (x.source(), x.len());
        self.emit(
            Box::new(move |context, outputs| {
                permute(context.read::<T>(&source)?, &sizes, &order, outputs[0].values_mut(len));
                Ok(())
            }),
            &[out],
        )
    }
}
