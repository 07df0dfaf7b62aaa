//! Integers and floats that follow from sizes: known where they can be, else scalars of the graph.

use rekindle_onnx::builder::{Attr, ValueName};
use rekindle_onnx::{Array, DType};

use super::{Float, Int, Lower, TensorId, Value};
use crate::{Error, Result};

impl Lower {
    /// The shape of a value as a vector of int64.
    pub fn shape_of(&mut self, value: &str) -> Result<ValueName> {
        if let Some(known) = self.shapes.get(value) {
            return Ok(known.clone());
        }
        let shape = self.node("Shape", &[value], &[])?;
        if !self.is_nested() {
            self.shapes.insert(value.into(), shape.clone());
        }
        Ok(shape)
    }

    /// One size of a tensor.
    pub fn size_int(&mut self, tensor: TensorId, axis: usize) -> Result<Int> {
        if let Some(size) = self.state(tensor).shape.get(axis).and_then(|dim| dim.size()) {
            return Ok(Int::Known(size as i64));
        }
        let value = self.value(tensor)?;
        self.size_value(&value, axis)
    }

    /// One size of a value, computed by the graph.
    pub fn size_value(&mut self, value: &str, axis: usize) -> Result<Int> {
        let key = (value.into(), axis);
        if let Some(known) = self.sizes.get(&key) {
            return Ok(known.clone());
        }
        let shape = self.shape_of(value)?;
        let at = self.constant(&Array::scalar(axis as i64))?;
        let size = Int::Open(self.node("Gather", &[&shape, &at], &[("axis", Attr::Int(0))])?);
        if !self.is_nested() {
            self.sizes.insert(key, size.clone());
        }
        Ok(size)
    }

    /// An integer as a scalar of the graph.
    pub fn int_value(&mut self, int: &Int) -> Result<ValueName> {
        match int {
            Int::Known(int) => self.constant(&Array::scalar(*int)),
            Int::Open(value) => Ok(value.clone()),
        }
    }

    /// What an integer is in each example, as far as it is known.
    pub fn hints(&self, int: &Int) -> Option<Vec<i64>> {
        match int {
            Int::Known(int) => Some(vec![*int; self.probes()]),
            Int::Open(value) if self.is_supposed(value) => None,
            Int::Open(value) => {
                let fact = self.fact(value)?;
                fact.probes.iter().map(|probe| probe.data.as_ref()?.int().ok()).collect()
            }
        }
    }

    /// Integers as a vector of the graph.
    pub fn vector(&mut self, ints: &[Int]) -> Result<ValueName> {
        let known: Option<Vec<i64>> =
            ints.iter().map(|int| if let Int::Known(int) = int { Some(*int) } else { None }).collect();
        if let Some(known) = known {
            return self.ints(&known);
        }
        let one = self.ints(&[1])?;
        let mut parts = Vec::with_capacity(ints.len());
        for int in ints {
            parts.push(match int {
                Int::Known(int) => self.ints(&[*int])?,
                Int::Open(value) => self.node("Reshape", &[value, &one], &[])?,
            });
        }
        if let [part] = parts.as_slice() {
            return Ok(part.clone());
        }
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        self.node("Concat", &parts, &[("axis", Attr::Int(0))])
    }

    fn int_node(&mut self, operator: &str, a: &Int, b: &Int) -> Result<Int> {
        let (a, b) = (self.int_value(a)?, self.int_value(b)?);
        Ok(Int::Open(self.node(operator, &[&a, &b], &[])?))
    }

    /// `a + b`
    pub fn int_add(&mut self, a: &Int, b: &Int) -> Result<Int> {
        self.int_op("add", a, b)
    }

    /// An operation of Python on two integers: add, sub, mul, floordiv, mod, min, max, pow.
    pub fn int_op(&mut self, operator: &str, a: &Int, b: &Int) -> Result<Int> {
        if let (Int::Known(x), Int::Known(y)) = (a, b) {
            let (x, y) = (*x, *y);
            let known = match operator {
                "add" => x.checked_add(y),
                "sub" => x.checked_sub(y),
                "mul" => x.checked_mul(y),
                "floordiv" if y != 0 => {
                    x.checked_div(y).map(|q| if x % y != 0 && (x < 0) != (y < 0) { q - 1 } else { q })
                }
                "mod" if y != 0 => x.checked_rem(y).map(|r| if r != 0 && (r < 0) != (y < 0) { r + y } else { r }),
                "min" => Some(x.min(y)),
                "max" => Some(x.max(y)),
                "pow" => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
                _ => None,
            };
            let known = known.ok_or_else(|| Error::invalid(format!("{operator} of {x} and {y} has no answer")))?;
            return Ok(Int::Known(known));
        }
        match (operator, a, b) {
            ("add", Int::Known(0), _) | ("mul", Int::Known(1), _) => return Ok(b.clone()),
            ("add" | "sub", _, Int::Known(0)) | ("mul" | "floordiv", _, Int::Known(1)) => return Ok(a.clone()),
            _ => {}
        }
        match operator {
            "add" => self.int_node("Add", a, b),
            "sub" => self.int_node("Sub", a, b),
            "mul" => self.int_node("Mul", a, b),
            "mod" => self.int_node("Mod", a, b),
            "min" => self.int_node("Min", a, b),
            "max" => self.int_node("Max", a, b),
            "pow" => self.int_node("Pow", a, b),
            // ONNX rounds towards zero, Python down: without the rest there is nothing to round.
            "floordiv" => {
                let rest = self.int_node("Mod", a, b)?;
                let exact = self.int_node("Sub", a, &rest)?;
                self.int_node("Div", &exact, b)
            }
            other => Err(Error::beyond(format!("{other} of open sizes"))),
        }
    }

    /// An integer as a float that follows it.
    pub fn float_of(&mut self, int: &Int) -> Result<Float> {
        match int {
            Int::Known(int) => Ok(Float::Known(*int as f64)),
            Int::Open(value) => Ok(Float::Open(self.cast(value, DType::I64, DType::F64)?)),
        }
    }

    /// A float as a scalar of float64 of the graph.
    pub fn float_value(&mut self, float: &Float) -> Result<ValueName> {
        match float {
            Float::Known(float) => self.number(*float, DType::F64),
            Float::Open(value) => Ok(value.clone()),
        }
    }

    /// A number of Python as a scalar of a type.
    ///
    /// # Errors
    /// When it is no number.
    pub fn scalar(&mut self, number: &Value, dtype: DType) -> Result<ValueName> {
        match number {
            Value::Int(Int::Known(int)) if dtype.is_int() => {
                // PyTorch wraps what does not fit, as a cast does.
                let wide = self.constant(&Array::scalar(*int))?;
                let fits = dtype.int_range().is_some_and(|(low, high)| (low..=high).contains(&i128::from(*int)));
                if fits {
                    self.constant(&Array::of_ints(dtype, Vec::new(), vec![i128::from(*int)])?)
                } else {
                    self.cast(&wide, DType::I64, dtype)
                }
            }
            Value::Int(Int::Known(int)) => self.number(*int as f64, dtype),
            Value::Int(Int::Open(value)) => self.cast(value, DType::I64, dtype),
            Value::Float(Float::Known(float)) => self.number(*float, dtype),
            Value::Float(Float::Open(value)) => self.cast(value, DType::F64, dtype),
            Value::Bool(bool) => self.number(f64::from(u8::from(*bool)), dtype),
            Value::OpenBool(value) => self.cast(value, DType::Bool, dtype),
            Value::Tensor(tensor) => self.value_as(*tensor, dtype),
            other => Err(Error::invalid(format!("expected a number, found {}", other.kind()))),
        }
    }
}
