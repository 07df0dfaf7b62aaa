//! Element types, by ONNX's numbers.

use std::fmt;

/// Declares the element types once: variant, ONNX's number, name, bits.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $bits:literal;)*) => {
        /// The type of an array's elements.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// The type of an ONNX number, if there is one.
            pub fn from_number(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// The type of a name, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// ONNX's number.
            pub fn number(self) -> i32 {
                match self { $(Self::$variant => $number,)* }
            }

            /// The name, as NumPy and PyTorch have it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Bits of one element in a file; 0 for texts.
            pub fn bits(self) -> usize {
                match self { $(Self::$variant => $bits,)* }
            }
        }
    };
}

dtypes! {
    /// 32-bit float.
    F32 = 1, "float32", 32;
    /// 8-bit unsigned integer.
    U8 = 2, "uint8", 8;
    /// 8-bit signed integer.
    I8 = 3, "int8", 8;
    /// 16-bit unsigned integer.
    U16 = 4, "uint16", 16;
    /// 16-bit signed integer.
    I16 = 5, "int16", 16;
    /// 32-bit signed integer.
    I32 = 6, "int32", 32;
    /// 64-bit signed integer.
    I64 = 7, "int64", 64;
    /// Text.
    Str = 8, "string", 0;
    /// Boolean.
    Bool = 9, "bool", 8;
    /// 16-bit IEEE float.
    F16 = 10, "float16", 16;
    /// 64-bit float.
    F64 = 11, "float64", 64;
    /// 32-bit unsigned integer.
    U32 = 12, "uint32", 32;
    /// 64-bit unsigned integer.
    U64 = 13, "uint64", 64;
    /// Two 32-bit floats.
    C64 = 14, "complex64", 64;
    /// Two 64-bit floats.
    C128 = 15, "complex128", 128;
    /// The upper half of a 32-bit float.
    BF16 = 16, "bfloat16", 16;
    /// 8-bit float, 4 exponent bits, finite only.
    F8E4M3Fn = 17, "float8_e4m3fn", 8;
    /// 8-bit float, 4 exponent bits, finite only, no negative zero.
    F8E4M3Fnuz = 18, "float8_e4m3fnuz", 8;
    /// 8-bit float, 5 exponent bits.
    F8E5M2 = 19, "float8_e5m2", 8;
    /// 8-bit float, 5 exponent bits, finite only, no negative zero.
    F8E5M2Fnuz = 20, "float8_e5m2fnuz", 8;
    /// 4-bit unsigned integer.
    U4 = 21, "uint4", 4;
    /// 4-bit signed integer.
    I4 = 22, "int4", 4;
    /// 4-bit float.
    F4E2M1 = 23, "float4_e2m1", 4;
    /// 8-bit power of two (a scale).
    F8E8M0 = 24, "float8_e8m0", 8;
    /// 2-bit unsigned integer.
    U2 = 25, "uint2", 2;
    /// 2-bit signed integer.
    I2 = 26, "int2", 2;
}

impl DType {
    /// Whether elements are real floating-point numbers of any width.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16) || self.is_small_float()
    }

    /// Whether elements are floats of 8 bits or fewer, which are kept as their codes.
    pub fn is_small_float(self) -> bool {
        use DType::{F4E2M1, F8E4M3Fn, F8E4M3Fnuz, F8E5M2, F8E5M2Fnuz, F8E8M0};
        matches!(self, F8E4M3Fn | F8E4M3Fnuz | F8E5M2 | F8E5M2Fnuz | F8E8M0 | F4E2M1)
    }

    /// Whether elements are integers of any width, signed or not. Booleans are not.
    pub fn is_int(self) -> bool {
        use DType::{I2, I4, I8, I16, I32, I64, U2, U4, U8, U16, U32, U64};
        matches!(self, I2 | I4 | I8 | I16 | I32 | I64 | U2 | U4 | U8 | U16 | U32 | U64)
    }

    /// Whether elements are signed integers.
    pub fn is_signed_int(self) -> bool {
        matches!(self, Self::I2 | Self::I4 | Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }

    /// Smallest and greatest value of an integer type.
    pub fn int_range(self) -> Option<(i128, i128)> {
        if !self.is_int() {
            return None;
        }
        let bits = self.bits() as u32;
        Some(if self.is_signed_int() {
            (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
        } else {
            (0, (1_i128 << bits) - 1)
        })
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
