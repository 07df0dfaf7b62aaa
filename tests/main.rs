//! All integration tests, in one binary: each binary links all of Burn.

mod bench;
mod checkpoints;
mod cli_files;
mod continuation;
mod data;
mod import;
mod kernels;
mod loading;
mod names;
mod onnx_export;
mod onnx_run;
mod onnx_training;
mod optim;
mod own_model;
mod programs;
mod recipes;
#[cfg(feature = "serve")]
mod serve;
mod support;
mod swap;
mod together;
mod tools;
mod training;
mod training_kernels;
mod uninterrupted;
mod weights;
mod zoo;
