//! Listing, loading and saving of `.pth` files.

use std::path::Path;

use anyhow::bail;
use burn::tensor::Device;
use rekindle_state::{StateDict, TorchOptions, Value};

use super::Work;
use crate::models::weights::{self, Entry, Layout};
use crate::models::{Architecture, FashionClassifierConfig, Network, VggConfig, VggDepth};

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileWork {
    Save,
    SaveUnsynced,
    List,
    Load,
}

impl FileWork {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "save" => Some(Self::Save),
            "save-unsynced" => Some(Self::SaveUnsynced),
            "list" => Some(Self::List),
            "load" => Some(Self::Load),
            _ => None,
        }
    }
}

/// Which weights are in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// VGG16's, 553 MB.
    Vgg16,
    /// Those of five linear layers, of a size.
    Megabytes(usize),
}

impl Content {
    pub fn parse(name: &str) -> Option<Self> {
        match name.strip_suffix("MB") {
            None => (name == "vgg16").then_some(Self::Vgg16),
            Some(size) => size.parse().ok().filter(|&size: &usize| size > 0).map(Self::Megabytes),
        }
    }

    fn architecture(self) -> Architecture {
        match self {
            Self::Vgg16 => Architecture::new(VggConfig::of(VggDepth::Sixteen, false)),
            Self::Megabytes(size) => {
                // Four square layers hold nearly everything: 16 bytes for each pair of an input and an output.
                let width = (size * 1_000_000 / 16).isqrt().max(1);
                let sizes = FashionClassifierConfig { inputs: width, hidden: [width; 4], classes: 10, dropout: 0.2 };
                Architecture::new(sizes)
            }
        }
    }

    /// The network, whose weights are never drawn, and the names and shapes of its parameters.
    fn network(self) -> (Network, Vec<Entry>) {
        let network = self.architecture().build(&Device::flex());
        let entries = weights::entries(&network);
        (network, entries)
    }

    /// Megabytes of weights.
    pub fn megabytes(self) -> f64 {
        self.network().1.iter().map(|entry| entry.shape.iter().product::<usize>() as f64 * 4e-6).sum()
    }

    fn state(self) -> anyhow::Result<Value> {
        let mut dict = StateDict::ordered();
        for entry in self.network().1 {
            let shape: Vec<u64> = entry.shape.iter().map(|&axis| axis as u64).collect();
            let values: Vec<f32> =
                (0..entry.shape.iter().product::<usize>()).map(|i| (i % 1009) as f32 * 1e-3).collect();
            dict.insert(entry.name, rekindle_state::Tensor::from_f32(&shape, &values)?);
        }
        Ok(Value::Dict(dict))
    }
}

/// The file is written first, unless another case has done so.
pub(super) fn prepare(work: FileWork, content: Content, folder: &Path) -> anyhow::Result<Work> {
    let name = match content {
        Content::Vgg16 => "vgg16.pth".to_string(),
        Content::Megabytes(size) => format!("{size}MB.pth"),
    };
    let path = folder.join(name);
    let write = |path: &Path, dict: &Value, unsynced: bool| -> anyhow::Result<()> {
        rekindle_state::write_torch(path, dict, &TorchOptions { unsynced, ..TorchOptions::default() })?;
        Ok(())
    };
    if matches!(work, FileWork::Save | FileWork::SaveUnsynced) {
        let dict = content.state()?;
        return Ok(Box::new(move || write(&path, &dict, work == FileWork::SaveUnsynced)));
    }
    if !path.exists() {
        write(&path, &content.state()?, true)?;
    }
    Ok(Box::new(move || {
        let file = rekindle_state::open(&path)?;
        let Value::Dict(found) = &file.content.root else { bail!("{}: it is no dictionary", path.display()) };
        if work == FileWork::Load {
            // Reads every byte: checksums are checked.
            weights::load(content.network().0, found, Layout::AsStored)?;
        }
        Ok(())
    }))
}
