//! All integration tests, in one binary: each binary links all of Burn.

mod cli_files;
mod data;
mod loading;
mod onnx_export;
mod optim;
mod recipes;
mod support;
mod swap;
mod training;
mod weights;
