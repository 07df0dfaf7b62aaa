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
    write_torch(path, root, &TorchOptions { legacy: true })
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
