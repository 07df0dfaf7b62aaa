//! A network whose computation comes from a file, with the file's weights as its parameters.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId,
};
use burn::tensor::{Bytes, DType, Device, Shape, Tensor, TensorData};

use super::{Forward, ModelError, Output};

/// What an imported network computes.
pub trait Computation: fmt::Debug + Send + Sync {
    /// Runs on `[batch, channels, height, width]` with these parameters. What is worked out from them may be kept: it is there
    /// again at the next call with the same ones.
    ///
    /// # Errors
    /// When the computation cannot take this input.
    fn forward(&self, parameters: &[Named], kept: &Kept, x: Tensor<4>) -> Result<Output, ModelError>;
}

/// Whatever a computation works out from parameters, for as long as these stay the same.
pub type Kept = OnceLock<Box<dyn Any + Send + Sync>>;

/// A network whose computation comes from a file.
#[derive(Debug, Clone)]
pub struct Imported {
    parameters: Vec<Named>,
    computation: Arc<dyn Computation>,
    kept: Arc<Kept>,
}

/// A parameter under the name that the file gives it.
#[derive(Debug, Clone)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The values.
    pub values: Values,
}

/// Calls a function for the parameter of whatever rank.
macro_rules! each_rank {
    ($values:expr, $param:ident => $body:expr) => {
        match $values {
            Values::One($param) => $body,
            Values::Two($param) => $body,
            Values::Three($param) => $body,
            Values::Four($param) => $body,
            Values::Five($param) => $body,
            Values::Six($param) => $body,
        }
    };
    ($values:expr, $param:ident => same $body:expr) => {
        match $values {
            Values::One($param) => Values::One($body),
            Values::Two($param) => Values::Two($body),
            Values::Three($param) => Values::Three($body),
            Values::Four($param) => Values::Four($body),
            Values::Five($param) => Values::Five($body),
            Values::Six($param) => Values::Six($body),
        }
    };
}

/// A parameter of one to six axes.
#[derive(Debug, Clone)]
pub enum Values {
    /// One axis.
    One(Param<Tensor<1>>),
    /// Two axes.
    Two(Param<Tensor<2>>),
    /// Three axes.
    Three(Param<Tensor<3>>),
    /// Four axes.
    Four(Param<Tensor<4>>),
    /// Five axes.
    Five(Param<Tensor<5>>),
    /// Six axes.
    Six(Param<Tensor<6>>),
}

impl Values {
    /// A parameter of 32-bit floats; `None` when it has no axes or more than six. One that is frozen gets no gradient.
    pub fn new(values: Bytes, shape: &[usize], frozen: bool, device: &Device) -> Option<Self> {
        fn param<const D: usize>(data: TensorData, frozen: bool, device: &Device) -> Param<Tensor<D>> {
            Param::initialized(ParamId::new(), Tensor::from_data(data, (device, DType::F32))).set_require_grad(!frozen)
        }
        let data = TensorData::from_bytes(values, Shape::from(shape.to_vec()), DType::F32);
        Some(match shape.len() {
            1 => Self::One(param(data, frozen, device)),
            2 => Self::Two(param(data, frozen, device)),
            3 => Self::Three(param(data, frozen, device)),
            4 => Self::Four(param(data, frozen, device)),
            5 => Self::Five(param(data, frozen, device)),
            6 => Self::Six(param(data, frozen, device)),
            _ => return None,
        })
    }

    /// Whether it lies on a device that keeps track of gradients.
    pub fn is_autodiff(&self) -> bool {
        each_rank!(self, param => param.val().device().is_autodiff())
    }

    /// The values in row-major order, and their shape.
    pub fn flat(&self) -> (Tensor<1>, Vec<usize>) {
        each_rank!(self, param => {
            let value = param.val();
            let shape = value.shape();
            (value.reshape([shape.num_elements()]), shape.to_vec())
        })
    }
}

impl Imported {
    /// A network of parameters and what is computed with them.
    pub fn new(parameters: Vec<Named>, computation: Arc<dyn Computation>) -> Self {
        Self { parameters, computation, kept: Arc::default() }
    }

    /// The parameters in the order of the file.
    pub fn parameters(&self) -> &[Named] {
        &self.parameters
    }

    /// `[batch, channels, height, width]` to whatever the file computes.
    ///
    /// # Errors
    /// When the file's computation cannot take this input.
    pub fn forward(&self, x: Tensor<4>) -> Result<Output, ModelError> {
        self.computation.forward(&self.parameters, &self.kept, x)
    }

    /// The network with other parameters.
    fn with(self, change: impl FnMut(Named) -> Named) -> Self {
        Self::new(self.parameters.into_iter().map(change).collect(), self.computation)
    }
}

impl Forward for Imported {
    type Input = Tensor<4>;
    type Output = Result<Output, ModelError>;
    const RECORD_PREFIX: Option<&'static str> = Some("Imported");

    fn forward(&self, x: Tensor<4>) -> Result<Output, ModelError> {
        self.forward(x)
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(Default::default()))
    }
}

/// Derived by Burn for structs whose field names are known when they are compiled; here they are those of the file.
impl Module for Imported {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.parameters
            .iter()
            .fold(devices, |devices, named| each_rank!(&named.values, param => param.collect_devices(devices)))
    }

    fn fork(self, device: &Device) -> Self {
        self.with(|named| Named { values: each_rank!(named.values, param => same param.fork(device)), ..named })
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|named| Named { values: each_rank!(named.values, param => same param.to_device(device)), ..named })
    }

    fn train(self) -> Self {
        self.with(|named| Named { values: each_rank!(named.values, param => same param.train()), ..named })
    }

    fn valid(&self) -> Self {
        self.clone().with(|named| Named { values: each_rank!(named.values, param => same param.valid()), ..named })
    }

    fn materialize(self) -> Self {
        self.with(|named| Named { values: each_rank!(named.values, param => same param.materialize()), ..named })
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        for named in &self.parameters {
            visitor.enter_module(&named.name, "Struct:Imported");
            each_rank!(&named.values, param => param.visit(visitor));
            visitor.exit_module(&named.name, "Struct:Imported");
        }
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        self.with(|named| {
            mapper.enter_module(&named.name, "Struct:Imported");
            let values = each_rank!(named.values, param => same Module::map(param, mapper));
            mapper.exit_module(&named.name, "Struct:Imported");
            Named { values, name: named.name }
        })
    }
}

impl ModuleDisplayDefault for Imported {
    fn content(&self, content: Content) -> Option<Content> {
        let add = |content: Content, named: &Named| each_rank!(&named.values, param => content.add(&named.name, param));
        self.parameters.iter().fold(content, add).optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for Imported {}
