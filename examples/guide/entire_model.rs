//! `torch.save(model, PATH)`: a pickle of the whole object. Its weights are read; nothing in it is run.

use std::path::Path;

use rekindle::state::{SaveOptions, open, save};

pub fn run(scratch: &Path) -> crate::Answer {
    // A file that PyTorch wrote, from this repository's fixtures.
    let file = open(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/state/tests/fixtures/models/net_small_entire_main.pt"),
    )?;
    let listing = file.listing(false)?;
    println!("{}, {} tensors, classes {:?}", listing.format, listing.tensors.len(), listing.classes);
    for global in &listing.globals {
        println!("  unpickling would have looked up {} ({})", global.name, global.verdict);
    }
    // As a plain state dict it needs no class any more, and `torch.load(weights_only=True)` takes it.
    let weights = scratch.join("weights.pth");
    save(&weights, &file.content.root, &SaveOptions::default())?;
    let plain = open(&weights)?;
    println!("saved again: {} tensors, safe: {}", plain.listing(false)?.tensors.len(), plain.listing(false)?.safe);
    Ok(())
}
