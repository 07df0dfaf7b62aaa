//! A network whose computation comes from a file, with the file's weights as its parameters.

mod values;

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor};
use burn::tensor::Device;

use super::{Forward, Input, ModelError, Output};
use values::each_rank;
pub use values::{Role, Values};

/// What an imported network computes.
pub trait Computation: fmt::Debug + Send + Sync {
    /// Runs on a batch with these parameters. What is worked out from them may be kept: it is there again at the next call with
    /// the same ones.
    ///
    /// # Errors
    /// When the computation cannot take this input.
    fn forward(&self, parameters: &[Named], kept: &Kept, input: Input) -> Result<Output, ModelError>;
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

/// A parameter or buffer under the name that the file gives it.
#[derive(Debug, Clone)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The values.
    pub values: Values,
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

    /// A batch to whatever the file computes.
    ///
    /// # Errors
    /// When the file's computation cannot take this input.
    pub fn forward(&self, input: impl Into<Input>) -> Result<Output, ModelError> {
        self.computation.forward(&self.parameters, &self.kept, input.into())
    }

    /// The network with other parameters.
    fn with(self, change: impl FnMut(Named) -> Named) -> Self {
        Self::new(self.parameters.into_iter().map(change).collect(), self.computation)
    }
}

impl Forward for Imported {
    type Input = Input;
    type Output = Result<Output, ModelError>;
    const RECORD_PREFIX: Option<&'static str> = Some("Imported");

    fn forward(&self, input: Input) -> Result<Output, ModelError> {
        self.forward(input)
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
            .fold(devices, |devices, named| each_rank!(&named.values, held => held.collect_devices(devices)))
    }

    fn fork(self, device: &Device) -> Self {
        self.with(|named| Named { values: each_rank!(named.values, held => same held.fork(device)), ..named })
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|named| Named { values: each_rank!(named.values, held => same held.to_device(device)), ..named })
    }

    fn train(self) -> Self {
        self.with(|named| Named { values: each_rank!(named.values, held => same held.train()), ..named })
    }

    fn valid(&self) -> Self {
        self.clone().with(|named| Named { values: each_rank!(named.values, held => same held.valid()), ..named })
    }

    fn materialize(self) -> Self {
        self.with(|named| Named { values: each_rank!(named.values, held => same held.materialize()), ..named })
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        for named in &self.parameters {
            visitor.enter_module(&named.name, "Struct:Imported");
            each_rank!(&named.values, held => held.visit(visitor));
            visitor.exit_module(&named.name, "Struct:Imported");
        }
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        self.with(|named| {
            mapper.enter_module(&named.name, "Struct:Imported");
            let values = each_rank!(named.values, held => same Module::map(held, mapper));
            mapper.exit_module(&named.name, "Struct:Imported");
            Named { values, name: named.name }
        })
    }
}

impl ModuleDisplayDefault for Imported {
    fn content(&self, content: Content) -> Option<Content> {
        let add = |content: Content, named: &Named| each_rank!(&named.values, held => content.add(&named.name, held));
        self.parameters.iter().fold(content, add).optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for Imported {}
