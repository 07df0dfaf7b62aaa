//! stub

pub mod optim;
