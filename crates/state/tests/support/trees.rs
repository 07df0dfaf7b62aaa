//! Random trees of values.

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
    depth: u64,
    storages: Vec<(DType, Storage)>,
}

impl Trees {
    pub fn new(seed: u64, anything: bool) -> Self {
        Self {
            random: Random::new(seed),
            anything,
            depth: if seed.is_multiple_of(16) { 60 } else { 3 },
            storages: Vec::new(),
        }
    }

    /// A whole file's content.
    pub fn root(&mut self) -> Value {
        match self.random.below(6) {
            0 => Value::Tensor(self.tensor()),
            1 => self.value(0),
            2 => Value::Dict(
                (0..self.random.below(6)).map(|i| (format!("layer{i}.weight"), self.plain_tensor())).collect(),
            ),
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
            1 if self.anything => {
                dict.set_kind(DictKind::Other(Global { module: "collections".into(), name: "defaultdict".into() }))
            }
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
        let words =
            ["weight", "", "a/b", "ä€😀", "__metadata__", "rekindle", "0", "conv1.weight", "line\nbreak", "\"quoted\\"];
        let word = words[self.random.below(words.len() as u64) as usize];
        if self.random.below(2) == 0 { word.to_string() } else { format!("{word}{}", self.random.below(1000)) }
    }

    fn items(&mut self, depth: u64) -> Vec<Value> {
        (0..self.random.below(6)).map(|_| self.value(depth + 1)).collect()
    }

    pub fn value(&mut self, depth: u64) -> Value {
        let kinds = if depth > self.depth { 14 } else { 20 };
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
                let bytes = self.random.bytes(length);
                if length.is_multiple_of(2) { Value::Bytes(bytes) } else { Value::ByteArray(bytes) }
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
        match self.random.below(4) {
            0 => Value::Global(class),
            3 => Value::FrozenSet(vec![Value::Int(7), Value::Str(self.text())]),
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
        Tensor::from_bytes(
            dtype,
            &shape,
            if dtype == DType::Bool { bytes.iter().map(|b| b & 1).collect() } else { bytes },
        )
        .unwrap()
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
                Tensor::with_data(
                    DType::F32,
                    &[2, 2],
                    Data::SparseCoo { indices, values: floats, coalesced: Some(true) },
                )
            }
            2 => {
                let (compressed, plain) = (ints(&[0, 1, 2]), ints(&[0, 1]));
                Tensor::with_data(
                    DType::F32,
                    &[2, 2],
                    Data::SparseCompressed { layout: "sparse_csr", compressed, plain, values: floats },
                )
            }
            3 | 4 => {
                let view =
                    Tensor::from_bytes(DType::QInt8, &[2, 2], self.random.bytes(4)).unwrap().view().unwrap().clone();
                let scheme = if self.random.below(2) == 0 {
                    Quantization::PerTensor { scale: 0.1, zero_point: -3 }
                } else {
                    let scales = Tensor::from_bytes(DType::F64, &[2], self.random.bytes(16)).unwrap();
                    Quantization::PerChannel {
                        scales: Box::new(scales),
                        zero_points: ints(&[0, 1]),
                        axis: 1,
                        float_params: false,
                    }
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
