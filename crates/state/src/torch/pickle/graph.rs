//! The graph that a pickle describes: atoms in place, everything that can be shared in one arena.

use indexmap::IndexSet;
use num_bigint::BigInt;

use crate::{Error, Global, Result};

/// How many objects, and how many elements of containers, one pickle may hold.
const LIMIT: usize = 1 << 22;

/// A value on the stack or in a container: small ones in place, others by their number in the arena.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// A class or function: its number in [`Graph::globals`].
    Global(u32),
    Node(u32),
}

/// An object that others may refer to.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    List(Vec<Item<'a>>),
    Tuple(Vec<Item<'a>>),
    Set(Vec<Item<'a>>),
    FrozenSet(Vec<Item<'a>>),
    ByteArray(&'a [u8]),
    Dict(Vec<(Item<'a>, Item<'a>)>),
    Text(String),
    Blob(Vec<u8>),
    Big(BigInt),
    /// Something that the file keeps outside the pickle, by its id: a storage, a class with its source text.
    Persistent(Item<'a>),
    Call(Box<Call<'a>>),
}

/// A call that unpickling would have made, and what would have been done to its result.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub callee: Item<'a>,
    /// The arguments: a tuple.
    pub args: Item<'a>,
    /// Keyword arguments: a dictionary.
    pub kwargs: Option<Item<'a>>,
    /// What `BUILD` would have set, in order.
    pub states: Vec<Item<'a>>,
    /// What `APPEND` would have added.
    pub items: Vec<Item<'a>>,
    /// What `SETITEM` would have set.
    pub entries: Vec<(Item<'a>, Item<'a>)>,
}

/// Everything that one pickle describes.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub nodes: Vec<Node<'a>>,
    pub globals: IndexSet<Global>,
    pub root: Item<'a>,
    /// Bytes of the pickle, STOP included: the next thing in the file begins there.
    pub len: usize,
    elements: usize,
}

impl<'a> Graph<'a> {
    pub fn new() -> Self {
        Self { nodes: Vec::new(), globals: IndexSet::new(), root: Item::None, len: 0, elements: 0 }
    }

    /// Puts a node into the arena.
    pub fn add(&mut self, node: Node<'a>) -> Result<Item<'a>> {
        let held = match &node {
            Node::List(items) | Node::Tuple(items) | Node::Set(items) | Node::FrozenSet(items) => items.len(),
            Node::Dict(entries) => entries.len(),
            _ => 0,
        };
        self.count(held)?;
        if self.nodes.len() >= LIMIT {
            return Err(too_many());
        }
        self.nodes.push(node);
        Ok(Item::Node((self.nodes.len() - 1) as u32))
    }

    /// Counts elements that are put into a container.
    pub fn count(&mut self, elements: usize) -> Result<()> {
        self.elements = self.elements.saturating_add(elements);
        if self.elements > LIMIT { Err(too_many()) } else { Ok(()) }
    }

    /// Records a class or function.
    pub fn global(&mut self, module: &str, name: &str) -> Item<'a> {
        let (index, _) = self.globals.insert_full(Global { module: module.to_string(), name: name.to_string() });
        Item::Global(index as u32)
    }

    /// The node of an item, if it is one.
    pub fn node(&self, item: Item<'a>) -> Option<&Node<'a>> {
        match item {
            Item::Node(id) => self.nodes.get(id as usize),
            _ => None,
        }
    }

    /// The text of an item, if it is one.
    pub fn text(&self, item: Item<'a>) -> Option<&str> {
        match item {
            Item::Str(text) => Some(text),
            _ => match self.node(item)? {
                Node::Text(text) => Some(text),
                _ => None,
            },
        }
    }

    /// The elements of a tuple or list, if the item is one.
    pub fn elements(&self, item: Item<'a>) -> Option<&[Item<'a>]> {
        match self.node(item)? {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// Python's name of an item's type, for messages.
    pub fn type_name(&self, item: Item<'a>) -> String {
        let name = match item {
            Item::None => "None",
            Item::Bool(_) => "a truth value",
            Item::Int(_) => "an integer",
            Item::Float(_) => "a float",
            Item::Str(_) => "text",
            Item::Bytes(_) => "bytes",
            Item::Global(index) => {
                return self
                    .globals
                    .get_index(index as usize)
                    .map_or_else(String::new, |global| format!("the class {global}"));
            }
            Item::Node(_) => match self.node(item) {
                Some(Node::List(_)) => "a list",
                Some(Node::Tuple(_)) => "a tuple",
                Some(Node::Set(_) | Node::FrozenSet(_)) => "a set",
                Some(Node::Dict(_)) => "a dictionary",
                Some(Node::Text(_)) => "text",
                Some(Node::Blob(_) | Node::ByteArray(_)) => "bytes",
                Some(Node::Big(_)) => "an integer",
                Some(Node::Persistent(_)) => "a storage",
                Some(Node::Call(_)) | None => "an object",
            },
        };
        name.to_string()
    }
}

fn too_many() -> Error {
    Error::unsupported(format!("the pickle holds more than {LIMIT} objects: such files are not read"))
}
