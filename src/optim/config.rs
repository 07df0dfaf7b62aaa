//! The optimizer of a recipe: PyTorch's names, keys, defaults and limits, with parameter groups.

use std::sync::LazyLock;

use regex::Regex;
use serde::de::MapAccess;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize};

use super::error::config;
use super::rule::keys;
use super::settings::{Own, SettingKind, Table, names};
use super::{Group, OptimError, ParameterInfo, Rule, Settings};

/// An optimizer with its hyper-parameters and parameter groups.
///
/// Reads from a table with `name` (`sgd`, `adam`, … : [`Rule::names`]), PyTorch's keys, and `groups`, a list of tables with `match`
/// and the keys that differ there. Keys and values that PyTorch would refuse are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table<OptimizerKeys>", into = "Table<OptimizerKeys>")]
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

/// The own keys of the table of an optimizer.
#[derive(Default)]
struct OptimizerKeys {
    name: Option<String>,
    groups: Vec<Table<GroupKeys>>,
}

impl Own for OptimizerKeys {
    const KEYS: &'static [&'static str] = &["name", "groups"];

    fn settings() -> &'static [(&'static str, SettingKind)] {
        keys()
    }

    fn known() -> &'static [&'static str] {
        static KNOWN: LazyLock<Vec<&str>> = LazyLock::new(|| names(OptimizerKeys::KEYS, keys()));
        &KNOWN
    }

    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name = Some(map.next_value()?),
            _ => self.groups = map.next_value()?,
        }
        Ok(())
    }

    fn missing(&self) -> Option<&'static str> {
        self.name.is_none().then_some("name")
    }

    fn write<S: SerializeMap>(&self, map: &mut S) -> Result<(), S::Error> {
        map.serialize_entry("name", &self.name)?;
        if self.groups.is_empty() { Ok(()) } else { map.serialize_entry("groups", &self.groups) }
    }
}

/// The own key of the table of a group.
#[derive(Default)]
struct GroupKeys {
    pattern: Option<String>,
}

impl Own for GroupKeys {
    const KEYS: &'static [&'static str] = &["match"];

    fn settings() -> &'static [(&'static str, SettingKind)] {
        keys()
    }

    fn known() -> &'static [&'static str] {
        static KNOWN: LazyLock<Vec<&str>> = LazyLock::new(|| names(GroupKeys::KEYS, keys()));
        &KNOWN
    }

    fn read<'de, A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        self.pattern = Some(map.next_value()?);
        Ok(())
    }

    fn missing(&self) -> Option<&'static str> {
        self.pattern.is_none().then_some("match")
    }

    fn write<S: SerializeMap>(&self, map: &mut S) -> Result<(), S::Error> {
        map.serialize_entry("match", &self.pattern)
    }
}

impl TryFrom<Table<OptimizerKeys>> for OptimizerConfig {
    type Error = OptimError;

    fn try_from(table: Table<OptimizerKeys>) -> Result<Self, OptimError> {
        let mut this = Self::new(&table.own.name.unwrap_or_default(), &table.settings)?;
        for group in table.own.groups {
            this.add_group(&group.own.pattern.unwrap_or_default(), group.settings)?;
        }
        Ok(this)
    }
}

impl From<OptimizerConfig> for Table<OptimizerKeys> {
    fn from(config: OptimizerConfig) -> Self {
        let group =
            |group: GroupConfig| Table { own: GroupKeys { pattern: Some(group.pattern) }, settings: group.settings };
        let groups = config.groups.into_iter().map(group).collect();
        let own = OptimizerKeys { name: Some(config.rule.name().to_string()), groups };
        Self { own, settings: config.rule.settings(config.lr) }
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
