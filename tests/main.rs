//! All integration tests, in one binary: each binary links all of Burn.

mod data;
mod optim;
mod support;
mod swap;
