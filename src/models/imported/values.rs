//! The tensors of an imported network: parameters, and buffers that training moves by itself.

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId,
    RunningState,
};
use burn::tensor::{Bytes, DType, Device, Shape, Tensor, TensorData};

/// What a tensor of a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It learns.
    Parameter,
    /// It gets no gradient: a running statistic, which training may move, or a table.
    Buffer,
}

/// A tensor with its role.
#[derive(Debug, Clone)]
pub enum Held<const D: usize> {
    /// It learns.
    Parameter(Param<Tensor<D>>),
    /// It gets no gradient, and optimizers don't see it.
    Buffer(RunningState<Tensor<D>>),
}

/// Calls a function for the parameter or buffer.
macro_rules! each_role {
    ($held:expr, $tensor:ident => $body:expr) => {
        match $held {
            Held::Parameter($tensor) => $body,
            Held::Buffer($tensor) => $body,
        }
    };
    ($held:expr, $tensor:ident => same $body:expr) => {
        match $held {
            Held::Parameter($tensor) => Held::Parameter($body),
            Held::Buffer($tensor) => Held::Buffer($body),
        }
    };
}

impl<const D: usize> Held<D> {
    fn new(data: TensorData, role: Role, device: &Device) -> Self {
        let tensor = Tensor::from_data(data, (device, DType::F32));
        match role {
            Role::Parameter => Self::Parameter(Param::initialized(ParamId::new(), tensor).set_require_grad(true)),
            Role::Buffer => Self::Buffer(RunningState::new(tensor)),
        }
    }

    fn value(&self) -> Tensor<D> {
        match self {
            Self::Parameter(param) => param.val(),
            Self::Buffer(state) => state.value_sync(),
        }
    }
}

impl<const D: usize> Module for Held<D> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        each_role!(self, tensor => tensor.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        each_role!(self, tensor => same tensor.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        each_role!(self, tensor => same Module::to_device(tensor, device))
    }

    fn train(self) -> Self {
        each_role!(self, tensor => same Module::train(tensor))
    }

    fn valid(&self) -> Self {
        each_role!(self, tensor => same Module::valid(tensor))
    }

    fn materialize(self) -> Self {
        each_role!(self, tensor => same Module::materialize(tensor))
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        each_role!(self, tensor => Module::visit(tensor, visitor));
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        each_role!(self, tensor => same Module::map(tensor, mapper))
    }
}

impl<const D: usize> ModuleDisplayDefault for Held<D> {
    fn content(&self, content: Content) -> Option<Content> {
        match self {
            Self::Parameter(param) => param.content(content),
            Self::Buffer(state) => content.add_formatted(&format!("buffer {:?}", state.value().dims())).optional(),
        }
    }
}

impl<const D: usize> ModuleDisplay for Held<D> {}

/// A tensor of one to six axes.
#[derive(Debug, Clone)]
pub enum Values {
    /// One axis.
    One(Held<1>),
    /// Two axes.
    Two(Held<2>),
    /// Three axes.
    Three(Held<3>),
    /// Four axes.
    Four(Held<4>),
    /// Five axes.
    Five(Held<5>),
    /// Six axes.
    Six(Held<6>),
}

/// Calls a function for the tensor of whatever rank.
macro_rules! each_rank {
    ($values:expr, $held:ident => $body:expr) => {
        match $values {
            Values::One($held) => $body,
            Values::Two($held) => $body,
            Values::Three($held) => $body,
            Values::Four($held) => $body,
            Values::Five($held) => $body,
            Values::Six($held) => $body,
        }
    };
    ($values:expr, $held:ident => same $body:expr) => {
        match $values {
            Values::One($held) => Values::One($body),
            Values::Two($held) => Values::Two($body),
            Values::Three($held) => Values::Three($body),
            Values::Four($held) => Values::Four($body),
            Values::Five($held) => Values::Five($body),
            Values::Six($held) => Values::Six($body),
        }
    };
}
pub(super) use each_rank;

impl Values {
    /// A tensor of 32-bit floats; `None` when it has no axes or more than six.
    pub fn new(values: Bytes, shape: &[usize], role: Role, device: &Device) -> Option<Self> {
        let data = TensorData::from_bytes(values, Shape::from(shape.to_vec()), DType::F32);
        Some(match shape.len() {
            1 => Self::One(Held::new(data, role, device)),
            2 => Self::Two(Held::new(data, role, device)),
            3 => Self::Three(Held::new(data, role, device)),
            4 => Self::Four(Held::new(data, role, device)),
            5 => Self::Five(Held::new(data, role, device)),
            6 => Self::Six(Held::new(data, role, device)),
            _ => return None,
        })
    }

    /// Whether it lies on a device that keeps track of gradients.
    pub fn is_autodiff(&self) -> bool {
        each_rank!(self, held => held.value().device().is_autodiff())
    }

    /// The values in row-major order, and their shape.
    pub fn flat(&self) -> (Tensor<1>, Vec<usize>) {
        each_rank!(self, held => {
            let value = held.value();
            let shape = value.shape();
            (value.reshape([shape.num_elements()]), shape.to_vec())
        })
    }

    /// Gives a buffer its next values, in row-major order; nothing else changes.
    pub fn advance(&self, values: Tensor<1>) {
        each_rank!(self, held => {
            if let Held::Buffer(state) = held {
                let shape = state.value().shape();
                state.update(values.detach().reshape(shape));
            }
        });
    }
}
