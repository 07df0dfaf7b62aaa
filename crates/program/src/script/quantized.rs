//! Layers on quantized tensors. A quantized tensor is followed as the real numbers that it stands for, and the grid that they are
//! on: a layer computes with real numbers, and what it gives is put on the grid of its output.

use std::rc::Rc;

use rekindle_onnx::{Array, DType};
use rekindle_state::{Object as StoredObject, Quantization, Tensor, Value as Stored};

use super::eval::{Eval, plain_number};
use super::value::Item;
use crate::lower::{Float, Grid, Int, Lower, TensorId, Value};
use crate::{Error, Result};

/// The weights of a layer, as real numbers of the graph, and the settings of a convolution.
#[derive(Debug)]
pub struct Packed {
    weight: TensorId,
    bias: Value,
    settings: Option<Settings>,
}

/// Numbers of a convolution for each axis.
#[derive(Debug)]
struct Settings {
    stride: Vec<i64>,
    padding: Vec<i64>,
    dilation: Vec<i64>,
    output_padding: Vec<i64>,
    groups: i64,
    transposed: bool,
}

/// Whether a class holds packed weights.
pub(super) fn is_packed(class: &str) -> bool {
    class.contains("torch.classes.quantized.") && class.ends_with("PackedParamsBase")
}

impl Settings {
    fn read(tensor: &Tensor) -> Result<Self> {
        let bytes = tensor.bytes()?;
        let numbers: Vec<i64> =
            bytes.chunks_exact(2).map(|pair| i64::from(i16::from_le_bytes([pair[0], pair[1]]))).collect();
        Self::of(&numbers)
    }

    fn of(numbers: &[i64]) -> Result<Self> {
        let wrong = || Error::invalid("the settings of a quantized convolution are cut short");
        let (&axes, rest) = numbers.split_first().ok_or_else(wrong)?;
        let axes = usize::try_from(axes).map_err(|_| wrong())?.min(8);
        let (lists, tail) = rest.split_at_checked(4 * axes).ok_or_else(wrong)?;
        let [groups, transposed, ..] = tail else { return Err(wrong()) };
        let list = |at: usize| lists[at * axes..(at + 1) * axes].to_vec();
        Ok(Self {
            stride: list(0),
            padding: list(1),
            dilation: list(2),
            output_padding: list(3),
            groups: *groups,
            transposed: *transposed & 1 != 0,
        })
    }
}

/// A quantized tensor of a file as real numbers of the graph.
pub(super) fn weight(l: &mut Lower, name: &str, tensor: &Tensor) -> Result<TensorId> {
    let rekindle_state::Data::Quantized { view, scheme } = tensor.data() else { return l.weight(name, tensor) };
    let (stored, kind) = match tensor.dtype() {
        rekindle_state::DType::QInt8 => (rekindle_state::DType::I8, DType::I8),
        rekindle_state::DType::QUInt8 => (rekindle_state::DType::U8, DType::U8),
        other => return Err(Error::beyond(format!("'{name}' of the element type {other}"))),
    };
    let codes = Tensor::strided(stored, tensor.shape(), view.clone())?;
    let codes = l.builder.weight(name, &codes)?;
    let floats = |tensor: &Tensor| -> Result<Vec<f64>> {
        let bytes = tensor.bytes()?;
        Ok(match tensor.dtype() {
            rekindle_state::DType::F32 => {
                bytes.as_chunks::<4>().0.iter().map(|four| f64::from(f32::from_le_bytes(*four))).collect()
            }
            rekindle_state::DType::F64 => {
                bytes.as_chunks::<8>().0.iter().map(|eight| f64::from_le_bytes(*eight)).collect()
            }
            _ => bytes.as_chunks::<8>().0.iter().map(|eight| i64::from_le_bytes(*eight) as f64).collect(),
        })
    };
    let (shape, scales, zeros, axis) = match scheme {
        Quantization::PerTensor { scale, zero_point } => (Vec::new(), vec![*scale], vec![*zero_point as f64], 0),
        Quantization::PerChannel { scales, zero_points, axis, float_params: false } => {
            (vec![scales.numel() as usize], floats(scales)?, floats(zero_points)?, *axis)
        }
        Quantization::PerChannel { .. } => {
            return Err(Error::beyond(format!("'{name}' with zero points that are floats")));
        }
    };
    let zeros = zeros.into_iter().map(|zero| zero as i128).collect();
    let scale = l.constant(&Array::of_floats(DType::F32, shape.clone(), scales)?)?;
    let zero = l.constant(&Array::of_ints(kind, shape, zeros)?)?;
    let sizes: Vec<usize> = tensor.shape().iter().map(|&size| size as usize).collect();
    l.describe(&codes, kind, &sizes);
    let attributes = [("axis", rekindle_onnx::builder::Attr::Int(axis))];
    let value = l.node("DequantizeLinear", &[&codes, &scale, &zero], &attributes)?;
    l.tensor(value)
}

/// The packed weights of a layer.
pub(super) fn packed(l: &mut Lower, object: &StoredObject, path: &str) -> Result<Packed> {
    let (Stored::Tuple(state) | Stored::List(state)) = &object.state else {
        return Err(Error::beyond(format!("'{path}', packed weights of another form,")));
    };
    let tensor = |value: Option<&Stored>| match value {
        Some(Stored::Tensor(tensor)) => Ok(Some(tensor.clone())),
        Some(Stored::None) | None => Ok(None),
        Some(other) => Err(Error::beyond(format!("'{path}', packed weights with {},", other.type_name()))),
    };
    let elements = |value: Option<&Stored>| match value {
        Some(Stored::List(values) | Stored::Tuple(values)) => values.clone(),
        _ => Vec::new(),
    };
    let (weight_of, bias, settings) = match state.first() {
        // Settings as a tensor, weights, and what may be missing.
        Some(Stored::Str(_)) => {
            let (given, optional) = (elements(state.get(1)), elements(state.get(2)));
            let settings = tensor(given.first())?.ok_or_else(|| Error::invalid("a convolution without settings"))?;
            (tensor(given.get(1))?, tensor(optional.first())?, Some(Settings::read(&settings)?))
        }
        Some(Stored::Int(_)) => {
            let numbers: Vec<i64> = elements(state.get(1))
                .iter()
                .filter_map(|value| if let Stored::Int(int) = value { Some(*int) } else { None })
                .collect();
            let given = elements(state.get(2));
            (tensor(given.get(1))?, tensor(given.get(2))?, Some(Settings::of(&numbers)?))
        }
        _ => (tensor(state.first())?, tensor(state.get(1))?, None),
    };
    let weight_of = weight_of.ok_or_else(|| Error::invalid(format!("'{path}' holds no weight")))?;
    let id = weight(l, &format!("{path}.weight"), &weight_of)?;
    let bias = match bias {
        Some(bias) => Value::Tensor(l.weight(&format!("{path}.bias"), &bias)?),
        None => Value::None,
    };
    Ok(Packed { weight: id, bias, settings })
}

impl Eval<'_> {
    /// `ops.quantized.name(…)`
    pub(super) fn quantized(&mut self, name: &str, arguments: Vec<Item>, named: &[(String, Item)]) -> Result<Item> {
        let unknown = || Error::beyond(format!("the operator quantized.{name}"));
        let mut arguments = arguments;
        arguments.extend(named.iter().map(|(_, value)| value.clone()));
        if let Some(layer) = name.strip_suffix("_prepack") {
            return self.prepacked(layer, &arguments);
        }
        let (plain, relu) = match name.strip_suffix("_relu") {
            Some(plain) => (plain, true),
            None => (name.strip_suffix("_relu_dynamic").unwrap_or(name), name.ends_with("_relu_dynamic")),
        };
        let mut value = match plain {
            "conv1d" | "conv2d" | "conv3d" | "conv_transpose1d" | "conv_transpose2d" => self.convolution(&arguments)?,
            "linear" | "linear_dynamic" => {
                let (x, packed) = self.layer(&arguments)?;
                let x = if name.contains("dynamic") { self.on_own_grid(&x)? } else { x };
                let given = [("input", x), ("weight", Value::Tensor(packed.weight)), ("bias", packed.bias.clone())];
                self.l.apply_one("linear", "", &given)?
            }
            "add" | "mul" => {
                let [a, b] = [self.real(arguments.first())?, self.real(arguments.get(1))?];
                self.l.two(plain, &a, &b)?
            }
            "cat" => {
                let all = arguments.first().ok_or_else(unknown)?.elements()?;
                let all = all.iter().map(|one| self.real(Some(one))).collect::<Result<Vec<_>>>()?;
                let dim = Value::int(arguments.get(1).ok_or_else(unknown)?.known()?);
                self.l.apply_one("cat", "", &[("tensors", Value::List(all)), ("dim", dim)])?
            }
            "hardswish" | "sigmoid" | "leaky_relu" | "elu" => {
                let x = self.real(arguments.first())?;
                self.l.apply_one(plain, "", &[("self", x)])?
            }
            "batch_norm" | "batch_norm2d" | "batch_norm1d" | "batch_norm3d" => {
                let mut given = vec![("input", self.real(arguments.first())?)];
                let names = ["weight", "bias", "running_mean", "running_var", "eps"];
                for (name, item) in names.into_iter().zip(arguments.iter().skip(1)) {
                    given.push((name, self.lowered(item.clone())?));
                }
                given.push(("training", Value::Bool(false)));
                given.push(("momentum", Value::Float(Float::Known(0.1))));
                given.push(("cudnn_enabled", Value::Bool(false)));
                self.l.apply_one("batch_norm", "", &given)?
            }
            _ => return Err(unknown()),
        };
        if relu {
            value = self.l.one("relu", &value)?;
        }
        if name.contains("dynamic") {
            return Ok(Item::Plain(value));
        }
        // Scale and zero point of the output come last.
        let numbers = match arguments.as_slice() {
            [.., scale, zero] => [plain_number(scale.clone()), plain_number(zero.clone())],
            _ => return Err(unknown()),
        };
        let (scale, zero) = match numbers {
            [Item::Plain(Value::Float(Float::Known(scale))), Item::Plain(Value::Int(Int::Known(zero)))] => {
                (scale, zero)
            }
            [Item::Plain(Value::None), Item::Plain(Value::None)] => {
                let first = arguments.first().ok_or_else(unknown)?;
                let first = first.elements().ok().and_then(|all| all.first().cloned()).unwrap_or(first.clone());
                let first = self.lowered(first)?.tensor()?;
                let grid = self.l.grid(first).ok_or_else(unknown)?;
                return self.l.on_grid(value.tensor()?, grid).map(|id| Item::Plain(Value::Tensor(id)));
            }
            _ => return Err(Error::beyond(format!("quantized.{name} with a scale that is not known"))),
        };
        let grid = Grid { scale, zero, kind: DType::U8 };
        self.l.on_grid(value.tensor()?, grid).map(|id| Item::Plain(Value::Tensor(id)))
    }

    /// Weights put together as a layer takes them.
    fn prepacked(&mut self, layer: &str, arguments: &[Item]) -> Result<Item> {
        let wrong = || Error::beyond(format!("the operator quantized.{layer}_prepack"));
        let weight = self.real(arguments.first())?.tensor()?;
        let bias = self.real(arguments.get(1))?;
        let list = |at: usize| -> Result<Vec<i64>> {
            arguments.get(at).ok_or_else(wrong)?.elements()?.iter().map(Item::known).collect()
        };
        let settings = match layer {
            "linear" => None,
            "conv1d" | "conv2d" | "conv3d" => {
                let (stride, padding, dilation) = (list(2)?, list(3)?, list(4)?);
                let groups = arguments.get(5).ok_or_else(wrong)?.known()?;
                let output_padding = vec![0; stride.len()];
                Some(Settings { stride, padding, dilation, output_padding, groups, transposed: false })
            }
            "conv_transpose1d" | "conv_transpose2d" => {
                let (stride, padding, output_padding, dilation) = (list(2)?, list(3)?, list(4)?, list(6)?);
                let groups = arguments.get(5).ok_or_else(wrong)?.known()?;
                Some(Settings { stride, padding, dilation, output_padding, groups, transposed: true })
            }
            _ => return Err(wrong()),
        };
        Ok(Item::Packed(Rc::new(Packed { weight, bias, settings })))
    }

    /// An argument as the real numbers that it stands for.
    fn real(&mut self, item: Option<&Item>) -> Result<Value> {
        let item = item.cloned().ok_or_else(|| Error::invalid("a quantized layer of nothing"))?;
        let value = self.lowered(item)?;
        match value {
            Value::Tensor(tensor) if self.l.grid(tensor).is_some() => {
                self.l.apply_one("dequantize", "self", &[("self", value.clone())])
            }
            value => Ok(value),
        }
    }

    fn layer(&mut self, arguments: &[Item]) -> Result<(Value, Rc<Packed>)> {
        let x = self.real(arguments.first())?;
        match arguments.get(1) {
            Some(Item::Packed(packed)) => Ok((x, packed.clone())),
            _ => Err(Error::invalid("a quantized layer without packed weights")),
        }
    }

    fn convolution(&mut self, arguments: &[Item]) -> Result<Value> {
        let (x, packed) = self.layer(arguments)?;
        let settings = packed.settings.as_ref().ok_or_else(|| Error::invalid("a convolution without settings"))?;
        let mut lists = [
            settings.stride.clone(),
            settings.padding.clone(),
            settings.dilation.clone(),
            settings.output_padding.clone(),
        ];
        let (mut x, mut weight) = (x, Value::Tensor(packed.weight));
        let flat = self.l.rank(x.tensor()?) == 3;
        // A convolution of one axis is packed as one of two, of which the first has size 1.
        let two = flat && self.l.rank(packed.weight) == 4;
        if two {
            x = self.l.apply_one("unsqueeze", "", &[("self", x), ("dim", Value::int(2))])?;
        }
        let axes = self.l.rank(packed.weight) - 2;
        for (list, fill) in lists.iter_mut().zip([1, 0, 1, 0]) {
            while list.len() < axes {
                list.insert(0, fill);
            }
        }
        if !two && self.l.rank(weight.tensor()?) != self.l.rank(x.tensor()?) {
            weight = self.l.apply_one("squeeze", "dim", &[("self", weight), ("dim", Value::int(2))])?;
        }
        let [stride, padding, dilation, output_padding] = lists.map(|list| Value::ints(&list));
        let given = [
            ("input", x),
            ("weight", weight),
            ("bias", packed.bias.clone()),
            ("stride", stride),
            ("padding", padding),
            ("dilation", dilation),
            ("transposed", Value::Bool(settings.transposed)),
            ("output_padding", output_padding),
            ("groups", Value::int(settings.groups)),
        ];
        let mut value = self.l.apply_one("convolution", "", &given)?;
        if two {
            value = self.l.apply_one("squeeze", "dim", &[("self", value), ("dim", Value::int(2))])?;
        }
        Ok(value)
    }

    /// Real numbers on the grid of their own least and greatest, as a dynamic layer rounds its input.
    fn on_own_grid(&mut self, x: &Value) -> Result<Value> {
        let x = x.tensor()?;
        let value = self.l.value_as(x, DType::F32)?;
        let parts = self.l.nodes("DynamicQuantizeLinear", &[&value], 3, &[])?;
        let value = self.l.node("DequantizeLinear", &[&parts[0], &parts[1], &parts[2]], &[])?;
        Ok(Value::Tensor(self.l.tensor(value)?))
    }
}
