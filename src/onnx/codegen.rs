//! Burn source for an ONNX file or a program of PyTorch, through burn-import (which re-exports burn-onnx).
//!
//! The generator panics on what it cannot do, and may abort; so it runs in a process of its own, which the caller starts with
//! [`generate_here`], and its files are moved into place once all of them are there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rekindle_onnx::Model;
use rekindle_program::{Mode, Program};

use super::export::{EXTERNAL_ABOVE, write};

/// Why no source was generated.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// The file is no model that can be read.
    #[error(transparent)]
    Model(#[from] rekindle_onnx::Error),
    /// The file is a program of PyTorch that cannot become a graph.
    #[error(transparent)]
    Program(#[from] rekindle_program::Error),
    /// The graph of a program cannot be written.
    #[error(transparent)]
    Graph(#[from] super::OnnxError),
    /// A file cannot be read or written.
    #[error("{path}: cannot {what}: {error}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        error: std::io::Error,
    },
    /// The name of the file or folder cannot be handed to the generator.
    #[error("{}: burn-onnx needs a path of UTF-8 text whose file name is letters, digits and underscores: rename it", .0.display())]
    Name(PathBuf),
    /// The feature `codegen` is off.
    #[error("this program was built without the generator of source: install it with `--features codegen`")]
    NotInThisBuild,
    /// The generator gave up.
    #[error("{path}: burn-onnx cannot generate source for this model ({reason}); `rekindle run` may run it all the same", path = .path.display())]
    Refused {
        /// The model.
        path: PathBuf,
        /// Its last words.
        reason: String,
    },
}

/// What was written.
#[derive(Debug)]
pub struct Generated {
    /// The Rust source: a Burn module `Model`.
    pub source: PathBuf,
    /// Its weights.
    pub weights: PathBuf,
}

/// Writes `NAME.rs` and `NAME.bpk` for `NAME.onnx` into a folder, which is made if need be. `generator` starts this program such
/// that it calls [`generate_here`] with the two paths that are added to its arguments.
///
/// # Errors
/// When the file is no valid model, the generator cannot turn it into source, or the folder cannot be written.
pub fn generate(model: &Path, folder: &Path, mut generator: Command) -> Result<Generated, CodegenError> {
    if !cfg!(feature = "codegen") {
        return Err(CodegenError::NotInThisBuild);
    }
    // Read by our own bounded reader first: what the generator reads, it trusts.
    let program = match Program::is_program(model) {
        true => Some(Program::open(model)?.lower(Mode::Eval, false)?.proto),
        false => Model::open(model).map(|_| None)?,
    };
    let stem = model.file_stem().and_then(|stem| stem.to_str());
    let stem = stem
        .filter(|stem| stem.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') && model.to_str().is_some());
    let stem = stem.ok_or_else(|| CodegenError::Name(model.to_path_buf()))?;
    std::fs::create_dir_all(folder).map_err(io(folder, "be made"))?;
    let scratch = Scratch::new(folder)?;
    let graph = match program {
        Some(graph) => {
            let name = format!("{stem}.onnx");
            write(graph, &scratch.0, &name, EXTERNAL_ABOVE)?;
            scratch.0.join(name)
        }
        None => model.to_path_buf(),
    };
    let output = generator
        .arg(&graph)
        .arg(&scratch.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output = output.map_err(io(folder, "start the generator"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it was stopped").trim();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason).to_string();
        return Err(CodegenError::Refused { path: model.to_path_buf(), reason });
    }
    let published = |extension: &str| {
        let name = format!("{stem}.{extension}");
        let to = folder.join(&name);
        std::fs::rename(scratch.0.join(&name), &to).map_err(io(&to, "be written")).map(|()| to)
    };
    Ok(Generated { source: published("rs")?, weights: published("bpk")? })
}

/// Generates source in this process.
///
/// # Errors
/// When the generator is not part of this build.
///
/// # Panics
/// When the model is beyond the generator.
#[cfg_attr(not(feature = "codegen"), expect(unused_variables, reason = "nothing is generated"))]
pub fn generate_here(model: &Path, folder: &Path) -> Result<(), CodegenError> {
    #[cfg(feature = "codegen")]
    {
        #[allow(deprecated, reason = "burn-import is what this project is asked to use; it re-exports burn-onnx")]
        let mut generator = burn_import::onnx::ModelGen::new();
        generator.input(&model.to_string_lossy()).out_dir(&folder.to_string_lossy()).run_from_cli();
        Ok(())
    }
    #[cfg(not(feature = "codegen"))]
    Err(CodegenError::NotInThisBuild)
}

fn io<'p>(path: &'p Path, what: &'static str) -> impl Fn(std::io::Error) -> CodegenError + 'p {
    move |error| CodegenError::Io { path: path.to_path_buf(), what, error }
}

/// A folder that is removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: &Path) -> Result<Self, CodegenError> {
        let path = folder.join(format!(".codegen-{}.tmp", std::process::id()));
        std::fs::create_dir(&path).map_err(io(&path, "be made"))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
