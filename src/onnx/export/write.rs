//! A model as a file, and weights past protobuf's limit of 2 GB as another file beside it.
//!
//! Messages are written piece by piece: a tensor's bytes go from the state dict to the file and are never encoded into a buffer of
//! the size of the model.

use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;
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
/// In the model itself at a multiple of this, so that numbers are used where they are mapped.
const WITHIN: u64 = 8;

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
    let padding = WITHIN * model.graph.as_ref().map_or(0, |graph| graph.initializer.len() as u64);
    if model.encoded_len() as u64 + padding > external_above {
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
    let first = model.encode_to_vec();
    put(&first)?;
    let Some(mut graph) = graph else { return Ok(()) };
    let weights: Vec<Pieces> = std::mem::take(&mut graph.initializer).into_iter().map(Pieces::of).collect();
    let nodes = graph.encode_to_vec();
    let padding = Padding::new(first.len() as u64, nodes.len() as u64, &weights);
    put_head(7, nodes.len() as u64 + padding.weights, put)?;
    put(&nodes)?;
    weights.into_iter().zip(padding.each).try_for_each(|(pieces, padding)| pieces.put(padding, put))
}

/// A tensor in pieces: what comes before its bytes may be made longer without a change of meaning.
struct Pieces {
    data_type: i32,
    others: Vec<u8>,
    raw: Option<Bytes>,
}

impl Pieces {
    fn of(mut tensor: TensorProto) -> Self {
        let raw = tensor.raw_data.take();
        let data_type = std::mem::take(&mut tensor.data_type);
        Self { data_type, others: tensor.encode_to_vec(), raw }
    }

    /// The bytes of the element type's field without padding.
    fn type_len(&self) -> usize {
        1 + varint_len(self.data_type as u64)
    }

    /// Length of the message with some padding.
    fn len(&self, padding: usize) -> u64 {
        let raw = self.raw.as_ref().map_or(0, |raw| 1 + varint_len(raw.len() as u64) + raw.len());
        (self.type_len() + padding + self.others.len() + raw) as u64
    }

    /// The padding with which the bytes begin at a multiple of [`WITHIN`] if the tensor's field begins at `position`.
    fn padding(&self, position: u64) -> usize {
        let Some(raw) = &self.raw else { return 0 };
        let begin =
            |padding: usize| position + 1 + varint_len(self.len(padding)) as u64 + self.len(padding) - raw.len() as u64;
        (0..WITHIN as usize).find(|&padding| begin(padding).is_multiple_of(WITHIN)).unwrap_or(0)
    }

    fn put(self, padding: usize, put: &mut Put<'_>) -> rekindle_state::Result<()> {
        put_head(5, self.len(padding), put)?;
        // A varint may go on with zeros: every reader takes up to ten bytes of it.
        let mut data_type = vec![2 << 3];
        encode_varint(self.data_type as u64, &mut data_type);
        if padding > 0 {
            *data_type.last_mut().expect("a varint has a byte") |= 0x80;
            data_type.resize(data_type.len() + padding - 1, 0x80);
            data_type.push(0);
        }
        put(&data_type)?;
        put(&self.others)?;
        let Some(raw) = self.raw else { return Ok(()) };
        put_head(9, raw.len() as u64, put)?;
        put(&raw)
    }
}

fn varint_len(value: u64) -> usize {
    prost::encoding::encoded_len_varint(value)
}

/// What is put before the bytes of each tensor.
struct Padding {
    each: Vec<usize>,
    /// Bytes of the weights' fields with it.
    weights: u64,
}

impl Padding {
    /// For a graph after `first` bytes, whose weights come after `nodes` bytes of its own.
    fn new(first: u64, nodes: u64, weights: &[Pieces]) -> Self {
        let with = |mut position: u64, pad: bool| {
            let start = position;
            let mut each = Vec::with_capacity(weights.len());
            for tensor in weights {
                let padding = if pad { tensor.padding(position) } else { 0 };
                let length = tensor.len(padding);
                position += 1 + varint_len(length) as u64 + length;
                each.push(padding);
            }
            Self { each, weights: position - start }
        };
        // The graph's length is before the weights and counts their padding: the one that fits itself is looked for.
        let fits = |head: usize| {
            let padding = with(first + 1 + head as u64 + nodes, true);
            (varint_len(nodes + padding.weights) == head).then_some(padding)
        };
        (1..=10).find_map(fits).unwrap_or_else(|| with(0, false))
    }
}

fn put_head(field: u64, length: u64, put: &mut Put<'_>) -> rekindle_state::Result<()> {
    let mut head = Vec::new();
    encode_varint(tag(field), &mut head);
    encode_varint(length, &mut head);
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
        let graph = GraphProto {
            name: "g".into(),
            initializer: vec![tensor("large", 3000), tensor("a", 5), tensor("small", 3)],
            ..GraphProto::default()
        };
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
        assert_eq!(ModelProto::decode(&bytes[..]).unwrap(), model());
        for tensor in model().graph.unwrap().initializer {
            let raw = tensor.raw_data.unwrap();
            let at = bytes.windows(raw.len()).rposition(|window| window == raw).unwrap();
            assert!(at.is_multiple_of(8), "{} begins at {at}", tensor.name);
        }
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
