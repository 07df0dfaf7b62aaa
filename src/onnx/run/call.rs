//! A node with its inputs, wherever they are.

use rekindle_onnx::infer::Fact;
use rekindle_onnx::{Array, DType, Node, Result, Slot, Value};

use super::device::BurnDevice;
use super::tensor::{DeviceTensor, computed_as};

/// The outputs of an operator, or `None` where the host has to run it.
pub(super) type Outputs = Result<Option<Vec<DeviceTensor>>>;

/// An operator on the device.
pub(super) type DeviceOp = fn(&mut Call<'_, '_>) -> Outputs;

/// A node that the device may run. What is asked of inputs moves nothing; [`Call::take`] does.
pub(super) struct Call<'c, 'i> {
    pub accelerator: &'c BurnDevice,
    pub node: &'c Node,
    slots: &'i mut [Option<Slot<DeviceTensor>>],
}

impl<'c, 'i> Call<'c, 'i> {
    pub fn new(accelerator: &'c BurnDevice, node: &'c Node, slots: &'i mut [Option<Slot<DeviceTensor>>]) -> Self {
        Self { accelerator, node, slots }
    }

    /// How many inputs there are, those left out in the middle included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether an input is given.
    pub fn has(&self, position: usize) -> bool {
        self.slots.get(position).is_some_and(Option::is_some)
    }

    /// Whether an input is a constant of the graph.
    pub fn is_constant(&self, position: usize) -> bool {
        self.slots.get(position).and_then(Option::as_ref).is_some_and(|slot| slot.constant().is_some())
    }

    /// Whether somebody wants an output.
    pub fn wants(&self, output: usize) -> bool {
        self.node.outputs.get(output).is_some_and(Option::is_some)
    }

    /// Element type and shape of an input tensor.
    fn kind(&self, position: usize) -> Option<(DType, &[usize])> {
        let slot = self.slots.get(position)?.as_ref()?;
        if let Some(tensor) = slot.on_device() {
            return Some((tensor.dtype(), tensor.shape()));
        }
        match (slot.on_host(), slot.constant()) {
            (Some(Value::Array(array)), _) => Some((array.dtype(), array.shape())),
            (None, Some(weight)) => Some((weight.dtype, &weight.shape)),
            _ => None,
        }
    }

    /// The element type of an input tensor.
    pub fn dtype(&self, position: usize) -> Option<DType> {
        self.kind(position).map(|(dtype, _)| dtype)
    }

    /// The shape of an input tensor.
    pub fn shape(&self, position: usize) -> Option<Vec<usize>> {
        self.kind(position).map(|(_, shape)| shape.to_vec())
    }

    /// Whether the float inputs are of one type that the device has, none is empty, and they are there already or large.
    pub fn is_worth_it(&self) -> bool {
        let mut common = None;
        let mut there = false;
        let mut total = 0;
        for (position, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let Some((dtype, shape)) = self.kind(position) else { return false };
            if !dtype.is_float() {
                continue;
            }
            if *common.get_or_insert(dtype) != dtype || shape.contains(&0) {
                return false;
            }
            there |= slot.on_device().is_some();
            total += shape.iter().product::<usize>();
        }
        let Some(dtype) = common else { return false };
        (there || total >= self.accelerator.worth_moving) && computed_as(dtype, &self.accelerator.device).is_some()
    }

    /// Whether what comes out is within the limits of the run, as far as that is known before.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self) -> Result<()> {
        let Some(op) = self.node.op() else { return Ok(()) };
        let fact =
            |position| self.kind(position).map_or_else(Fact::default, |(dtype, shape)| Fact::sized(dtype, shape));
        op.check(&(0..self.len()).map(fact).collect::<Vec<_>>())
    }

    /// An input as numbers on the host: axes, sizes, scales. `None` if it is not given.
    pub fn host(&self, position: usize) -> Result<Option<Array>> {
        match self.slots.get(position).and_then(Option::as_ref) {
            Some(slot) => slot.value(self.accelerator)?.array().cloned().map(Some),
            None => Ok(None),
        }
    }

    /// Integers of an input on the host. `None` if it is not given.
    pub fn ints(&self, position: usize) -> Result<Option<Vec<i64>>> {
        self.host(position)?.map(|array| array.int64s()).transpose()
    }

    /// The single number of an input that is on the host already.
    pub fn number(&self, position: usize) -> Option<f64> {
        let slot = self.slots.get(position)?.as_ref()?;
        let (dtype, shape) = self.kind(position)?;
        if !dtype.is_float() || shape.iter().product::<usize>() != 1 || slot.on_device().is_some() {
            return None;
        }
        slot.value(self.accelerator).ok()?.array().ok()?.float().ok()
    }

    /// Takes a float input to the device. After this the node may not be left to the host any more.
    ///
    /// # Errors
    /// When a constant cannot be read.
    ///
    /// # Panics
    /// When the input is not given, or was taken before.
    pub fn take(&mut self, position: usize) -> Result<DeviceTensor> {
        let slot = self.slots[position].take().expect("an input that was looked at is there");
        let device = &self.accelerator.device;
        slot.into_tensor(|source| DeviceTensor::place(source, device))
    }

    /// As [`Call::take`], for an input that may be left out.
    pub fn take_optional(&mut self, position: usize) -> Result<Option<DeviceTensor>> {
        if self.has(position) { self.take(position).map(Some) } else { Ok(None) }
    }
}
