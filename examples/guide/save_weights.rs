//! `torch.save(vgg16.state_dict(), 'torchmodel_weights.pth')` and back.

use std::path::Path;

use rekindle::models::import::{ImportOptions, import};
use rekindle::models::{Registry, weights};
use rekindle::state::{SaveOptions, save};
use rekindle::train::fresh;

pub fn run(scratch: &Path) -> crate::Answer {
    // A VGG-16 with few channels, so that it is quick; leave the keys out for torchvision's.
    let keys = serde_json::json!({ "widths": [4, 8, 8, 8, 8], "hidden": [16, 16], "classes": 10 });
    let architecture = Registry::built_in().find("vgg16")?.configure(keys.as_object().ok_or("keys are an object")?)?;
    let vgg = fresh(&architecture, 42);

    // The names and the layout are PyTorch's: `load_state_dict(torch.load(path), strict=True)` takes this file.
    let path = scratch.join("torchmodel_weights.pth");
    save(&path, &weights::to_state_dict(&vgg)?.into(), &SaveOptions::default())?;

    // Any format goes in: .pth, .safetensors, .bpk. Names and shapes that do not fit are an error, with a table.
    let (loaded, report) = import(fresh(&architecture, 7), &path, &ImportOptions::default())?;
    println!("{}", report.to_string().replace(&scratch.display().to_string(), ""));

    let (before, after) = (weights::to_state_dict(&vgg)?, weights::to_state_dict(&loaded)?);
    for (name, tensor) in before.tensors() {
        let same = after.tensor(name).ok_or("a tensor is missing")?.bytes()? == tensor.bytes()?;
        assert!(same, "{name} changed");
    }
    println!("{} tensors came back bit for bit", before.len());
    Ok(())
}
