//! What the standard says of the operators that are written: since when, how many inputs, which attributes.

/// An operator of the standard.
pub struct Operator {
    /// Its name.
    pub name: &'static str,
    /// The operator set in which it first was, with these inputs and attributes.
    pub since: i64,
    /// The least and greatest number of inputs.
    pub inputs: (usize, usize),
    /// Its attributes; those that begin with `!` are required.
    pub attributes: &'static [&'static str],
}

const fn operator(
    name: &'static str,
    since: i64,
    inputs: (usize, usize),
    attributes: &'static [&'static str],
) -> Operator {
    Operator { name, since, inputs, attributes }
}

const POOL: &[&str] = &["!kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "count_include_pad"];
const CONV: &[&str] = &["kernel_shape", "strides", "pads", "auto_pad", "dilations", "group"];
const REDUCE: &[&str] = &["keepdims", "noop_with_empty_axes"];
const REDUCE_OLD: &[&str] = &["keepdims", "axes"];

/// The operators, newest form first.
const OPERATORS: &[Operator] = &[
    operator("Abs", 13, (1, 1), &[]),
    operator("Add", 13, (2, 2), &[]),
    operator(
        "AveragePool",
        19,
        (1, 1),
        &["!kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "count_include_pad", "dilations"],
    ),
    operator("AveragePool", 11, (1, 1), POOL),
    operator("BatchNormalization", 14, (5, 5), &["epsilon", "momentum", "training_mode"]),
    operator("BatchNormalization", 9, (5, 5), &["epsilon", "momentum"]),
    operator("Cast", 19, (1, 1), &["!to", "saturate"]),
    operator("Cast", 13, (1, 1), &["!to"]),
    operator("Ceil", 13, (1, 1), &[]),
    operator("Clip", 13, (1, 3), &[]),
    operator("Concat", 13, (1, usize::MAX), &["!axis"]),
    operator("Conv", 11, (2, 3), CONV),
    operator(
        "ConvTranspose",
        11,
        (2, 3),
        &["kernel_shape", "strides", "pads", "auto_pad", "dilations", "group", "output_padding", "output_shape"],
    ),
    operator("Cos", 7, (1, 1), &[]),
    operator("DepthToSpace", 13, (1, 1), &["!blocksize", "mode"]),
    operator("Div", 13, (2, 2), &[]),
    operator("Erf", 13, (1, 1), &[]),
    operator("Exp", 13, (1, 1), &[]),
    operator("Expand", 13, (2, 2), &[]),
    operator("Flatten", 13, (1, 1), &["axis"]),
    operator("Floor", 13, (1, 1), &[]),
    operator("Gather", 13, (2, 2), &["axis"]),
    operator("Gelu", 20, (1, 1), &["approximate"]),
    operator("Gemm", 13, (2, 3), &["alpha", "beta", "transA", "transB"]),
    operator("GlobalAveragePool", 1, (1, 1), &[]),
    operator("HardSigmoid", 6, (1, 1), &["alpha", "beta"]),
    operator("Identity", 13, (1, 1), &[]),
    operator("LayerNormalization", 17, (2, 3), &["axis", "epsilon", "stash_type"]),
    operator("LeakyRelu", 6, (1, 1), &["alpha"]),
    operator("Log", 13, (1, 1), &[]),
    operator("LogSoftmax", 13, (1, 1), &["axis"]),
    operator("MatMul", 13, (2, 2), &[]),
    operator(
        "MaxPool",
        12,
        (1, 1),
        &["!kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "dilations", "storage_order"],
    ),
    operator("Mul", 13, (2, 2), &[]),
    operator("Neg", 13, (1, 1), &[]),
    operator("Pad", 18, (2, 4), &["mode"]),
    operator("Pad", 13, (2, 3), &["mode"]),
    operator("Pow", 13, (2, 2), &[]),
    operator("Reciprocal", 13, (1, 1), &[]),
    operator("ReduceMax", 18, (1, 2), REDUCE),
    operator("ReduceMax", 13, (1, 1), REDUCE_OLD),
    operator("ReduceMean", 18, (1, 2), REDUCE),
    operator("ReduceMean", 13, (1, 1), REDUCE_OLD),
    operator("ReduceMin", 18, (1, 2), REDUCE),
    operator("ReduceMin", 13, (1, 1), REDUCE_OLD),
    operator("ReduceProd", 18, (1, 2), REDUCE),
    operator("ReduceProd", 13, (1, 1), REDUCE_OLD),
    operator("ReduceSum", 13, (1, 2), REDUCE),
    operator("Relu", 13, (1, 1), &[]),
    operator("Reshape", 14, (2, 2), &["allowzero"]),
    operator("Reshape", 13, (2, 2), &[]),
    operator("Round", 11, (1, 1), &[]),
    operator("Sigmoid", 13, (1, 1), &[]),
    operator("Sign", 13, (1, 1), &[]),
    operator("Sin", 7, (1, 1), &[]),
    operator("Slice", 13, (3, 5), &[]),
    operator("Softmax", 13, (1, 1), &["axis"]),
    operator("Sqrt", 13, (1, 1), &[]),
    operator("Sub", 13, (2, 2), &[]),
    operator("Tanh", 13, (1, 1), &[]),
    operator("Transpose", 13, (1, 1), &["perm"]),
];

/// What an operator set says of an operator; none where it does not have it.
pub fn find(name: &str, opset: i64) -> Option<&'static Operator> {
    OPERATORS.iter().find(|operator| operator.name == name && operator.since <= opset)
}
