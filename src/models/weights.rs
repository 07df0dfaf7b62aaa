//! A network's state in and out: Burn's parameters under PyTorch's names, in PyTorch's order and layout.
//!
//! Two things differ between Burn's tree and PyTorch's: an enum (an element of a sequence) adds a path segment, and a linear
//! layer's weight lies as `[inputs, outputs]` here and as `[outputs, inputs]` there.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Int, Shape, Tensor, TensorData};
use rekindle_state as state;
use rekindle_state::StateDict;

use super::transpose::transpose;
use crate::device::{Backend, OpenDevice};

/// A parameter or buffer of a network.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Burn's number, by which optimizers know it.
    pub id: ParamId,
    /// Burn's path, by which records know it.
    pub path: String,
    /// PyTorch's name.
    pub name: String,
    /// The shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// Whether Burn keeps it transposed (the weight of a linear layer).
    pub transposed: bool,
    /// Whether it is trained; running statistics are not.
    pub trained: bool,
    int: bool,
}

impl Entry {
    /// PyTorch's name of its element type.
    pub fn dtype(&self) -> &'static str {
        if self.int || self.name.ends_with("num_batches_tracked") { "int64" } else { "float32" }
    }
}

/// The path of the entry that is being visited.
#[derive(Default)]
struct Path {
    /// Segment, and the container that it is a part of (`Struct:Linear`, `Enum:Feature`, `Vec`).
    segments: Vec<(String, String)>,
}

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        self.segments.push((name.to_string(), container.to_string()));
    }

    fn exit(&mut self) {
        self.segments.pop();
    }

    fn burn(&self) -> String {
        join(self.segments.iter())
    }

    fn torch(&self) -> String {
        join(self.segments.iter().filter(|(_, container)| !container.starts_with("Enum:")))
    }

    /// Whether this is the weight of a linear layer, which PyTorch keeps transposed.
    fn transposed(&self) -> bool {
        self.segments.last().is_some_and(|(name, container)| name == "weight" && container == "Struct:Linear")
    }

    fn entry(&self, id: ParamId, shape: Shape) -> Entry {
        let name = self.torch();
        let last = name.rsplit('.').next().unwrap_or_default();
        let counter = last == "num_batches_tracked";
        let mut shape: Vec<usize> = if counter { Vec::new() } else { shape.to_vec() };
        let transposed = self.transposed();
        if transposed {
            shape.reverse();
        }
        let trained = !counter && !last.starts_with("running_") && last != "relative_coords_table";
        Entry { id, path: self.burn(), name, shape, transposed, trained, int: false }
    }
}

fn join<'a>(segments: impl Iterator<Item = &'a (String, String)>) -> String {
    let names: Vec<&str> = segments.map(|(name, _)| name.as_str()).collect();
    names.join(".")
}

/// The parameters and buffers of a module in PyTorch's order.
pub fn entries<M: Module>(module: &M) -> Vec<Entry> {
    let mut lister = Lister { path: Path::default(), entries: Vec::new() };
    module.visit(&mut lister);
    lister.entries
}

struct Lister {
    path: Path,
    entries: Vec<Entry>,
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.entries.push(self.path.entry(param.id, param.lazy_shape()));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let entry = self.path.entry(param.id, param.lazy_shape());
        self.entries.push(Entry { trained: false, int: true, ..entry });
    }
}

/// The state of a module as PyTorch's `module.state_dict()` gives it: an `OrderedDict` of tensors.
///
/// # Errors
/// When a tensor cannot be read back from its device.
pub fn to_state_dict<M: Module>(module: &M) -> state::Result<StateDict> {
    let mut reader = Reader { path: Path::default(), dict: StateDict::ordered(), error: None };
    module.visit(&mut reader);
    match reader.error {
        Some(error) => Err(error),
        None => Ok(reader.dict),
    }
}

/// The `_metadata` that PyTorch hangs on a state dict: the version of each module's state, by its path.
///
/// Without it, loading takes batch normalisation for the kind that did not count batches yet.
pub fn metadata<M: Module>(module: &M) -> state::Value {
    let names: Vec<String> = entries(module).into_iter().map(|entry| entry.name).collect();
    let mut dict = StateDict::ordered();
    let mut add = |path: &str| {
        let counts =
            names.iter().any(|name| name.strip_prefix(path).is_some_and(|rest| rest == ".num_batches_tracked"));
        if dict.get(path).is_none() {
            dict.insert(
                path,
                StateDict::from_iter([(state::Key::from("version"), state::Value::Int(if counts { 2 } else { 1 }))]),
            );
        }
    };
    add("");
    for name in &names {
        name.match_indices('.').for_each(|(at, _)| add(&name[..at]));
    }
    state::Value::Dict(dict)
}

struct Reader {
    path: Path,
    dict: StateDict,
    error: Option<state::Error>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let entry = self.path.entry(param.id, param.lazy_shape());
        let value = param.transform_for_save().val();
        let value = if entry.transposed { value.swap_dims(D - 2, D - 1) } else { value };
        match from_burn(value.into_data(), &entry) {
            Ok(tensor) => {
                self.dict.insert(entry.name, tensor);
            }
            Err(error) => self.error = Some(error.within(format!("tensor '{}'", entry.name))),
        }
    }
}

/// Burn's data as a tensor of a state dict. The counter of batches is an int64 scalar in PyTorch.
fn from_burn(data: TensorData, entry: &Entry) -> state::Result<state::Tensor> {
    let shape: Vec<u64> = entry.shape.iter().map(|&axis| axis as u64).collect();
    if entry.shape.is_empty() {
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
        other => {
            return Err(state::Error::unsupported(format!(
                "a parameter of type {other:?} has no place in a state dict"
            )));
        }
    };
    state::Tensor::from_bytes(dtype, &shape, data.into_bytes().to_vec())
}

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
/// Every tensor is cast to the module's float type. `tensors` must have the shapes of [`entries`]. What lies in a mapped file as
/// the device needs it is used where it is: its pages are the parameter until something writes to it.
///
/// # Errors
/// When a tensor cannot be read from its file or has another shape.
pub fn load<M: Module>(module: M, tensors: &StateDict, layout: Layout) -> state::Result<M> {
    let mut loader = Loader { path: Path::default(), tensors, layout, error: None };
    let module = module.map(&mut loader);
    match loader.error {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

struct Loader<'a> {
    path: Path,
    tensors: &'a StateDict,
    layout: Layout,
    error: Option<state::Error>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let entry = self.path.entry(param.id, param.lazy_shape());
        let Some(tensor) = self.tensors.tensor(&entry.name) else { return param };
        let device = param.lazy_device();
        match to_burn::<D>(tensor, &entry, self.layout, &device) {
            Ok(value) => {
                let id = param.id;
                param.transform_for_load(value, id)
            }
            Err(error) => {
                self.error = Some(error.within(format!("tensor '{}'", entry.name)));
                param
            }
        }
    }
}

/// A tensor of a state dict on a device, in Burn's layout.
fn to_burn<const D: usize>(
    tensor: &state::Tensor,
    entry: &Entry,
    layout: Layout,
    device: &Device,
) -> state::Result<Tensor<D>> {
    let expected: Vec<u64> = entry.shape.iter().map(|&axis| axis as u64).collect();
    if tensor.shape() != expected {
        let found = state::show_shape(tensor.shape());
        let message = format!("the model has the shape {}, the file {found}", state::show_shape(&expected));
        return Err(state::Error::new(state::ErrorKind::Mismatch, message));
    }
    let values = tensor.cast(state::DType::F32)?;
    if let (true, [rows, columns]) = (entry.transposed && layout == Layout::RowMajor, entry.shape.as_slice()) {
        let turned = transpose(&values.bytes()?, *rows, *columns);
        return Ok(Tensor::from_data(TensorData::new(turned, [*columns, *rows]), device));
    }
    let shape = if entry.shape.is_empty() { vec![1] } else { entry.shape.clone() };
    let value = Tensor::<D>::from_data(TensorData::from_bytes(shared(&values)?, shape, DType::F32), device);
    Ok(if entry.transposed { value.swap_dims(D - 2, D - 1) } else { value })
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

/// Keeps the parameters whose PyTorch name matches any pattern from moving: they get no gradient.
pub fn freeze<M: Module>(module: M, patterns: &[regex::Regex]) -> M {
    if patterns.is_empty() {
        return module;
    }
    module.map(&mut Freezer { path: Path::default(), patterns })
}

struct Freezer<'a> {
    path: Path,
    patterns: &'a [regex::Regex],
}

impl ModuleMapper for Freezer<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.torch();
        let frozen = self.patterns.iter().any(|pattern| pattern.is_match(&name));
        if frozen { param.set_require_grad(false) } else { param }
    }
}
