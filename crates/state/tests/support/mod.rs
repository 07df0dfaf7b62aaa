//! Random trees of values, and what it means that two are the same.

use std::collections::HashMap;

use rekindle_state::*;

/// A small random generator: the same seed gives the same tree.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn bytes(&mut self, n: u64) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Makes random trees.
pub struct Trees {
    pub random: Random,
    /// Whether values that `weights_only=True` refuses (instances, classes, arrays) may occur.
    pub anything: bool,
    storages: Vec<(DType, Storage)>,
}

impl Trees {
    pub fn new(seed: u64, anything: bool) -> Self {
        Self { random: Random::new(seed), anything, storages: Vec::new() }
    }

    /// A whole file's content.
    pub fn root(&mut self) -> Value {
        match self.random.below(6) {
            0 => Value::Tensor(self.tensor()),
            1 => self.value(0),
            2 => Value::Dict((0..self.random.below(6)).map(|i| (format!("layer{i}.weight"), self.plain_tensor())).collect()),
            _ => Value::Dict(self.dict(0)),
        }
    }

    fn dict(&mut self, depth: u64) -> StateDict {
        let mut dict = StateDict::new();
        match self.random.below(4) {
            0 => {
                dict.set_kind(DictKind::Ordered);
                if self.random.below(2) == 0 {
                    dict.set_metadata(Some(Value::Dict([("", Value::Int(1))].into_iter().collect())));
                }
            }
            1 if self.anything => dict.set_kind(DictKind::Other(Global { module: "collections".into(), name: "defaultdict".into() })),
            _ => {}
        }
        for _ in 0..self.random.below(6) {
            let key = self.key(0);
            // Python takes 1, 1.0 and True for the same key.
            if dict.iter().all(|(other, _)| other.text() != key.text()) {
                let value = self.value(depth + 1);
                dict.insert(key, value);
            }
        }
        dict
    }

    fn key(&mut self, depth: u64) -> Key {
        match self.random.below(12) {
            0 => Key::Int(self.random.next() as i64),
            1 => Key::Int(self.random.below(300) as i64 + 2),
            2 => Key::None,
            3 => Key::Float((self.random.below(1000) as f64 + 0.5).to_bits()),
            4 => Key::Bytes(self.random.bytes(3)),
            5 if depth < 2 => Key::Tuple((0..self.random.below(5)).map(|_| self.key(depth + 1)).collect()),
            _ => Key::Str(self.text()),
        }
    }

    fn text(&mut self) -> String {
        let words = ["weight", "", "a/b", "ä€😀", "__metadata__", "rekindle", "0", "conv1.weight", "line\nbreak", "\"quoted\\"];
        let word = words[self.random.below(words.len() as u64) as usize];
        if self.random.below(2) == 0 { word.to_string() } else { format!("{word}{}", self.random.below(1000)) }
    }

    fn items(&mut self, depth: u64) -> Vec<Value> {
        (0..self.random.below(6)).map(|_| self.value(depth + 1)).collect()
    }

    pub fn value(&mut self, depth: u64) -> Value {
        let kinds = if depth > 3 { 14 } else { 20 };
        match self.random.below(kinds) {
            0 => Value::None,
            1 => Value::Bool(self.random.below(2) == 0),
            2 => Value::Int((self.random.next() >> self.random.below(64)) as i64),
            3 => Value::Int(-((self.random.next() >> (1 + self.random.below(63))) as i64)),
            4 => Value::BigInt(format!("-{}{}", self.random.next() | 1 << 63, self.random.next()).parse().unwrap()),
            5 => Value::Float(f64::from_bits(self.random.next())),
            6 => Value::Float([0.0, -0.0, f64::NAN, f64::INFINITY, 1e-310, 0.1][self.random.below(6) as usize]),
            7 => Value::Complex(0.5, -1.0),
            8 => Value::Str(self.text()),
            9 => {
                let length = self.random.below(9);
                Value::Bytes(self.random.bytes(length))
            }
            10 => Value::DType(DType::ALL[self.random.below(12) as usize].name().to_string()),
            11 => Value::Device(["cpu", "cuda:0", "meta"][self.random.below(3) as usize].to_string()),
            12 if self.anything => self.strange(depth),
            12 | 13 => Value::Tensor(self.tensor()),
            14 => Value::List(self.items(depth)),
            15 => Value::Tuple(self.items(depth)),
            16 => Value::Set(vec![Value::Int(5), Value::Str(self.text())]),
            _ => Value::Dict(self.dict(depth)),
        }
    }

    /// What only the formats with a structure keep.
    fn strange(&mut self, depth: u64) -> Value {
        let class = Global { module: "some.module".into(), name: "Thing".into() };
        match self.random.below(3) {
            0 => Value::Global(class),
            1 if depth < 3 => Value::Object(Box::new(Object {
                class,
                args: self.items(depth + 1),
                state: self.value(depth + 1),
                items: vec![Value::Int(1)],
                entries: self.dict(depth + 1),
            })),
            _ => Value::Array(Array {
                descr: "<U1".into(),
                scalar: false,
                tensor: None,
                raw: vec![65, 0, 0, 0],
                shape: vec![1],
                objects: vec![],
            }),
        }
    }

    fn plain_tensor(&mut self) -> Tensor {
        let dtype = DType::ALL[self.random.below(13) as usize];
        let shape: Vec<u64> = (0..self.random.below(4)).map(|_| self.random.below(4)).collect();
        let bytes = self.random.bytes(shape.iter().product::<u64>() * dtype.size() as u64);
        Tensor::from_bytes(dtype, &shape, if dtype == DType::Bool { bytes.iter().map(|b| b & 1).collect() } else { bytes }).unwrap()
    }

    /// A tensor of any layout; strided ones may share a storage with earlier ones.
    fn tensor(&mut self) -> Tensor {
        let mut tensor = match self.random.below(8) {
            0 => self.special(),
            1 | 2 => self.shared(),
            _ => {
                let dtype = loop {
                    let dtype = DType::ALL[self.random.below(DType::ALL.len() as u64) as usize];
                    if !dtype.name().starts_with('q') {
                        break dtype;
                    }
                };
                let shape: Vec<u64> = (0..self.random.below(4)).map(|_| self.random.below(4)).collect();
                let bytes = self.random.bytes(shape.iter().product::<u64>() * dtype.size() as u64);
                Tensor::from_bytes(dtype, &shape, bytes).unwrap()
            }
        };
        if tensor.dtype().is_float() && tensor.layout() == "strided" {
            tensor.parameter = self.random.below(4) == 0;
            tensor.requires_grad = self.random.below(4) == 0;
        }
        tensor
    }

    fn shared(&mut self) -> Tensor {
        if self.storages.is_empty() || self.random.below(3) == 0 {
            let dtype = DType::ALL[self.random.below(13) as usize];
            let bytes: Vec<u8> = self.random.bytes(24 * dtype.size() as u64).into_iter().map(|b| b & 1).collect();
            let storage = Storage::new(bytes, "");
            let storage = if self.random.below(4) == 0 { storage.big_endian() } else { storage };
            self.storages.push((dtype, storage));
        }
        let (dtype, storage) = self.storages[self.random.below(self.storages.len() as u64) as usize].clone();
        let (shape, strides, offset): (Vec<u64>, Vec<u64>, u64) = match self.random.below(7) {
            0 => (vec![24], vec![1], 0),
            1 => (vec![4, 6], vec![6, 1], 0),
            2 => (vec![6, 4], vec![1, 6], 0),
            3 => (vec![3], vec![1], 21),
            4 => (vec![], vec![], 7),
            5 => (vec![2, 5], vec![0, 2], 3),
            _ => (vec![1, 3], vec![u64::MAX, 7], 2),
        };
        Tensor::strided(dtype, &shape, View { storage, offset, strides, conjugate: false, negative: false }).unwrap()
    }

    fn special(&mut self) -> Tensor {
        let ints = |values: &[i64]| Box::new(Tensor::from_i64(&[values.len() as u64], values).unwrap());
        let floats = Box::new(Tensor::from_f32(&[2], &[1.0, 2.0]).unwrap());
        match self.random.below(6) {
            0 => Tensor::with_data(DType::F32, &[2, 3], Data::Meta),
            1 => {
                let indices = Box::new(Tensor::from_i64(&[2, 2], &[0, 1, 0, 1]).unwrap());
                Tensor::with_data(DType::F32, &[2, 2], Data::SparseCoo { indices, values: floats, coalesced: Some(true) })
            }
            2 => {
                let (compressed, plain) = (ints(&[0, 1, 2]), ints(&[0, 1]));
                Tensor::with_data(DType::F32, &[2, 2], Data::SparseCompressed { layout: "sparse_csr", compressed, plain, values: floats })
            }
            3 | 4 => {
                let view = Tensor::from_bytes(DType::QInt8, &[2, 2], self.random.bytes(4)).unwrap().view().unwrap().clone();
                let scheme = if self.random.below(2) == 0 {
                    Quantization::PerTensor { scale: 0.1, zero_point: -3 }
                } else {
                    let scales = Tensor::from_bytes(DType::F64, &[2], self.random.bytes(16)).unwrap();
                    Quantization::PerChannel { scales: Box::new(scales), zero_points: ints(&[0, 1]), axis: 1, float_params: false }
                };
                Tensor::with_data(DType::QInt8, &[2, 2], Data::Quantized { view, scheme })
            }
            _ => {
                let tensor = Tensor::from_bytes(DType::Complex64, &[2], self.random.bytes(16)).unwrap();
                let view = View { conjugate: true, ..tensor.view().unwrap().clone() };
                Tensor::strided(DType::Complex64, &[2], view).unwrap()
            }
        }
    }
}

/// Compares trees; remembers which storage stands for which.
#[derive(Default)]
pub struct Same {
    /// Whether the root may be another kind of dictionary.
    any_root_kind: bool,
    storages: HashMap<(u64, DType), u64>,
    back: HashMap<(u64, DType), u64>,
}

impl Same {
    /// A comparison after flat files, which do not say what kind of dictionary a plain one was.
    pub fn of_flat_files() -> Self {
        Self { any_root_kind: true, ..Self::default() }
    }

    pub fn check(&mut self, a: &Value, b: &Value, path: &str) -> Result<(), String> {
        let differ = |what: String| Err(format!("at '{path}': {what}"));
        match (a, b) {
            (Value::Float(a), Value::Float(b)) if a.to_bits() == b.to_bits() => Ok(()),
            (Value::Complex(a, b), Value::Complex(c, d)) if (a, b) == (c, d) => Ok(()),
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) | (Value::Set(a), Value::Set(b)) => {
                self.items(a, b, path)
            }
            (Value::Dict(a), Value::Dict(b)) => self.dicts(a, b, path),
            (Value::Tensor(a), Value::Tensor(b)) => self.tensors(a, b, path),
            (Value::Object(a), Value::Object(b)) => {
                if a.class != b.class {
                    return differ(format!("{} and {}", a.class, b.class));
                }
                self.items(&a.args, &b.args, path)?;
                self.check(&a.state, &b.state, path)?;
                self.items(&a.items, &b.items, path)?;
                self.dicts(&a.entries, &b.entries, path)
            }
            (Value::Array(a), Value::Array(b)) => {
                if (&a.descr, &a.raw, &a.shape) == (&b.descr, &b.raw, &b.shape) {
                    Ok(())
                } else {
                    differ(format!("{a:?} and {b:?}"))
                }
            }
            _ if format!("{a:?}") == format!("{b:?}") => Ok(()),
            _ => differ(format!("{a:?} and {b:?}")),
        }
    }

    fn items(&mut self, a: &[Value], b: &[Value], path: &str) -> Result<(), String> {
        if a.len() != b.len() {
            return Err(format!("at '{path}': {} and {} items", a.len(), b.len()));
        }
        a.iter().zip(b).enumerate().try_for_each(|(i, (a, b))| self.check(a, b, &format!("{path}/{i}")))
    }

    fn dicts(&mut self, a: &StateDict, b: &StateDict, path: &str) -> Result<(), String> {
        if a.kind() != b.kind() && !(self.any_root_kind && path.is_empty()) {
            return Err(format!("at '{path}': {:?} and {:?}", a.kind(), b.kind()));
        }
        let (keys_a, keys_b): (Vec<_>, Vec<_>) = (a.keys().collect(), b.keys().collect());
        if keys_a != keys_b {
            return Err(format!("at '{path}': keys {keys_a:?} and {keys_b:?}"));
        }
        match (a.metadata(), b.metadata()) {
            (None, None) => {}
            (Some(a), Some(b)) => self.check(a, b, &format!("{path}/_metadata"))?,
            _ => return Err(format!("at '{path}': _metadata on one side")),
        }
        a.iter().zip(b.iter()).try_for_each(|((key, a), (_, b))| self.check(a, b, &format!("{path}/{key}")))
    }

    fn tensors(&mut self, a: &Tensor, b: &Tensor, path: &str) -> Result<(), String> {
        let brief = |t: &Tensor| (t.dtype(), t.shape().to_vec(), t.layout(), t.parameter, t.requires_grad);
        if brief(a) != brief(b) {
            return Err(format!("at '{path}': {:?} and {:?}", brief(a), brief(b)));
        }
        let mut part = |a: &Tensor, b: &Tensor, name: &str| self.tensors(a, b, &format!("{path}/{name}"));
        match (a.data(), b.data()) {
            (Data::SparseCoo { indices: ia, values: va, coalesced: ca }, Data::SparseCoo { indices: ib, values: vb, coalesced: cb }) => {
                part(ia, ib, "indices")?;
                part(va, vb, "values")?;
                return if ca == cb { Ok(()) } else { Err(format!("at '{path}': {ca:?} and {cb:?}")) };
            }
            (
                Data::SparseCompressed { compressed: ca, plain: pa, values: va, layout: la },
                Data::SparseCompressed { compressed: cb, plain: pb, values: vb, layout: lb },
            ) => {
                assert_eq!(la, lb);
                part(ca, cb, "compressed")?;
                part(pa, pb, "plain")?;
                return part(va, vb, "values");
            }
            (Data::Meta, _) => return Ok(()),
            (Data::Quantized { scheme: sa, .. }, Data::Quantized { scheme: sb, .. }) => match (sa, sb) {
                (
                    Quantization::PerChannel { scales: a, zero_points: za, axis: x, float_params: f },
                    Quantization::PerChannel { scales: b, zero_points: zb, axis: y, float_params: g },
                ) => {
                    assert_eq!((x, f), (y, g));
                    part(a, b, "scales")?;
                    part(za, zb, "zero_points")?;
                }
                _ => assert_eq!(format!("{sa:?}"), format!("{sb:?}")),
            },
            _ => {}
        }
        let (bytes_a, bytes_b) = (a.bytes().map_err(|e| e.to_string())?, b.bytes().map_err(|e| e.to_string())?);
        if bytes_a != bytes_b {
            return Err(format!("at '{path}': the values differ"));
        }
        let (view_a, view_b) = (a.view().unwrap(), b.view().unwrap());
        if a.numel() > 0 && !view_a.conjugate {
            // Tensors share in one tree exactly where they share in the other.
            let (id_a, id_b) = (view_a.storage.id(), view_b.storage.id());
            let forth = *self.storages.entry((id_a, a.dtype())).or_insert(id_b);
            let back = *self.back.entry((id_b, a.dtype())).or_insert(id_a);
            if (forth, back) != (id_b, id_a) {
                return Err(format!("at '{path}': memory is not shared as it was"));
            }
        }
        Ok(())
    }
}
