//! What it means that two trees are the same.

use std::collections::HashMap;

use rekindle_state::*;

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
            (Value::List(a), Value::List(b))
            | (Value::Tuple(a), Value::Tuple(b))
            | (Value::Set(a), Value::Set(b))
            | (Value::FrozenSet(a), Value::FrozenSet(b)) => self.items(a, b, path),
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
            (
                Data::SparseCoo { indices: ia, values: va, coalesced: ca },
                Data::SparseCoo { indices: ib, values: vb, coalesced: cb },
            ) => {
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
