//! The values of an array, by type.

use std::sync::Arc;

use half::{bf16, f16};

use crate::DType;

/// A Rust type that is an element type of ONNX.
pub trait Element: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// The element type.
    const DTYPE: DType;
    /// Values of this type.
    fn wrap(values: Vec<Self>) -> Data;
    /// The values, if they are of this type.
    fn slice(data: &Data) -> Option<&[Self]>;
}

fn joined<T: Clone>(values: &[T], starts: &[usize], len: usize) -> Vec<T> {
    let mut result = Vec::with_capacity(starts.len() * len);
    starts.iter().for_each(|&start| result.extend_from_slice(&values[start..start + len]));
    result
}

/// Declares the variants that hold values of a Rust type of their own.
macro_rules! data {
    ($($(#[$doc:meta])* $variant:ident: $ty:ty;)*) => {
        /// Values in row-major order, shared by clones.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Data {
            $($(#[$doc])* $variant(Arc<Vec<$ty>>),)*
            /// Floats of 8 bits or fewer as their codes, and integers of 4 or 2 bits as themselves (sign-extended): a byte each.
            Code(DType, Arc<Vec<u8>>),
        }

        $(impl Element for $ty {
            const DTYPE: DType = DType::$variant;
            fn wrap(values: Vec<Self>) -> Data {
                Data::$variant(Arc::new(values))
            }
            fn slice(data: &Data) -> Option<&[Self]> {
                match data { Data::$variant(values) => Some(values), _ => None }
            }
        })*

        impl Data {
            /// Number of values.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(values) => values.len(),)* Self::Code(_, values) => values.len() }
            }

            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$variant,)* Self::Code(dtype, _) => *dtype }
            }

            /// The values at positions.
            ///
            /// # Panics
            /// When a position is not below [`Data::len`].
            pub fn take(&self, indices: &[usize]) -> Self {
                match self {
                    $(Self::$variant(values) => Self::$variant(Arc::new(indices.iter().map(|&i| values[i].clone()).collect())),)*
                    Self::Code(dtype, values) => Self::Code(*dtype, Arc::new(indices.iter().map(|&i| values[i]).collect())),
                }
            }

            /// Runs of `len` values that begin at positions, one after another.
            ///
            /// # Panics
            /// When a run ends past the last value.
            pub fn blocks(&self, starts: &[usize], len: usize) -> Self {
                match self {
                    $(Self::$variant(values) => Self::$variant(Arc::new(joined(values, starts, len))),)*
                    Self::Code(dtype, values) => Self::Code(*dtype, Arc::new(joined(values, starts, len))),
                }
            }

            /// The values of several one after another; those of another type than the first are left out.
            pub fn concat(parts: &[&Self]) -> Option<Self> {
                Some(match parts.first()? {
                    $(Self::$variant(_) => {
                        let slices: Vec<&[$ty]> = parts.iter().filter_map(|part| <$ty>::slice(part)).collect();
                        Self::$variant(Arc::new(slices.concat()))
                    })*
                    Self::Code(dtype, _) => {
                        let slices = parts.iter().filter_map(|part| match part {
                            Self::Code(_, values) => Some(values.as_slice()),
                            _ => None,
                        });
                        Self::Code(*dtype, Arc::new(slices.collect::<Vec<_>>().concat()))
                    }
                })
            }

            /// The default value of the type (zero, false, the empty text), so many times.
            pub fn zeros(dtype: DType, len: usize) -> Self {
                match dtype {
                    $(DType::$variant => Self::$variant(Arc::new(vec![<$ty>::default(); len])),)*
                    other => Self::Code(other, Arc::new(vec![0; len])),
                }
            }
        }
    };
}

data! {
    /// 32-bit floats.
    F32: f32;
    /// 64-bit floats.
    F64: f64;
    /// 16-bit floats.
    F16: f16;
    /// bfloat16.
    BF16: bf16;
    /// 8-bit signed integers.
    I8: i8;
    /// 16-bit signed integers.
    I16: i16;
    /// 32-bit signed integers.
    I32: i32;
    /// 64-bit signed integers.
    I64: i64;
    /// 8-bit unsigned integers.
    U8: u8;
    /// 16-bit unsigned integers.
    U16: u16;
    /// 32-bit unsigned integers.
    U32: u32;
    /// 64-bit unsigned integers.
    U64: u64;
    /// Booleans.
    Bool: bool;
    /// Texts.
    Str: String;
    /// Pairs of 32-bit floats.
    C64: [f32; 2];
    /// Pairs of 64-bit floats.
    C128: [f64; 2];
}

impl Data {
    /// The values as a file holds them, little endian; `None` for texts and types of less than a byte.
    pub fn le_bytes(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::BF16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I8(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::U8(values) => values.to_vec(),
            Self::U16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::U32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::U64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bool(values) => values.iter().map(|value| u8::from(*value)).collect(),
            Self::C64(values) => values.iter().flatten().flat_map(|value| value.to_le_bytes()).collect(),
            Self::C128(values) => values.iter().flatten().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Str(_) | Self::Code(..) => return None,
        })
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
