//! How a pickle says tensors: the functions that PyTorch rebuilds them by, and their storages.

use num_bigint::BigInt;

use super::pickle_write::{Pickler, op};
use super::storage_plan::contiguous;
use crate::{Array, DType, Data, Quantization, Result, Tensor};

impl Pickler {
    /// A numpy array as what `weights_only` accepts without numpy being allowed: a tensor, a plain number or a list.
    pub(super) fn array(&mut self, array: &Array) -> Result<()> {
        if let Some(tensor) = &array.tensor {
            if array.scalar && !tensor.dtype().is_complex() {
                self.note("is a numpy scalar and is written as a plain number");
                let dtype = tensor.dtype();
                if dtype == DType::Bool {
                    let set = tensor.bytes()?.first().is_some_and(|&byte| byte != 0);
                    self.op(if set { op::NEWTRUE } else { op::NEWFALSE });
                } else if crate::cast::is_integer(dtype) {
                    let ints = crate::cast::decode(dtype, &tensor.bytes()?, |_| BigInt::ZERO, BigInt::from)?;
                    self.big_int(ints.first().unwrap_or(&BigInt::ZERO));
                } else {
                    self.float(tensor.to_f64()?.first().copied().unwrap_or_default());
                }
                return Ok(());
            }
            self.note("is a numpy array and is written as a tensor");
            return self.tensor(tensor);
        }
        if array.raw.is_empty() && !array.objects.is_empty() {
            self.note("is a numpy array of objects and is written as a list");
            return self.list(&array.objects);
        }
        self.left_out(&format!("is a numpy array of type {}, which torch.load would refuse", array.descr));
        Ok(())
    }

    pub(super) fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        if !tensor.parameter {
            return self.bare_tensor(tensor, tensor.requires_grad);
        }
        self.global("torch._utils", "_rebuild_parameter");
        self.bare_tensor(tensor, false)?;
        self.bool(tensor.requires_grad);
        self.ordered_dict();
        self.out.extend([op::TUPLE3, op::REDUCE]);
        Ok(())
    }

    fn bool(&mut self, value: bool) {
        self.op(if value { op::NEWTRUE } else { op::NEWFALSE });
    }

    fn bare_tensor(&mut self, tensor: &Tensor, requires_grad: bool) -> Result<()> {
        let dtype = tensor.dtype();
        match tensor.data() {
            Data::Strided(view) => {
                let class = storage_class(dtype);
                let placed = self.plan.place(tensor, view, class.is_none());
                let typed = class.filter(|_| !placed.untyped);
                self.global("torch._utils", if typed.is_some() { "_rebuild_tensor_v2" } else { "_rebuild_tensor_v3" });
                self.op(op::MARK);
                self.storage(typed, placed.key, placed.nbytes, dtype)?;
                self.count(placed.offset);
                self.counts(tensor.shape());
                self.counts(&placed.strides);
                self.bool(requires_grad);
                self.ordered_dict();
                if typed.is_none() {
                    self.global("torch", dtype.name());
                }
                if placed.conjugate || placed.negative {
                    self.out.extend([op::EMPTY_DICT, op::MARK]);
                    for (name, set) in [("conj", placed.conjugate), ("neg", placed.negative)] {
                        if set {
                            self.text(name)?;
                            self.op(op::NEWTRUE);
                        }
                    }
                    self.op(op::SETITEMS);
                }
                self.out.extend([op::TUPLE, op::REDUCE]);
            }
            Data::Quantized { view, scheme } => {
                let placed = self.plan.place(tensor, view, false);
                self.global("torch._utils", "_rebuild_qtensor");
                self.op(op::MARK);
                self.storage(storage_class(dtype), placed.key, placed.nbytes, dtype)?;
                self.count(placed.offset);
                self.counts(tensor.shape());
                self.counts(&placed.strides);
                self.quantization(scheme)?;
                self.bool(requires_grad);
                self.ordered_dict();
                self.out.extend([op::TUPLE, op::REDUCE]);
            }
            Data::SparseCoo { indices, values, coalesced } => {
                self.sparse("sparse_coo")?;
                self.op(op::MARK);
                self.bare_tensor(indices, false)?;
                self.bare_tensor(values, false)?;
                self.size(tensor.shape());
                match coalesced {
                    Some(coalesced) => self.bool(*coalesced),
                    None => self.op(op::NONE),
                }
                self.out.extend([op::TUPLE, op::TUPLE2, op::REDUCE]);
            }
            Data::SparseCompressed { layout, compressed, plain, values } => {
                self.sparse(layout)?;
                self.op(op::MARK);
                self.bare_tensor(compressed, false)?;
                self.bare_tensor(plain, false)?;
                self.bare_tensor(values, false)?;
                self.size(tensor.shape());
                self.out.extend([op::TUPLE, op::TUPLE2, op::REDUCE]);
            }
            Data::Meta => {
                self.global("torch._utils", "_rebuild_meta_tensor_no_storage");
                self.op(op::MARK);
                self.global("torch", dtype.name());
                self.counts(tensor.shape());
                self.counts(&contiguous(tensor.shape()));
                self.bool(requires_grad);
                self.out.extend([op::TUPLE, op::REDUCE]);
            }
        }
        Ok(())
    }

    /// The beginning of a sparse tensor: the function and its layout.
    fn sparse(&mut self, layout: &str) -> Result<()> {
        self.global("torch._utils", "_rebuild_sparse_tensor");
        self.layout(layout)
    }

    /// A layout by its name.
    pub(super) fn layout(&mut self, name: &str) -> Result<()> {
        self.global("torch.serialization", "_get_layout");
        self.text(&format!("torch.{name}"))?;
        self.out.extend([op::TUPLE1, op::REDUCE]);
        Ok(())
    }

    fn size(&mut self, shape: &[u64]) {
        self.global("torch", "Size");
        self.counts(shape);
        self.out.extend([op::TUPLE1, op::REDUCE]);
    }

    fn quantization(&mut self, scheme: &Quantization) -> Result<()> {
        match scheme {
            Quantization::PerTensor { scale, zero_point } => {
                self.global("torch", "per_tensor_affine");
                self.float(*scale);
                self.int(*zero_point);
                self.op(op::TUPLE3);
            }
            Quantization::PerChannel { scales, zero_points, axis, float_params } => {
                self.op(op::MARK);
                self.global(
                    "torch",
                    if *float_params { "per_channel_affine_float_qparams" } else { "per_channel_affine" },
                );
                self.bare_tensor(scales, false)?;
                self.bare_tensor(zero_points, false)?;
                self.int(*axis);
                self.op(op::TUPLE);
            }
        }
        Ok(())
    }

    /// A storage by its number: `('storage', torch.FloatStorage, '0', 'cpu', elements)`.
    fn storage(&mut self, class: Option<&'static str>, key: usize, nbytes: u64, dtype: DType) -> Result<()> {
        self.op(op::MARK);
        self.text("storage")?;
        match class {
            Some(class) => self.global("torch", class),
            // PyTorch's legacy loader asks every class for its element type, which the untyped one has not.
            None if self.legacy => self.global("torch", "ByteStorage"),
            None => self.global("torch.storage", "UntypedStorage"),
        }
        self.text(&key.to_string())?;
        self.text("cpu")?;
        self.count(if class.is_some() { nbytes / dtype.size() as u64 } else { nbytes });
        if self.legacy {
            self.op(op::NONE); // Not a view of another storage.
        }
        self.out.extend([op::TUPLE, op::BINPERSID]);
        Ok(())
    }
}

/// The class that PyTorch names a storage by; the types added since 2.1 have none.
fn storage_class(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F64 => "DoubleStorage",
        DType::F32 => "FloatStorage",
        DType::F16 => "HalfStorage",
        DType::BF16 => "BFloat16Storage",
        DType::I64 => "LongStorage",
        DType::I32 => "IntStorage",
        DType::I16 => "ShortStorage",
        DType::I8 => "CharStorage",
        DType::U8 => "ByteStorage",
        DType::Bool => "BoolStorage",
        DType::Complex64 => "ComplexFloatStorage",
        DType::Complex128 => "ComplexDoubleStorage",
        DType::QInt8 => "QInt8Storage",
        DType::QUInt8 => "QUInt8Storage",
        DType::QInt32 => "QInt32Storage",
        DType::QUInt4x2 => "QUInt4x2Storage",
        DType::QUInt2x4 => "QUInt2x4Storage",
        _ => return None,
    })
}
