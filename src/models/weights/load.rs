//! Tensors of a state dict into a module.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{AllocationProperty, Bool, Bytes, DType, Device, Int, Tensor, TensorData};
use rekindle_state as state;
use rekindle_state::StateDict;

use super::transpose::transpose;
use super::tree::exchanges_axes;
use super::{Entry, Kind, entries};
use crate::device::{Backend, OpenDevice};

/// How the weights of linear layers lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// As Burn keeps them: good on every device, and for training.
    #[default]
    RowMajor,
    /// As PyTorch stores them, so that loading moves nothing: for inference on flex, where [`crate::layers::linear`] is as fast with them.
    AsStored,
}

impl Layout {
    /// For inference on a device.
    pub fn inference(device: &OpenDevice) -> Self {
        if device.backend == Backend::Flex { Self::AsStored } else { Self::RowMajor }
    }
}

/// Puts tensors into a module by PyTorch's names; names that `tensors` does not have keep their values.
///
/// Floats are cast to 32 bits, integers and truth values stay such. `tensors` must have the shapes of [`entries`]. What lies in a
/// mapped file as the device needs it is used where it is: its pages are the parameter until something writes to it.
///
/// # Errors
/// When a tensor cannot be read from its file or has another shape.
pub fn load<M: Module>(module: M, tensors: &StateDict, layout: Layout) -> state::Result<M> {
    let entries = entries(&module);
    let mut owners: Vec<Option<(usize, usize)>> = vec![None; entries.iter().map(|entry| entry.parts.len()).sum()];
    for (number, entry) in entries.iter().enumerate() {
        if tensors.tensor(&entry.name).is_some() {
            for (piece, part) in entry.parts.iter().enumerate() {
                owners[part.place] = Some((number, piece));
            }
        }
    }
    let mut loader = Loader { entries: &entries, owners, place: 0, tensors, layout, error: None };
    let module = module.map(&mut loader);
    match loader.error {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

struct Loader<'a> {
    entries: &'a [Entry],
    /// The entry and the part of it that each parameter is, if there is a tensor for it.
    owners: Vec<Option<(usize, usize)>>,
    place: usize,
    tensors: &'a StateDict,
    layout: Layout,
    error: Option<state::Error>,
}

impl<'a> Loader<'a> {
    /// What there is for the next parameter.
    fn next(&mut self) -> Option<Source<'a>> {
        let owner = self.owners[self.place];
        self.place += 1;
        let (number, piece) = owner?;
        let entry = &self.entries[number];
        Some(Source { tensor: self.tensors.tensor(&entry.name)?, entry, piece })
    }

    fn or_note<T>(&mut self, source: Source<'_>, value: state::Result<T>) -> Option<T> {
        value.map_err(|error| self.error = Some(error.within(format!("tensor '{}'", source.entry.name)))).ok()
    }
}

impl ModuleMapper for Loader<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(source) = self.next() else { return param };
        let value = source.floats::<D>(self.layout, &param.lazy_device());
        let Some(value) = self.or_note(source, value) else { return param };
        // Burn exchanges the axes of what is loaded into `LinearLayout::Col`.
        let value = if exchanges_axes(&param) { value.swap_dims(D - 2, D - 1) } else { value };
        let id = param.id;
        param.transform_for_load(value, id)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let Some(source) = self.next() else { return param };
        let values = source.checked().and_then(|tensor| tensor.to_i64());
        let Some(values) = self.or_note(source, values) else { return param };
        let data = TensorData::new(values, param.lazy_shape());
        let id = param.id;
        let device = param.lazy_device();
        let value = match param.is_initialized() {
            true => Tensor::from_data(data, (&device, param.val().dtype())),
            false => Tensor::from_data(data, &device),
        };
        param.transform_for_load(value, id)
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        let Some(source) = self.next() else { return param };
        let values = source.checked().and_then(|tensor| tensor.to_i64());
        let Some(values) = self.or_note(source, values) else { return param };
        let values: Vec<bool> = values.into_iter().map(|value| value != 0).collect();
        let value = Tensor::from_data(TensorData::new(values, param.lazy_shape()), &param.lazy_device());
        let id = param.id;
        param.transform_for_load(value, id)
    }
}

/// A tensor of a state dict, and which part of it is a parameter.
#[derive(Clone, Copy)]
struct Source<'a> {
    tensor: &'a state::Tensor,
    entry: &'a Entry,
    piece: usize,
}

impl<'a> Source<'a> {
    /// The tensor, if it has the entry's shape.
    fn checked(self) -> state::Result<&'a state::Tensor> {
        let expected: Vec<u64> = self.entry.shape.iter().map(|&axis| axis as u64).collect();
        if self.tensor.shape() == expected {
            return Ok(self.tensor);
        }
        let found = state::show_shape(self.tensor.shape());
        let message = format!("the model has the shape {}, the file {found}", state::show_shape(&expected));
        Err(state::Error::new(state::ErrorKind::Mismatch, message))
    }

    /// The part as a tensor of floats on a device, in Burn's layout.
    fn floats<const D: usize>(self, layout: Layout, device: &Device) -> state::Result<Tensor<D>> {
        let values = self.checked()?.cast(state::DType::F32)?;
        let part = &self.entry.parts[self.piece];
        let shape = match self.entry.kind {
            Kind::Count => vec![1],
            _ => self.entry.part_shape(),
        };
        let several = self.entry.parts.len() > 1;
        if let (true, [rows, columns]) = (part.transposed && (several || layout == Layout::RowMajor), &shape[..]) {
            let bytes = values.bytes()?;
            let turned = transpose(self.piece_of(&bytes), *rows, *columns);
            return Ok(Tensor::from_data(TensorData::new(turned, [*columns, *rows]), device));
        }
        let bytes = match several {
            true => Bytes::from_bytes_vec(self.piece_of(&values.bytes()?).to_vec()),
            false => shared(&values)?,
        };
        let value = Tensor::<D>::from_data(TensorData::from_bytes(bytes, shape, DType::F32), device);
        Ok(if part.transposed { value.swap_dims(D - 2, D - 1) } else { value })
    }

    /// The bytes of the part among those of the whole tensor.
    fn piece_of<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let length = bytes.len() / self.entry.parts.len();
        &bytes[self.piece * length..][..length]
    }
}

/// Bytes that are read at once from a file: a multiple of every element's size.
const PIECE: usize = 1 << 20;

/// The 32-bit floats of a tensor, where they lie if they can stay there.
pub(crate) fn shared(values: &state::Tensor) -> state::Result<Bytes> {
    if let Some(resident) = values.resident()? {
        if !resident.as_ref().as_ptr().addr().is_multiple_of(align_of::<f32>()) {
            return copied(&resident);
        }
        return Ok(Bytes::from_shared(prost::bytes::Bytes::from_owner(resident), AllocationProperty::File));
    }
    Ok(Bytes::from_bytes_vec(values.bytes()?.into_owned()))
}

/// Floats that lie at odd places, read piece by piece: they are in memory once.
fn copied(resident: &state::Resident) -> state::Result<Bytes> {
    let length = resident.as_ref().len();
    let mut floats: Vec<f32> = Vec::with_capacity(length / size_of::<f32>());
    for start in (0..length).step_by(PIECE) {
        let piece = resident.copy(start..length.min(start + PIECE))?;
        floats.extend(piece.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    Ok(Bytes::from_elems(floats))
}
