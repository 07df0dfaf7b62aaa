//! What an exported graph says of the pictures it was trained on: how they are normalized, and the names of their classes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::data::transform::Normalize;

/// The keys of an ONNX file's metadata, whose values are JSON.
const NORMALIZE: &str = "normalize";
const CLASSES: &str = "classes";

/// What a graph's metadata say of its pictures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// How values from 0 to 1 become inputs, with a number for each channel or one for all.
    pub normalize: Option<Normalize>,
    /// Names of the classes, in the order of the scores.
    pub classes: Vec<String>,
}

impl Told {
    /// Reads the entries that [`Self::entries`] writes. Entries of other programs under these keys, which mean something else, are passed over.
    pub fn read(metadata: &[(String, String)]) -> Self {
        let normalize = value(metadata, NORMALIZE).filter(is_usable);
        Self { normalize, classes: value(metadata, CLASSES).unwrap_or_default() }
    }

    /// As entries of a file's metadata.
    pub fn entries(&self) -> Vec<(String, String)> {
        let normalize = self.normalize.as_ref().and_then(|normalize| entry(NORMALIZE, normalize));
        let classes =
            Some(&self.classes).filter(|classes| !classes.is_empty()).and_then(|classes| entry(CLASSES, classes));
        classes.into_iter().chain(normalize).collect()
    }

    /// The normalization, where it is one for so many channels.
    pub fn normalize_for(&self, channels: usize) -> Option<Normalize> {
        let fits = |values: &[f32]| values.len() == 1 || values.len() == channels;
        self.normalize.clone().filter(|Normalize { mean, std }| fits(mean) && fits(std))
    }
}

/// Written as text at once and not by way of a JSON value: 32-bit floats keep their few digits.
fn entry(key: &str, value: &impl Serialize) -> Option<(String, String)> {
    serde_json::to_string(value).ok().map(|text| (key.to_string(), text))
}

fn value<T: DeserializeOwned>(metadata: &[(String, String)], key: &str) -> Option<T> {
    let (_, text) = metadata.iter().find(|(found, _)| found == key)?;
    serde_json::from_str(text).ok()
}

fn is_usable(Normalize { mean, std }: &Normalize) -> bool {
    mean.iter().chain(std).all(|value| value.is_finite()) && !std.contains(&0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(key: &str, value: &str) -> Vec<(String, String)> {
        vec![("author".to_string(), "somebody".to_string()), (key.to_string(), value.to_string())]
    }

    #[test]
    fn what_is_written_is_read() {
        let normalize = Normalize { mean: vec![0.286], std: vec![0.353] };
        let told = Told { normalize: Some(normalize.clone()), classes: vec!["Shirt \"A\"".into(), "Bag".into()] };
        assert_eq!(Told::read(&told.entries()), told);
        assert_eq!(told.entries()[1], ("normalize".to_string(), r#"{"mean":[0.286],"std":[0.353]}"#.to_string()));
        assert_eq!(Told::default().entries(), []);
        assert_eq!(told.normalize_for(3), Some(normalize), "one number stands for all channels");
    }

    #[test]
    fn what_others_write_under_these_keys_is_passed_over() {
        for text in [
            "true",
            "",
            "{0: 'person'}",
            r#"{"mean":[0.5],"std":[0.0]}"#,
            r#"{"mean":[1e999],"std":[1.0]}"#,
            r#"{"mean":[0.5]}"#,
        ] {
            assert_eq!(Told::read(&metadata(NORMALIZE, text)), Told::default(), "{text}");
        }
        assert_eq!(Told::read(&metadata(CLASSES, "{0: 'person', 1: 'bicycle'}")), Told::default());
        let two = Told::read(&metadata(NORMALIZE, r#"{"mean":[0.5,0.5],"std":[0.5,0.5]}"#));
        assert_eq!((two.normalize_for(2).is_some(), two.normalize_for(3)), (true, None));
    }
}
