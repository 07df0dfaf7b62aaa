//! The type and shape that an operator's output has, from those of its inputs.

use std::fmt;

use rekindle_state::onnx::proto::NodeProto;

/// The size of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    /// A number.
    Size(i64),
    /// Whatever the name stands for.
    Named(String),
    /// Any.
    Open,
}

impl Axis {
    fn agrees(&self, other: &Self) -> bool {
        *self == Self::Open || *other == Self::Open || self == other
    }

    fn size(&self) -> Option<i64> {
        match self {
            Self::Size(size) => Some(*size),
            _ => None,
        }
    }
}

/// What is known of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// ONNX's number of its element type; 0 if not known.
    pub kind: i32,
    /// Its axes, if known.
    pub shape: Option<Vec<Axis>>,
    /// Its values, of constant lists of integers.
    pub integers: Option<Vec<i64>>,
}

impl Known {
    /// Whether both can be true.
    pub fn agrees(&self, other: &Self) -> bool {
        let kinds = self.kind == 0 || other.kind == 0 || self.kind == other.kind;
        let shapes = match (&self.shape, &other.shape) {
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.agrees(b)),
            _ => true,
        };
        kinds && shapes
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of type {}", self.kind)?;
        let Some(shape) = &self.shape else { return write!(f, " and any shape") };
        let axes = shape.iter().map(|axis| match axis {
            Axis::Size(size) => size.to_string(),
            Axis::Named(name) => name.clone(),
            Axis::Open => "?".to_string(),
        });
        write!(f, " and shape [{}]", axes.collect::<Vec<_>>().join(", "))
    }
}

/// The first output of a node; none where nothing is known here.
///
/// # Errors
/// When the inputs do not fit the operator or each other.
pub fn infer(node: &NodeProto, inputs: &[Option<&Known>]) -> Result<Option<Known>, String> {
    let Some(Some(x)) = inputs.first() else { return Ok(None) };
    let Some(shape) = &x.shape else { return Ok(None) };
    let made = |shape: Vec<Axis>| Ok(Some(Known { kind: x.kind, shape: Some(shape), integers: None }));
    let operand = |place: usize| inputs.get(place).copied().flatten();
    let shape_of = |place: usize| operand(place).and_then(|known| known.shape.as_deref());
    match node.op_type.as_str() {
        "Conv" => {
            let Some(weight) = shape_of(1) else { return Ok(None) };
            let bias = shape_of(2);
            same_kind(inputs)?;
            made(convolution(node, shape, weight, bias)?)
        }
        "MaxPool" | "AveragePool" => {
            let kernel = integers(node, "kernel_shape").unwrap_or_default().to_vec();
            made(windows(node, shape, &kernel, shape.get(1).cloned())?)
        }
        "GlobalAveragePool" => {
            let kept =
                shape.iter().enumerate().map(|(place, axis)| if place < 2 { axis.clone() } else { Axis::Size(1) });
            made(kept.collect())
        }
        "Gemm" => {
            let Some(weight) = shape_of(1) else { return Ok(None) };
            same_kind(inputs)?;
            made(gemm(node, shape, weight, shape_of(2))?)
        }
        "BatchNormalization" => {
            let channels = shape.get(1).cloned().unwrap_or(Axis::Open);
            for place in 1..5 {
                let fits = shape_of(place).is_none_or(|shape| shape.len() == 1 && shape[0].agrees(&channels));
                if !fits {
                    return Err(format!("its input {place} has not one value for each channel"));
                }
            }
            made(shape.clone())
        }
        "Flatten" => {
            let axis = integer(node, "axis").unwrap_or(1) as usize;
            let (front, back) = shape.split_at(axis.min(shape.len()));
            made(vec![product(front), product(back)])
        }
        "Reshape" => {
            let Some(target) = operand(1).and_then(|known| known.integers.as_ref()) else { return Ok(None) };
            made(reshape(shape, target)?)
        }
        "Transpose" => {
            let reversed: Vec<i64> = (0..shape.len() as i64).rev().collect();
            let perm = integers(node, "perm").unwrap_or(&reversed);
            let axes = perm.iter().map(|&axis| shape.get(axis as usize).cloned()).collect::<Option<Vec<_>>>();
            made(axes.filter(|axes| axes.len() == shape.len()).ok_or("its permutation does not fit its input")?)
        }
        "DepthToSpace" => {
            let block = integer(node, "blocksize").unwrap_or(1);
            let [n, c, h, w] = &shape[..] else { return Err("its input has not four axes".to_string()) };
            if c.size().is_some_and(|c| block < 1 || c % (block * block) != 0) {
                return Err("its channels are no multiple of the block".to_string());
            }
            let times = |axis: &Axis| axis.size().map_or(Axis::Open, |size| Axis::Size(size * block));
            let channels = c.size().map_or(Axis::Open, |c| Axis::Size(c / (block * block)));
            made(vec![n.clone(), channels, times(h), times(w)])
        }
        "Softmax" | "LogSoftmax" => {
            let axis = integer(node, "axis").unwrap_or(-1);
            let rank = shape.len() as i64;
            if !(-rank..rank).contains(&axis) {
                return Err(format!("its axis {axis} is none of {rank}"));
            }
            made(shape.clone())
        }
        "Add" | "Sub" | "Mul" | "Div" | "Pow" => {
            let Some(other) = shape_of(1) else { return Ok(None) };
            made(broadcast(shape, other)?)
        }
        "MatMul" => {
            let Some(other) = shape_of(1) else { return Ok(None) };
            matmul(shape, other)?.map_or(Ok(None), made)
        }
        "Relu" | "Sigmoid" | "Tanh" | "Exp" | "Log" | "Sqrt" | "Erf" | "Abs" | "Neg" | "Sign" | "Floor" | "Ceil"
        | "Round" | "Sin" | "Cos" | "Reciprocal" | "LeakyRelu" | "HardSigmoid" | "Gelu" | "Clip" | "Identity"
        | "LayerNormalization" => made(shape.clone()),
        _ => Ok(None),
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a rekindle_state::onnx::proto::AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn integers<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    attribute(node, name).map(|attribute| attribute.ints.as_slice())
}

fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).map(|attribute| attribute.i)
}

fn same_kind(inputs: &[Option<&Known>]) -> Result<(), String> {
    let mut kinds = inputs.iter().flatten().map(|known| known.kind).filter(|kind| *kind != 0);
    let first = kinds.next();
    if kinds.all(|kind| Some(kind) == first) { Ok(()) } else { Err("its inputs are of different types".to_string()) }
}

fn convolution(node: &NodeProto, x: &[Axis], weight: &[Axis], bias: Option<&[Axis]>) -> Result<Vec<Axis>, String> {
    let group = integer(node, "group").unwrap_or(1);
    if x.len() != weight.len() || x.len() < 3 {
        return Err("its input and weight have different numbers of axes".to_string());
    }
    if let (Axis::Size(channels), Axis::Size(each)) = (&x[1], &weight[1])
        && *channels != each * group
    {
        return Err(format!("its input has {channels} channels, its weight takes {}", each * group));
    }
    if bias.is_some_and(|bias| bias.len() != 1 || !bias[0].agrees(&weight[0])) {
        return Err("its bias has not one value for each channel".to_string());
    }
    let sizes = weight[2..].iter().map(Axis::size).collect::<Option<Vec<_>>>();
    let kernel = sizes.ok_or("the size of its kernel is not known")?;
    if integers(node, "kernel_shape").is_some_and(|said| said != kernel) {
        return Err("its kernel_shape is not that of its weight".to_string());
    }
    windows(node, x, &kernel, weight.first().cloned())
}

/// The axes after windows have slid over all but the first two.
fn windows(node: &NodeProto, x: &[Axis], kernel: &[i64], channels: Option<Axis>) -> Result<Vec<Axis>, String> {
    let rank = kernel.len();
    if x.len() != rank + 2 {
        return Err(format!("its input has {} axes, its kernel {rank}", x.len()));
    }
    let list = |name: &str, missing: i64, length: usize| -> Result<Vec<i64>, String> {
        let list = integers(node, name).map_or_else(|| vec![missing; length], <[i64]>::to_vec);
        if list.len() == length {
            Ok(list)
        } else {
            Err(format!("its {name} are {}, where {length} are needed", list.len()))
        }
    };
    let (strides, dilations, pads) =
        (list("strides", 1, rank)?, list("dilations", 1, rank)?, list("pads", 0, 2 * rank)?);
    let ceil = integer(node, "ceil_mode") == Some(1);
    let mut shape = vec![x[0].clone(), channels.unwrap_or(Axis::Open)];
    for axis in 0..rank {
        let Some(size) = x[axis + 2].size() else {
            shape.push(Axis::Open);
            continue;
        };
        let free = size + pads[axis] + pads[axis + rank] - dilations[axis] * (kernel[axis] - 1) - 1;
        if free < 0 || strides[axis] < 1 {
            return Err(format!("its kernel is larger than axis {} of its input", axis + 2));
        }
        let steps = if ceil { (free + strides[axis] - 1) / strides[axis] } else { free / strides[axis] };
        // A window that would begin in the padding at the end is none.
        let begins_outside = ceil && steps * strides[axis] >= size + pads[axis];
        shape.push(Axis::Size(steps + i64::from(!begins_outside)));
    }
    Ok(shape)
}

fn gemm(node: &NodeProto, a: &[Axis], b: &[Axis], c: Option<&[Axis]>) -> Result<Vec<Axis>, String> {
    let side = |shape: &[Axis], name: &str| -> Result<[Axis; 2], String> {
        let [first, second] = shape else { return Err("it multiplies something else than matrices".to_string()) };
        let turned = integer(node, name) == Some(1);
        Ok(if turned { [second.clone(), first.clone()] } else { [first.clone(), second.clone()] })
    };
    let ([rows, inner], [depth, columns]) = (side(a, "transA")?, side(b, "transB")?);
    if !inner.agrees(&depth) {
        return Err("its matrices do not fit each other".to_string());
    }
    let product = vec![rows, columns];
    if let Some(c) = c
        && !broadcast(&product, c).is_ok_and(|sum| sum == product)
    {
        return Err("what it adds does not fit its product".to_string());
    }
    Ok(product)
}

fn product(axes: &[Axis]) -> Axis {
    match axes {
        [only] => only.clone(),
        axes => axes.iter().map(Axis::size).product::<Option<i64>>().map_or(Axis::Open, Axis::Size),
    }
}

fn reshape(from: &[Axis], target: &[i64]) -> Result<Vec<Axis>, String> {
    let mut shape = Vec::new();
    for (place, &size) in target.iter().enumerate() {
        shape.push(match size {
            0 => from.get(place).cloned().ok_or("it keeps an axis that its input has not")?,
            -1 => Axis::Open,
            size if size > 0 => Axis::Size(size),
            _ => return Err(format!("its shape has the axis {size}")),
        });
    }
    if target.iter().filter(|&&size| size == -1).count() > 1 {
        return Err("its shape leaves two axes open".to_string());
    }
    // Axes that are kept stand on both sides and need no number.
    let kept = |place: usize| target.get(place) == Some(&0);
    let count = |axes: &[Axis]| {
        axes.iter().enumerate().filter(|(place, _)| !kept(*place)).map(|(_, axis)| axis.size()).product::<Option<i64>>()
    };
    if let Some(open) = target.iter().position(|&size| size == -1) {
        let others = shape.iter().enumerate().filter(|(place, _)| !kept(*place) && *place != open);
        let others = others.map(|(_, axis)| axis.size()).product::<Option<i64>>();
        if let (Some(all), Some(others)) = (count(from), others) {
            if others == 0 || all % others != 0 {
                return Err("its shape does not divide its input".to_string());
            }
            shape[open] = Axis::Size(all / others);
        }
    } else if let (Some(all), Some(wanted)) = (count(from), count(&shape))
        && all != wanted
    {
        return Err(format!("its shape has {wanted} values where its input has {all}"));
    }
    Ok(shape)
}

fn broadcast(a: &[Axis], b: &[Axis]) -> Result<Vec<Axis>, String> {
    let rank = a.len().max(b.len());
    let axis = |shape: &[Axis], place: usize| {
        (place + shape.len()).checked_sub(rank).map_or(Axis::Size(1), |place| shape[place].clone())
    };
    (0..rank)
        .map(|place| match (axis(a, place), axis(b, place)) {
            (Axis::Size(1), other) | (other, Axis::Size(1)) => Ok(other),
            (a, b) if a == b => Ok(a),
            (a, b) if a.agrees(&b) => Ok(Axis::Open),
            _ => Err("its inputs cannot be broadcast to each other".to_string()),
        })
        .collect()
}

fn matmul(a: &[Axis], b: &[Axis]) -> Result<Option<Vec<Axis>>, String> {
    let ([before @ .., rows, inner], [ahead @ .., depth, columns]) = (a, b) else { return Ok(None) };
    if !inner.agrees(depth) {
        return Err("its matrices do not fit each other".to_string());
    }
    let mut shape = broadcast(before, ahead)?;
    shape.extend([rows.clone(), columns.clone()]);
    Ok(Some(shape))
}
