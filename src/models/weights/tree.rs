//! The parameters of a module as a tree of their paths.

use std::collections::HashSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, Int, Tensor};

/// What the elements of a parameter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Floats.
    Float,
    /// Integers.
    Int,
    /// Truth values.
    Bool,
    /// A count of batches: one int64 without axes in PyTorch, one float in `[1]` in Burn if it is there at all.
    Count,
}

/// A parameter or buffer as Burn has it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub id: ParamId,
    /// Names from the root down, enums' variants included.
    pub path: String,
    /// The same without the variants.
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: Kind,
    /// Whether it is a buffer: PyTorch's optimizers do not get it.
    pub buffer: bool,
    /// Whether Burn's records have its axes exchanged (`LinearLayout::Col`).
    pub exchanged: bool,
}

/// A module, or a parameter where it has a number.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Name in the parent; empty for the root.
    pub name: String,
    /// The type of the module, without its path: `Linear`; empty for parameters, `Vec` and the like.
    pub class: String,
    /// The parameter's number in the order in which Burn visits them.
    pub stored: Option<usize>,
    /// Fields or elements, in their order.
    pub children: Vec<Node>,
}

/// The parameters of a module in the order in which Burn visits them, and the tree of their paths without enums' variants.
pub(super) fn tree<M: Module>(module: &M) -> (Vec<Stored>, Node) {
    let mut lister =
        Lister { segments: Vec::new(), stored: Vec::new(), root: Node::default(), buffers: buffers(module) };
    module.visit(&mut lister);
    (lister.stored, lister.root)
}

/// The numbers of the running statistics of a module, by role: they keep the identity that they have whatever a mapper gives them.
fn buffers<M: Module>(module: &M) -> HashSet<ParamId> {
    struct Renumber;
    impl ModuleMapper for Renumber {
        fn map_float<const D: usize>(&mut self, mut param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.id = ParamId::new();
            param
        }
    }
    struct Ids(HashSet<ParamId>);
    impl ModuleVisitor for Ids {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.insert(param.id);
        }
    }
    let mut former = Ids(HashSet::new());
    module.visit(&mut former);
    let mut kept = Ids(HashSet::new());
    module.clone().map(&mut Renumber).visit(&mut kept);
    former.0.intersection(&kept.0).copied().collect()
}

struct Lister {
    /// Segments with their containers: `Struct:Linear`, `Enum:Feature`, `Vec`.
    segments: Vec<(String, String)>,
    stored: Vec<Stored>,
    root: Node,
    buffers: HashSet<ParamId>,
}

impl Lister {
    fn add(&mut self, id: ParamId, shape: Vec<usize>, kind: Kind, exchanged: bool) {
        let number = self.stored.len();
        let names: Vec<&str> = self.segments.iter().map(|(name, _)| name.as_str()).collect();
        // PyTorch's own names of statistics: an imported graph has them as parameters without gradient.
        let last = names.last().map_or("", |name| name.rsplit('.').next().unwrap_or_default());
        // And a table of swin's that torchvision has as a buffer.
        let names_buffer = ["num_batches_tracked", "relative_coords_table"].contains(&last);
        let statistic = last.starts_with("running_") || names_buffer;
        let buffer = kind != Kind::Float || self.buffers.contains(&id) || statistic;
        let plain = self.segments.iter().filter(|(_, container)| !container.starts_with("Enum:"));
        let plain: Vec<&str> = plain.map(|(name, _)| bare(name)).collect();
        self.stored.push(Stored { id, path: names.join("."), name: plain.join("."), shape, kind, buffer, exchanged });
        let mut node = &mut self.root;
        for (name, container) in &self.segments {
            if container.starts_with("Enum:") {
                continue;
            }
            if let Some(class) = container.strip_prefix("Struct:") {
                node.class = class.to_string();
            }
            let name = bare(name);
            let place = node.children.iter().rposition(|child| child.name == name).unwrap_or_else(|| {
                node.children.push(Node { name: name.to_string(), ..Node::default() });
                node.children.len() - 1
            });
            node = &mut node.children[place];
        }
        node.stored = Some(number);
    }
}

/// A field's name; a raw identifier (`r#type`) stands for a word of Rust.
fn bare(name: &str) -> &str {
    name.strip_prefix("r#").unwrap_or(name)
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.segments.push((name.to_string(), container.to_string()));
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.segments.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut shape = param.lazy_shape().to_vec();
        let is_linear = self.segments.last().is_some_and(|(_, container)| container == "Struct:Linear");
        let exchanged = is_linear && exchanges_axes(param);
        // Such a one announces the shape that it is saved with.
        if exchanged && !param.is_initialized() {
            shape.reverse();
        }
        self.add(param.id, shape, Kind::Float, exchanged);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param.id, param.lazy_shape().to_vec(), Kind::Int, false);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param.id, param.lazy_shape().to_vec(), Kind::Bool, false);
    }
}

/// Whether Burn exchanges the axes of a matrix that is loaded into a parameter (`LinearLayout::Col`): shown by one that is.
pub(super) fn exchanges_axes<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    if D != 2 {
        return false;
    }
    let mut shape = [1; D];
    shape[1] = 2;
    let probe = Tensor::<D>::zeros(shape, &param.lazy_device());
    param.clone().transform_for_load(probe, param.id).dims() != shape
}
