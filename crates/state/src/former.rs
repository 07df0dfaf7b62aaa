//! Names that layers of torchvision's networks have in files of its earlier versions.

/// The name of today, if this is one of an earlier version; torchvision renames in the same way when it loads.
pub(crate) fn renamed(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let at = parts.iter().position(|part| part.starts_with("denselayer") || *part == "mlp")?;
    let (head, [layer, rest @ ..]) = parts.split_at(at + 1) else { return None };
    let layer = match (parts[at], *layer, rest) {
        // Vision transformers until 0.13.
        ("mlp", "linear_1", _) => "0",
        ("mlp", "linear_2", _) => "3",
        // DenseNet until 0.2, whose published files were never written anew: `denselayer1.norm.1.weight`.
        (_, "norm" | "relu" | "conv", ["1" | "2", tensor]) => {
            return Some(format!("{}.{layer}{}.{tensor}", head.join("."), rest[0]));
        }
        _ => return None,
    };
    Some([head, &[layer], rest].concat().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_names_become_those_of_today() {
        let pairs = [
            (
                "features.denseblock1.denselayer2.norm.1.running_mean",
                Some("features.denseblock1.denselayer2.norm1.running_mean"),
            ),
            ("x.denselayer16.conv.2.weight", Some("x.denselayer16.conv2.weight")),
            ("x.denselayer16.conv2.weight", None),
            ("x.denselayer16.conv.3.weight", None),
            ("layers.encoder_layer_0.mlp.linear_1.bias", Some("layers.encoder_layer_0.mlp.0.bias")),
            ("layers.encoder_layer_0.mlp.linear_2.weight", Some("layers.encoder_layer_0.mlp.3.weight")),
            ("layers.encoder_layer_0.mlp.0.weight", None),
            ("mlp", None),
            ("conv.1.weight", None),
        ];
        for (name, expected) in pairs {
            assert_eq!(renamed(name).as_deref(), expected, "{name}");
        }
    }
}
