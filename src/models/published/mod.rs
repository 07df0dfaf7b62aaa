//! torchvision's published weights: where they are, what their classes are called, and how images are prepared for them.
//!
//! `generate.py` beside this file writes the table and the names from an installed torchvision.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::data::DataConfig;
use crate::data::transform::{Extent, Filter, Normalize};

const TABLE: &str = include_str!("table.tsv");
const IMAGENET: &str = include_str!("imagenet.txt");
const VOC: &str = include_str!("voc.txt");

/// Published weights of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The network's name.
    pub model: &'static str,
    /// The name of the weights: `IMAGENET1K_V2`.
    pub name: &'static str,
    /// Whether they are what `DEFAULT` means.
    pub default: bool,
    /// The address of the file. Its name ends in the first digits of its SHA-256.
    pub url: &'static str,
    /// The names of the classes, in order; empty where there is no classifier.
    pub classes: Vec<&'static str>,
    /// How images are prepared.
    pub preparation: Preset,
    /// Keys of the network's configuration that the weights need.
    pub keys: Map<String, Value>,
    /// Right answers (of segmentation: mean intersection over union) that torchvision publishes, in percent.
    pub score: f64,
}

/// How images are prepared for weights: scaled, the centre cut out, normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// Length of the shorter edge before the centre is cut out, in pixels.
    pub edge: usize,
    /// Side of the square that is cut out of the centre; none leaves the image as it is.
    pub crop: Option<usize>,
    /// Whether images are scaled by cubic interpolation, else linear; both are filtered when they shrink.
    pub bicubic: bool,
    /// Mean of each channel, of values from 0 to 1.
    pub mean: Vec<f32>,
    /// Deviation of each channel.
    pub std: Vec<f32>,
}

impl Preset {
    /// How images are scaled.
    pub fn filter(&self) -> Filter {
        if self.bicubic { Filter::Bicubic } else { Filter::Bilinear }
    }

    /// How values are normalised.
    pub fn normalize(&self) -> Normalize {
        Normalize { mean: self.mean.clone(), std: self.std.clone() }
    }

    /// A data set's settings with this preparation; its normalisation only where `normalized` is off.
    #[must_use]
    pub fn of_data(&self, data: DataConfig, normalized: bool) -> DataConfig {
        DataConfig {
            resize: Some(Extent::Edge(self.edge)),
            interpolation: self.filter(),
            center_crop: self.crop.map(Extent::Edge),
            normalize: if normalized { data.normalize } else { Some(self.normalize()) },
            ..data
        }
    }
}

/// All published weights, network by network.
pub fn all() -> &'static [Published] {
    static ALL: OnceLock<Vec<Published>> = OnceLock::new();
    ALL.get_or_init(|| TABLE.lines().filter_map(row).collect())
}

/// The published weights of `MODEL:NAME`; `NAME` may be `DEFAULT`.
pub fn find(text: &str) -> Option<&'static Published> {
    let (model, name) = text.split_once(':')?;
    let is_it = |row: &&Published| row.model == model && (row.name == name || name == "DEFAULT" && row.default);
    all().iter().find(is_it)
}

/// The published weights whose file has this name, whatever folder it is in.
pub fn of_file(name: &str) -> Option<&'static Published> {
    all().iter().find(|row| row.file() == name)
}

/// The names of the weights of a network, as `--weights` takes them; of all networks that have any when it has none.
pub fn names(model: &str) -> Vec<String> {
    let own: Vec<String> = all().iter().filter(|row| row.model == model).map(Published::full_name).collect();
    if own.is_empty() { all().iter().map(Published::full_name).collect() } else { own }
}

impl Published {
    /// `MODEL:NAME`.
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.model, self.name)
    }

    /// The name of the file.
    pub fn file(&self) -> &'static str {
        self.url.rsplit('/').next().unwrap_or_default()
    }
}

fn row(line: &'static str) -> Option<Published> {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let &[model, name, default, url, classes, edge, crop, interpolation, _, mean, std, keys, score] = fields.as_slice()
    else {
        return None;
    };
    let numbers = |list: &str| list.split(',').map(|number| number.parse().ok()).collect::<Option<Vec<f32>>>();
    let crop = crop.parse().ok()?;
    Some(Published {
        model,
        name,
        default: default == "*",
        url,
        classes: match classes {
            "imagenet" => IMAGENET.lines().collect(),
            "voc" => VOC.lines().collect(),
            _ => Vec::new(),
        },
        preparation: Preset {
            edge: edge.parse().ok()?,
            crop: (crop > 0).then_some(crop),
            bicubic: interpolation == "bicubic",
            mean: numbers(mean)?,
            std: numbers(std)?,
        },
        keys: serde_json::from_str(keys).ok()?,
        score: score.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Registry;

    #[test]
    fn every_row_of_the_table_is_read() {
        assert_eq!(all().len(), TABLE.lines().count());
        let registry = Registry::built_in();
        for row in all() {
            let entry = registry.find(row.model).expect(row.model);
            let network = entry.configure(&row.keys).expect(row.model);
            let classes = row.classes.len();
            assert!([0, 21, 1000].contains(&classes), "{}: {classes} classes", row.full_name());
            if let (true, Some(expected)) = (classes > 0, network.classes()) {
                assert_eq!(classes, expected, "{}", row.full_name());
            }
            if let Some(side) = row.preparation.crop {
                assert!(network.check_input([3, side, side]).is_ok(), "{}: {side} pixels", row.full_name());
            }
            assert!(row.url.starts_with("https://download.pytorch.org/models/") && row.url.ends_with(".pth"));
        }
    }

    #[test]
    fn every_network_has_one_default() {
        for entry in all() {
            let defaults = all().iter().filter(|row| row.model == entry.model && row.default).count();
            assert_eq!(defaults, 1, "{}", entry.model);
        }
        let found = find("resnet50:DEFAULT").expect("resnet50 has weights");
        assert_eq!((found.name, found.file()), ("IMAGENET1K_V2", "resnet50-11ad3fa6.pth"));
        assert_eq!(found.preparation.edge, 232);
        assert_eq!(found.classes[281], "tabby");
    }
}
