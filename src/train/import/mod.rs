//! A PyTorch user's checkpoint becomes a run that goes on where it stopped.
//!
//! As in PyTorch, what `load_state_dict` restores goes on: weights, the optimizer's state with its hyper-parameters and learning
//! rates, and the schedule's. They take the place of the recipe's values in the run; what differed is told.

mod pieces;
mod progress;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use burn::module::Module;
use burn::tensor::Device;
use rekindle_state::{StateDict, Value};

use self::pieces::{Piece, Pieces};
use self::progress::Hints;
use super::plan::Parts;
use super::recipe::{Loaded, Mode};
use super::restore::{fresh, trained_parameters};
use super::{Plan, Position, Recipe, TrainError};
use crate::checkpoint::{Best, Checkpoint, EpochSums, FILES, FORMAT, Manifest, Run, RunWriter, Scratch};
use crate::data::Split;
use crate::models::import::{ImportOptions, Report, import as import_weights};
use crate::models::{ModelError, Network, Registry};
use crate::optim::{
    self, Group, OptimError, ParameterInfo, Plateau, PlateauState, Restored, SchedulerConfig, scalar, scheduler_class,
};

/// A checkpoint that became a run.
#[derive(Debug)]
pub struct Imported {
    /// The run.
    pub run: Run,
    /// Its one checkpoint.
    pub checkpoint: Checkpoint,
    /// How far training has come.
    pub position: Position,
    /// Epochs that the recipe trains in all.
    pub epochs: usize,
    /// The file's keys, with what each of them became.
    pub taken: Vec<(String, String)>,
    /// Keys of the file that were not used.
    pub ignored: Vec<(String, String)>,
    /// Where the recipe has another value than the file, whose value goes on.
    pub differences: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Makes a run directory of a PyTorch checkpoint, of any of the usual forms, and of weights alone.
///
/// # Errors
/// When the file cannot be read, its weights or its optimizer's state do not fit the recipe, or a run is in the folder already.
pub fn import(registry: &Registry, file: &Path, loaded: Loaded, dir: &Path) -> Result<Imported, TrainError> {
    let Loaded { mut recipe, base, place } = loaded;
    recipe.anchor(&base);
    let plan = Plan::new(registry, recipe, &place)?;
    let content = rekindle_state::open(file)?.content;
    let pieces = Pieces::find(&content.root);
    let mut import = Import {
        file: file.to_path_buf(),
        plan,
        taken: Vec::new(),
        batches: None,
        used: Vec::new(),
        differences: Vec::new(),
        notes: Vec::new(),
        plateau: None,
    };
    import.run(&content.root, &pieces, dir)
}

/// An import under way.
struct Import {
    file: PathBuf,
    plan: Plan,
    taken: Vec<(String, String)>,
    /// Batches of an epoch of the recipe's data, where it is here.
    batches: Option<usize>,
    /// Paths of the file that were used.
    used: Vec<String>,
    differences: Vec<String>,
    notes: Vec<String>,
    /// What the file's schedule has seen of the metric that it follows.
    plateau: Option<PlateauState>,
}

impl Import {
    fn run(&mut self, root: &Value, pieces: &Pieces<'_>, dir: &Path) -> Result<Imported, TrainError> {
        let network = self.weights()?;
        let parameters = trained_parameters(&network);
        self.open_data();
        let restored = self.optimizer(pieces, &parameters)?;
        let count = match &restored {
            Some(restored) => self.settings(pieces, restored, &parameters)?,
            None => None,
        };
        let steps = |scheduler: &Piece<&StateDict>| scheduler.value.get("last_epoch").and_then(Value::as_int);
        let other_schedule = pieces.schedulers.first().filter(|_| count.is_none()).and_then(steps);
        let hints = Hints {
            schedule: count,
            other_schedule: other_schedule.and_then(|count| u64::try_from(count).ok()),
            per: self.plan.recipe.scheduler.per,
            updates: restored.as_ref().and_then(|_| updates(pieces)),
            batches: self.batches.map(|batches| batches as u64),
        };
        let (at, how) = progress::position(pieces, &hints);
        self.counted(pieces, &at, count, how);

        let cpu = Device::flex();
        let batches = self.batches.unwrap_or(1);
        let calls = at.calls(self.plan.recipe.scheduler.per, batches);
        let Parts { network, optimizer, scheduler } = self.plan.parts(network, calls, at.lowered, batches, &cpu)?;
        let optimizer = match restored {
            Some(restored) => optimizer.load_record(restored.record),
            None => optimizer,
        };
        let mut manifest = self.manifest(at);
        self.scores(pieces, &mut manifest);
        let record = |error: burn::store::RecordError| OptimError::from(error);
        let model = network.into_record().into_bytes().map_err(record)?;
        let optimizer = optimizer.to_record().into_bytes().map_err(record)?;
        let scheduler = scheduler.to_record().into_bytes().map_err(record)?;

        // Last, so that what cannot be imported leaves no folder behind.
        let text = toml::to_string(&self.plan.recipe)
            .map_err(|error| self.plan.mismatch(format!("it cannot be written: {error}")))?;
        let writer = Arc::new(RunWriter::create(dir, &text)?);
        let is_best = manifest.best.is_some();
        let scratch = Scratch::new(writer.clone(), manifest.step)?;
        for (name, bytes) in FILES.into_iter().zip([model, optimizer, scheduler]) {
            scratch.write(name, &bytes)?;
        }
        let checkpoint = scratch.publish(manifest)?;
        writer.point("last", &checkpoint)?;
        if is_best {
            writer.point("best", &checkpoint)?;
        }
        Ok(Imported {
            run: writer.run().clone(),
            checkpoint,
            position: at,
            epochs: self.plan.recipe.train.epochs,
            ignored: self.ignored(root),
            taken: std::mem::take(&mut self.taken),
            differences: std::mem::take(&mut self.differences),
            notes: std::mem::take(&mut self.notes),
        })
    }

    /// An error of the file.
    fn refuse(&self, problem: impl std::fmt::Display) -> TrainError {
        TrainError::Mismatch { place: self.file.display().to_string(), problem: problem.to_string() }
    }

    fn take(&mut self, key: &str, became: String) {
        self.used.push(key.to_string());
        let shown = if key.is_empty() { "(the whole file)" } else { key };
        self.taken.push((shown.to_string(), became));
    }

    /// The recipe's network with the file's weights, all of them.
    fn weights(&mut self) -> Result<Network, TrainError> {
        let network = fresh(&self.plan.architecture, self.plan.recipe.train.seed);
        let options = ImportOptions { partial: true, ..ImportOptions::default() };
        let misfit = |report: &dyn std::fmt::Display| {
            self.refuse(format!(
                "its weights are not those of the recipe's model, '{}': correct [model]\n{report}",
                self.plan.recipe.model.name
            ))
        };
        let (network, Report { matching, notes, .. }) = match import_weights(network, &self.file, &options) {
            Ok((_, report)) if !fits(&report) => return Err(misfit(&report)),
            Ok(found) => found,
            Err(ModelError::Weights { table }) => return Err(misfit(&table)),
            Err(error) => return Err(error.into()),
        };
        self.notes.extend(matching.helps.iter().cloned());
        self.notes.extend(notes);
        if !matching.unused.is_empty() {
            self.notes.push(format!("not used, as they belong to another module: {}", matching.unused.join(", ")));
        }
        let became =
            format!("all {} parameters and buffers of {}", matching.matched.len(), self.plan.recipe.model.name);
        self.take(&matching.path, became);
        Ok(network)
    }

    /// Opens the recipe's data, to know how many batches an epoch has.
    fn open_data(&mut self) {
        match self.plan.loader(Split::Train, &Device::flex()) {
            Ok(loader) => self.batches = Some(loader.num_batches()),
            Err(error) => {
                self.notes.push(format!(
                    "the recipe's data cannot be used yet, so that steps and epochs are not compared: {error}"
                ));
            }
        }
    }

    /// The state of the file's optimizer, if it has one.
    fn optimizer(&mut self, pieces: &Pieces<'_>, parameters: &[ParameterInfo]) -> Result<Option<Restored>, TrainError> {
        let Piece { key, value: dict } = match pieces.optimizers.as_slice() {
            [] => {
                self.notes.push("the file has no optimizer's state: the recipe's optimizer starts anew".to_string());
                return Ok(None);
            }
            [one] => one,
            several => {
                let keys: Vec<&str> = several.iter().map(|piece| piece.key.as_str()).collect();
                return Err(self.refuse(format!(
                    "it has the states of {} optimizers ({}), a run has one: start from the weights alone with `rekindle train RECIPE --init FILE`",
                    several.len(),
                    keys.join(", ")
                )));
            }
        };
        let restored = self.restore(dict, parameters).map_err(|error| self.refuse(format!("{key}: {error}")))?;
        let states = dict.dict("state").map_or(0, StateDict::len);
        let name = restored.groups.first().map_or("", |group| group.rule.torch_name());
        let states = counted(states as u64, "parameter");
        let groups = counted(restored.groups.len() as u64, "group");
        self.take(key, format!("{name}: state of {states} in {groups}"));
        Ok(Some(restored))
    }

    /// Reads the optimizer's state for the recipe's groups, or for these without their frozen parameters: PyTorch users give an
    /// optimizer either all parameters or those that move.
    fn restore(&self, dict: &StateDict, parameters: &[ParameterInfo]) -> Result<Restored, OptimError> {
        let all = self.plan.recipe.optimizer.resolve(parameters)?;
        let refused = match optim::from_state_dict(dict, parameters, &all) {
            Err(error) if !self.plan.recipe.train.freeze.is_empty() => error,
            other => return other,
        };
        let frozen: Vec<bool> = parameters.iter().map(|parameter| self.plan.is_frozen(&parameter.name)).collect();
        let moving = all.iter().map(|group| {
            let members = group.members.iter().copied().filter(|&member| !frozen[member]).collect();
            Group { members, ..group.clone() }
        });
        let moving: Vec<Group> = moving.collect();
        let held: Vec<Group> = moving.iter().filter(|group| !group.members.is_empty()).cloned().collect();
        let mut restored = optim::from_state_dict(dict, parameters, &held).map_err(|_| refused)?;
        // Groups of frozen parameters alone keep the recipe's settings.
        let mut found = restored.groups.into_iter();
        restored.groups =
            moving
                .iter()
                .map(|group| {
                    if group.members.is_empty() { group.clone() } else { found.next().unwrap_or_else(|| group.clone()) }
                })
                .collect();
        Ok(restored)
    }

    /// Puts the checkpoint's hyper-parameters and schedule into the recipe; gives how often the schedule was stepped.
    fn settings(
        &mut self,
        pieces: &Pieces<'_>,
        restored: &Restored,
        parameters: &[ParameterInfo],
    ) -> Result<Option<u64>, TrainError> {
        let schedule = self.schedule(pieces)?;
        let mut groups = restored.groups.clone();
        let expected = self.plan.recipe.optimizer.resolve(parameters)?;
        let scheduler = &self.plan.recipe.scheduler;
        let constant = scheduler.is_constant() || scheduler.curve.is_measured();
        // The file knows nothing of groups whose parameters are all frozen.
        let mut bases = schedule.iter().flat_map(|(_, base_lrs)| base_lrs);
        for group in groups.iter_mut().filter(|group| !group.members.is_empty()) {
            let base = bases.next().copied();
            // Without a schedule the rate stays where the checkpoint's has come to; one that follows a metric goes on from there.
            group.lr = base.unwrap_or(if constant { group.lr } else { group.base_lr() });
            group.initial_lr = None;
        }
        for (place, (found, expected)) in groups.iter().zip(&expected).enumerate() {
            if found.lr != expected.lr {
                self.differences.push(format!(
                    "optimizer group {place}: lr is {} in the file, {} in the recipe",
                    found.lr, expected.lr
                ));
            }
        }
        let others = restored.differences.iter().filter(|difference| difference.key != "lr");
        self.differences.extend(others.map(|difference| {
            let optim::Difference { group, key, expected, found } = difference;
            format!("optimizer group {group}: {key} is {found} in the file, {expected} in the recipe")
        }));
        self.plan.recipe.optimizer = self.plan.recipe.optimizer.adopt(&groups);
        Ok(schedule.as_ref().map(|(count, _)| *count))
    }

    /// The file's schedule, if it is of the recipe's kind: its count of steps and base rates. Its arguments go into the recipe.
    fn schedule(&mut self, pieces: &Pieces<'_>) -> Result<Option<(u64, Vec<f64>)>, TrainError> {
        let config = self.plan.recipe.scheduler.clone();
        let Some(Piece { key, value: dict }) = pieces.schedulers.first() else {
            if !config.is_constant() {
                self.notes.push(format!(
                    "the file has no scheduler's state: the recipe's {} schedule goes on from its place there",
                    config.name()
                ));
            }
            return Ok(None);
        };
        let class = scheduler_class(dict);
        let found = SchedulerConfig::from_state_dict(dict);
        let Some(found) = found.as_ref().filter(|found| found.is_like(&config)) else {
            let instead = if config.is_constant() {
                "the learning rate stays as it is in the file".to_string()
            } else {
                format!("the recipe's {} schedule is used", config.name())
            };
            let hint = match &found {
                Some(found) => format!("; to go on with it, give the recipe [scheduler] {}", inline(found)),
                None => "; it is not continued, since there is no such schedule here".to_string(),
            };
            self.notes.push(format!("{key}: {class} is not the recipe's schedule: {instead}{hint}"));
            return Ok(None);
        };
        let epochs = self.plan.recipe.train.epochs as u64;
        let batches = self.batches.unwrap_or(1) as u64;
        let restored = config
            .resolve(epochs, batches)
            .from_state_dict(dict)
            .map_err(|error| self.refuse(format!("{key}: {error}")))?;
        // A rate that only follows from another argument is no difference of its own.
        let differences = restored.differences.iter().map(|difference| {
            let optim::ScheduleDifference { argument, found, expected } = difference;
            format!("{argument} is {found} in the file, {expected} in the recipe")
        });
        let differences: Vec<String> = differences.collect();
        if !differences.is_empty() || found.curve.is_measured() {
            self.plan.recipe.scheduler =
                SchedulerConfig { per: config.per, monitor: config.monitor.clone(), ..found.clone() };
        }
        self.differences.extend(differences);
        self.followed(key, dict, config.monitor());
        let class = if found.warmup.is_some() { "SequentialLR" } else { class };
        self.take(key, format!("{class} after {}", counted(restored.count, "step")));
        Ok(Some((restored.count, restored.base_lrs)))
    }

    /// Takes what a schedule that follows a metric has seen of it.
    fn followed(&mut self, key: &str, dict: &StateDict, monitor: Option<&str>) {
        let Some((monitor, (seen, falls))) = monitor.zip(Plateau::seen(dict)) else { return };
        if falls == (Mode::of(monitor) == Mode::Min) {
            self.plateau = Some(seen);
        } else {
            let mode = if falls { "min" } else { "max" };
            self.notes.push(format!(
                "{key}: its mode is '{mode}', which is not that of {monitor}: the metric is followed anew"
            ));
        }
    }

    /// Notes what the counts of the file mean.
    fn counted(&mut self, pieces: &Pieces<'_>, at: &Position, schedule: Option<u64>, how: String) {
        if let Some(Piece { key, value }) = &pieces.epoch {
            self.take(key, format!("{value}: {} done", counted(at.epoch as u64, "epoch")));
        }
        if let Some(Piece { key, value }) = &pieces.step {
            self.take(key, counted(*value, "optimizer step"));
        }
        if let Some(Piece { key, value }) = &pieces.batch {
            self.take(key, format!("{} of the epoch under way", counted(*value, "batch")));
        }
        self.notes.push(how);
        let per = self.plan.recipe.scheduler.per;
        let goes_on = if per == optim::Per::Epoch { at.epoch as u64 } else { at.step };
        if let Some(count) = schedule.filter(|&count| count != goes_on) {
            self.notes
                .push(format!("the file's scheduler was stepped {count} times; the schedule goes on after {goes_on}, with the training"));
        }
    }

    fn manifest(&self, at: Position) -> Manifest {
        Manifest {
            format: FORMAT,
            program: format!(
                "{}, imported from {}",
                concat!("rekindle ", env!("CARGO_PKG_VERSION")),
                self.file.display()
            ),
            burn: crate::BURN_VERSION.to_string(),
            written: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            save: 0,
            device: "PyTorch".to_string(),
            step: at.step,
            epoch: at.epoch,
            batch: at.batch,
            batches: self.batches.unwrap_or(0),
            ranks: 1,
            seed: self.plan.recipe.train.seed,
            metrics: Default::default(),
            sums: EpochSums::default(),
            best: None,
            early_stopping: None,
            plateau: self.plateau.clone(),
            recipe: serde_json::json!(self.plan.recipe),
            files: Default::default(),
        }
    }

    /// Metrics, the best value so far, and the patience of early stopping.
    fn scores(&mut self, pieces: &Pieces<'_>, manifest: &mut Manifest) {
        for (metric, Piece { key, value }) in &pieces.metrics {
            manifest.metrics.insert(metric.clone(), *value);
            self.take(key, format!("{metric} = {value}"));
        }
        let Recipe { checkpoint, train, .. } = self.plan.recipe.clone();
        for (metric, Piece { key, value }) in &pieces.best {
            if *metric == checkpoint.monitor && manifest.best.is_none() {
                manifest.best = Some(Best { metric: metric.clone(), value: *value, step: manifest.step });
                self.take(key, format!("best {metric} so far = {value}"));
            } else {
                self.notes.push(format!("{key} is not used: the recipe keeps the best by {}", checkpoint.monitor));
            }
        }
        if let (Some(Piece { key, value }), true) = (&pieces.early, train.early_stopping.is_some()) {
            manifest.early_stopping = Some(value.clone());
            self.take(
                key,
                format!(
                    "early stopping: {} without improvement on {}",
                    counted(value.bad_epochs as u64, "epoch"),
                    value.best
                ),
            );
        }
    }

    /// Keys of the root under which nothing was used, with what is there.
    fn ignored(&self, root: &Value) -> Vec<(String, String)> {
        let Some(dict) = root.as_dict().filter(|_| !self.used.iter().any(String::is_empty)) else { return Vec::new() };
        let is_used = |key: &str| {
            self.used.iter().any(|used| used == key || used.strip_prefix(key).is_some_and(|rest| rest.starts_with('/')))
        };
        let rest = dict.iter().filter(|(key, _)| !is_used(&key.text()));
        rest.map(|(key, value)| (key.text().into_owned(), describe(value))).collect()
    }
}

/// Whether the model has everything, and what is left over belongs to something beside it.
fn fits(report: &Report) -> bool {
    let matching = &report.matching;
    if !matching.missing.is_empty() || !matching.shape_differs.is_empty() {
        return false;
    }
    let prefix = matching
        .matched
        .first()
        .and_then(|matched| matched.file_name.strip_suffix(matched.name.as_str()))
        .unwrap_or_default();
    matching.unused.iter().all(|name| !name.starts_with(prefix))
}

/// The largest count of updates of any parameter.
fn updates(pieces: &Pieces<'_>) -> Option<u64> {
    let states = pieces.optimizers.first()?.value.dict("state")?;
    let steps = states.iter().filter_map(|(_, state)| state.as_dict()?.get("step").and_then(scalar));
    steps.filter(|step| *step >= 0.0 && step.fract() == 0.0).map(|step| step as u64).max()
}

/// A schedule as one line of TOML keys.
fn inline(config: &SchedulerConfig) -> String {
    let text = toml::to_string(config).unwrap_or_default();
    text.lines().filter(|line| !line.starts_with("per")).collect::<Vec<_>>().join(", ")
}

/// A number of things.
fn counted(count: u64, what: &str) -> String {
    let plural = match what {
        _ if count == 1 => "",
        "batch" => "es",
        _ => "s",
    };
    format!("{count} {what}{plural}")
}

/// A value in a few words.
fn describe(value: &Value) -> String {
    match value {
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
            scalar(value).map_or_else(|| "a truth value".to_string(), |number| number.to_string())
        }
        Value::Str(text) => format!("'{}'", text.chars().take(60).collect::<String>()),
        Value::Dict(dict) => format!("a dictionary of {}", counted(dict.len() as u64, "value")),
        Value::List(items) | Value::Tuple(items) => {
            format!("a {} of {}", value.type_name(), counted(items.len() as u64, "value"))
        }
        Value::Object(object) => format!("an instance of {}", object.class),
        Value::Tensor(tensor) => format!("a tensor of shape {}", rekindle_state::show_shape(tensor.shape())),
        other => format!("a {}", other.type_name()),
    }
}
