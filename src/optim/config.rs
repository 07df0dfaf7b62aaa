//! The optimizer of a recipe: PyTorch's names, keys, defaults and limits, with parameter groups.

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::error::config;
use super::{Group, OptimError, ParameterInfo, Rule, Settings};

/// An optimizer with its hyper-parameters and parameter groups.
///
/// Reads from a table with `name` (`sgd`, `adam`, `adamw`, `rmsprop`), PyTorch's keys, and `groups`, a list of tables with `match`
/// and the keys that differ there. Keys and values that PyTorch would refuse are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "OptimizerTable", into = "OptimizerTable")]
pub struct OptimizerConfig {
    /// Learning rate of the parameters in no group.
    pub lr: f64,
    /// Update rule of the parameters in no group.
    pub rule: Rule,
    /// Parameters with settings of their own; the first that matches a parameter wins.
    pub groups: Vec<GroupConfig>,
}

/// Settings for the parameters whose PyTorch name a regular expression matches.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    /// The regular expression, found anywhere in the name unless it is anchored.
    pub pattern: String,
    /// What differs from the optimizer's own settings.
    pub settings: Settings,
}

/// Declares a table: its own keys, then those of [`Settings`]. Serde cannot both flatten a structure and refuse unknown keys.
macro_rules! table {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* } with $($key:ident: $value:ty),*) => {
        #[derive(Serialize, Deserialize, Clone)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($(#[$attribute])* $field: $type,)*
            $(#[serde(default, skip_serializing_if = "Option::is_none")] $key: Option<$value>,)*
        }

        impl $name {
            fn new($($field: $type,)* settings: Settings) -> Self {
                let Settings { $($key),* } = settings;
                Self { $($field,)* $($key),* }
            }

            fn settings(&self) -> Settings {
                Settings { $($key: self.$key),* }
            }
        }
    };
    ($name:ident $fields:tt) => {
        table! { $name $fields with lr: f64, betas: [f64; 2], eps: f64, alpha: f64, momentum: f64, dampening: f64, weight_decay: f64,
            nesterov: bool, centered: bool, amsgrad: bool, maximize: bool }
    };
}

table! { OptimizerTable {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")] groups: Vec<GroupTable>
} }
table! { GroupTable { #[serde(rename = "match")] pattern: String } }

impl TryFrom<OptimizerTable> for OptimizerConfig {
    type Error = OptimError;

    fn try_from(table: OptimizerTable) -> Result<Self, OptimError> {
        let mut this = Self::new(&table.name, &table.settings())?;
        for group in &table.groups {
            this.add_group(&group.pattern, group.settings())?;
        }
        Ok(this)
    }
}

impl From<OptimizerConfig> for OptimizerTable {
    fn from(config: OptimizerConfig) -> Self {
        let groups = config.groups.into_iter().map(|group| GroupTable::new(group.pattern, group.settings)).collect();
        Self::new(config.rule.name().to_string(), groups, config.rule.settings(config.lr))
    }
}

impl OptimizerConfig {
    /// An optimizer by name, with some settings that differ from PyTorch's defaults.
    ///
    /// # Errors
    /// When the name or a setting is unknown, or a value is one that PyTorch refuses.
    pub fn new(name: &str, settings: &Settings) -> Result<Self, OptimError> {
        let (lr, rule) = Rule::named(name)?;
        let (lr, rule) = rule.with(lr, settings)?;
        Ok(Self { lr, rule, groups: Vec::new() })
    }

    /// Adds a parameter group after those that are there.
    ///
    /// # Errors
    /// When the regular expression does not compile, or as for [`OptimizerConfig::new`].
    pub fn add_group(&mut self, pattern: &str, settings: Settings) -> Result<(), OptimError> {
        compile(pattern)?;
        self.rule
            .with(self.lr, &settings)
            .map_err(|error| OptimError::Config(format!("optimizer group '{pattern}': {error}")))?;
        self.groups.push(GroupConfig { pattern: pattern.to_string(), settings });
        Ok(())
    }

    /// Sorts a model's parameters into groups, as `param_groups` of a PyTorch optimizer: the configuration's groups in their order,
    /// then one with all other parameters if there are any. Parameters keep their order within a group.
    ///
    /// # Errors
    /// When there are no parameters, or a group has none of them.
    pub fn resolve(&self, parameters: &[ParameterInfo]) -> Result<Vec<Group>, OptimError> {
        if parameters.is_empty() {
            return config("the model has no parameters to optimize");
        }
        let mut left: Vec<usize> = (0..parameters.len()).collect();
        let mut groups = Vec::with_capacity(self.groups.len() + 1);
        for group in &self.groups {
            let pattern = compile(&group.pattern)?;
            let (members, others): (Vec<usize>, Vec<usize>) =
                left.into_iter().partition(|&index| pattern.is_match(&parameters[index].name));
            left = others;
            if members.is_empty() {
                return config(no_match(&group.pattern, &pattern, parameters));
            }
            let (lr, rule) = self.rule.with(self.lr, &group.settings)?;
            groups.push(Group { lr, initial_lr: None, rule, members });
        }
        if !left.is_empty() {
            groups.push(Group { lr: self.lr, initial_lr: None, rule: self.rule.clone(), members: left });
        }
        Ok(groups)
    }

    /// This configuration with the rules and learning rates of `groups`, which stand in the order of [`OptimizerConfig::resolve`].
    pub fn adopt(&self, groups: &[Group]) -> Self {
        let mut this = self.clone();
        if let Some(rest) = groups.get(self.groups.len()) {
            (this.lr, this.rule) = (rest.lr, rest.rule.clone());
        }
        let common = this.rule.settings(this.lr);
        for (config, group) in this.groups.iter_mut().zip(groups) {
            config.settings = group.rule.settings(group.lr).without(&common);
        }
        this
    }
}

fn compile(pattern: &str) -> Result<Regex, OptimError> {
    Regex::new(pattern).map_err(|error| {
        // The last line of a regex error is its reason; those before draw the position.
        let reason = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
        OptimError::Config(format!("optimizer group '{pattern}' is not a regular expression: {reason}"))
    })
}

/// Tells a pattern that matches nothing from one whose parameters earlier groups took.
fn no_match(text: &str, pattern: &Regex, parameters: &[ParameterInfo]) -> String {
    if parameters.iter().any(|parameter| pattern.is_match(&parameter.name)) {
        return format!("optimizer group '{text}' is empty: earlier groups took every parameter that it matches");
    }
    let names: Vec<&str> = parameters.iter().take(4).map(|parameter| parameter.name.as_str()).collect();
    let more = if parameters.len() > names.len() { ", …" } else { "" };
    format!("optimizer group '{text}' matches no parameter: the model's are {}{more}", names.join(", "))
}
