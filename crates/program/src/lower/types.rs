//! The type of a result, as `torch.result_type` finds it.

use rekindle_onnx::DType;

use super::{Lower, Value};
use crate::{Error, Result};

/// The type that holds values of both.
pub(crate) fn promote(a: DType, b: DType) -> Result<DType> {
    use DType::{BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8};
    if a == b {
        return Ok(a);
    }
    let order = |dtype| [Bool, U8, I8, I16, I32, I64, F16, BF16, F32, F64].iter().position(|&own| own == dtype);
    let (Some(x), Some(y)) = (order(a), order(b)) else {
        return Err(Error::beyond(format!("a result of {a} and {b}")));
    };
    Ok(match if x < y { (a, b) } else { (b, a) } {
        (U8, I8) => I16,
        (F16, BF16) => F32,
        (_, wider) => wider,
    })
}

/// The rank of a category in the rules: truth values, integers, floats.
fn combined(higher: Option<DType>, lower: Option<DType>) -> Result<Option<DType>> {
    let (Some(high), Some(low)) = (higher, lower) else { return Ok(higher.or(lower)) };
    if high.is_float() {
        return Ok(Some(high));
    }
    if high == DType::Bool || low.is_float() {
        return promote(high, low).map(Some);
    }
    Ok(Some(high))
}

impl Lower {
    /// The type of the result of operands: tensors with axes count before those without, numbers of Python last.
    pub fn result_type(&self, operands: &[&Value]) -> Result<DType> {
        self.promoted(operands, true)
    }

    /// As [`Lower::result_type`]; `with_numbers` says whether tensors that stand for numbers of Python count as such.
    pub fn promoted(&self, operands: &[&Value], with_numbers: bool) -> Result<DType> {
        let (mut axes, mut none, mut numbers) = (None, None, None);
        let join = |slot: &mut Option<DType>, dtype: DType| -> Result<()> {
            *slot = Some(match *slot {
                Some(old) => promote(old, dtype)?,
                None => dtype,
            });
            Ok(())
        };
        for operand in operands {
            match operand {
                Value::Tensor(tensor) if self.rank(*tensor) > 0 => join(&mut axes, self.dtype(*tensor))?,
                Value::Tensor(tensor) if with_numbers && self.state(*tensor).number => {
                    join(&mut numbers, if self.dtype(*tensor).is_float() { DType::F32 } else { self.dtype(*tensor) })?;
                }
                Value::Tensor(tensor) => join(&mut none, self.dtype(*tensor))?,
                Value::Int(_) => join(&mut numbers, DType::I64)?,
                Value::Float(_) => join(&mut numbers, DType::F32)?,
                Value::Bool(_) => join(&mut numbers, DType::Bool)?,
                other => return Err(Error::invalid(format!("expected a tensor or number, found {}", other.kind()))),
            }
        }
        let result = combined(axes, combined(none, numbers)?)?;
        result.ok_or_else(|| Error::invalid("an operator without operands"))
    }
}

/// Integers and truth values become floats where an operator asks for floats.
pub(crate) fn floating(dtype: DType) -> DType {
    if dtype.is_float() { dtype } else { DType::F32 }
}
