//! ONNX models: as Burn source.

pub mod codegen;
