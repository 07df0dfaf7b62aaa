//! Whatever tree is written is read back the same, from every format.

mod support {
    pub mod same;
    pub mod trees;
}

use std::path::Path;

use proptest::prelude::*;
use rekindle_state::*;
use support::same::Same;
use support::trees::Trees;

/// Writes and reads back; gives the tree and the file's bytes.
fn through(
    name: &str,
    root: &Value,
    write: impl Fn(&Path, &Value) -> Result<Vec<String>>,
    read: fn(&Map) -> Result<Content>,
) -> (Value, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write(&path, root).unwrap();
    let first = std::fs::read(&path).unwrap();
    write(&path, root).unwrap();
    let map = Map::open(&path).unwrap();
    assert!(map.bytes() == first, "the same content gave other bytes");
    (read(&map).unwrap().root, first)
}

fn read_any(map: &Map) -> Result<Content> {
    Ok(read(map)?.content)
}

fn zip(path: &Path, root: &Value) -> Result<Vec<String>> {
    write_torch(path, root, &TorchOptions::default())
}

fn legacy(path: &Path, root: &Value) -> Result<Vec<String>> {
    write_torch(path, root, &TorchOptions { legacy: true, ..TorchOptions::default() })
}

fn safetensors(path: &Path, root: &Value) -> Result<Vec<String>> {
    write_safetensors(path, root, &[("note".into(), "kept".into())])
}

fn burnpack(path: &Path, root: &Value) -> Result<Vec<String>> {
    write_burnpack(path, root, &[], &ParamIds::new())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn torch_files(seed: u64) {
        let root = Trees::new(seed, false).root();
        let (read, _) = through("a.pth", &root, zip, read_any);
        prop_assert_eq!(Same::default().check(&root, &read, ""), Ok(()));
        let (read, _) = through("a.pth", &root, legacy, read_any);
        prop_assert_eq!(Same::default().check(&root, &read, ""), Ok(()));
    }

    #[test]
    fn flat_files(seed: u64) {
        let root = Trees::new(seed, true).root();
        let (read, _) = through("a.safetensors", &root, safetensors, read_safetensors);
        prop_assert_eq!(Same::of_flat_files().check(&root, &read, ""), Ok(()));
        let (read, _) = through("a.bpk", &root, burnpack, read_burnpack);
        prop_assert_eq!(Same::of_flat_files().check(&root, &read, ""), Ok(()));
    }

    #[test]
    fn there_and_back(seed: u64) {
        let root = Trees::new(seed, false).root();
        let (first, pth) = through("a.pth", &root, zip, read_any);
        let (second, _) = through("a.safetensors", &first, safetensors, read_safetensors);
        let (third, _) = through("a.bpk", &second, burnpack, read_burnpack);
        let (fourth, _) = through("a.pth", &third, zip, read_any);
        prop_assert_eq!(Same::of_flat_files().check(&root, &fourth, ""), Ok(()));
        let _ = pth;
    }
}

#[test]
fn plain_dictionaries_look_as_others_write_them() {
    let tensor = Tensor::from_f32(&[2], &[1.0, 2.0]).unwrap();
    let root = Value::Dict([("a", tensor)].into_iter().collect());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    write_safetensors(&path, &root, &[]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let header = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert_eq!(&bytes[8..8 + header.len()], header);
}

#[test]
fn numpy_files() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = Tensor::from_i64(&[2, 3], &[1, 2, 3, 4, 5, 6]).unwrap();
    let path = folder.path().join("a.npy");
    write_npy(&path, &Value::Tensor(tensor.clone())).unwrap();
    let back = read_npy(&Map::open(&path).unwrap()).unwrap().root;
    assert_eq!(back.as_tensor().unwrap().to_i64().unwrap(), [1, 2, 3, 4, 5, 6]);

    let mut root = StateDict::new();
    root.insert("x/y", tensor.clone());
    root.insert("half", tensor.cast(DType::BF16).unwrap());
    root.insert("epoch", 3_i64);
    root.insert("name", "text");
    let path = folder.path().join("a.npz");
    let notes = write_npz(&path, &Value::Dict(root)).unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    let back = read_npz(&Map::open(&path).unwrap()).unwrap().root;
    let back = back.as_dict().unwrap();
    assert_eq!(back.tensor("x/y").unwrap().to_i64().unwrap(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(back.tensor("half").unwrap().dtype(), DType::F32);
    assert_eq!(back.tensor("epoch").unwrap().to_i64().unwrap(), [3]);
}

#[test]
fn shared_memory_survives_where_no_tensor_covers_it() {
    let storage = Storage::new((0..40).collect::<Vec<u8>>(), "");
    let view = |offset, strides: Vec<u64>, shape: &[u64]| {
        let view = View { storage: storage.clone(), offset, strides, conjugate: false, negative: false };
        Tensor::strided(DType::U8, shape, view).unwrap()
    };
    let root = Value::Dict([("a", view(2, vec![2], &[10])), ("b", view(7, vec![8, 1], &[3, 4]))].into_iter().collect());
    let (read, _) = through("a.safetensors", &root, safetensors, read_safetensors);
    Same::of_flat_files().check(&root, &read, "").unwrap();
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    struct Broken;
    impl Source for Broken {
        fn len(&self) -> u64 {
            8
        }
        fn bytes(&self) -> Result<std::borrow::Cow<'_, [u8]>> {
            Err(Error::damaged("the source broke"))
        }
    }
    let tensor = Tensor::contiguous(DType::F32, &[2], Storage::new(Broken, ""), 0).unwrap();
    let root = Value::Dict([("a", tensor)].into_iter().collect());
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.pth", "a.safetensors", "a.bpk", "a.npz", "a.npy"] {
        let path = folder.path().join(name);
        std::fs::write(&path, b"old").unwrap();
        let error = save(&path, &root, &SaveOptions::default()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("the source broke"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
}

#[test]
fn tied_weights_stay_tied_in_another_type() {
    let tensor = Tensor::from_f32(&[2], &[1.0, 2.5]).unwrap();
    let ints = Tensor::from_i64(&[1], &[7]).unwrap();
    let root = Value::Dict([("a", tensor.clone()), ("b", tensor), ("n", ints)].into_iter().collect());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pth");
    save(&path, &root, &SaveOptions { dtype: Some(DType::BF16), ..SaveOptions::default() }).unwrap();
    let read = open(&path).unwrap().content.root;
    let dict = read.as_dict().unwrap();
    let storage = |name: &str| dict.tensor(name).unwrap().view().unwrap().storage.id();
    assert_eq!(storage("a"), storage("b"));
    assert_eq!(dict.tensor("b").unwrap().dtype(), DType::BF16);
    assert_eq!(dict.tensor("b").unwrap().to_f32().unwrap(), [1.0, 2.5]);
    assert_eq!(dict.tensor("n").unwrap().dtype(), DType::I64);
}

#[test]
fn weights_of_onnx_models_come_from_beside_them_only() {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("model")).unwrap();
    std::fs::write(folder.path().join("model/w.bin"), [0, 0, 0, 0, 0, 0, 128, 63]).unwrap();
    std::fs::write(folder.path().join("outside.bin"), [0; 8]).unwrap();
    let read = |location: &str, offset: &str| {
        let entry =
            |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
        let data = [entry("location", location), entry("offset", offset), entry("length", "4")].concat();
        let tensor = [vec![0x08, 1, 0x10, 1], field(8, b"w"), data, vec![0x70, 1]].concat();
        let model = [vec![0x08, 8], field(7, &field(5, &tensor))].concat();
        let path = folder.path().join("model/m.onnx");
        std::fs::write(&path, model).unwrap();
        read_onnx(&Map::open(&path).unwrap())
            .map(|(content, _)| content.root.as_dict().unwrap().tensor("w").unwrap().to_f32().unwrap())
    };
    assert_eq!(read("w.bin", "4").unwrap(), [1.0]);
    assert!(read("w.bin", "5").unwrap_err().to_string().contains("past the end"));
    assert!(read("missing.bin", "0").unwrap_err().to_string().contains("not beside the model"));
    for outside in ["../outside.bin", "/etc/hostname", "a\\b", ""] {
        assert!(read(outside, "0").unwrap_err().to_string().contains("outside the model's folder"), "{outside}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("outside.bin"), folder.path().join("model/link.bin")).unwrap();
        assert!(read("link.bin", "0").unwrap_err().to_string().contains("outside the model's folder"));
    }
}
