//! Functions of single elements, with broadcasting.

use burn::tensor::{Bool, Tensor, TensorData, activation};
use rekindle_onnx::DType;
use rekindle_onnx::array::broadcast_shape;
use rekindle_onnx::ops::{Activation, Cast, Clip};

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::{DeviceTensor, computed_as, with_rank};

/// What an operator is made of: functions of flat tensors.
type Unary = fn(Tensor<1>) -> Tensor<1>;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "Abs" => |call| unary(call, Tensor::abs),
        "Neg" => |call| unary(call, Tensor::neg),
        "Exp" => |call| unary(call, Tensor::exp),
        "Log" => |call| unary(call, Tensor::log),
        "Sqrt" => |call| unary(call, Tensor::sqrt),
        "Reciprocal" => |call| unary(call, Tensor::recip),
        "Floor" => |call| unary(call, Tensor::floor),
        "Ceil" => |call| unary(call, Tensor::ceil),
        "Sin" => |call| unary(call, Tensor::sin),
        "Cos" => |call| unary(call, Tensor::cos),
        "Tan" => |call| unary(call, Tensor::tan),
        "Asin" => |call| unary(call, Tensor::asin),
        "Acos" => |call| unary(call, Tensor::acos),
        "Atan" => |call| unary(call, Tensor::atan),
        "Sinh" => |call| unary(call, Tensor::sinh),
        "Cosh" => |call| unary(call, Tensor::cosh),
        "Tanh" => |call| unary(call, Tensor::tanh),
        "Asinh" => |call| unary(call, Tensor::asinh),
        "Acosh" => |call| unary(call, Tensor::acosh),
        "Atanh" => |call| unary(call, Tensor::atanh),
        "Erf" => |call| unary(call, Tensor::erf),
        "Sign" => |call| unary(call, Tensor::sign),
        "Relu" => |call| unary(call, activation::relu),
        "Sigmoid" => |call| unary(call, activation::sigmoid),
        "Softplus" => |call| unary(call, |x| activation::softplus(x, 1.0)),
        "Softsign" => |call| unary(call, activation::softsign),
        "Mish" => |call| unary(call, activation::mish),
        "HardSwish" => |call| unary(call, |x| x.clone() * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "LeakyRelu" | "Elu" | "Celu" | "Selu" | "ThresholdedRelu" | "HardSigmoid" | "Swish" | "Gelu" => with_settings,
        "Clip" => clip,
        "Cast" => cast,
        "Add" | "Sum" => |call| fold(call, Binary::Add),
        "Sub" => |call| fold(call, Binary::Sub),
        "Mul" => |call| fold(call, Binary::Mul),
        "Div" => |call| fold(call, Binary::Div),
        "Max" => |call| fold(call, Binary::Max),
        "Min" => |call| fold(call, Binary::Min),
        "Pow" => |call| fold(call, Binary::Pow),
        "PRelu" => |call| fold(call, Binary::PRelu),
        "Mean" => mean,
        "Where" => choose,
        _ => return None,
    })
}

fn unary(call: &mut Call<'_, '_>, function: Unary) -> Outputs {
    map(call, function)
}

fn map(call: &mut Call<'_, '_>, function: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Outputs {
    Ok(Some(vec![call.take(0)?.map(function)]))
}

fn with_settings(call: &mut Call<'_, '_>) -> Outputs {
    let Some(&function) = call.node.get::<Activation>() else { return Ok(None) };
    map(call, |x| match function {
        Activation::LeakyRelu { alpha } => activation::leaky_relu(x, alpha),
        Activation::Elu { alpha } => activation::elu(x, alpha),
        Activation::Celu { alpha } => activation::celu(x, alpha),
        Activation::Selu { alpha, gamma } => activation::elu(x, alpha) * gamma,
        Activation::ThresholdedRelu { alpha } => activation::thresholded_relu(x, alpha),
        Activation::HardSigmoid { alpha, beta } => (x * alpha + beta).clamp(0.0, 1.0),
        Activation::Swish { alpha } => x.clone() * activation::sigmoid(x * alpha),
        Activation::Gelu { tanh: false } => activation::gelu(x),
        Activation::Gelu { tanh: true } => activation::gelu_approximate(x),
    })
}

fn clip(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Clip>() else { return Ok(None) };
    let [least, most] = op.bounds(|position| call.host(position)?.map(|bound| bound.float()).transpose())?;
    map(call, |x| {
        let x = if let Some(least) = least { x.clamp_min(least) } else { x };
        if let Some(most) = most { x.clamp_max(most) } else { x }
    })
}

/// Between floats that the device computes in one type; rounding to 16 bits is left to the host.
fn cast(call: &mut Call<'_, '_>) -> Outputs {
    let to = call.node.get::<Cast>().and_then(|op| op.to);
    let (Some(from), Some(to)) = (call.dtype(0), to) else { return Ok(None) };
    let device = &call.accelerator.device;
    let (Some(before), Some(after)) = (computed_as(from, device), computed_as(to, device)) else { return Ok(None) };
    if to != from && !matches!(to, DType::F32 | DType::F64) {
        return Ok(None);
    }
    let x = call.take(0)?;
    if before == after {
        return Ok(Some(vec![x.with_dtype(to)]));
    }
    let shape = x.shape().to_vec();
    Ok(Some(vec![DeviceTensor::new(x.flat().cast(after), shape, to)]))
}

/// Functions of two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Pow,
    PRelu,
}

impl Binary {
    fn apply<const D: usize>(self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Add => a.add(b),
            Self::Sub => a.sub(b),
            Self::Mul => a.mul(b),
            Self::Div => a.div(b),
            Self::Max => a.max_pair(b),
            Self::Min => a.min_pair(b),
            Self::Pow => a.powf(b),
            Self::PRelu => a.clone().clamp_min(0.0) + a.clamp_max(0.0) * b,
        }
    }

    /// With a number that is on the host as the second operand.
    fn apply_number(self, a: Tensor<1>, b: f64) -> Tensor<1> {
        match self {
            Self::Add => a.add_scalar(b),
            Self::Sub => a.sub_scalar(b),
            Self::Mul => a.mul_scalar(b),
            Self::Div => a.div_scalar(b),
            Self::Max => a.clamp_min(b),
            Self::Min => a.clamp_max(b),
            Self::Pow if b == 2.0 => a.clone() * a,
            Self::Pow if b == 0.5 => a.sqrt(),
            Self::Pow => a.powf_scalar(b),
            Self::PRelu => activation::leaky_relu(a, b),
        }
    }

    /// With a number that is on the host as the first operand.
    fn apply_to_number(self, a: f64, b: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Add | Self::Mul | Self::Max | Self::Min => self.apply_number(b, a),
            Self::Sub => b.neg().add_scalar(a),
            Self::Div => b.recip().mul_scalar(a),
            Self::Pow | Self::PRelu => self.apply(b.full_like(a), b),
        }
    }
}

/// An operator of two inputs, or one of any number from left to right.
fn fold(call: &mut Call<'_, '_>, operator: Binary) -> Outputs {
    let shapes: Option<Vec<_>> = (0..call.len()).map(|position| call.shape(position)).collect();
    // An exponent may have another type than the base, and older versions say by attributes how they broadcast.
    let same = (0..call.len()).all(|position| call.dtype(position) == call.dtype(0));
    let Some(shapes) = shapes.filter(|_| same && call.node.version >= 7) else { return Ok(None) };
    let together: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    if operator == Binary::PRelu && !slopes_fit(&shapes) || Lined::up(&together).is_none() {
        return Ok(None);
    }
    let numbers: Vec<Option<f64>> = (0..call.len()).map(|position| call.number(position)).collect();
    if let ([Some(a), None], [first, second]) = (numbers.as_slice(), shapes.as_slice())
        && first.len() <= second.len()
    {
        return Ok(Some(vec![call.take(1)?.map(|x| operator.apply_to_number(*a, x))]));
    }
    let mut result = call.take(0)?;
    for (position, number) in numbers.iter().enumerate().skip(1) {
        result = match number {
            Some(number) if shapes[position].len() <= result.rank() => {
                result.map(|x| operator.apply_number(x, *number))
            }
            _ => {
                let other = call.take(position)?;
                match pair(operator, result, other) {
                    Some(result) => result,
                    None => return Ok(None),
                }
            }
        };
    }
    Ok(Some(vec![result]))
}

/// Slopes broadcast to the input alone.
fn slopes_fit(shapes: &[Vec<usize>]) -> bool {
    shapes.len() == 2 && Lined::up(&[&shapes[0], &shapes[1]]).is_some_and(|lined| lined.shape == shapes[0])
}

/// Two tensors whose shapes broadcast together over at most 6 groups of axes.
fn pair(operator: Binary, a: DeviceTensor, b: DeviceTensor) -> Option<DeviceTensor> {
    let lined = Lined::up(&[a.shape(), b.shape()])?;
    let dtype = a.dtype();
    let Lined { shape, grouped, parts } = lined;
    with_rank!(grouped.len(), D => {
        let values = operator.apply::<D>(a.view_as(&parts[0]), b.view_as(&parts[1]));
        DeviceTensor::new(values, shape, dtype)
    })
}

fn mean(call: &mut Call<'_, '_>) -> Outputs {
    let count = call.len();
    let Some(sums) = fold(call, Binary::Add)? else { return Ok(None) };
    let sums = sums.into_iter().map(|sum| sum.map(|sum| sum.div_scalar(count as f64)));
    Ok(Some(sums.collect()))
}

/// `Where`: the condition comes from the host.
fn choose(call: &mut Call<'_, '_>) -> Outputs {
    let (Some(DType::Bool), Some(yes), Some(no)) = (call.dtype(0), call.shape(1), call.shape(2)) else {
        return Ok(None);
    };
    let Some(condition) = call.host(0)? else { return Ok(None) };
    let Some(lined) = Lined::up(&[condition.shape(), &yes, &no]) else { return Ok(None) };
    let Lined { shape, grouped, parts } = lined;
    let device = call.accelerator.device.clone();
    let (yes, no) = (call.take(1)?, call.take(2)?);
    let dtype = yes.dtype();
    let data = TensorData::new(condition.expect::<bool>()?.to_vec(), parts[0].clone());
    let chosen = with_rank!(grouped.len(), D => {
        let whole: [usize; D] = grouped.as_slice().try_into().expect("as many groups as axes");
        let condition = Tensor::<D, Bool>::from_data(data, &device).expand::<D, _>(whole);
        let yes = yes.view_as::<D>(&parts[1]).expand::<D, _>(whole);
        let no = no.view_as::<D>(&parts[2]).expand::<D, _>(whole);
        DeviceTensor::new(no.mask_where(condition, yes), shape, dtype)
    });
    Ok(chosen.map(|chosen| vec![chosen]))
}

/// Shapes that broadcast together, with neighbouring axes along which each does the same taken as one.
pub(super) struct Lined {
    /// The common shape.
    pub shape: Vec<usize>,
    /// The common shape with axes taken together: at least one, at most 6.
    pub grouped: Vec<usize>,
    /// Each shape with axes taken together.
    pub parts: Vec<Vec<usize>>,
}

impl Lined {
    /// Lines shapes up, if they broadcast together and need no more than 6 axes.
    pub fn up(shapes: &[&[usize]]) -> Option<Self> {
        let shape = broadcast_shape(shapes).ok()?;
        let mut grouped: Vec<usize> = Vec::new();
        let mut parts = vec![Vec::new(); shapes.len()];
        let mut last: Option<Vec<bool>> = None;
        for (axis, &size) in shape.iter().enumerate() {
            if size == 1 {
                continue;
            }
            // Which of the shapes are stretched along this axis.
            let own = |own: &&[usize]| (axis + own.len()).checked_sub(shape.len()).map_or(1, |axis| own[axis]);
            let stretched: Vec<bool> = shapes.iter().map(|shape| own(shape) == 1).collect();
            if last.as_ref() == Some(&stretched) {
                *grouped.last_mut()? *= size;
                parts.iter_mut().zip(&stretched).filter(|(_, stretched)| !**stretched).for_each(|(part, _)| {
                    if let Some(part) = part.last_mut() {
                        *part *= size;
                    }
                });
            } else {
                grouped.push(size);
                parts
                    .iter_mut()
                    .zip(&stretched)
                    .for_each(|(part, stretched)| part.push(if *stretched { 1 } else { size }));
            }
            last = Some(stretched);
        }
        if grouped.is_empty() {
            grouped.push(1);
            parts.iter_mut().for_each(|part| part.push(1));
        }
        (grouped.len() <= 6).then_some(Self { shape, grouped, parts })
    }
}
