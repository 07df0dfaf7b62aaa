//! Reading a file and everything in it.

use std::path::Path;

use rekindle_state::{Content, Map, Result, Value, walk};

/// Reads bytes as a file, and the bytes of every tensor of a reasonable size.
pub fn all(data: &[u8], read: impl Fn(&Map) -> Result<Content>) {
    let map = Map::from_bytes(Path::new("fuzzed"), data.to_vec());
    let Ok(content) = read(&map) else { return };
    walk(&content.root, &mut |_, value| {
        if let Value::Tensor(tensor) = value {
            if tensor.nbytes() < 1 << 20 {
                let _ = tensor.bytes();
            }
        }
    });
}
