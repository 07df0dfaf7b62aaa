//! Helpers that several capabilities' tests share.

pub mod http;
pub mod numbers;
pub mod program;
