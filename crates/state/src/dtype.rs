//! Element types, under PyTorch's names.

use std::fmt;
use std::str::FromStr;

/// Declares the element types once: variant, PyTorch's name without `torch.`, bytes an element.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $size:literal;)*) => {
        /// The type of a tensor's elements: every kind that PyTorch stores.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// Every element type, in the order of declaration.
            pub const ALL: &'static [DType] = &[$(DType::$variant,)*];

            /// PyTorch's name, without `torch.`: `float32`, `int64`, `bool`, …
            pub fn name(self) -> &'static str {
                match self { $(DType::$variant => $name,)* }
            }

            /// Bytes that one element takes in a storage.
            ///
            /// The packed four- and two-bit kinds keep two and four values in one byte; PyTorch counts the bytes as elements.
            pub fn size(self) -> usize {
                match self { $(DType::$variant => $size,)* }
            }
        }
    };
}

dtypes! {
    /// 64-bit float (`torch.DoubleStorage`).
    F64 = "float64", 8;
    /// 32-bit float (`torch.FloatStorage`).
    F32 = "float32", 4;
    /// 16-bit IEEE float (`torch.HalfStorage`).
    F16 = "float16", 2;
    /// bfloat16: the upper half of a 32-bit float.
    BF16 = "bfloat16", 2;
    /// 64-bit signed integer.
    I64 = "int64", 8;
    /// 32-bit signed integer.
    I32 = "int32", 4;
    /// 16-bit signed integer.
    I16 = "int16", 2;
    /// 8-bit signed integer.
    I8 = "int8", 1;
    /// 64-bit unsigned integer.
    U64 = "uint64", 8;
    /// 32-bit unsigned integer.
    U32 = "uint32", 4;
    /// 16-bit unsigned integer.
    U16 = "uint16", 2;
    /// 8-bit unsigned integer.
    U8 = "uint8", 1;
    /// Boolean, one byte each.
    Bool = "bool", 1;
    /// Two 16-bit floats: real and imaginary part.
    ComplexHalf = "complex32", 4;
    /// Two bfloat16: real and imaginary part.
    ComplexBHalf = "bcomplex32", 4;
    /// Two 32-bit floats.
    Complex64 = "complex64", 8;
    /// Two 64-bit floats.
    Complex128 = "complex128", 16;
    /// 8-bit float, 4 exponent bits, finite only.
    F8E4M3Fn = "float8_e4m3fn", 1;
    /// 8-bit float, 4 exponent bits, finite only, no negative zero.
    F8E4M3Fnuz = "float8_e4m3fnuz", 1;
    /// 8-bit float, 5 exponent bits.
    F8E5M2 = "float8_e5m2", 1;
    /// 8-bit float, 5 exponent bits, finite only, no negative zero.
    F8E5M2Fnuz = "float8_e5m2fnuz", 1;
    /// 8-bit power of two (a scale).
    F8E8M0Fnu = "float8_e8m0fnu", 1;
    /// Two 4-bit floats in a byte.
    F4E2M1FnX2 = "float4_e2m1fn_x2", 1;
    /// Quantized 8-bit signed integer.
    QInt8 = "qint8", 1;
    /// Quantized 8-bit unsigned integer.
    QUInt8 = "quint8", 1;
    /// Quantized 32-bit signed integer.
    QInt32 = "qint32", 4;
    /// Quantized, two 4-bit integers in a byte.
    QUInt4x2 = "quint4x2", 1;
    /// Quantized, four 2-bit integers in a byte.
    QUInt2x4 = "quint2x4", 1;
    /// Bits without a meaning, eight in a byte.
    Bits1x8 = "bits1x8", 1;
    /// Pairs of bits without a meaning, four in a byte.
    Bits2x4 = "bits2x4", 1;
    /// Halves of bytes without a meaning, two in a byte.
    Bits4x2 = "bits4x2", 1;
    /// Bytes without a meaning.
    Bits8 = "bits8", 1;
    /// Pairs of bytes without a meaning.
    Bits16 = "bits16", 2;
}

impl DType {
    /// Whether elements are real floating-point numbers of at least 16 bits.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Whether elements are pairs of a real and an imaginary part.
    pub fn is_complex(self) -> bool {
        matches!(self, Self::ComplexHalf | Self::ComplexBHalf | Self::Complex64 | Self::Complex128)
    }

    /// Bytes that are swapped together between big and little endian (half an element for complex numbers).
    pub fn swap_unit(self) -> usize {
        if self.is_complex() { self.size() / 2 } else { self.size() }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    /// Reads PyTorch's name, with or without `torch.`, or a common short one (`f32`, `bf16`, `i64`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_prefix("torch.").unwrap_or(text);
        let name = match name {
            "f64" | "double" => "float64",
            "f32" | "float" => "float32",
            "f16" | "half" => "float16",
            "bf16" => "bfloat16",
            "i64" | "long" => "int64",
            "i32" | "int" => "int32",
            "i16" | "short" => "int16",
            "i8" => "int8",
            "u64" => "uint64",
            "u32" => "uint32",
            "u16" => "uint16",
            "u8" => "uint8",
            "cfloat" => "complex64",
            "cdouble" => "complex128",
            "chalf" => "complex32",
            other => other,
        };
        Self::ALL.iter().copied().find(|dtype| dtype.name() == name).ok_or_else(|| {
            format!("unknown element type '{text}': expected one of float32, float64, float16, bfloat16, int64, …")
        })
    }
}
