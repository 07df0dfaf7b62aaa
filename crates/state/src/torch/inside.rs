//! Zip archives of whole model files, such as those of stable-baselines3 (`policy.pth`, `policy.optimizer.pth`, …).

use super::exported::is_exported;
use super::zip::Zip;
use crate::format::{self, Format, Opened, Probe};
use crate::walk::name_storages;
use crate::{Content, Error, Result, StateDict, Value};

/// A zip archive that holds model files.
#[derive(Debug)]
pub struct ModelZip;

/// What the names of model files end with.
const EXTENSIONS: [&str; 6] = [".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".bpk"];
/// How many files of an archive are opened.
const MAX_FILES: usize = 1000;

impl Format for ModelZip {
    fn name(&self) -> &'static str {
        "zip"
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        file.zip().is_some_and(|zip| {
            let own = zip.entries().iter().any(|entry| entry.name == "data.pkl" || entry.name.ends_with("/data.pkl"));
            !own && !is_exported(zip) && models(zip).next().is_some()
        })
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        let Some(zip) = file.zip() else { return Err(Error::damaged("the zip archive is broken")) };
        let mut dict = StateDict::new();
        let mut content = Content { root: Value::None, metadata: Vec::new(), globals: Vec::new() };
        for (count, name) in models(zip).enumerate() {
            if count == MAX_FILES {
                return Err(Error::unsupported(format!("the zip archive holds more than {MAX_FILES} model files")));
            }
            let read = || {
                let map = zip.file(name)?;
                let inner = Probe::file(&map);
                let format = format::find(&inner)?;
                // An archive inside an archive could hold itself.
                if *format == *(&Self as &dyn Format) {
                    return Err(Error::unsupported("an archive of model files inside another is not read"));
                }
                format.read(&inner)
            };
            let mut opened = read().map_err(|error: Error| error.within(format!("the zip entry '{name}'")))?;
            name_storages(&mut opened.content.root, name);
            content.globals.extend(opened.content.globals);
            dict.insert(name, opened.content.root);
        }
        let mut seen = indexmap::IndexSet::new();
        content.globals.retain(|global| seen.insert(global.clone()));
        content.root = Value::Dict(dict);
        Ok(content.into())
    }
}

/// The names of the model files in an archive, in its order.
fn models(zip: &Zip) -> impl Iterator<Item = &str> {
    let names = zip.entries().iter().map(|entry| entry.name.as_str());
    // `__MACOSX/._name` and other hidden files are no models.
    let shown = names.filter(|name| !name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX"));
    shown.filter(|name| EXTENSIONS.iter().any(|end| name.ends_with(end)))
}
