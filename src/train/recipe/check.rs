//! What the types of a recipe's values do not say.

use super::source::Source;
use super::{Recipe, RecipeError, architecture};
use crate::models::{ModelError, Registry};
use crate::tasks;

/// Checks values that types alone do not.
pub(super) fn check(registry: &Registry, recipe: &Recipe, source: &Source<'_>) -> Result<(), RecipeError> {
    let wrong = |key: &str, problem: String| {
        Err(RecipeError::Value {
            place: source.place_of(&key.split('.').collect::<Vec<_>>()),
            key: key.to_string(),
            problem,
        })
    };
    let train = &recipe.train;
    if recipe.name.is_empty() || recipe.name.contains(['/', '\\']) || recipe.name.starts_with('.') {
        return wrong("name", format!("'{}' cannot name a folder", recipe.name));
    }
    let counts = [
        ("data.batch_size", Some(recipe.data.batch_size)),
        ("train.epochs", Some(train.epochs)),
        ("train.accumulate", Some(train.accumulate)),
        ("train.global_batch", train.global_batch),
        ("train.early_stopping.patience", train.early_stopping.as_ref().map(|stopping| stopping.patience)),
    ];
    if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == Some(0)) {
        return wrong(key, "must be at least 1, found 0".into());
    }
    let positive = [("train.clip_grad_norm", train.clip_grad_norm), ("train.clip_grad_value", train.clip_grad_value)];
    for (key, value) in positive {
        if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
            return wrong(key, format!("must be positive, found {value}"));
        }
    }
    if let Some(items) = train.global_batch.filter(|items| !items.is_multiple_of(train.accumulate)) {
        return wrong(
            "train.global_batch",
            format!("{items} items cannot be divided into train.accumulate = {} batches", train.accumulate),
        );
    }
    if train.clip_grad_norm.is_some() && train.clip_grad_value.is_some() {
        return wrong("train.clip_grad_value", "cannot be used together with clip_grad_norm".into());
    }
    for pattern in &train.freeze {
        if let Err(error) = regex::Regex::new(pattern) {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            return wrong("train.freeze", format!("'{pattern}' is not a regular expression: {reason}"));
        }
    }
    if let Err((key, problem)) = recipe.checkpoint.check() {
        return wrong(&format!("checkpoint.{key}"), problem);
    }
    let architecture = architecture(registry, recipe).map_err(|error| model_error(&error, source))?;
    let kind = architecture.task().kind();
    let metrics = tasks::metric_names();
    let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
    let monitors = train.early_stopping.as_ref().map(|stopping| ("train.early_stopping.monitor", &stopping.monitor));
    let monitors = monitors.into_iter().chain([("checkpoint.monitor", &recipe.checkpoint.monitor)]);
    let followed = recipe.scheduler.monitor().map(|monitor| ("scheduler.monitor", monitor));
    for (key, monitor) in monitors.map(|(key, monitor)| (key, monitor.as_str())).chain(followed) {
        if !metrics.contains(&monitor) {
            return wrong(
                key,
                format!("unknown metric '{monitor}'{}", crate::error::nearest_or_list(monitor, &metrics)),
            );
        }
        let (gives, own) = (kind.gives, kind.metric.name);
        let measures = |metric: &str| monitor.rsplit('.').next() == Some(metric);
        if let Some(other) =
            tasks::KINDS.iter().map(|kind| kind.metric.name).find(|name| *name != own && measures(name))
        {
            let problem = format!("a model that gives {gives} has no {other}: use valid.loss or valid.{own}");
            return wrong(key, problem);
        }
    }
    Ok(())
}

/// A network's error with the line of the key that it is about.
fn model_error(error: &ModelError, source: &Source<'_>) -> RecipeError {
    let place = |key: &str| source.place_of(&["model", key]);
    match error {
        ModelError::Key { name, key, problem } => {
            RecipeError::Key { place: place(key), problem: format!("model '{name}': key '{key}': {problem}") }
        }
        ModelError::UnknownKey { key, .. } => RecipeError::Key { place: place(key), problem: error.to_string() },
        other => RecipeError::Key { place: source.place_of(&["model", "name"]), problem: other.to_string() },
    }
}
