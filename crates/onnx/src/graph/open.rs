//! Models from files and from memory.

use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::ModelProto;
use rekindle_state::{Map, is_onnx};

use super::build;
use super::model::Model;
use crate::{Error, Result};

impl Model {
    /// Reads and checks a model file. Weights stay in the file until they are used.
    ///
    /// # Errors
    /// When it is no valid model: damaged, cyclic, with names that nothing defines, or weights that do not hold what they claim.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Map::open(path)?;
        if !is_onnx(map.bytes()) {
            return Err(Error::invalid("it is no ONNX model").at(path));
        }
        let bytes = Bytes::from_owner(Whole(map.clone()));
        Self::decode_with(bytes, &mut External::of(&map)).map_err(|error| error.at(path))
    }

    /// Reads a model from memory; weights in other files are looked for in `folder`.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn decode(bytes: Bytes, folder: &Path) -> Result<Self> {
        Self::decode_with(bytes, &mut External::new(folder))
    }

    fn decode_with(bytes: Bytes, external: &mut External) -> Result<Self> {
        let proto =
            ModelProto::decode(bytes).map_err(|error| Error::invalid(format!("it is no valid ONNX model: {error}")))?;
        Self::from_proto(&proto, external)
    }

    /// Checks a decoded model.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_proto(proto: &ModelProto, external: &mut External) -> Result<Self> {
        build::model(proto, external)
    }
}

/// The bytes of a map, as an owner for [`Bytes`]: decoding then copies no weights.
struct Whole(Map);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}
