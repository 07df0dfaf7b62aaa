//! The table of optimizers, and what is asked of any of them.

use std::collections::HashSet;
use std::sync::LazyLock;

use burn::Tensor;
use burn::optim::{LearningRate, Optimizer};
use burn::tensor::Device;
use rekindle_state::{StateDict, Value};

use super::error::config;
use super::field::{self, Field};
use super::kind::{Class, OptimizerKind};
use super::settings::SettingKind;
use super::state::Buffer;
use super::{Adadelta, Adagrad, Adam, Adamax, NAdam, OptimError, RAdam, RmsProp, Setting, Settings, Sgd, State};

/// Declares [`Rule`] with a variant for each optimizer, and hands everything that is asked of a rule to its optimizer.
macro_rules! optimizers {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// How a parameter moves with its gradient.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Rule {
            $($(#[$doc])* $kind($kind),)*
        }

        /// A class of each optimizer, as a rule: name, name in `torch.optim`, learning rate, other defaults.
        fn classes() -> Vec<(&'static str, &'static str, f64, Rule)> {
            let mut all = Vec::new();
            $(all.extend(<$kind>::CLASSES.iter().map(|class| (class.name, class.torch, class.lr, Rule::$kind((class.new)()))));)*
            all
        }

        /// Tensors and numbers of states, of all optimizers.
        const STATES: &[(&[Buffer], &[&str])] = &[$((<$kind>::BUFFERS, <$kind>::SCALARS),)*];

        /// The class that wrote one of `param_groups`.
        fn written_by(group: &StateDict, expected: &str) -> Option<&'static str> {
            $(if let Some(class) = <$kind>::written_by(group, expected) { return Some(class); })*
            None
        }

        impl Rule {
            fn class(&self) -> (&'static str, &'static str) {
                fn names<K>(class: &Class<K>) -> (&'static str, &'static str) {
                    (class.name, class.torch)
                }
                match self { $(Self::$kind(kind) => names(&<$kind>::CLASSES[kind.class()]),)* }
            }

            fn fields(&mut self) -> Vec<Field<'_>> {
                match self { $(Self::$kind(kind) => kind.fields(),)* }
            }

            fn check(&self) -> Result<(), OptimError> {
                match self { $(Self::$kind(kind) => kind.check(),)* }
            }

            /// Whether the state counts updates.
            pub(super) fn counts(&self) -> bool {
                match self { $(Self::$kind(_) => <$kind>::COUNTS,)* }
            }

            /// The tensors that this rule keeps, in the order in which PyTorch writes them.
            pub(super) fn buffers(&self) -> Vec<Buffer> {
                match self { $(Self::$kind(kind) => kind.buffers(),)* }
            }

            /// Every tensor that a rule of this kind may keep.
            pub(super) fn all_buffers(&self) -> &'static [Buffer] {
                match self { $(Self::$kind(_) => <$kind>::BUFFERS,)* }
            }

            /// The numbers that this rule keeps beside the count of updates.
            pub(super) fn scalars(&self) -> &'static [&'static str] {
                match self { $(Self::$kind(_) => <$kind>::SCALARS,)* }
            }

        }

        impl Optimizer for Rule {
            type State<const D: usize> = State<D>;

            fn step<const D: usize>(
                &self,
                lr: LearningRate,
                tensor: Tensor<D>,
                grad: Tensor<D>,
                state: Option<State<D>>,
            ) -> (Tensor<D>, Option<State<D>>) {
                let mut state = state.unwrap_or_default();
                state.step += u64::from(self.counts());
                let (tensor, state) = match self { $(Self::$kind(kind) => kind.step(lr, tensor, grad, state),)* };
                (tensor, (!state.is_empty()).then_some(state))
            }

            fn to_device<const D: usize>(state: State<D>, device: &Device) -> State<D> {
                state.on_device(device)
            }
        }
    };
}

// The order is that of records' tensors: a new one comes last.
optimizers! {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam and AdamW.
    Adam,
    /// RMSprop.
    RmsProp,
    /// Adagrad.
    Adagrad,
    /// Adamax.
    Adamax,
    /// Rectified Adam.
    RAdam,
    /// Adam with Nesterov's momentum.
    NAdam,
    /// Adadelta.
    Adadelta,
}

/// Every hyper-parameter of any optimizer, with the kind of its values.
pub(super) fn keys() -> &'static [(&'static str, SettingKind)] {
    static KEYS: LazyLock<Vec<(&str, SettingKind)>> = LazyLock::new(|| {
        let mut keys = vec![("lr", SettingKind::Number)];
        for (.., mut rule) in classes() {
            field::kinds(&mut keys, &rule.fields());
        }
        keys
    });
    &KEYS
}

/// The tensors of any optimizer's state, and the numbers beside the count.
pub(super) fn state_keys() -> &'static (Vec<Buffer>, Vec<&'static str>) {
    static KEYS: LazyLock<(Vec<Buffer>, Vec<&str>)> = LazyLock::new(|| {
        let mut seen = HashSet::new();
        // In this order since records have it: the velocity, then the rest as the table has it.
        let buffers = STATES.iter().flat_map(|(buffers, _)| buffers.iter().copied());
        let buffers = buffers.filter(|buffer| seen.insert(buffer.0)).collect();
        (buffers, STATES.iter().flat_map(|(_, scalars)| scalars.iter().copied()).collect())
    });
    &KEYS
}

impl Rule {
    /// The names that a configuration may use.
    pub fn names() -> Vec<&'static str> {
        classes().into_iter().map(|(name, ..)| name).collect()
    }

    /// The names of the classes in `torch.optim`.
    pub fn torch_names() -> Vec<&'static str> {
        classes().into_iter().map(|(_, torch, ..)| torch).collect()
    }

    /// A rule with PyTorch's defaults, and PyTorch's default learning rate for it.
    ///
    /// # Errors
    /// When no rule has this name.
    pub fn named(name: &str) -> Result<(f64, Self), OptimError> {
        match classes().into_iter().find(|(known, ..)| *known == name) {
            Some((.., lr, rule)) => Ok((lr, rule)),
            None => config(format!("unknown optimizer '{name}': expected one of {}", Self::names().join(", "))),
        }
    }

    /// The name in a configuration of the class that wrote one of a PyTorch optimizer's `param_groups`, if it is one that is here.
    pub fn of_group(group: &StateDict) -> Option<&'static str> {
        let class = Self::class_of_group(group, "")?;
        classes().into_iter().find(|(_, torch, ..)| *torch == class).map(|(name, ..)| name)
    }

    /// The class that wrote one of `param_groups`; of two that nothing in the file tells apart, the expected one.
    pub(super) fn class_of_group(group: &StateDict, expected: &str) -> Option<&'static str> {
        written_by(group, expected)
    }

    /// The name in a configuration.
    pub fn name(&self) -> &'static str {
        self.class().0
    }

    /// The name of the class in `torch.optim`.
    pub fn torch_name(&self) -> &'static str {
        self.class().1
    }

    /// This rule and learning rate with some settings changed.
    ///
    /// # Errors
    /// When a setting does not belong to the rule, or a value is one that PyTorch refuses.
    pub fn with(&self, lr: f64, settings: &Settings) -> Result<(f64, Self), OptimError> {
        let (mut lr, mut rule, owner) = (lr, self.clone(), format!("optimizer '{}'", self.name()));
        let mut fields = rule.fields();
        fields.insert(0, Field::number("lr", &mut lr).not_negative());
        field::lay(&owner, fields, settings, &[])?;
        rule.check()?;
        Ok((lr, rule))
    }

    /// Everything of one of `param_groups` between the learning rate and the parameters.
    pub(super) fn group(&self) -> Vec<(&'static str, Value)> {
        let mut rule = self.clone();
        rule.fields().into_iter().map(|field| (field.torch, field.value())).collect()
    }

    /// Every setting of this rule with its value.
    pub fn settings(&self, mut lr: f64) -> Settings {
        let mut rule = self.clone();
        let mut fields = rule.fields();
        fields.insert(0, Field::number("lr", &mut lr));
        field::settings(&fields)
    }

    /// One setting.
    pub fn setting(&self, key: &str) -> Option<Setting> {
        self.settings(0.0).get(key).filter(|_| key != "lr")
    }
}
