//! Burn's own layers, and what PyTorch's layers of the same kind call their parameters.
//!
//! A visitor of a module is told the name of a struct and no more of its type. So a layer counts as Burn's when its name, all of
//! its parameters and their shapes are those of the layer; a struct of somebody's own that shares the name only is left alone.

use super::tree::{Kind, Node, Stored};

/// A tensor of PyTorch's state dict, made of parameters of Burn's stacked along the first axis.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// Name from the root.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// What its elements are.
    pub kind: Kind,
    /// Whether PyTorch has it as a buffer.
    pub buffer: bool,
    /// Parameters by number, and whether Burn has their axes exchanged. Nothing for a tensor that Burn does not keep.
    pub parts: Vec<(usize, bool)>,
}

/// The tensors of a module under PyTorch's names and in its order, and what PyTorch has no form for, a sentence each.
pub(super) fn draft(stored: &[Stored], root: &Node) -> (Vec<Draft>, Vec<String>) {
    let mut drafts = Drafts { stored, made: Vec::new(), notes: Vec::new() };
    drafts.module(root, "");
    (drafts.made, drafts.notes)
}

struct Drafts<'a> {
    stored: &'a [Stored],
    made: Vec<Draft>,
    notes: Vec<String>,
}

impl Drafts<'_> {
    fn module(&mut self, node: &Node, path: &str) {
        let site = Site { stored: self.stored, node };
        let layer = LAYERS.iter().find(|layer| layer.burn == node.class);
        if let Some(layer) = layer {
            if let Some(tensors) = (layer.tensors)(site) {
                self.made.extend(tensors.into_iter().map(|tensor| Draft { name: join(path, &tensor.name), ..tensor }));
                self.adapters(node, path, true);
                return;
            }
            if !layer.torch.is_empty() {
                self.notes.push(format!(
                    "'{path}' is a {} that has no form as {}: its parameters keep Burn's names",
                    layer.burn, layer.torch
                ));
            }
        }
        // PyTorch lists a module's own parameters, then its buffers, then its children.
        let own = node.children.iter().filter(|child| child.stored.is_some());
        let (parameters, buffers): (Vec<&Node>, Vec<&Node>) = match node.children.iter().any(|c| c.name.contains('.')) {
            // The names of an imported graph: each is a whole path, in the file's order.
            true => (own.collect(), Vec::new()),
            false => own.partition(|child| child.stored.is_some_and(|number| !self.stored[number].buffer)),
        };
        for child in parameters.into_iter().chain(buffers) {
            let Some(tensor) = site.tensor(&child.name) else { continue };
            self.made.push(Draft { name: join(path, &tensor.name), ..tensor });
        }
        for child in node.children.iter().filter(|child| child.stored.is_none()) {
            self.module(child, &join(path, &child.name));
        }
        self.adapters(node, path, false);
    }

    /// What reparameterizations (LoRA) add to the parameters of a layer, and perhaps of the modules in it.
    fn adapters(&mut self, node: &Node, path: &str, inner: bool) {
        for child in node.children.iter().filter(|child| !child.children.is_empty()) {
            let path = join(path, &child.name);
            if child.stored.is_none() {
                if inner {
                    self.adapters(child, &path, true);
                }
            } else {
                self.notes.push(format!(
                    "'{path}' has an adapter, for which PyTorch's state dict has no names: it keeps Burn's, beside the base"
                ));
                self.module(child, &path);
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

/// One of Burn's layers.
struct Layer {
    /// Its struct in `burn::nn`.
    burn: &'static str,
    /// Its class in `torch.nn`, where one that does not fit is worth a note: a `Linear` of somebody's own is not.
    torch: &'static str,
    /// Its tensors under PyTorch's names; none when this is not Burn's layer, or one that PyTorch has no form for.
    tensors: fn(Site<'_>) -> Option<Vec<Draft>>,
}

/// Layers that are not here have PyTorch's names and layout in Burn too: convolutions and embeddings.
const LAYERS: &[Layer] = &[
    Layer { burn: "Linear", torch: "", tensors: |site| Some(site.linear()?.tensors()) },
    Layer { burn: "BatchNorm", torch: "", tensors: batch_norm },
    Layer { burn: "LayerNorm", torch: "", tensors: affine },
    Layer { burn: "GroupNorm", torch: "", tensors: affine },
    Layer { burn: "InstanceNorm", torch: "", tensors: affine },
    Layer { burn: "RmsNorm", torch: "", tensors: affine },
    Layer { burn: "PRelu", torch: "", tensors: |site| site.renamed(&[("alpha", "weight")]) },
    Layer { burn: "Lstm", torch: "torch.nn.LSTM", tensors: |site| recurrent(site, LSTM, "") },
    Layer { burn: "BiLstm", torch: "torch.nn.LSTM", tensors: |site| both(site, "Lstm", LSTM) },
    Layer { burn: "Gru", torch: "torch.nn.GRU", tensors: |site| recurrent(site, GRU, "") },
    Layer { burn: "BiGru", torch: "torch.nn.GRU", tensors: |site| both(site, "Gru", GRU) },
    Layer { burn: "Rnn", torch: "torch.nn.RNN", tensors: |site| recurrent(site, RNN, "") },
    Layer { burn: "BiRnn", torch: "torch.nn.RNN", tensors: |site| both(site, "Rnn", RNN) },
    Layer { burn: "MultiHeadAttention", torch: "torch.nn.MultiheadAttention", tensors: attention },
    // Which norm is PyTorch's first depends on `norm_first`, which no parameter shows.
    Layer { burn: "TransformerEncoderLayer", torch: "torch.nn.TransformerEncoderLayer", tensors: |_| None },
    Layer { burn: "TransformerDecoderLayer", torch: "torch.nn.TransformerDecoderLayer", tensors: |_| None },
];

/// Gates in the order in which PyTorch stacks them.
const LSTM: &[&str] = &["input_gate", "forget_gate", "cell_gate", "output_gate"];
const GRU: &[&str] = &["reset_gate", "update_gate", "new_gate"];
const RNN: &[&str] = &["gate"];

/// A module and the parameters that its numbers mean.
#[derive(Clone, Copy)]
struct Site<'a> {
    stored: &'a [Stored],
    node: &'a Node,
}

impl<'a> Site<'a> {
    /// A field that is a module of a class.
    fn child(self, name: &str, class: &str) -> Option<Self> {
        let node = self.node.children.iter().find(|child| child.name == name)?;
        (node.class == class && node.stored.is_none()).then_some(Self { node, ..self })
    }

    /// A field that is a parameter.
    fn parameter(self, name: &str) -> Option<(usize, &'a Stored)> {
        let node = self.node.children.iter().find(|child| child.name == name)?;
        Some((node.stored?, &self.stored[node.stored?]))
    }

    /// Whether it has no other fields with parameters than these.
    fn only(self, names: &[&str]) -> bool {
        self.node.children.iter().all(|child| names.contains(&child.name.as_str()))
    }

    /// A parameter as it is.
    fn tensor(self, name: &str) -> Option<Draft> {
        let number = self.node.children.iter().find(|child| child.name == name)?.stored?;
        let Stored { shape, kind, buffer, .. } = &self.stored[number];
        // Beside running statistics of PyTorch's names, this is PyTorch's count.
        let last = name.rsplit('.').next().unwrap_or_default();
        let counts = last == "num_batches_tracked" && *kind != Kind::Bool && shape[..] == [1];
        let (shape, kind) = if counts { (Vec::new(), Kind::Count) } else { (shape.clone(), *kind) };
        Some(Draft { name: name.to_string(), shape, kind, buffer: *buffer, parts: vec![(number, false)] })
    }

    /// Vectors of one length, the first of which must be there, under other names.
    fn renamed(self, names: &[(&str, &str)]) -> Option<Vec<Draft>> {
        let known: Vec<&str> = names.iter().map(|(burn, _)| *burn).collect();
        let (_, first) = self.parameter(known.first()?)?;
        let same = |name: &&str| {
            self.parameter(name).is_none_or(|(_, found)| found.kind == Kind::Float && found.shape == first.shape)
        };
        if !self.only(&known) || first.shape.len() != 1 || !known.iter().all(same) {
            return None;
        }
        let there = names.iter().filter_map(|(burn, torch)| Some((self.tensor(burn)?, *torch)));
        Some(there.map(|(tensor, torch)| Draft { name: torch.to_string(), ..tensor }).collect())
    }

    /// Burn's linear layer: `weight` `[inputs, outputs]`, perhaps `bias` `[outputs]`.
    fn linear(self) -> Option<Linear> {
        let (weight, stored) = self.parameter("weight").filter(|(_, stored)| stored.kind == Kind::Float)?;
        let [inputs, outputs] = stored.shape[..] else { return None };
        let bias = self.parameter("bias");
        let fits = bias.is_none_or(|(_, bias)| bias.kind == Kind::Float && bias.shape[..] == [outputs]);
        let is_linear = self.node.class == "Linear" && self.only(&["weight", "bias"]) && fits;
        is_linear.then_some(Linear { weight, bias: bias.map(|(number, _)| number), inputs, outputs })
    }
}

/// A linear layer: numbers of its parameters, and its sizes.
#[derive(Clone, Copy)]
struct Linear {
    weight: usize,
    bias: Option<usize>,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    fn tensors(self) -> Vec<Draft> {
        stacked(&[self], "weight", "bias").unwrap_or_default()
    }
}

/// Linear layers of the same sizes as one, under these names; none when only some have a bias.
fn stacked(layers: &[Linear], weight: &str, bias: &str) -> Option<Vec<Draft>> {
    let &first = layers.first()?;
    if layers.iter().any(|layer| (layer.inputs, layer.outputs) != (first.inputs, first.outputs)) {
        return None;
    }
    let tensor = |name: &str, shape: Vec<usize>, parts: Vec<(usize, bool)>| Draft {
        name: name.to_string(),
        shape,
        kind: Kind::Float,
        buffer: false,
        parts,
    };
    let rows = first.outputs * layers.len();
    let weights = layers.iter().map(|layer| (layer.weight, true)).collect();
    let mut made = vec![tensor(weight, vec![rows, first.inputs], weights)];
    let biases: Vec<usize> = layers.iter().filter_map(|layer| layer.bias).collect();
    if biases.len() == layers.len() {
        made.push(tensor(bias, vec![rows], biases.into_iter().map(|number| (number, false)).collect()));
    } else if !biases.is_empty() {
        return None;
    }
    Some(made)
}

/// Layers that scale and perhaps shift.
fn affine(site: Site<'_>) -> Option<Vec<Draft>> {
    site.renamed(&[("gamma", "weight"), ("beta", "bias")])
}

/// Burn does not count batches: the count is there for PyTorch, and 0.
fn batch_norm(site: Site<'_>) -> Option<Vec<Draft>> {
    let statistics = ["running_mean", "running_var"];
    let mut made = site.renamed(&[
        ("gamma", "weight"),
        ("beta", "bias"),
        (statistics[0], statistics[0]),
        (statistics[1], statistics[1]),
    ])?;
    let count = "num_batches_tracked".to_string();
    made.push(Draft { name: count, shape: Vec::new(), kind: Kind::Count, buffer: true, parts: Vec::new() });
    (made.len() == 5 && made[2..].iter().all(|tensor| tensor.buffer)).then_some(made)
}

/// A layer of gates, each of two linear layers.
fn recurrent(site: Site<'_>, gates: &[&str], suffix: &str) -> Option<Vec<Draft>> {
    let gate = |name: &&str| {
        let gate = site.child(name, "GateController")?;
        let transform = |name: &str| gate.child(name, "Linear")?.linear();
        gate.only(&["input_transform", "hidden_transform"])
            .then_some((transform("input_transform")?, transform("hidden_transform")?))
    };
    let gates: (Vec<Linear>, Vec<Linear>) = match site.only(gates) {
        true => gates.iter().map(gate).collect::<Option<Vec<_>>>()?.into_iter().unzip(),
        false => return None,
    };
    let inputs = stacked(&gates.0, &format!("weight_ih_l0{suffix}"), &format!("bias_ih_l0{suffix}"))?;
    let hidden = stacked(&gates.1, &format!("weight_hh_l0{suffix}"), &format!("bias_hh_l0{suffix}"))?;
    let square = gates.1.iter().all(|hidden| hidden.inputs == hidden.outputs);
    let (weights, biases): (Vec<Draft>, Vec<Draft>) =
        inputs.into_iter().chain(hidden).partition(|tensor| tensor.shape.len() == 2);
    (square && biases.len() % 2 == 0).then(|| weights.into_iter().chain(biases).collect())
}

/// A layer for each direction.
fn both(site: Site<'_>, class: &str, gates: &[&str]) -> Option<Vec<Draft>> {
    let mut made = recurrent(site.child("forward", class)?, gates, "")?;
    made.extend(recurrent(site.child("reverse", class)?, gates, "_reverse")?);
    site.only(&["forward", "reverse"]).then_some(made)
}

/// Attention whose three projections PyTorch keeps in one.
fn attention(site: Site<'_>) -> Option<Vec<Draft>> {
    let linear = |name: &str| site.child(name, "Linear")?.linear();
    let projections = [linear("query")?, linear("key")?, linear("value")?];
    let output = linear("output")?;
    let mut made = stacked(&projections, "in_proj_weight", "in_proj_bias")?;
    made.extend(stacked(&[output], "out_proj.weight", "out_proj.bias")?);
    // PyTorch has all of the biases or none.
    let alike = projections[0].bias.is_some() == output.bias.is_some();
    (alike && site.only(&["query", "key", "value", "output"])).then_some(made)
}
