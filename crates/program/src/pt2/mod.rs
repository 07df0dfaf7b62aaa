//! Archives of `torch.export.save`: the program is JSON, the weights are entries of their own or files inside the
//! archive.

mod arguments;
mod branch;
mod json;
mod lower;
mod signature;
mod summary;

use std::path::{Path, PathBuf};

use rekindle_state::{ProgramArchive, StateDict, Value as Stored};

use crate::{Error, Result};
use json::ExportedProgram;

/// Majors of the schema that are read: those of PyTorch 2.3 to 2.15.
const MAJORS: [u32; 3] = [5, 7, 8];

/// An exported program.
#[derive(Debug)]
pub(crate) struct Exported {
    pub path: PathBuf,
    program: ExportedProgram,
    /// Parameters, buffers and constants by their names in the program.
    weights: StateDict,
}

impl Exported {
    /// Reads an archive.
    pub fn open(path: &Path, archive: &ProgramArchive) -> Result<Self> {
        let name = archive
            .names()
            .find(|name| name.ends_with("models/model.json") || name.ends_with("serialized_exported_program.json"))
            .map(str::to_string);
        let name = name.ok_or_else(|| Error::invalid("the archive holds no program (models/model.json)"))?;
        let bytes = archive.read(&name)?;
        let version: VersionOnly = serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("'{name}' is no program: {error}")))?;
        let major = version.schema_version.major;
        if !MAJORS.contains(&major) {
            return Err(Error::beyond(format!(
                "schema {major}.{} of torch.export (5, 7 and 8, of PyTorch 2.3 and later, are): export it again, which",
                version.schema_version.minor
            )));
        }
        let program = serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("'{name}' is not what torch.export writes: {error}")))?;
        let file = rekindle_state::open(path)?;
        let Stored::Dict(weights) = file.content.root else {
            return Err(Error::invalid("the archive's weights are no dictionary"));
        };
        Ok(Self { path: path.to_path_buf(), program, weights })
    }

    /// Whether a name is that of a parameter or persistent buffer.
    pub fn is_state(&self, name: &str) -> bool {
        let is = |spec: &serde_json::Map<String, serde_json::Value>| {
            let text = |kind: &str, field: &str| spec.get(kind)?.get(field)?.as_str();
            let persistent = spec.get("buffer").and_then(|buffer| buffer.get("persistent")?.as_bool()).unwrap_or(true);
            text("parameter", "parameter_name") == Some(name)
                || persistent && text("buffer", "buffer_name") == Some(name)
        };
        self.program.graph_module.signature.input_specs.iter().any(is)
    }

    /// The PyTorch that wrote it, if it says.
    pub fn torch_version(&self) -> &str {
        &self.program.torch_version
    }
}

#[derive(serde::Deserialize)]
struct VersionOnly {
    schema_version: json::Version,
}
