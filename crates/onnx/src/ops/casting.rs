//! Values as other types, and their bits.

use super::{Inputs, dtype_attribute, one};
use crate::array::{Broadcast, Data, Rounding, count};
use crate::graph::weight;
use crate::infer::{Fact, Rule};
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("Cast", &[1, 6, 9, 13, 19, 21, 23, 24, 25, 28], (1, 1)).attributes(&[
            "round_mode@24",
            "saturate@19",
            "!to",
        ]),
        |node| parsed(Cast::parse(node, false)?),
    ),
    Entry::new(
        Schema::new("CastLike", &[15, 19, 21, 23, 24, 25], (2, 2)).attributes(&["round_mode@24", "saturate@19"]),
        |node| parsed(Cast::parse(node, true)?),
    ),
    Entry::new(Schema::new("BitCast", &[26], (1, 1)).attributes(&["!to"]), bit_cast),
    Entry::new(
        Schema::new("BitShift", &[11, 28], (2, 2)).attributes(&["!direction"]).rule(Rule::Broadcast).without_gradient(),
        bit_shift,
    ),
    Entry::plain(Schema::new("BitwiseNot", &[18], (1, 1)).rule(Rule::Same).without_gradient(), bitwise_not),
];

/// `Cast` and `CastLike`.
#[derive(Debug, Clone)]
pub struct Cast {
    /// The type; that of the second input if not given.
    pub to: Option<DType>,
    /// Whether what is too large for a small float becomes its greatest value.
    pub saturate: bool,
    /// How values between those of `float8e8m0` are rounded.
    pub rounding: Rounding,
}

impl Cast {
    fn parse(node: &RawNode, like: bool) -> Result<Self> {
        // Version 1 names the type in a text.
        let to = match (like, node.version) {
            (true, _) => None,
            (false, ..6) => {
                let name = node.attributes.text("to")?.unwrap_or_default();
                Some(named(name).ok_or_else(|| Error::invalid(format!("'{name}' is no element type")))?)
            }
            (false, _) => Some(target(node)?),
        };
        let rounding = match node.attributes.text_or("round_mode", "up")? {
            "up" => Rounding::Up,
            "down" => Rounding::Down,
            "nearest" => Rounding::Nearest,
            other => return Err(Error::invalid(format!("round_mode is '{other}', not up, down or nearest"))),
        };
        Ok(Self { to, saturate: node.attributes.flag("saturate", true)?, rounding })
    }
}

impl Operator for Cast {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let to = match self.to {
            Some(to) => to,
            None => inputs.array(1)?.dtype(),
        };
        one(inputs.array(0)?.cast(to, self.saturate, self.rounding)?)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(x) = inputs.first() else { return Ok(Vec::new()) };
        let dtype = self.to.or_else(|| inputs.get(1)?.dtype);
        Ok(vec![Fact { dtype, shape: x.shape.clone(), ints: x.ints.clone().filter(|_| dtype == Some(DType::I64)) }])
    }
}

fn target(node: &RawNode) -> Result<DType> {
    dtype_attribute(node, "to")?.ok_or_else(|| Error::invalid("attribute 'to' is missing"))
}

fn named(name: &str) -> Option<DType> {
    Some(match name.to_ascii_uppercase().as_str() {
        "FLOAT" => DType::F32,
        "DOUBLE" => DType::F64,
        "BFLOAT16" => DType::BF16,
        "STRING" => DType::Str,
        lower => (1..=16).filter_map(DType::from_number).find(|dtype| dtype.name() == lower.to_ascii_lowercase())?,
    })
}

/// The same bits under another type of the same width.
fn bit_cast(node: &RawNode) -> Parsed {
    let dtype = target(node)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        if x.dtype().bits() != dtype.bits() || dtype == DType::Str {
            return Err(Error::invalid(format!("the bits of {} are no {dtype}", x.dtype())));
        }
        let mut bytes = bytes(x.data());
        if dtype.bits() < 8 {
            // A byte holds an integer sign-extended, a code as it is.
            let spare = 8 - dtype.bits() as u32;
            let signed = dtype.is_signed_int();
            bytes.iter_mut().for_each(|byte| {
                *byte = if signed { ((*byte << spare) as i8 >> spare) as u8 } else { *byte << spare >> spare }
            });
        }
        one(Array::from_data(x.shape().to_vec(), weight::values(dtype, &bytes))?)
    })
}

/// The little-endian bytes of values; codes take one each. Texts have none.
fn bytes(data: &Data) -> Vec<u8> {
    match data {
        Data::Code(_, codes) => codes.to_vec(),
        other => other.le_bytes().unwrap_or_default(),
    }
}

fn bit_shift(node: &RawNode) -> Parsed {
    let left = match node.attributes.text_or("direction", "")? {
        "LEFT" => true,
        "RIGHT" => false,
        other => return Err(Error::invalid(format!("direction is '{other}', not LEFT or RIGHT"))),
    };
    eval(move |inputs| {
        let (a, b) = (inputs.array(0)?, inputs.array(1)?);
        let bits = a.dtype().bits() as i128;
        if !a.dtype().is_int() || a.dtype() != b.dtype() {
            return Err(Error::invalid(format!(
                "expected integers of one type, found {} and {}",
                a.dtype(),
                b.dtype()
            )));
        }
        let both = Broadcast::new(&[a.shape(), b.shape()])?;
        let (x, y) = (a.ints()?, b.ints()?);
        // Too far, or a negative distance: only copies of the sign are left, or nothing.
        let shifted = |value: i128, by: i128| match (left, (0..bits).contains(&by)) {
            (true, true) => value << by,
            (true, false) => 0,
            (false, inside) => value >> if inside { by } else { bits },
        };
        let values = (0..count(&both.shape)?).map(|i| shifted(x[both.at(0, i)], y[both.at(1, i)])).collect();
        one(Array::of_ints(a.dtype(), both.shape, values)?)
    })
}

fn bitwise_not(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    if !x.dtype().is_int() {
        return Err(Error::invalid(format!("expected integers, found {}", x.dtype())));
    }
    one(Array::of_ints(x.dtype(), x.shape().to_vec(), x.ints()?.into_iter().map(|v| !v).collect())?)
}
