//! A model as a file, and weights past protobuf's limit of 2 GB as another file beside it.
//!
//! Messages are written piece by piece: a tensor's bytes go from the state dict to the file and are never encoded into a buffer of
//! the size of the model.

use std::path::Path;

use prost::Message;
use prost::encoding::encode_varint;
use rekindle_state::onnx::proto::{ModelProto, TensorProto};

use super::messages::entry;
use crate::onnx::OnnxError;

/// Models of more bytes keep their weights in a file beside them: protobuf messages end at 2 GB.
pub const EXTERNAL_ABOVE: u64 = i32::MAX as u64;
/// Tensors of fewer bytes stay in the model.
const SMALL: usize = 1024;
/// Every tensor of the file beside the model begins at a multiple of this, for readers that map it.
const ALIGNMENT: u64 = 4096;

/// The tag of a field that holds bytes or a message.
const fn tag(field: u64) -> u64 {
    (field << 3) | 2
}

/// Somewhere to put bytes.
type Put<'a> = dyn FnMut(&[u8]) -> rekindle_state::Result<()> + 'a;

/// Writes a model into a folder that nobody else looks into, as `name`; if it has more than `external_above` bytes, its weights go
/// to `name.data`. Gives the names of the files.
///
/// # Errors
/// When the disk is full or fails.
pub fn write(mut model: ModelProto, folder: &Path, name: &str, external_above: u64) -> Result<Vec<String>, OnnxError> {
    let mut files = Vec::new();
    if model.encoded_len() as u64 > external_above {
        let data = format!("{name}.data");
        let path = folder.join(&data);
        let mut file = rekindle_state::AtomicFile::create(&path)?;
        for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            let Some(raw) = tensor.raw_data.take_if(|raw| raw.len() >= SMALL) else { continue };
            file.pad_to(ALIGNMENT)?;
            let (offset, length) = (file.position().to_string(), raw.len().to_string());
            tensor.external_data = vec![entry("location", &data), entry("offset", offset), entry("length", length)];
            tensor.data_location = 1;
            file.put(&raw)?;
        }
        file.commit()?;
        files.push(data);
    }
    let mut file = rekindle_state::AtomicFile::create(&folder.join(name))?;
    put_model(model, &mut |bytes| file.put(bytes))?;
    file.commit()?;
    // The model last: it is what makes the other one findable.
    files.push(name.to_string());
    Ok(files)
}

/// The fields of a model in an order of our own, which protobuf allows: the graph at the end, its weights at the end of it.
fn put_model(mut model: ModelProto, put: &mut Put<'_>) -> rekindle_state::Result<()> {
    let graph = model.graph.take();
    put(&model.encode_to_vec())?;
    let Some(mut graph) = graph else { return Ok(()) };
    put_head(7, graph.encoded_len(), put)?;
    let weights = std::mem::take(&mut graph.initializer);
    put(&graph.encode_to_vec())?;
    weights.into_iter().try_for_each(|tensor| put_tensor(tensor, put))
}

fn put_tensor(mut tensor: TensorProto, put: &mut Put<'_>) -> rekindle_state::Result<()> {
    put_head(5, tensor.encoded_len(), put)?;
    let raw = tensor.raw_data.take();
    put(&tensor.encode_to_vec())?;
    if let Some(raw) = raw {
        put_head(9, raw.len(), put)?;
        put(&raw)?;
    }
    Ok(())
}

fn put_head(field: u64, length: usize, put: &mut Put<'_>) -> rekindle_state::Result<()> {
    let mut head = Vec::new();
    encode_varint(tag(field), &mut head);
    encode_varint(length as u64, &mut head);
    put(&head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_state::onnx::proto::GraphProto;

    fn model() -> ModelProto {
        let tensor = |name: &str, count: usize| TensorProto {
            name: name.to_string(),
            dims: vec![count as i64],
            data_type: 1,
            raw_data: Some((0..count).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<u8>>().into()),
            ..TensorProto::default()
        };
        let graph = GraphProto { name: "g".into(), initializer: vec![tensor("large", 3000), tensor("small", 3)], ..GraphProto::default() };
        ModelProto { ir_version: 8, graph: Some(graph), producer_name: "p".into(), ..ModelProto::default() }
    }

    #[test]
    fn the_pieces_are_the_message() {
        let mut bytes = Vec::new();
        put_model(model(), &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        assert_eq!(bytes.len(), model().encoded_len());
        assert_eq!(ModelProto::decode(&bytes[..]).unwrap(), model());
    }

    #[test]
    fn large_tensors_go_beside_a_large_model() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(model(), folder.path(), "m.onnx", 5000).unwrap();
        assert_eq!(files, ["m.onnx.data", "m.onnx"]);
        let map = rekindle_state::open(folder.path().join("m.onnx")).unwrap();
        let weights = map.content.root.as_dict().unwrap();
        let bytes = |name: &str| weights.tensor(name).unwrap().bytes().unwrap().into_owned();
        for tensor in model().graph.unwrap().initializer {
            assert_eq!(bytes(&tensor.name), tensor.raw_data.unwrap(), "{}", tensor.name);
        }
        assert_eq!(std::fs::metadata(folder.path().join("m.onnx.data")).unwrap().len(), 12000);
        let whole = tempfile::tempdir().unwrap();
        assert_eq!(write(model(), whole.path(), "m.onnx", EXTERNAL_ABOVE).unwrap(), ["m.onnx"]);
    }
}
