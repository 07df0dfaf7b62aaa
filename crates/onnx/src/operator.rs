//! What an operator says of itself: its schema, how a node of it is parsed, and the parsed operator that a node holds.
//!
//! A family of operators is a file in [`ops`](crate::ops) with a table of [`Entry`]: a row is all that registers an operator.
//! Attributes are read once, when a model is loaded; what is parsed then runs any number of times.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::graph::Attributes;
use crate::infer::{Fact, Rule, elements};
use crate::ops::Inputs;
use crate::{Result, Value};

/// The newest version of each domain's operator set whose meaning is known.
pub const NEWEST: &[(&str, i64)] =
    &[("", 28), ("ai.onnx.ml", 5), ("ai.onnx.preview", 1), ("ai.onnx.preview.training", 1), ("com.microsoft", 1)];

/// Any number of inputs.
pub const ANY: usize = usize::MAX;

/// What is known of an operator without a node of it.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The domain; empty for the standard one.
    pub domain: &'static str,
    /// The name.
    pub name: &'static str,
    /// Versions of the domain's operator set at which it came and changed, oldest first.
    pub since: &'static [i64],
    /// The least and greatest number of inputs over all versions.
    pub inputs: (usize, usize),
    /// Names of its attributes over all versions: `!` before a required one, `@13` after one that came with version 13, `<18` after
    /// one that went with version 18.
    pub attributes: &'static [&'static str],
    /// Whether it has no gradient by its nature: it gives positions, shapes or truth values.
    pub without_gradient: bool,
    /// Whether float inputs that are constants may be weights that learn, and not sizes, scales or bounds.
    pub weights: bool,
    /// Inputs from this one on are statistics, not weights.
    pub statistics: usize,
    /// Whether it draws random numbers: two nodes that look the same give different values.
    pub draws: bool,
    /// How types and shapes of outputs follow from those of inputs.
    pub rule: Rule,
}

impl Schema {
    /// An operator of the standard domain.
    pub const fn new(name: &'static str, since: &'static [i64], inputs: (usize, usize)) -> Self {
        Self::of("", name, since, inputs)
    }

    /// An operator of a domain.
    pub const fn of(domain: &'static str, name: &'static str, since: &'static [i64], inputs: (usize, usize)) -> Self {
        Self {
            domain,
            name,
            since,
            inputs,
            attributes: &[],
            without_gradient: false,
            weights: false,
            statistics: ANY,
            draws: false,
            rule: Rule::Operator,
        }
    }

    /// With attributes.
    pub const fn attributes(mut self, attributes: &'static [&'static str]) -> Self {
        self.attributes = attributes;
        self
    }

    /// Whether a version of the operator set has the operator.
    pub fn is_in(&self, version: i64) -> bool {
        self.since.first().is_some_and(|&first| first <= version)
    }

    /// Names of the attributes that it has in a version of the operator set, and whether a node must have them.
    pub fn attributes_in(&self, version: i64) -> impl Iterator<Item = (&'static str, bool)> {
        self.attributes.iter().filter_map(move |listed| {
            let name = listed.trim_start_matches('!');
            let end = name.find(['@', '<']).unwrap_or(name.len());
            let number = |mark: char| name.split_once(mark)?.1.split(['@', '<']).next()?.parse::<i64>().ok();
            let (came, went) = (number('@').unwrap_or(i64::MIN), number('<').unwrap_or(i64::MAX));
            (came..went).contains(&version).then_some((&name[..end], listed.starts_with('!')))
        })
    }

    /// It gives positions, shapes or truth values.
    pub const fn without_gradient(mut self) -> Self {
        self.without_gradient = true;
        self
    }

    /// Its constant float inputs may be weights.
    pub const fn weights(mut self) -> Self {
        self.weights = true;
        self
    }

    /// Its inputs from `position` on are statistics.
    pub const fn statistics(mut self, position: usize) -> Self {
        self.statistics = position;
        self
    }

    /// It draws random numbers.
    pub const fn draws(mut self) -> Self {
        self.draws = true;
        self
    }

    /// How its outputs' types and shapes follow from its inputs'.
    pub const fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }
}

/// What a file says of a node, for its operator to parse.
#[derive(Debug, Clone)]
pub struct RawNode {
    /// The operator.
    pub operator: String,
    /// The version of the operator set in use.
    pub version: i64,
    /// Constants of the node.
    pub attributes: Attributes,
    /// How many inputs it lists.
    pub inputs: usize,
    /// For each output it lists, whether somebody wants it.
    pub outputs: Vec<bool>,
}

impl RawNode {
    /// Whether somebody wants an output.
    pub fn wants(&self, output: usize) -> bool {
        self.outputs.get(output).copied().unwrap_or(false)
    }
}

/// A parsed operator.
pub trait Operator: Any + Send + Sync {
    /// Computes the outputs in order by the plain definition, which other runtimes are held against. Outputs that nobody wants
    /// may be given all the same. Values come from files of strangers: shapes are checked before anything is indexed.
    ///
    /// # Errors
    /// When the values do not fit the operator.
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>>;

    /// Types and shapes of the outputs, as far as those of the inputs tell; for operators whose schema has no other rule.
    ///
    /// # Errors
    /// When the inputs can't be right.
    fn infer(&self, _inputs: &[Fact]) -> Result<Vec<Fact>> {
        Ok(Vec::new())
    }

    /// Multiplications that it takes, where they are more than elements go in and come out; 0 where that is not known.
    fn work(&self, _inputs: &[Fact], _outputs: &[Fact]) -> u64 {
        0
    }
}

impl<F: Fn(&Inputs<'_>) -> Result<Vec<Value>> + Send + Sync + 'static> Operator for F {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        self(inputs)
    }
}

/// A parsed operator as it goes from a parser into its node.
pub type Parsed = Result<Arc<dyn Operator>>;

/// What a parser gives: the operator, perhaps with what it read from attributes.
///
/// # Errors
/// Never: for the end of a parser.
pub(crate) fn parsed(operator: impl Operator) -> Parsed {
    Ok(Arc::new(operator))
}

/// As [`parsed`], for a function of the inputs.
///
/// # Errors
/// Never: for the end of a parser.
pub(crate) fn eval(function: impl Fn(&Inputs<'_>) -> Result<Vec<Value>> + Send + Sync + 'static) -> Parsed {
    Ok(Arc::new(function))
}

/// A row of the table of operators.
#[derive(Clone, Copy)]
pub struct Entry {
    /// What is known of the operator.
    pub schema: Schema,
    parse: Parse,
}

#[derive(Clone, Copy)]
enum Parse {
    /// Reads the attributes.
    Node(fn(&RawNode) -> Parsed),
    /// There are none to read.
    Plain(fn(&Inputs<'_>) -> Result<Vec<Value>>),
}

impl Entry {
    /// An operator with attributes or versions to read.
    pub(crate) const fn new(schema: Schema, parse: fn(&RawNode) -> Parsed) -> Self {
        Self { schema, parse: Parse::Node(parse) }
    }

    /// An operator without attributes.
    pub(crate) const fn plain(schema: Schema, eval: fn(&Inputs<'_>) -> Result<Vec<Value>>) -> Self {
        Self { schema, parse: Parse::Plain(eval) }
    }

    /// The operator of a node.
    ///
    /// # Errors
    /// When an attribute is missing or wrong.
    pub fn parse(&'static self, node: &RawNode) -> Result<Op> {
        let operator = match self.parse {
            Parse::Node(parse) => parse(node)?,
            Parse::Plain(eval) => Arc::new(eval),
        };
        Ok(Op { schema: &self.schema, operator })
    }
}

/// The operator that a node holds.
#[derive(Clone)]
pub struct Op {
    schema: &'static Schema,
    operator: Arc<dyn Operator>,
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Op").field(&self.schema.name).finish()
    }
}

impl Op {
    /// What is known of the operator.
    pub fn schema(&self) -> &'static Schema {
        self.schema
    }

    /// Computes the outputs in order by the plain definition.
    ///
    /// # Errors
    /// When the values do not fit the operator.
    pub fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        self.operator.eval(inputs)
    }

    /// The parsed operator of a type, if it is one.
    pub fn get<T: Operator>(&self) -> Option<&T> {
        let operator: &dyn Any = &*self.operator;
        operator.downcast_ref()
    }

    /// Whether the results of inputs of these types and shapes are within limits, as far as that is known before they are computed.
    ///
    /// # Errors
    /// When they are too large or take too long.
    pub fn check(&self, inputs: &[Fact]) -> Result<()> {
        // What does not fit is said best by the evaluation.
        let Ok(outputs) = self.infer(inputs) else { return Ok(()) };
        for shape in outputs.iter().filter_map(Fact::sizes) {
            crate::array::count(&shape)?;
        }
        let inner = |fact: Option<&Fact>| fact.and_then(Fact::sizes).and_then(|sizes| sizes.last().copied());
        crate::limit::work(match self.schema.rule {
            Rule::MatMul => outputs
                .first()
                .and_then(Fact::sizes)
                .map_or(0, |shape| elements(Some(&shape)).saturating_mul(inner(inputs.first()).unwrap_or(0) as u64)),
            _ => self.operator.work(inputs, &outputs),
        })
    }

    /// Types and shapes of the outputs, as far as those of the inputs tell.
    ///
    /// # Errors
    /// When the inputs can't be right.
    pub fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        match self.schema.rule {
            Rule::Operator => self.operator.infer(inputs),
            rule => rule.apply(inputs),
        }
    }
}
