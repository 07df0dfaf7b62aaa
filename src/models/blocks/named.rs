//! Modules whose children have names in PyTorch that a Rust field can't have: numbers, hyphens, counters.

use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor};
use burn::tensor::Device;

/// Implements [`Module`] for a struct, each child under the name that it has in PyTorch.
///
/// `named_module!(Pair { conv => "0", norm => "1"; activation })`: what stands after the semicolon has no parameters and is
/// copied as it is (it must be `Copy`). The order is that of `state_dict()`.
macro_rules! named_module {
    ($name:ident { $($field:ident => $torch:literal),* $(,)? $(; $($plain:ident),*)? }) => {
        impl burn::module::Module for $name {
            fn collect_devices(&self, devices: burn::module::Devices) -> burn::module::Devices {
                $(let devices = burn::module::Module::collect_devices(&self.$field, devices);)*
                devices
            }

            fn fork(self, device: &burn::tensor::Device) -> Self {
                Self { $($field: burn::module::Module::fork(self.$field, device),)* $($($plain: self.$plain,)*)? }
            }

            fn to_device(self, device: &burn::tensor::Device) -> Self {
                Self { $($field: burn::module::Module::to_device(self.$field, device),)* $($($plain: self.$plain,)*)? }
            }

            fn train(self) -> Self {
                Self { $($field: burn::module::Module::train(self.$field),)* $($($plain: self.$plain,)*)? }
            }

            fn valid(&self) -> Self {
                Self { $($field: burn::module::Module::valid(&self.$field),)* $($($plain: self.$plain,)*)? }
            }

            fn materialize(self) -> Self {
                Self { $($field: burn::module::Module::materialize(self.$field),)* $($($plain: self.$plain,)*)? }
            }

            fn visit<V: burn::module::ModuleVisitor>(&self, visitor: &mut V) {
                const CONTAINER: &str = concat!("Struct:", stringify!($name));
                $(
                    visitor.enter_module($torch, CONTAINER);
                    burn::module::Module::visit(&self.$field, visitor);
                    visitor.exit_module($torch, CONTAINER);
                )*
            }

            fn map<M: burn::module::ModuleMapper>(self, mapper: &mut M) -> Self {
                const CONTAINER: &str = concat!("Struct:", stringify!($name));
                $(
                    mapper.enter_module($torch, CONTAINER);
                    let $field = burn::module::Module::map(self.$field, mapper);
                    mapper.exit_module($torch, CONTAINER);
                )*
                Self { $($field,)* $($($plain: self.$plain,)*)? }
            }
        }

        impl burn::module::ModuleDisplayDefault for $name {
            fn content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
                content
                    .set_top_level_type(stringify!($name))
                    $(.add($torch, &self.$field))*
                    .optional()
            }
        }

        impl burn::module::ModuleDisplay for $name {}

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&burn::module::ModuleDisplay::format(self, Default::default()))
            }
        }
    };
}

pub(crate) use named_module;

/// A sequence of modules with names of their own, as `nn.Sequential(OrderedDict(…))` and `add_module` give them.
#[derive(Debug, Clone)]
pub struct Named<M> {
    names: Vec<String>,
    /// The modules in the order in which they run.
    pub modules: Vec<M>,
}

impl<M> Named<M> {
    /// The modules of pairs of name and module.
    pub fn new(pairs: impl IntoIterator<Item = (String, M)>) -> Self {
        let (names, modules) = pairs.into_iter().unzip();
        Self { names, modules }
    }

    fn with(self, change: impl FnMut(M) -> M) -> Self {
        Self { names: self.names, modules: self.modules.into_iter().map(change).collect() }
    }
}

/// What Burn calls the container of a child.
const CONTAINER: &str = "Named";

impl<M: Module> Module for Named<M> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.modules.iter().fold(devices, |devices, module| module.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.with(|module| module.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|module| module.to_device(device))
    }

    fn train(self) -> Self {
        self.with(Module::train)
    }

    fn valid(&self) -> Self {
        Self { names: self.names.clone(), modules: self.modules.iter().map(Module::valid).collect() }
    }

    fn materialize(self) -> Self {
        self.with(Module::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (name, module) in self.names.iter().zip(&self.modules) {
            visitor.enter_module(name, CONTAINER);
            module.visit(visitor);
            visitor.exit_module(name, CONTAINER);
        }
    }

    fn map<F: ModuleMapper>(self, mapper: &mut F) -> Self {
        let mapped = self.names.iter().zip(self.modules).map(|(name, module)| {
            mapper.enter_module(name, CONTAINER);
            let module = module.map(mapper);
            mapper.exit_module(name, CONTAINER);
            module
        });
        let modules = mapped.collect();
        Self { names: self.names, modules }
    }
}

impl<M: ModuleDisplay> ModuleDisplayDefault for Named<M> {
    fn content(&self, content: Content) -> Option<Content> {
        let pairs = self.names.iter().zip(&self.modules);
        pairs.fold(content, |content, (name, module)| content.add(name, module)).optional()
    }
}

impl<M: ModuleDisplay> ModuleDisplay for Named<M> {}
