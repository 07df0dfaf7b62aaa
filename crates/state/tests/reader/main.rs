//! The reader of PyTorch's files: against PyTorch's own answers, and against damage.

mod damage;
mod oracle;
mod support;
