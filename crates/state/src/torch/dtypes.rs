//! PyTorch's names of element types and storage classes.

use std::str::FromStr;

use crate::{DType, Global, Object, Value};

/// The element type that a global names: `torch.float32`, `torch.half`.
pub(crate) fn by_global(global: &Global) -> Option<DType> {
    if global.module != "torch" {
        return None;
    }
    match global.name.as_str() {
        // Functions of the same names as short forms that only text uses.
        "f64" | "f32" | "f16" | "bf16" | "i64" | "i32" | "i16" | "i8" | "u64" | "u32" | "u16" | "u8" => None,
        name => DType::from_str(name).ok(),
    }
}

/// The element type of a storage class: `torch.FloatStorage`, `torch.cuda.HalfStorage`, `torch.storage.UntypedStorage`.
pub(crate) fn of_storage(class: &Global) -> Option<DType> {
    if class.module != "torch" && !class.module.starts_with("torch.") {
        return None;
    }
    storage_name(class.name.strip_suffix("Storage")?)
}

/// Whether an object is a storage with its elements.
pub(crate) fn is_storage(object: &Object) -> bool {
    of_storage(&object.class).is_some() && matches!(object.args.as_slice(), [Value::Tensor(_)])
}

/// The element type of an old tensor class: `torch.FloatTensor`, `torch.cuda.LongTensor`.
pub(crate) fn of_tensor(class: &Global) -> Option<DType> {
    if class.module != "torch" && !class.module.starts_with("torch.cuda") {
        return None;
    }
    storage_name(class.name.strip_suffix("Tensor")?)
}

fn storage_name(name: &str) -> Option<DType> {
    Some(match name {
        "Double" => DType::F64,
        "Float" => DType::F32,
        "Half" => DType::F16,
        "BFloat16" => DType::BF16,
        "Long" => DType::I64,
        "Int" => DType::I32,
        "Short" => DType::I16,
        "Char" => DType::I8,
        "Byte" | "Untyped" | "_Untyped" => DType::U8,
        "UInt64" => DType::U64,
        "UInt32" => DType::U32,
        "UInt16" => DType::U16,
        "Bool" => DType::Bool,
        "ComplexHalf" => DType::ComplexHalf,
        "ComplexFloat" => DType::Complex64,
        "ComplexDouble" => DType::Complex128,
        "Float8_e4m3fn" => DType::F8E4M3Fn,
        "Float8_e4m3fnuz" => DType::F8E4M3Fnuz,
        "Float8_e5m2" => DType::F8E5M2,
        "Float8_e5m2fnuz" => DType::F8E5M2Fnuz,
        "Float8_e8m0fnu" => DType::F8E8M0Fnu,
        "Float4_e2m1fn_x2" => DType::F4E2M1FnX2,
        "QInt8" => DType::QInt8,
        "QUInt8" => DType::QUInt8,
        "QInt32" => DType::QInt32,
        "QUInt4x2" => DType::QUInt4x2,
        "QUInt2x4" => DType::QUInt2x4,
        _ => return None,
    })
}
