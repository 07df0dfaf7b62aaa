//! The state dict of a module.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use rekindle_state as state;
use rekindle_state::StateDict;

use super::{Entry, Kind, entries};

/// The state of a module as PyTorch's `module.state_dict()` gives it: an `OrderedDict` of tensors.
///
/// Integers are int64, PyTorch's own type for them, whichever the device has.
///
/// # Errors
/// When a tensor cannot be read back from its device.
pub fn to_state_dict<M: Module>(module: &M) -> state::Result<StateDict> {
    read(module, entries(module), true)
}

/// Every one of Burn's parameters by itself, in PyTorch's layout, under the names of [`super::leaves`].
///
/// # Errors
/// When a tensor cannot be read back from its device.
pub fn to_unstacked<M: Module>(module: &M) -> state::Result<StateDict> {
    let mut alone = Vec::new();
    for entry in entries(module) {
        let shape = entry.part_shape();
        match entry.parts.len() {
            0 | 1 => alone.push(entry),
            _ => alone.extend(entry.parts.into_iter().map(|part| Entry {
                name: part.name.clone(),
                shape: shape.clone(),
                parts: vec![part],
                ..entry
            })),
        }
    }
    read(module, alone, false)
}

fn read<M: Module>(module: &M, entries: Vec<Entry>, widen: bool) -> state::Result<StateDict> {
    let count = entries.iter().map(|entry| entry.parts.len()).sum();
    let mut owners = vec![(0, 0); count];
    for (number, entry) in entries.iter().enumerate() {
        for (piece, part) in entry.parts.iter().enumerate() {
            owners[part.place] = (number, piece);
        }
    }
    let found = entries.iter().map(|entry| Found { pieces: vec![None; entry.parts.len()], tensor: None }).collect();
    let mut reader = Reader { entries: &entries, owners, widen, place: 0, found, error: None };
    module.visit(&mut reader);
    if let Some(error) = reader.error {
        return Err(error);
    }
    let mut dict = StateDict::ordered();
    for (entry, found) in entries.iter().zip(reader.found) {
        let tensor = match found.tensor {
            Some(tensor) => tensor,
            None if entry.parts.is_empty() => state::Tensor::from_i64(&[], &[0])?,
            None => stacked(entry, found.pieces)?,
        };
        dict.insert(entry.name.as_str(), tensor);
    }
    Ok(dict)
}

/// What is known of an entry's values.
struct Found {
    /// Those of each part, if there are several.
    pieces: Vec<Option<state::Tensor>>,
    tensor: Option<state::Tensor>,
}

/// The parts of an entry along its first axis.
fn stacked(entry: &Entry, pieces: Vec<Option<state::Tensor>>) -> state::Result<state::Tensor> {
    let mut bytes = Vec::new();
    let mut dtype = None;
    for piece in pieces.into_iter().flatten() {
        if *dtype.get_or_insert(piece.dtype()) != piece.dtype() {
            let message = format!("the parameters that make up '{}' are of several element types", entry.name);
            return Err(state::Error::unsupported(message));
        }
        bytes.extend_from_slice(&piece.bytes()?);
    }
    let dtype = dtype.unwrap_or(state::DType::F32);
    state::Tensor::from_bytes(dtype, &sizes(&entry.shape), bytes)
}

struct Reader<'a> {
    entries: &'a [Entry],
    /// The entry and the part of it that each parameter is.
    owners: Vec<(usize, usize)>,
    /// Whether integers become int64.
    widen: bool,
    place: usize,
    found: Vec<Found>,
    error: Option<state::Error>,
}

impl Reader<'_> {
    /// The entry and part of the next parameter, and whether its axes are exchanged.
    fn next(&mut self) -> (usize, usize, bool) {
        let (number, piece) = self.owners[self.place];
        self.place += 1;
        (number, piece, self.entries[number].parts[piece].transposed)
    }

    fn put(&mut self, number: usize, piece: usize, data: TensorData) {
        let entry = &self.entries[number];
        let found = &mut self.found[number];
        let tensor = from_burn(data, &entry.part_shape(), entry.kind);
        let tensor = match (entry.kind, self.widen) {
            (Kind::Int, true) => tensor.and_then(|tensor| tensor.cast(state::DType::I64)),
            _ => tensor,
        };
        match tensor {
            Ok(tensor) if entry.parts.len() == 1 => found.tensor = Some(tensor),
            Ok(tensor) => found.pieces[piece] = Some(tensor),
            Err(error) => self.error = Some(error.within(format!("tensor '{}'", entry.name))),
        }
    }
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (number, piece, transposed) = self.next();
        // The value and not what Burn would save: `LinearLayout::Col` saves the transpose.
        let value = param.val();
        let value = if transposed { value.swap_dims(D - 2, D - 1) } else { value };
        self.put(number, piece, value.into_data());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let (number, piece, _) = self.next();
        self.put(number, piece, param.val().into_data());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let (number, piece, _) = self.next();
        self.put(number, piece, param.val().into_data());
    }
}

/// Burn's data as a tensor of a state dict. The counter of batches is an int64 scalar in PyTorch.
fn from_burn(data: TensorData, shape: &[usize], kind: Kind) -> state::Result<state::Tensor> {
    let shape = sizes(shape);
    if kind == Kind::Count {
        let count = data.iter::<f32>().next().unwrap_or(0.0);
        return state::Tensor::from_i64(&[], &[count as i64]);
    }
    let dtype = match data.dtype() {
        DType::F64 => state::DType::F64,
        DType::F32 | DType::Flex32 => state::DType::F32,
        DType::F16 => state::DType::F16,
        DType::BF16 => state::DType::BF16,
        DType::I64 => state::DType::I64,
        DType::I32 => state::DType::I32,
        DType::I16 => state::DType::I16,
        DType::I8 => state::DType::I8,
        DType::U64 => state::DType::U64,
        DType::U32 => state::DType::U32,
        DType::U16 => state::DType::U16,
        DType::U8 => state::DType::U8,
        DType::Bool(_) => {
            let bytes = data.iter::<bool>().map(u8::from).collect();
            return state::Tensor::from_bytes(state::DType::Bool, &shape, bytes);
        }
        other => {
            return Err(state::Error::unsupported(format!(
                "a parameter of type {other:?} has no place in a state dict"
            )));
        }
    };
    state::Tensor::from_bytes(dtype, &shape, data.into_bytes().to_vec())
}

fn sizes(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|&axis| axis as u64).collect()
}
