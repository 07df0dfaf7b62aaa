//! The pickle of a PyTorch file, in the opcodes of protocol 2 and with the globals that `torch.load(weights_only=True)` allows.

use std::collections::HashMap;

use num_bigint::BigInt;

use super::storage_plan::StoragePlan;
use crate::{DType, DictKind, Error, Global, Key, Result, StateDict, Value};

pub(super) mod op {
    pub const PROTO: u8 = 0x80;
    pub const GLOBAL: u8 = b'c';
    pub const BINPUT: u8 = b'q';
    pub const LONG_BINPUT: u8 = b'r';
    pub const BINGET: u8 = b'h';
    pub const LONG_BINGET: u8 = b'j';
    pub const BINUNICODE: u8 = b'X';
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const BININT2: u8 = b'M';
    pub const LONG1: u8 = 0x8a;
    pub const BINFLOAT: u8 = b'G';
    pub const NEWTRUE: u8 = 0x88;
    pub const NEWFALSE: u8 = 0x89;
    pub const NONE: u8 = b'N';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const TUPLE: u8 = b't';
    pub const EMPTY_LIST: u8 = b']';
    pub const EMPTY_DICT: u8 = b'}';
    pub const MARK: u8 = b'(';
    pub const APPENDS: u8 = b'e';
    pub const SETITEMS: u8 = b'u';
    pub const BINPERSID: u8 = b'Q';
    pub const REDUCE: u8 = b'R';
    pub const BUILD: u8 = b'b';
    pub const STOP: u8 = b'.';
}

/// How deep values may nest: far beyond any checkpoint, and within what Python's own pickler copes with.
const MAX_DEPTH: usize = 900;

/// What is remembered to be named again in two bytes, as Python does for objects that are the same.
#[derive(PartialEq, Eq, Hash)]
enum Memo {
    Text(String),
    Global(&'static str, String),
}

/// Whether a constant is the layout of tensors, which `weights_only=True` makes from its name.
fn is_layout(global: &Global) -> bool {
    let layouts = ["strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"];
    global.module == "torch" && layouts.contains(&global.name.as_str())
}

/// Writes values as one pickle and collects the storages that it refers to.
pub(super) struct Pickler {
    pub(super) out: Vec<u8>,
    memo: HashMap<Memo, u32>,
    pub plan: StoragePlan,
    /// Whether storages are named as files of PyTorch before 1.6 name them, with a sixth element.
    pub(super) legacy: bool,
    path: Vec<String>,
    /// What could not be said in a PyTorch file, as sentences.
    pub notes: Vec<String>,
}

impl Pickler {
    /// A pickle of a whole tree: its bytes, its storages and its notes.
    pub fn pickle(root: &Value, legacy: bool) -> Result<(Vec<u8>, StoragePlan, Vec<String>)> {
        let mut pickler = Self::new(StoragePlan::new(root), legacy);
        pickler.value(root)?;
        pickler.op(op::STOP);
        Ok((pickler.out, pickler.plan, pickler.notes))
    }

    fn new(plan: StoragePlan, legacy: bool) -> Self {
        let out = vec![op::PROTO, 2];
        Self { out, memo: HashMap::new(), plan, legacy, path: Vec::new(), notes: Vec::new() }
    }

    /// A pickle of a value without tensors, on its own.
    pub fn plain(value: &Value) -> Result<Vec<u8>> {
        Ok(Self::pickle(value, false)?.0)
    }

    pub(super) fn op(&mut self, op: u8) {
        self.out.push(op);
    }

    pub(super) fn note(&mut self, text: &str) {
        let place = if self.path.is_empty() { "the value".to_string() } else { format!("'{}'", self.path.join("/")) };
        self.notes.push(format!("{place} {text}"));
    }

    pub(super) fn value(&mut self, value: &Value) -> Result<()> {
        if self.path.len() > MAX_DEPTH {
            return Err(Error::unsupported(format!("values nest deeper than {MAX_DEPTH} levels")));
        }
        match value {
            Value::None => self.op(op::NONE),
            Value::Bool(value) => self.op(if *value { op::NEWTRUE } else { op::NEWFALSE }),
            Value::Int(int) => self.int(*int),
            Value::BigInt(int) => self.big_int(int),
            Value::Float(float) => self.float(*float),
            Value::Complex(real, imaginary) => {
                self.global("__builtin__", "complex");
                self.float(*real);
                self.float(*imaginary);
                self.out.extend([op::TUPLE2, op::REDUCE]);
            }
            Value::Str(text) => self.text(text)?,
            Value::Bytes(bytes) => self.bytes(bytes)?,
            Value::List(items) => self.list(items)?,
            Value::Tuple(items) => self.tuple(items)?,
            Value::ByteArray(bytes) => {
                self.global("__builtin__", "bytearray");
                self.bytes(bytes)?;
                self.out.extend([op::TUPLE1, op::REDUCE]);
            }
            Value::Set(items) | Value::FrozenSet(items) => {
                let mutable = |item: &Value| {
                    matches!(
                        item,
                        Value::List(_) | Value::Set(_) | Value::FrozenSet(_) | Value::Dict(_) | Value::ByteArray(_)
                    )
                };
                if items.iter().any(mutable) {
                    self.note("is written as a list: its elements cannot be in a Python set");
                    return self.list(items);
                }
                if matches!(value, Value::FrozenSet(_)) {
                    self.note("is a frozenset, which torch.load would refuse, and is written as a set");
                }
                self.global("__builtin__", "set");
                self.list(items)?;
                self.out.extend([op::TUPLE1, op::REDUCE]);
            }
            Value::Dict(dict) => self.dict(dict)?,
            Value::Tensor(tensor) => self.tensor(tensor)?,
            Value::Array(array) => self.array(array)?,
            Value::DType(name) => match name.parse::<DType>() {
                Ok(dtype) => self.global("torch", dtype.name()),
                Err(_) => self.left_out(&format!("names the type torch.{name}, which torch.load would refuse")),
            },
            Value::Device(name) => {
                self.global("torch", "device");
                match name.split_once(':').and_then(|(kind, index)| Some((kind, index.parse::<i64>().ok()?))) {
                    Some((kind, index)) => {
                        self.text(kind)?;
                        self.int(index);
                        self.op(op::TUPLE2);
                    }
                    None => {
                        self.text(name)?;
                        self.op(op::TUPLE1);
                    }
                }
                self.op(op::REDUCE);
            }
            Value::Global(global) if is_layout(global) => self.layout(&global.name)?,
            Value::Global(global) => self.left_out(&format!("names {global}, which torch.load would refuse")),
            Value::Object(object) => {
                self.left_out(&format!("is an instance of {}, which torch.load would refuse", object.class))
            }
        }
        Ok(())
    }

    /// Writes None in place of what cannot be said, and says so.
    pub(super) fn left_out(&mut self, why: &str) {
        self.note(&format!("{why}: None is written in its place"));
        self.op(op::NONE);
    }

    pub(super) fn int(&mut self, int: i64) {
        if let Ok(small) = u8::try_from(int) {
            self.out.extend([op::BININT1, small]);
        } else if let Ok(short) = u16::try_from(int) {
            self.op(op::BININT2);
            self.out.extend(short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(int) {
            self.op(op::BININT);
            self.out.extend(int.to_le_bytes());
        } else {
            self.long(&BigInt::from(int).to_signed_bytes_le());
        }
    }

    pub(super) fn count(&mut self, count: u64) {
        match i64::try_from(count) {
            Ok(int) => self.int(int),
            Err(_) => self.long(&BigInt::from(count).to_signed_bytes_le()),
        }
    }

    fn long(&mut self, bytes: &[u8]) {
        // Callers have at most 255 bytes: the other opcode for long integers is one that weights_only refuses.
        self.out.extend([op::LONG1, bytes.len() as u8]);
        self.out.extend(bytes);
    }

    pub(super) fn big_int(&mut self, int: &BigInt) {
        let bytes = int.to_signed_bytes_le();
        if bytes.len() > 255 {
            self.left_out("is an integer of more than 255 bytes");
        } else {
            self.long(&bytes);
        }
    }

    pub(super) fn float(&mut self, float: f64) {
        self.op(op::BINFLOAT);
        self.out.extend(float.to_be_bytes());
    }

    /// Names something again that was written before; true if it was.
    fn recall(&mut self, memo: &Memo) -> bool {
        let Some(&index) = self.memo.get(memo) else { return false };
        match u8::try_from(index) {
            Ok(short) => self.out.extend([op::BINGET, short]),
            Err(_) => {
                self.op(op::LONG_BINGET);
                self.out.extend(index.to_le_bytes());
            }
        }
        true
    }

    fn remember(&mut self, memo: Memo) {
        let index = self.memo.len() as u32;
        match u8::try_from(index) {
            Ok(short) => self.out.extend([op::BINPUT, short]),
            Err(_) => {
                self.op(op::LONG_BINPUT);
                self.out.extend(index.to_le_bytes());
            }
        }
        self.memo.insert(memo, index);
    }

    pub(super) fn text(&mut self, text: &str) -> Result<()> {
        let memo = Memo::Text(text.to_string());
        if self.recall(&memo) {
            return Ok(());
        }
        let length = u32::try_from(text.len())
            .map_err(|_| Error::unsupported("a text of 4 GiB or more does not go into a pickle"))?;
        self.op(op::BINUNICODE);
        self.out.extend(length.to_le_bytes());
        self.out.extend(text.as_bytes());
        self.remember(memo);
        Ok(())
    }

    pub(super) fn global(&mut self, module: &'static str, name: &str) {
        let memo = Memo::Global(module, name.to_string());
        if self.recall(&memo) {
            return;
        }
        self.op(op::GLOBAL);
        self.out.extend(format!("{module}\n{name}\n").as_bytes());
        self.remember(memo);
    }

    /// Bytes, the way Python's protocol 2 says them.
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.global("_codecs", "encode");
        let latin1: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        self.text(&latin1)?;
        self.text("latin1")?;
        self.out.extend([op::TUPLE2, op::REDUCE]);
        Ok(())
    }

    pub(super) fn list(&mut self, items: &[Value]) -> Result<()> {
        self.op(op::EMPTY_LIST);
        if items.is_empty() {
            return Ok(());
        }
        self.op(op::MARK);
        self.items(items)?;
        self.op(op::APPENDS);
        Ok(())
    }

    fn items(&mut self, items: &[Value]) -> Result<()> {
        for (index, item) in items.iter().enumerate() {
            self.path.push(index.to_string());
            self.value(item)?;
            self.path.pop();
        }
        Ok(())
    }

    fn tuple(&mut self, items: &[Value]) -> Result<()> {
        if items.len() > 3 {
            self.op(op::MARK);
        }
        self.items(items)?;
        self.close_tuple(items.len());
        Ok(())
    }

    /// Ends a tuple; one of more than three elements began with a mark.
    fn close_tuple(&mut self, length: usize) {
        self.op(match length {
            0 => op::EMPTY_TUPLE,
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            3 => op::TUPLE3,
            _ => op::TUPLE,
        });
    }

    pub(super) fn counts(&mut self, counts: &[u64]) {
        if counts.len() > 3 {
            self.op(op::MARK);
        }
        counts.iter().for_each(|&count| self.count(count));
        self.close_tuple(counts.len());
    }

    fn dict(&mut self, dict: &StateDict) -> Result<()> {
        match dict.kind() {
            DictKind::Plain => {
                self.op(op::EMPTY_DICT);
                self.entries(dict)?;
            }
            DictKind::Ordered => {
                self.ordered_dict();
                self.entries(dict)?;
            }
            DictKind::Other(class) if class.module == "collections" && class.name == "Counter" => {
                self.global("collections", "Counter");
                self.op(op::EMPTY_DICT);
                self.entries(dict)?;
                self.out.extend([op::TUPLE1, op::REDUCE]);
            }
            DictKind::Other(class) => {
                self.note(&format!("is a {class} and is written as a dict"));
                self.op(op::EMPTY_DICT);
                self.entries(dict)?;
            }
        }
        match dict.metadata() {
            Some(metadata) if *dict.kind() == DictKind::Ordered => {
                self.op(op::EMPTY_DICT);
                self.op(op::MARK);
                self.text("_metadata")?;
                self.path.push("_metadata".to_string());
                self.value(metadata)?;
                self.path.pop();
                self.out.extend([op::SETITEMS, op::BUILD]);
            }
            Some(_) => self.note("has _metadata, which only an OrderedDict can carry: it is left out"),
            None => {}
        }
        Ok(())
    }

    pub(super) fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.out.extend([op::EMPTY_TUPLE, op::REDUCE]);
    }

    fn entries(&mut self, dict: &StateDict) -> Result<()> {
        if dict.is_empty() {
            return Ok(());
        }
        self.op(op::MARK);
        for (key, value) in dict.iter() {
            self.path.push(key.text().into_owned());
            self.key(key)?;
            self.value(value)?;
            self.path.pop();
        }
        self.op(op::SETITEMS);
        Ok(())
    }

    fn key(&mut self, key: &Key) -> Result<()> {
        match key {
            Key::Str(text) => self.text(text)?,
            Key::Int(int) => self.int(*int),
            Key::Bool(value) => self.op(if *value { op::NEWTRUE } else { op::NEWFALSE }),
            Key::None => self.op(op::NONE),
            Key::Float(bits) => self.float(f64::from_bits(*bits)),
            Key::Bytes(bytes) => self.bytes(bytes)?,
            Key::Tuple(keys) => {
                if keys.len() > 3 {
                    self.op(op::MARK);
                }
                for key in keys {
                    self.key(key)?;
                }
                self.close_tuple(keys.len());
            }
            Key::Other(text) => {
                self.note("has a key that is an object, written as its description");
                self.text(text)?;
            }
        }
        Ok(())
    }
}
