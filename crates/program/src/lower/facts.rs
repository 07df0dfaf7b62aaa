//! What is known of a value: its type, and its sizes (and if they are few, its elements) in one or several examples.
//!
//! Sizes that differ between examples are open. The rules for nodes that are costly are here; others are run on small
//! stand-ins.

use std::path::Path;

use rekindle_onnx::{Array, DType, HostOnly, Limits, Model, Session, Value};
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto,
};

use super::OPSET;
use super::rules::rule;
use super::value::Dim;
use crate::Result;

/// Elements that are followed: shapes, positions and the like, never weights or images.
const FOLLOWED: usize = 4096;
/// Elements of stand-ins that a node may be run on.
const STAND_IN: usize = 1 << 22;

/// A value in one example.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// Sizes.
    pub shape: Vec<usize>,
    /// Elements, where they follow from sizes and constants alone.
    pub data: Option<Array>,
}

impl Probe {
    /// All of a constant.
    pub fn of(array: &Array) -> Self {
        let data = (array.len() <= FOLLOWED).then(|| array.clone());
        Self { shape: array.shape().to_vec(), data }
    }

    fn sized(shape: Vec<usize>) -> Self {
        Self { shape, data: None }
    }
}

/// What is known of a value.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    /// Element type.
    pub dtype: DType,
    /// The value in each example.
    pub probes: Vec<Probe>,
}

impl Fact {
    /// The same in every example.
    pub fn same(dtype: DType, probe: Probe, probes: usize) -> Self {
        Self { dtype, probes: vec![probe; probes] }
    }

    pub fn rank(&self) -> usize {
        self.probes.first().map_or(0, |probe| probe.shape.len())
    }

    /// The sizes, open where examples differ.
    pub fn shape(&self) -> Vec<Dim> {
        let Some((first, rest)) = self.probes.split_first() else { return Vec::new() };
        let dim = |(axis, &size): (usize, &usize)| {
            let same = rest.iter().all(|probe| probe.shape.get(axis) == Some(&size));
            if same { Dim::Size(size) } else { Dim::Open }
        };
        first.shape.iter().enumerate().map(dim).collect()
    }

    /// Whether sizes are equal in every example.
    pub fn shapes_equal(&self, other: &Self) -> bool {
        self.probes.len() == other.probes.len()
            && self.probes.iter().zip(&other.probes).all(|(a, b)| a.shape == b.shape)
    }
}

/// What is known of the outputs of a node; `None` where sizes follow from data.
pub(super) fn infer(
    node: &NodeProto,
    inputs: &[Option<&Fact>],
    probes: usize,
    outputs: usize,
) -> Result<Option<Vec<Option<Fact>>>> {
    let mut facts: Vec<Option<Fact>> = vec![None; outputs];
    for at in 0..probes {
        let here: Vec<Option<(DType, &Probe)>> =
            inputs.iter().map(|fact| fact.and_then(|fact| Some((fact.dtype, fact.probes.get(at)?)))).collect();
        let Some(results) = probe(node, &here, outputs)? else { return Ok(None) };
        for (fact, (dtype, probe)) in facts.iter_mut().zip(results) {
            match fact {
                None if at == 0 => *fact = Some(Fact { dtype, probes: vec![probe] }),
                Some(fact) if fact.rank() == probe.shape.len() => fact.probes.push(probe),
                _ => return Ok(None),
            }
        }
    }
    Ok(Some(facts))
}

/// How many elements sizes have, which a file may overstate.
pub(super) fn elements_of(shape: &[usize]) -> usize {
    shape.iter().fold(1, |all, &size| all.saturating_mul(size))
}

pub(super) type Seen<'p> = Option<(DType, &'p Probe)>;

fn probe(node: &NodeProto, inputs: &[Seen<'_>], outputs: usize) -> Result<Option<Vec<(DType, Probe)>>> {
    let random = node.op_type.starts_with("Random")
        || matches!(node.op_type.as_str(), "Bernoulli" | "Multinomial" | "Dropout" | "If" | "Loop" | "Scan");
    let small = |probe: &Probe| probe.data.as_ref().is_some_and(|data| data.len() <= FOLLOWED);
    if !random && inputs.iter().flatten().all(|(_, probe)| small(probe)) {
        let elements: usize =
            inputs.iter().flatten().map(|(_, probe)| elements_of(&probe.shape)).fold(0, usize::saturating_add);
        // What grows without bound is not tried: the rules below know its size.
        if elements <= FOLLOWED && !matches!(node.op_type.as_str(), "Conv" | "LSTM" | "GRU") {
            let arrays: Vec<Option<Array>> =
                inputs.iter().map(|seen| seen.as_ref().and_then(|(_, probe)| probe.data.clone())).collect();
            return run(node, &arrays)
                .map(|results| Some(results.iter().map(|array| (array.dtype(), Probe::of(array))).collect()));
        }
    }
    if let ("Shape", Some(Some((_, probe)))) = (node.op_type.as_str(), inputs.first()) {
        let sizes = Array::vector(probe.shape.iter().map(|&size| size as i64).collect::<Vec<_>>());
        return Ok(Some(vec![(DType::I64, Probe::of(&sizes))]));
    }
    if data_dependent(node, inputs) {
        return Ok(None);
    }
    if let Some(results) = rule(node, inputs, outputs) {
        return Ok(Some(results.into_iter().map(|(dtype, shape)| (dtype, Probe::sized(shape))).collect()));
    }
    // Sizes that come from the example's sizes are exact; what is computed from stand-ins is thrown away.
    let elements = inputs.iter().flatten().map(|(_, probe)| elements_of(&probe.shape)).fold(0, usize::saturating_add);
    if elements > STAND_IN {
        return Ok(None);
    }
    let stand_in = |(dtype, probe): &(DType, &Probe)| match &probe.data {
        Some(data) => Some(data.clone()),
        None => super::filled(*dtype, &probe.shape, 0.0).ok(),
    };
    let arrays: Vec<Option<Array>> = inputs.iter().map(|seen| seen.as_ref().and_then(stand_in)).collect();
    let results = run(node, &arrays)?;
    Ok(Some(results.iter().map(|array| (array.dtype(), Probe::sized(array.shape().to_vec()))).collect()))
}

/// How many elements data are supposed to pick, in each example: numbers that few programs hold themselves.
const SUPPOSED: [usize; 2] = [13, 17];

/// What the outputs of a node would be if data picked a few elements, each example another number of them; `None` for what
/// picks none.
pub(super) fn suppose(node: &NodeProto, inputs: &[Option<&Fact>], probes: usize) -> Option<Vec<Option<Fact>>> {
    let first = inputs.first().copied().flatten()?;
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map(|attribute| attribute.i);
    let each = |dtype: DType, shape: &dyn Fn(&Probe, usize) -> Option<Vec<usize>>| {
        let shapes = (0..probes).map(|at| shape(first.probes.get(at)?, *SUPPOSED.get(at)?));
        let probes = shapes.map(|shape| Some(Probe::sized(shape?))).collect::<Option<Vec<_>>>()?;
        Some(Fact { dtype, probes })
    };
    let picked = |probe: &Probe, count: usize| match axis {
        None => Some(vec![count]),
        Some(axis) => {
            let mut shape = probe.shape.clone();
            let axis = rekindle_onnx::array::axis(axis, shape.len()).ok()?;
            shape[axis] = count;
            Some(shape)
        }
    };
    let counts = |_: &Probe, count: usize| Some(vec![count]);
    Some(match node.op_type.as_str() {
        "NonZero" => vec![each(DType::I64, &|probe, count| Some(vec![probe.shape.len(), count]))],
        "Compress" => vec![each(first.dtype, &picked)],
        "NonMaxSuppression" => vec![each(DType::I64, &|_, count| Some(vec![count, 3]))],
        "Unique" => {
            let inverse = |probe: &Probe, _: usize| match axis {
                None => Some(vec![elements_of(&probe.shape)]),
                Some(axis) => {
                    let axis = rekindle_onnx::array::axis(axis, probe.shape.len()).ok()?;
                    Some(vec![probe.shape[axis]])
                }
            };
            vec![
                each(first.dtype, &picked),
                each(DType::I64, &counts),
                each(DType::I64, &inverse),
                each(DType::I64, &counts),
            ]
        }
        _ => return None,
    })
}

/// Whether the sizes of the outputs follow from elements that are not known.
fn data_dependent(node: &NodeProto, inputs: &[Seen<'_>]) -> bool {
    let unknown =
        |at: usize| inputs.get(at).is_some_and(|seen| seen.as_ref().is_some_and(|(_, probe)| probe.data.is_none()));
    match node.op_type.as_str() {
        "NonZero" | "Unique" | "Compress" | "NonMaxSuppression" | "If" | "Loop" | "Scan" => true,
        "Reshape" | "Expand" | "Tile" | "TopK" | "OneHot" | "Split" | "Pad" => unknown(1),
        "ConstantOfShape" => unknown(0),
        "Slice" => unknown(1) || unknown(2) || unknown(3) || unknown(4),
        "Range" => unknown(0) || unknown(1) || unknown(2),
        "Resize" => unknown(2) || unknown(3),
        name if name.starts_with("Reduce") => unknown(1),
        "Squeeze" | "Unsqueeze" => unknown(1),
        _ => false,
    }
}

/// Runs one node on the host.
fn run(node: &NodeProto, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let mut node = node.clone();
    let mut graph = GraphProto::default();
    let mut given = Vec::new();
    for (at, array) in inputs.iter().enumerate() {
        let Some(array) = array else { continue };
        let name = format!("in{at}");
        graph.input.push(ValueInfoProto {
            name: name.clone(),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(rekindle_state::onnx::proto::TensorType {
                    elem_type: array.dtype().number(),
                    shape: None,
                })),
                ..TypeProto::default()
            }),
            ..ValueInfoProto::default()
        });
        node.input[at].clone_from(&name);
        given.push((name, Value::from(array.clone())));
    }
    for output in &node.output {
        graph.output.push(ValueInfoProto { name: output.clone(), ..ValueInfoProto::default() });
    }
    graph.node.push(node);
    let proto = ModelProto {
        ir_version: 10,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        ..ModelProto::default()
    };
    let mut session = Session::new(Model::from_proto(&proto, &mut External::new(Path::new("")))?, HostOnly)?;
    session.set_limits(Limits { elements: STAND_IN * 16, ..Limits::default() });
    session.run(given)?.into_iter().map(|value| Ok(value.into_array()?)).collect()
}
