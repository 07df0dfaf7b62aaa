//! Names of torchvision's networks. What they compute is among the cases of `rekindle bench --check`.

mod timm;
mod verbs;

use burn::tensor::Device;
use rekindle::models::{Registry, weights};

/// Builder, number of entries and SHA-256 of the listing of each state dict, from `names.py`.
const NAMES: &str = include_str!("names.tsv");

#[test]
fn names_order_shapes_and_types_are_torchvisions() {
    use sha2::Digest;
    let registry = Registry::built_in();
    let mut wrong = Vec::new();
    for row in NAMES.lines() {
        let fields: Vec<&str> = row.split('\t').collect();
        let [name, count, expected] = fields[..] else { panic!("{row}") };
        let network = registry.find(name).unwrap().standard().unwrap().build(&Device::flex());
        let line = |entry: &weights::Entry| {
            let shape: Vec<String> = entry.shape.iter().map(ToString::to_string).collect();
            format!("{} {} {}", entry.name, entry.dtype(), shape.join("x"))
        };
        let lines: Vec<String> = weights::entries(&network).iter().map(line).collect();
        let digest = sha2::Sha256::digest(lines.join("\n").as_bytes());
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if found != expected {
            wrong.push(format!("{name}: {} entries for {count}", lines.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
