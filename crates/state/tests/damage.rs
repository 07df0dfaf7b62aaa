//! A damaged file of any format gives an error or a value, and never a panic.

mod support {
    pub mod trees;
}

use std::path::Path;

use rekindle_state::*;
use support::trees::{Random, Trees};

/// Reads a file in every way that it could be asked for, down to each tensor's bytes.
fn read_all(bytes: &[u8], read: fn(&Map) -> Result<Content>) {
    let map = Map::from_bytes(Path::new("damaged"), bytes.to_vec());
    let Ok(content) = read(&map) else { return };
    walk(&content.root, &mut |_, value| {
        if let Value::Tensor(tensor) = value {
            // What a damaged file claims may be more than is worth reading.
            if tensor.nbytes() < 1 << 20 {
                let _ = tensor.bytes();
            }
        }
    });
}

/// Cuts, flips and overwrites a file at random, `cases` times.
fn damage(original: &[u8], cases: u64, random: &mut Random, read: fn(&Map) -> Result<Content>) {
    read_all(original, read);
    for _ in 0..cases {
        let mut bytes = original.to_vec();
        for _ in 0..=random.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(6) {
                0 => bytes.truncate(at),
                1 => bytes[at] = random.next() as u8,
                2 => bytes[at] = 0xff,
                3 => {
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].fill([0, 0xff, 0x7f][random.below(3) as usize]);
                }
                4 => {
                    let from = random.below(bytes.len() as u64) as usize;
                    let end = (from + 1 + random.below(40) as usize).min(bytes.len());
                    let piece = bytes[from..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes[at] ^= 1 << random.below(8),
            }
        }
        read_all(&bytes, read);
    }
}

fn read_any(map: &Map) -> Result<Content> {
    Ok(read(map)?.content)
}

/// Small files of one format.
fn seeds(name: &str, anything: bool, options: &SaveOptions) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (0..20)
        .map(|seed| {
            let mut trees = Trees::new(seed * 16 + 1, anything);
            let root = if name.ends_with(".npy") {
                Value::Tensor(Tensor::from_f32(&[2, 3], &[1.0; 6]).unwrap())
            } else {
                trees.root()
            };
            save(&path, &root, options).unwrap();
            std::fs::read(&path).unwrap()
        })
        .collect()
}

fn damage_all(files: &[Vec<u8>], cases: u64, read: fn(&Map) -> Result<Content>) {
    let mut random = Random::new(7);
    for file in files {
        damage(file, cases, &mut random, read);
    }
}

#[test]
fn torch_zip() {
    damage_all(&seeds("a.pth", false, &SaveOptions::default()), 6000, read_any);
}

#[test]
fn torch_legacy() {
    let options = SaveOptions { format: Some(&TorchLegacy), ..SaveOptions::default() };
    damage_all(&seeds("a.pth", false, &options), 6000, read_any);
}

#[test]
fn safetensors() {
    damage_all(&seeds("a.safetensors", true, &SaveOptions::default()), 6000, read_safetensors);
}

#[test]
fn burnpack() {
    damage_all(&seeds("a.bpk", true, &SaveOptions::default()), 6000, read_burnpack);
}

#[test]
fn npy_and_npz() {
    damage_all(&seeds("a.npy", false, &SaveOptions::default()), 3000, read_npy);
    damage_all(&seeds("a.npz", false, &SaveOptions::default()), 3000, read_npz);
}

#[test]
fn onnx() {
    let read = |map: &Map| read_onnx(map).map(|(content, _)| content);
    // A model with an input, an output, two nodes and three initializers, by hand: fields as `onnx.proto` numbers them.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }
    let dims = |n: u8| [0x08, n].to_vec();
    let raw = [dims(2), vec![0x10, 1], field(8, b"w"), field(9, &[0, 0, 128, 63, 0, 0, 0, 64])].concat();
    let typed = [dims(2), vec![0x10, 7], field(8, b"n"), field(7, &[1, 2])].concat();
    let texts = [dims(1), vec![0x10, 8], field(8, b"s"), field(6, b"text")].concat();
    let shape = field(1, &field(2, b"batch"));
    let kind = field(1, &[vec![0x08, 1], field(2, &shape)].concat());
    let info = [field(1, b"x"), field(2, &kind)].concat();
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Relu")].concat();
    let graph = [field(1, &node), field(1, &node), field(2, b"g"), field(5, &raw), field(5, &typed), field(5, &texts)];
    let graph = [graph.concat(), field(11, &info), field(12, &info)].concat();
    assert!(graph.len() < 256);
    let graph = [&[7 << 3 | 2, (graph.len() & 0x7f) as u8 | 0x80, (graph.len() >> 7) as u8], graph.as_slice()].concat();
    let model = [vec![0x08, 8], field(2, b"test"), graph, field(8, &[0x10, 17])].concat();
    assert!(is_onnx(&model));
    let map = Map::from_bytes(Path::new("model.onnx"), model.clone());
    let (content, summary) = read_onnx(&map).unwrap();
    let root = content.root.as_dict().unwrap();
    assert_eq!(root.tensor("w").unwrap().to_f32().unwrap(), [1.0, 2.0]);
    assert_eq!(root.tensor("n").unwrap().to_i64().unwrap(), [1, 2]);
    assert_eq!(root.get("s").unwrap().as_slice().unwrap()[0].as_str(), Some("text"));
    assert_eq!(summary.opsets, [("ai.onnx".to_string(), 17)]);
    assert_eq!(summary.operators, [("Relu".to_string(), 2)]);
    assert_eq!(summary.inputs[0].shape.as_deref(), Some(&["batch".to_string()][..]));
    damage_all(&[model], 100_000, read);
}
