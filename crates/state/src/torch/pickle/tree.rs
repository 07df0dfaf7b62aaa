//! From the graph of a pickle to a tree of values, without recursion: children first.

use std::collections::HashMap;

use super::graph::{Call, Graph, Item, Node};
use crate::torch::made::Made;
use crate::torch::rebuild;
use crate::torch::{Globals, dtypes, keys};
use crate::{Error, Global, Object, Result, StateDict, Value};

/// How deep containers may be nested: what walks a tree of values may recurse as deep.
const DEPTH: u32 = 1000;
/// How many values copies of shared parts may add.
const COPIES: u64 = 1 << 18;

/// How many bytes beyond its own length a pickle's text may take when it is copied for each use.
const COPIED_TEXT: u64 = 64 << 20;
/// Bytes that count as one value more.
const BYTES_A_VALUE: u64 = 64;

/// What a file keeps outside its pickle.
pub(crate) trait Loader {
    /// What a persistent id stands for: a storage (see [`rebuild::storage_value`]) or a class.
    fn persistent(&mut self, id: Value) -> Result<Value>;
}

/// The value that a pickle describes. Classes and functions are added to `globals` in their order.
pub(crate) fn build(graph: &Graph<'_>, loader: &mut dyn Loader, globals: &mut Globals) -> Result<Value> {
    globals.found.extend(graph.globals.iter().cloned());
    let count = graph.nodes.len();
    let mut tree = Tree {
        graph,
        loader,
        globals,
        slots: vec![Slot::default(); count],
        values: HashMap::new(),
        parents: vec![(u32::MAX, 0); count],
        copies: COPIES.max(2 * count as u64),
        text: COPIED_TEXT.saturating_add(graph.len as u64),
    };
    let order = tree.order()?;
    if loads_unseen(graph, &order) {
        tree.globals.found.insert(Global { module: "torch".to_string(), name: "load".to_string() });
    }
    for id in order {
        let made = tree.convert(id).map_err(|error| match tree.path(id) {
            path if path.is_empty() => error,
            path => error.within(format_args!("'{path}'")),
        })?;
        let slot = &mut tree.slots[id as usize];
        slot.size = made.size;
        slot.height = made.height;
        tree.values.insert(id, made.value);
    }
    let mut sums = Sums::default();
    tree.item(graph.root, &mut sums)
}

/// What is known of a node while the tree is built.
#[derive(Default, Clone)]
struct Slot {
    /// References that are still to be served.
    uses: u32,
    /// Values in it, itself included.
    size: u64,
    height: u32,
}

struct Converted {
    value: Value,
    size: u64,
    height: u32,
}

/// Size and height of the children that were taken for a node.
#[derive(Default)]
struct Sums {
    size: u64,
    height: u32,
}

struct Tree<'g, 'a> {
    graph: &'g Graph<'a>,
    loader: &'g mut dyn Loader,
    globals: &'g mut Globals,
    slots: Vec<Slot>,
    /// Values that are made and still have users.
    values: HashMap<u32, Value>,
    /// The node through which each was found first, and as which of its children.
    parents: Vec<(u32, u32)>,
    /// How many more values copies may add.
    copies: u64,
    /// How many more bytes of text and bytes may be copied out of the pickle.
    text: u64,
}

/// The child of a node with a number; `None` past the last.
fn child<'a>(node: &Node<'a>, at: usize) -> Option<Item<'a>> {
    let pair = |entries: &[(Item<'a>, Item<'a>)], at: usize| {
        entries.get(at / 2).map(|&(key, value)| if at.is_multiple_of(2) { key } else { value })
    };
    match node {
        Node::List(items) | Node::Tuple(items) | Node::Set(items) | Node::FrozenSet(items) => items.get(at).copied(),
        Node::Dict(entries) => pair(entries, at),
        Node::Persistent(id) => (at == 0).then_some(*id),
        Node::Call(call) => match at {
            0 => Some(call.callee),
            1 => Some(call.args),
            2 => Some(call.kwargs.unwrap_or(Item::None)),
            _ => {
                let at = at - 3;
                if let Some(state) = call.states.get(at) {
                    return Some(*state);
                }
                let at = at - call.states.len();
                if let Some(item) = call.items.get(at) {
                    return Some(*item);
                }
                pair(&call.entries, at - call.items.len())
            }
        },
        Node::Text(_) | Node::Blob(_) | Node::ByteArray(_) | Node::Big(_) => None,
    }
}

impl<'a> Tree<'_, 'a> {
    /// Nodes that the root needs, children before their parents.
    fn order(&mut self) -> Result<Vec<u32>> {
        let mut order = Vec::new();
        let Item::Node(root) = self.graph.root else { return Ok(order) };
        // 0: not seen, 1: open (above the current node), 2: done.
        let mut seen = vec![0_u8; self.graph.nodes.len()];
        let mut open = vec![(root, 0_usize)];
        seen[root as usize] = 1;
        self.slots[root as usize].uses = 1;
        while let Some((id, at)) = open.last_mut() {
            let id = *id;
            let Some(next) = child(&self.graph.nodes[id as usize], *at) else {
                seen[id as usize] = 2;
                order.push(id);
                open.pop();
                continue;
            };
            let place = *at as u32;
            *at += 1;
            let Item::Node(next) = next else { continue };
            let index = next as usize;
            match seen[index] {
                0 => {
                    seen[index] = 1;
                    self.slots[index].uses = 1;
                    self.parents[index] = (id, place);
                    open.push((next, 0));
                    if open.len() > DEPTH as usize + 1 {
                        return Err(too_deep());
                    }
                }
                // An object that refers to itself is cut there; a container cannot be shown at all.
                1 if matches!(self.graph.nodes[index], Node::Call(_)) => {}
                1 => {
                    return Err(Error::unsupported(format!(
                        "{} contains itself: such values have no end and are not read",
                        self.graph.type_name(Item::Node(next))
                    )));
                }
                _ => self.slots[index].uses = self.slots[index].uses.saturating_add(1),
            }
        }
        Ok(order)
    }

    /// The value of a child, moved for its last user and copied for the others.
    fn item(&mut self, item: Item<'a>, sums: &mut Sums) -> Result<Value> {
        sums.size = sums.size.saturating_add(1);
        let id = match item {
            Item::None => return Ok(Value::None),
            Item::Bool(value) => return Ok(Value::Bool(value)),
            Item::Int(int) => return Ok(Value::Int(int)),
            Item::Float(float) => return Ok(Value::Float(float)),
            Item::Str(text) => {
                self.charge(text.len(), sums)?;
                return Ok(Value::Str(text.to_string()));
            }
            Item::Bytes(bytes) => {
                self.charge(bytes.len(), sums)?;
                return Ok(Value::Bytes(bytes.to_vec()));
            }
            Item::Global(index) => {
                return Ok(self.graph.globals.get_index(index as usize).map_or(Value::None, global_value));
            }
            Item::Node(id) => id,
        };
        let slot = &mut self.slots[id as usize];
        if !self.values.contains_key(&id) {
            // Still open: an object inside itself.
            return Ok(self.stub(id));
        }
        slot.uses = slot.uses.saturating_sub(1);
        sums.height = sums.height.max(slot.height);
        sums.size = sums.size.saturating_add(slot.size);
        if slot.uses == 0 {
            return Ok(self.values.remove(&id).unwrap_or(Value::None));
        }
        if slot.size > self.copies {
            if matches!(self.graph.nodes[id as usize], Node::Call(_)) {
                return Ok(self.stub(id));
            }
            return Err(Error::unsupported(format!(
                "{} that is used again and again would grow to more than {COPIES} values: such files are not read",
                self.graph.type_name(item)
            )));
        }
        self.copies -= slot.size;
        Ok(self.values.get(&id).cloned().unwrap_or(Value::None))
    }

    /// Counts text or bytes that are copied out of the pickle: one that is named a million times is copied as often.
    fn charge(&mut self, len: usize, sums: &mut Sums) -> Result<()> {
        sums.size = sums.size.saturating_add(len as u64 / BYTES_A_VALUE);
        match self.text.checked_sub(len as u64) {
            Some(left) => {
                self.text = left;
                Ok(())
            }
            None => Err(Error::unsupported(
                "text or bytes that are used again and again would fill the memory: such files are not read",
            )),
        }
    }

    /// An object by its class alone.
    fn stub(&self, id: u32) -> Value {
        let class = match &self.graph.nodes[id as usize] {
            Node::Call(call) => match call.callee {
                Item::Global(index) => self.graph.globals.get_index(index as usize).cloned(),
                _ => None,
            },
            _ => None,
        };
        let class = class.unwrap_or_else(|| Global { module: "builtins".to_string(), name: "object".to_string() });
        Value::Object(Box::new(Object {
            class,
            args: Vec::new(),
            state: Value::None,
            items: Vec::new(),
            entries: StateDict::new(),
        }))
    }

    fn items(&mut self, items: &[Item<'a>], sums: &mut Sums) -> Result<Vec<Value>> {
        items.iter().map(|&item| self.item(item, sums)).collect()
    }

    fn dict(&mut self, entries: &[(Item<'a>, Item<'a>)], sums: &mut Sums) -> Result<StateDict> {
        let mut dict = StateDict::new();
        for &(key, value) in entries {
            let key = match key {
                Item::Str(text) => {
                    self.charge(text.len(), sums)?;
                    text.into()
                }
                other => keys::key(self.item(other, sums)?, dict.len())?,
            };
            let value = self.item(value, sums)?;
            dict.insert(key, value);
        }
        Ok(dict)
    }

    fn convert(&mut self, id: u32) -> Result<Converted> {
        let graph = self.graph;
        let mut sums = Sums::default();
        let value = match &graph.nodes[id as usize] {
            Node::List(items) => Value::List(self.items(items, &mut sums)?),
            Node::Tuple(items) => Value::Tuple(self.items(items, &mut sums)?),
            Node::Set(items) => Value::Set(self.items(items, &mut sums)?),
            Node::FrozenSet(items) => Value::FrozenSet(self.items(items, &mut sums)?),
            Node::Dict(entries) => Value::Dict(self.dict(entries, &mut sums)?),
            Node::Text(text) => {
                self.charge(text.len(), &mut sums)?;
                Value::Str(text.clone())
            }
            Node::ByteArray(bytes) => {
                self.charge(bytes.len(), &mut sums)?;
                Value::ByteArray(bytes.to_vec())
            }
            Node::Blob(bytes) => {
                self.charge(bytes.len(), &mut sums)?;
                Value::Bytes(bytes.clone())
            }
            Node::Big(int) => Value::BigInt(int.clone()),
            Node::Persistent(id) => {
                let id = self.item(*id, &mut sums)?;
                self.loader.persistent(id)?
            }
            Node::Call(call) => self.convert_call(call, &mut sums)?,
        };
        let height = sums.height + 1;
        if height > DEPTH {
            return Err(too_deep());
        }
        Ok(Converted { value, size: sums.size.saturating_add(1), height })
    }

    fn convert_call(&mut self, call: &Call<'a>, sums: &mut Sums) -> Result<Value> {
        let callee = self.item(call.callee, sums)?;
        let mut args = match self.item(call.args, sums)? {
            Value::Tuple(args) | Value::List(args) => args,
            _ => Vec::new(),
        };
        if let Some(kwargs) = call.kwargs {
            let kwargs = self.item(kwargs, sums)?;
            if kwargs.as_dict().is_none_or(|kwargs| !kwargs.is_empty()) {
                args.push(kwargs);
            }
        }
        let mut state = None;
        for &next in &call.states {
            let next = self.item(next, sums)?;
            state = Some(merged(state, next));
        }
        let items = self.items(&call.items, sums)?;
        let entries = self.dict(&call.entries, sums)?;
        let class = match callee {
            Value::Global(class) => class,
            Value::DType(name) => Global { module: "torch".to_string(), name },
            // The result of another call is called: the inner call becomes the first argument.
            Value::Object(inner) => {
                let class = inner.class.clone();
                args.insert(0, Value::Object(inner));
                class
            }
            other => return Err(Error::damaged(format!("{} is called, which is no function", other.type_name()))),
        };
        rebuild::call(Made { class, args, state, items, entries }, self.globals)
    }

    /// Keys, attributes and positions from the root to a node, for messages.
    fn path(&self, id: u32) -> String {
        let mut parts = Vec::new();
        let mut at = id;
        while let (parent, place) = self.parents[at as usize]
            && parent != u32::MAX
        {
            match &self.graph.nodes[parent as usize] {
                Node::Dict(entries) => {
                    if let Some(&(key, _)) = entries.get(place as usize / 2) {
                        parts.push(
                            self.graph
                                .text(key)
                                .map_or_else(|| "…".to_string(), |text| text.chars().take(100).collect()),
                        );
                    }
                }
                Node::List(_) => parts.push(place.to_string()),
                Node::Call(call) if place as usize >= 3 + call.states.len() + call.items.len() => {
                    let entry = (place as usize - 3 - call.states.len() - call.items.len()) / 2;
                    if let Some(text) = call.entries.get(entry).and_then(|&(key, _)| self.graph.text(key)) {
                        parts.push(text.chars().take(100).collect());
                    }
                }
                _ => {}
            }
            at = parent;
            if parts.len() > 16 {
                parts.push("…".to_string());
                break;
            }
        }
        parts.reverse();
        parts.join("/")
    }
}

/// Whether `torch.storage._load_from_bytes` is used in another way than in a call whose result is kept.
///
/// It is harmless because the file in its bytes is read and judged too; a call whose result is dropped, or a function that is
/// handed on, escapes that, and unpickling it is a `torch.load` of bytes that nobody saw.
fn loads_unseen(graph: &Graph<'_>, reached: &[u32]) -> bool {
    let loader =
        graph.globals.iter().position(|global| global.module == "torch.storage" && global.name == "_load_from_bytes");
    let Some(loader) = loader else { return false };
    let is_loader = |item: Item<'_>| matches!(item, Item::Global(index) if index as usize == loader);
    let mut kept = vec![false; graph.nodes.len()];
    for &id in reached {
        kept[id as usize] = true;
    }
    graph.nodes.iter().zip(kept).any(|(node, kept)| {
        let called = matches!(node, Node::Call(call) if is_loader(call.callee));
        let uses = (0..).map_while(|at| child(node, at)).filter(|&item| is_loader(item)).count();
        uses > usize::from(called && kept)
    })
}

fn too_deep() -> Error {
    Error::unsupported(format!("values are nested more than {DEPTH} deep: such files are not read"))
}

/// A class or function by name; element types are values of their own.
fn global_value(global: &Global) -> Value {
    match dtypes::by_global(global) {
        Some(dtype) => Value::DType(dtype.name().to_string()),
        None => Value::Global(global.clone()),
    }
}

/// Two states that are set one after the other.
fn merged(before: Option<Value>, next: Value) -> Value {
    match (before, next) {
        (Some(Value::Dict(mut before)), Value::Dict(next)) => {
            for (key, value) in next {
                before.insert(key, value);
            }
            Value::Dict(before)
        }
        (_, next) => next,
    }
}
