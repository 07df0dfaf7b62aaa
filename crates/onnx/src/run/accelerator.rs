//! Devices that run nodes, and values wherever they are: on the host, on the device, or both once both have asked for them.

use std::sync::{Arc, OnceLock};

use crate::graph::Weight;
use crate::{Array, Node, Result, Value};

/// A device that runs some operators faster than the host, and keeps its own tensors.
pub trait Accelerator {
    /// A tensor on the device.
    type Tensor: Clone;
    /// How a node is run, as far as that can be told before its inputs are there.
    type Plan;

    /// Looks at a node once, before it runs.
    fn plan(&self, node: &Node) -> Self::Plan;

    /// Runs a node, or answers `None` to leave it to the host. It may take the inputs out of the list, unless it answers `None`.
    ///
    /// # Errors
    /// When the values do not fit the operator.
    fn run(
        &self,
        node: &Node,
        plan: &Self::Plan,
        inputs: &mut [Option<Slot<Self::Tensor>>],
    ) -> Result<Option<Vec<Slot<Self::Tensor>>>>;

    /// Copies a tensor to the host.
    ///
    /// # Errors
    /// When the device fails.
    fn download(&self, tensor: &Self::Tensor) -> Result<Array>;

    /// Brings a tensor to the host that is not needed on the device any more.
    ///
    /// # Errors
    /// As [`Accelerator::download`].
    fn bring(&self, tensor: Self::Tensor) -> Result<Array> {
        self.download(&tensor)
    }

    /// Bytes that a tensor takes on the device, to be held against limits.
    fn bytes(&self, tensor: &Self::Tensor) -> u64;

    /// Whether it is this machine's processor, so that prepared graphs are run by the kernels of this crate altogether.
    fn is_cpu(&self) -> bool {
        false
    }
}

/// No accelerator: the host runs everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostOnly;

/// This machine's processor: prepared graphs are run by fast kernels, planned once for each set of input shapes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

/// The tensor of an accelerator without a device: there is none.
#[derive(Debug, Clone, Copy)]
pub enum Never {}

macro_rules! without_device {
    ($name:ident, is_cpu: $is_cpu:literal) => {
        impl Accelerator for $name {
            type Tensor = Never;
            type Plan = ();

            fn plan(&self, _: &Node) {}

            fn run(&self, _: &Node, _: &(), _: &mut [Option<Slot<Never>>]) -> Result<Option<Vec<Slot<Never>>>> {
                Ok(None)
            }

            fn download(&self, tensor: &Never) -> Result<Array> {
                match *tensor {}
            }

            fn bytes(&self, tensor: &Never) -> u64 {
                match *tensor {}
            }

            fn is_cpu(&self) -> bool {
                $is_cpu
            }
        }
    };
}

without_device!(HostOnly, is_cpu: false);
without_device!(Cpu, is_cpu: true);

/// A value that moves between host and device when it is needed on the other side. Clones share it.
#[derive(Debug)]
pub struct Slot<T>(Arc<Places<T>>);

/// Where a value is that is to be brought to the device.
#[derive(Debug, Clone, Copy)]
pub enum Source<'s> {
    /// On the host.
    Value(&'s Value),
    /// A constant, perhaps still in its file.
    Weight(&'s Weight),
}

impl Source<'_> {
    /// The value, read from the file if it is there.
    ///
    /// # Errors
    /// When it cannot be read, or is no tensor.
    pub fn array(self) -> Result<Array> {
        match self {
            Self::Value(value) => value.array().cloned(),
            Self::Weight(weight) => weight.array(),
        }
    }
}

#[derive(Debug)]
struct Places<T> {
    host: OnceLock<Value>,
    device: OnceLock<T>,
    /// A constant that may still be in its file.
    weight: Option<Box<Weight>>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Slot<T> {
    /// A value on the host.
    pub fn host(value: impl Into<Value>) -> Self {
        Self(Arc::new(Places { host: OnceLock::from(value.into()), device: OnceLock::new(), weight: None }))
    }

    /// A tensor on the device.
    pub fn device(tensor: T) -> Self {
        Self(Arc::new(Places { host: OnceLock::new(), device: OnceLock::from(tensor), weight: None }))
    }

    /// A constant, not read yet.
    pub fn weight(weight: Weight) -> Self {
        Self(Arc::new(Places { host: OnceLock::new(), device: OnceLock::new(), weight: Some(Box::new(weight)) }))
    }

    /// The value on the host; brought there if need be.
    ///
    /// # Errors
    /// When it cannot be read or copied.
    pub fn value<A: Accelerator<Tensor = T>>(&self, accelerator: &A) -> Result<&Value> {
        if let Some(value) = self.0.host.get() {
            return Ok(value);
        }
        let value = match (&self.0.weight, self.0.device.get()) {
            (Some(weight), _) => weight.array()?,
            (None, Some(tensor)) => accelerator.download(tensor)?,
            (None, None) => unreachable!("a slot is made with a value"),
        };
        Ok(self.0.host.get_or_init(|| value.into()))
    }

    /// As [`Slot::value`], for the last who wants it.
    ///
    /// # Errors
    /// As [`Slot::value`].
    pub fn into_value<A: Accelerator<Tensor = T>>(self, accelerator: &A) -> Result<Value> {
        match Arc::try_unwrap(self.0) {
            Ok(Places { host, device, weight: None }) => match (host.into_inner(), device.into_inner()) {
                (Some(value), _) => Ok(value),
                (None, Some(tensor)) => accelerator.bring(tensor).map(Value::from),
                (None, None) => unreachable!("a slot is made with a value"),
            },
            Ok(places) => Self(Arc::new(places)).value(accelerator).cloned(),
            Err(shared) => Self(shared).value(accelerator).cloned(),
        }
    }

    /// The constant of a file behind this slot, if there is one: type and shape are known without reading it.
    pub fn constant(&self) -> Option<&Weight> {
        self.0.weight.as_deref()
    }

    /// The tensor on the device, if it is there.
    pub fn on_device(&self) -> Option<&T> {
        self.0.device.get()
    }

    /// The value on the host, if it is there.
    pub fn on_host(&self) -> Option<&Value> {
        self.0.host.get()
    }

    /// The tensor on the device; brought there by `upload` if need be. A constant is not read before, nor kept on the host.
    ///
    /// # Errors
    /// What `upload` answers.
    pub fn tensor(&self, upload: impl FnOnce(Source<'_>) -> Result<T>) -> Result<&T> {
        if let Some(tensor) = self.0.device.get() {
            return Ok(tensor);
        }
        let tensor = match (self.0.host.get(), &self.0.weight) {
            (Some(value), _) => upload(Source::Value(value))?,
            (None, Some(weight)) => upload(Source::Weight(weight))?,
            (None, None) => unreachable!("a slot is made with a value"),
        };
        Ok(self.0.device.get_or_init(|| tensor))
    }

    /// The tensor on the device, taken out if nothing else shares it, so that the device may write over it.
    ///
    /// # Errors
    /// As [`Slot::tensor`].
    pub fn into_tensor(self, upload: impl FnOnce(Source<'_>) -> Result<T>) -> Result<T> {
        self.tensor(upload)?;
        match Arc::try_unwrap(self.0) {
            Ok(places) => Ok(places.device.into_inner().expect("the tensor was just put there")),
            Err(shared) => Ok(shared.device.get().expect("the tensor was just put there").clone()),
        }
    }
}
