//! Any network behind one type.
//!
//! [`Network`] is a Burn module like any other: it is visited, mapped, recorded and moved. What it holds is a [`Forward`] of any
//! type. Burn's visitors and mappers are generic over the number of axes, which a trait object cannot be: a parameter crosses
//! the border as `dyn Any` and becomes itself again on the other side, one downcast for each number of axes.

use std::any::Any;
use std::fmt;

use burn::module::{
    Content, Devices, Flag, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
};
use burn::store::ModuleRecord;
use burn::tensor::{Bool, Device, Int, Tensor};

use super::{Forward, FromInput, Input, IntoOutputs, ModelError, Output, Outputs, record};

/// A network of any type: built in, one's own, or a graph from a file.
pub struct Network(Box<dyn DynNetwork>);

impl Network {
    /// A network of a module.
    pub fn new(module: impl Forward) -> Self {
        Self(Box::new(Typed(module)))
    }

    /// Runs the network on a batch and gives its answer; auxiliary heads are left out.
    ///
    /// In evaluation mode (a device without autodiff) dropout is off and batch normalisation uses its running statistics.
    ///
    /// # Errors
    /// When the input is of another kind than the network takes, or a graph from a file cannot be run on it.
    pub fn forward(&self, input: impl Into<Input>) -> Result<Output, ModelError> {
        Ok(self.outputs(input)?.main)
    }

    /// Runs the network on a batch and gives everything, auxiliary heads too.
    ///
    /// # Errors
    /// As for [`Network::forward`].
    pub fn outputs(&self, input: impl Into<Input>) -> Result<Outputs, ModelError> {
        self.0.outputs(input.into())
    }

    /// The module, if it is of this type.
    pub fn get<M: Forward>(&self) -> Option<&M> {
        self.0.as_any().downcast_ref::<Typed<M>>().map(|typed| &typed.0)
    }

    /// The module, if it is of this type, else the network.
    ///
    /// # Errors
    /// Gives the network back when it holds another type.
    pub fn into_module<M: Forward>(self) -> Result<M, Self> {
        if self.get::<M>().is_none() {
            return Err(self);
        }
        match self.0.into_any().downcast::<Typed<M>>() {
            Ok(typed) => Ok(typed.0),
            Err(_) => unreachable!("the type was looked at"),
        }
    }

    /// The type of the module without its path: `Vgg`.
    pub fn class(&self) -> &'static str {
        self.0.class()
    }
}

/// Calls something inside the segment that records of the first built-in networks have before every name.
macro_rules! inside {
    ($network:expr, $walker:ident, $walk:expr) => {{
        let prefix = $network.0.record_prefix();
        if let Some(prefix) = prefix {
            $walker.enter_module(prefix, CONTAINER);
        }
        let result = $walk;
        if let Some(prefix) = prefix {
            $walker.exit_module(prefix, CONTAINER);
        }
        result
    }};
}

/// The container of that segment: as that of any enum, it is no part of PyTorch's names.
const CONTAINER: &str = "Enum:Network";

impl Module for Network {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.0.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self(self.0.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        Self(self.0.to_device(device))
    }

    fn train(self) -> Self {
        Self(self.0.train())
    }

    fn valid(&self) -> Self {
        Self(self.0.valid())
    }

    fn materialize(self) -> Self {
        Self(self.0.materialize())
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        inside!(self, visitor, self.0.visit(&mut Inner(visitor)));
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        Self(inside!(self, mapper, self.0.map(&mut Inner(mapper))))
    }

    fn into_record(self) -> ModuleRecord {
        // A module that is not there has no tensors.
        let recorded = (!record::is_apart()).then_some(self);
        recorded.into_record()
    }
}

impl Clone for Network {
    fn clone(&self) -> Self {
        Self(self.0.duplicate())
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display(f)
    }
}

impl ModuleDisplayDefault for Network {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for Network {}

/// What [`Network`] asks of a module, without its type.
trait DynNetwork: fmt::Debug + Send + Sync {
    fn outputs(&self, input: Input) -> Result<Outputs, ModelError>;
    fn visit(&self, visitor: &mut dyn Visit);
    fn map(self: Box<Self>, mapper: &mut dyn Map) -> Box<dyn DynNetwork>;
    fn collect_devices(&self, devices: Devices) -> Devices;
    fn fork(self: Box<Self>, device: &Device) -> Box<dyn DynNetwork>;
    fn to_device(self: Box<Self>, device: &Device) -> Box<dyn DynNetwork>;
    fn train(self: Box<Self>) -> Box<dyn DynNetwork>;
    fn valid(&self) -> Box<dyn DynNetwork>;
    fn materialize(self: Box<Self>) -> Box<dyn DynNetwork>;
    fn duplicate(&self) -> Box<dyn DynNetwork>;
    fn display(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn class(&self) -> &'static str;
    fn record_prefix(&self) -> Option<&'static str>;
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// A module whose type is known.
#[derive(Debug)]
struct Typed<M>(M);

impl<M: Forward> DynNetwork for Typed<M> {
    fn outputs(&self, input: Input) -> Result<Outputs, ModelError> {
        let input = M::Input::from_input(input).map_err(|other| ModelError::Input {
            name: class::<M>().to_string(),
            expected: M::Input::WHAT.to_string(),
            found: other.describe(),
        })?;
        self.0.forward(input).into_outputs()
    }

    fn visit(&self, visitor: &mut dyn Visit) {
        self.0.visit(&mut Outer(visitor));
    }

    fn map(self: Box<Self>, mapper: &mut dyn Map) -> Box<dyn DynNetwork> {
        Box::new(Self(self.0.map(&mut Outer(mapper))))
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        self.0.collect_devices(devices)
    }

    fn fork(self: Box<Self>, device: &Device) -> Box<dyn DynNetwork> {
        // Burn's running statistics are shared by clones, and keep the newest batch aside until the next one. Only a network that
        // went through evaluation mode has its own, with every batch in them.
        let trains = self.0.devices().first().is_some_and(Device::is_autodiff);
        let apart = if trains { self.0.valid().train() } else { self.0 };
        Box::new(Self(apart.fork(device)))
    }

    fn to_device(self: Box<Self>, device: &Device) -> Box<dyn DynNetwork> {
        Box::new(Self(self.0.to_device(device)))
    }

    fn train(self: Box<Self>) -> Box<dyn DynNetwork> {
        Box::new(Self(self.0.train()))
    }

    fn valid(&self) -> Box<dyn DynNetwork> {
        Box::new(Self(self.0.valid()))
    }

    fn materialize(self: Box<Self>) -> Box<dyn DynNetwork> {
        Box::new(Self(self.0.materialize()))
    }

    fn duplicate(&self) -> Box<dyn DynNetwork> {
        Box::new(Self(self.0.clone()))
    }

    fn display(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }

    fn class(&self) -> &'static str {
        class::<M>()
    }

    fn record_prefix(&self) -> Option<&'static str> {
        M::RECORD_PREFIX
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The last part of a type's path: `Vgg`.
pub fn class<M>() -> &'static str {
    let path = std::any::type_name::<M>();
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

/// Numbers of axes that a parameter may have.
macro_rules! for_each_rank {
    ($body:ident) => {
        $body!(1, 2, 3, 4, 5, 6, 7, 8);
    };
}

/// [`ModuleVisitor`] without generics: parameters are `Param<Tensor<D, _>>` or `Param<Flag>`.
trait Visit {
    fn float(&mut self, param: &dyn Any);
    fn int(&mut self, param: &dyn Any);
    fn bool(&mut self, param: &dyn Any);
    fn flag(&mut self, flag: &Param<Flag>);
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// [`ModuleMapper`] without generics.
trait Map {
    fn float(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn int(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn bool(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag>;
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// The side of the module: a visitor or mapper of Burn's in front of a trait object.
struct Outer<'a, W: ?Sized>(&'a mut W);

impl ModuleVisitor for Outer<'_, dyn Visit + '_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.float(param);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.0.int(param);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.0.bool(param);
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.flag(flag);
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.0.enter(name, container);
    }

    fn exit_module(&mut self, name: &str, container: &str) {
        self.0.exit(name, container);
    }
}

impl ModuleMapper for Outer<'_, dyn Map + '_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        same(self.0.float(Box::new(param)))
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        same(self.0.int(Box::new(param)))
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        same(self.0.bool(Box::new(param)))
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.flag(flag)
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.0.enter(name, container);
    }

    fn exit_module(&mut self, name: &str, container: &str) {
        self.0.exit(name, container);
    }
}

/// The parameter that went over the border and came back.
fn same<P: 'static>(param: Box<dyn Any>) -> P {
    *param.downcast::<P>().unwrap_or_else(|_| unreachable!("a mapper of Burn's keeps the type of a parameter"))
}

/// The side of the visitor or mapper that was given to [`Network`].
struct Inner<'a, W>(&'a mut W);

impl<V: ModuleVisitor> Visit for Inner<'_, V> {
    fn float(&mut self, param: &dyn Any) {
        macro_rules! each {
            ($($d:literal),*) => {
                $(if let Some(param) = param.downcast_ref::<Param<Tensor<$d>>>() {
                    return self.0.visit_float(param);
                })*
            };
        }
        for_each_rank!(each);
        too_many_axes()
    }

    fn int(&mut self, param: &dyn Any) {
        macro_rules! each {
            ($($d:literal),*) => {
                $(if let Some(param) = param.downcast_ref::<Param<Tensor<$d, Int>>>() {
                    return self.0.visit_int(param);
                })*
            };
        }
        for_each_rank!(each);
        too_many_axes()
    }

    fn bool(&mut self, param: &dyn Any) {
        macro_rules! each {
            ($($d:literal),*) => {
                $(if let Some(param) = param.downcast_ref::<Param<Tensor<$d, Bool>>>() {
                    return self.0.visit_bool(param);
                })*
            };
        }
        for_each_rank!(each);
        too_many_axes()
    }

    fn flag(&mut self, flag: &Param<Flag>) {
        self.0.visit_flag(flag);
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }

    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

impl<M: ModuleMapper> Map for Inner<'_, M> {
    fn float(&mut self, mut param: Box<dyn Any>) -> Box<dyn Any> {
        macro_rules! each {
            ($($d:literal),*) => {
                $(match param.downcast::<Param<Tensor<$d>>>() {
                    Ok(param) => return Box::new(self.0.map_float(*param)),
                    Err(other) => param = other,
                })*
            };
        }
        for_each_rank!(each);
        drop(param);
        too_many_axes()
    }

    fn int(&mut self, mut param: Box<dyn Any>) -> Box<dyn Any> {
        macro_rules! each {
            ($($d:literal),*) => {
                $(match param.downcast::<Param<Tensor<$d, Int>>>() {
                    Ok(param) => return Box::new(self.0.map_int(*param)),
                    Err(other) => param = other,
                })*
            };
        }
        for_each_rank!(each);
        drop(param);
        too_many_axes()
    }

    fn bool(&mut self, mut param: Box<dyn Any>) -> Box<dyn Any> {
        macro_rules! each {
            ($($d:literal),*) => {
                $(match param.downcast::<Param<Tensor<$d, Bool>>>() {
                    Ok(param) => return Box::new(self.0.map_bool(*param)),
                    Err(other) => param = other,
                })*
            };
        }
        for_each_rank!(each);
        drop(param);
        too_many_axes()
    }

    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.map_flag(flag)
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }

    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

/// The guard over each verb makes a sentence of it.
fn too_many_axes() -> ! {
    panic!("a parameter of the network has more than 8 axes")
}
