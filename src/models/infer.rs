//! The sizes of a built-in network, read off the shapes of a weight file.
//!
//! Weights tell channels, kernels, hidden sizes, classes and the grid between convolutions and linear layers. What they do not
//! tell (the size of a pool, padding, dropout) keeps its default.

use std::collections::HashMap;

use burn::tensor::Device;
use rekindle_state::{MatchOptions, ModelFile, match_weights};
use serde_json::{Map, Value as Json, json};

use super::vgg::VggDepth;
use super::{Architecture, Entry, import, weights};

/// The configuration keys with which a network gets the shapes of a weight file, only those that differ from the defaults.
///
/// None when the defaults fit already, or no configuration would fit.
pub fn configuration(entry: &Entry, file: &ModelFile) -> Option<Map<String, Json>> {
    let standard = entry.configure(&Map::new()).ok()?;
    let known = shapes(&*standard, file)?;
    let mut config = sizes(entry.name, &known)?;
    let defaults = standard.config();
    config.retain(|key, value| defaults.get(key) != Some(value));
    if config.is_empty() {
        return None;
    }
    // Only a network that then fits entirely is worth proposing.
    let other = entry.configure(&config).ok()?;
    shapes(&*other, file)?.fit.then_some(config)
}

/// Shapes in a file by the names of a network.
struct Shapes {
    by_name: HashMap<String, Vec<usize>>,
    /// Names of four-dimensional weights in the network's order.
    convolutions: Vec<String>,
    /// Whether each is the network's.
    fit: bool,
}

impl Shapes {
    /// The length of an axis of a tensor.
    fn axis(&self, name: &str, axis: usize) -> Option<usize> {
        self.by_name.get(name)?.get(axis).copied()
    }

    /// The outputs of some layers.
    fn outputs(&self, layers: &[&str]) -> Option<Vec<usize>> {
        layers.iter().map(|layer| self.axis(&format!("{layer}.weight"), 0)).collect()
    }
}

/// Matches a file with a network that has no weights yet; none when names are missing or left over.
fn shapes(architecture: &dyn Architecture, file: &ModelFile) -> Option<Shapes> {
    // Parameters are drawn when they are first used: this costs nothing.
    let entries = weights::entries(&architecture.build(&Device::flex()));
    let wanted = import::wanted(&entries);
    let record = import::from_record(&entries, file).ok()?;
    let found = match_weights(record.as_ref().unwrap_or(&file.content.root), &wanted, &MatchOptions::default()).ok()?;
    if !found.missing.is_empty() || !found.unused.is_empty() {
        return None;
    }
    let fit = found.shape_differs.is_empty();
    let equal = found.matched.iter().map(|matched| (matched.name.clone(), matched.tensor.shape()));
    let other = found.shape_differs.iter().map(|(name, _, shape)| (name.clone(), shape.as_slice()));
    let sized = |shape: &[u64]| shape.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<Vec<_>>>();
    let by_name =
        equal.chain(other).map(|(name, shape)| Some((name, sized(shape)?))).collect::<Option<HashMap<_, _>>>()?;
    let convolutions = wanted
        .into_iter()
        .map(|wanted| wanted.name)
        .filter(|name| by_name.get(name).is_some_and(|shape| shape.len() == 4));
    Some(Shapes { convolutions: convolutions.collect(), by_name, fit })
}

/// What the shapes say of each key.
fn sizes(name: &str, shapes: &Shapes) -> Option<Map<String, Json>> {
    let config = match name {
        "the_model_class" => two_conv(shapes, ["fc1", "fc2", "fc3"])?,
        "net" => two_conv(shapes, ["fc", "fc1", "fc2"])?,
        "fashion_classifier" => json!({
            "inputs": shapes.axis("fc.weight", 1)?,
            "hidden": shapes.outputs(&["fc", "fc1", "fc2", "fc3"])?,
            "classes": shapes.axis("fc4.weight", 0)?,
        }),
        "cifar_cnn" => json!({
            "in_channels": shapes.axis("conv.weight", 1)?,
            "channels": shapes.outputs(&["conv", "conv1", "conv2"])?,
            "kernel": shapes.axis("conv.weight", 2)?,
            "hidden": shapes.axis("fc.weight", 0)?,
            "classes": shapes.axis("fc1.weight", 0)?,
        }),
        "super_resolution" => json!({
            "channels": shapes.outputs(&["conv1", "conv2", "conv3"])?,
            "upscale_factor": shapes.axis("conv4.weight", 0)?.isqrt(),
        }),
        _ => vgg(name, shapes)?,
    };
    match config {
        Json::Object(config) => Some(config),
        _ => None,
    }
}

fn two_conv(shapes: &Shapes, [first, second, third]: [&str; 3]) -> Option<Json> {
    let channels = shapes.outputs(&["conv", "conv1"])?;
    let cells = shapes.axis(&format!("{first}.weight"), 1)?.checked_div(channels[1])?;
    Some(json!({
        "in_channels": shapes.axis("conv.weight", 1)?,
        "channels": channels,
        "kernel": shapes.axis("conv.weight", 2)?,
        "grid": cells.isqrt(),
        "hidden": shapes.outputs(&[first, second])?,
        "classes": shapes.axis(&format!("{third}.weight"), 0)?,
    }))
}

fn vgg(name: &str, shapes: &Shapes) -> Option<Json> {
    let (depth, _) = VggDepth::from_name(name);
    let mut at = 0;
    let mut widths = Vec::new();
    for repeat in depth.repeats() {
        widths.push(shapes.axis(shapes.convolutions.get(at)?, 0)?);
        at += repeat;
    }
    Some(json!({
        "widths": widths,
        "hidden": shapes.outputs(&["classifier.0", "classifier.3"])?,
        "classes": shapes.axis("classifier.6.weight", 0)?,
    }))
}
