//! What is in a PyTorch user's checkpoint beside the weights, under whatever names.

use rekindle_state::{StateDict, Value};

use crate::checkpoint::EarlyState;
use crate::optim::scalar;

/// Something that was found, and where.
#[derive(Debug, Clone)]
pub(super) struct Piece<T> {
    /// The path from the root, joined by `/`.
    pub(super) key: String,
    pub(super) value: T,
}

/// Everything that can be used of a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Pieces<'a> {
    pub(super) optimizers: Vec<Piece<&'a StateDict>>,
    pub(super) schedulers: Vec<Piece<&'a StateDict>>,
    pub(super) epoch: Option<Piece<u64>>,
    pub(super) step: Option<Piece<u64>>,
    /// Batches done in an epoch under way: only our own exports have this.
    pub(super) batch: Option<Piece<u64>>,
    /// Metrics under our names.
    pub(super) metrics: Vec<(String, Piece<f64>)>,
    /// Best values so far, by the metric's name.
    pub(super) best: Vec<(String, Piece<f64>)>,
    pub(super) early: Option<Piece<EarlyState>>,
    /// Whether PyTorch Lightning wrote it, which numbers epochs from 0.
    pub(super) lightning: bool,
}

const EPOCHS: [&str; 4] = ["epoch", "epochs", "current_epoch", "start_epoch"];
const STEPS: [&str; 7] = ["global_step", "step", "steps", "iteration", "iter", "iterations", "num_updates"];
const METRICS: [(&str, &str); 15] = [
    ("loss", "train.loss"),
    ("train_loss", "train.loss"),
    ("train_acc", "train.accuracy"),
    ("train_accuracy", "train.accuracy"),
    ("val_loss", "valid.loss"),
    ("valid_loss", "valid.loss"),
    ("test_loss", "valid.loss"),
    ("acc", "valid.accuracy"),
    ("acc1", "valid.accuracy"),
    ("accuracy", "valid.accuracy"),
    ("val_acc", "valid.accuracy"),
    ("val_accuracy", "valid.accuracy"),
    ("test_acc", "valid.accuracy"),
    ("psnr", "valid.psnr"),
    ("val_psnr", "valid.psnr"),
];
const BESTS: [(&str, &str); 15] = [
    ("best_acc1", "valid.accuracy"),
    ("best_acc", "valid.accuracy"),
    ("best_accuracy", "valid.accuracy"),
    ("best_prec1", "valid.accuracy"),
    ("best_top1", "valid.accuracy"),
    ("best_val_acc", "valid.accuracy"),
    ("best_val_accuracy", "valid.accuracy"),
    ("best_psnr", "valid.psnr"),
    ("best_loss", "valid.loss"),
    ("best_val_loss", "valid.loss"),
    ("best_valid_loss", "valid.loss"),
    ("valid_loss_min", "valid.loss"),
    ("val_loss_min", "valid.loss"),
    ("min_val_loss", "valid.loss"),
    ("min_loss", "valid.loss"),
];
/// How deep optimizers and schedulers are looked for.
const MAX_DEPTH: usize = 4;

impl<'a> Pieces<'a> {
    /// Looks through a file's tree.
    pub(super) fn find(root: &'a Value) -> Self {
        let mut pieces = Self::default();
        pieces.search(root, &mut String::new(), 0);
        let Some(dict) = root.as_dict() else { return pieces };
        pieces.lightning = dict.get("pytorch-lightning_version").is_some();
        pieces.epoch = first(dict, &EPOCHS);
        pieces.step = first(dict, &STEPS);
        pieces.batch = first(dict, &["batch"]);
        for (key, metric) in METRICS {
            pieces.metrics.extend(number(dict, key).map(|piece| (metric.to_string(), fraction(metric, piece))));
        }
        for (key, metric) in BESTS {
            pieces.best.extend(number(dict, key).map(|piece| (metric.to_string(), fraction(metric, piece))));
        }
        pieces.own(dict);
        if let Some(callbacks) = dict.dict("callbacks") {
            callbacks.iter().for_each(|(name, state)| pieces.callback(&name.text(), state));
        }
        pieces
    }

    /// What our own export writes: metrics and the best value under our names, and early stopping.
    fn own(&mut self, dict: &StateDict) {
        if let Some(early) = dict.dict("early_stopping")
            && let (Some(best), Some(bad)) =
                (early.get("best").and_then(scalar), early.get("bad_epochs").and_then(Value::as_int))
        {
            let value = EarlyState { best, bad_epochs: usize::try_from(bad).unwrap_or_default() };
            self.early = Some(Piece { key: "early_stopping".to_string(), value });
        }
        for (place, known) in
            crate::tasks::metric_names().into_iter().flat_map(|name| [("metrics", name.clone()), ("best", name)])
        {
            let Some(piece) = dict.dict(place).and_then(|values| number(values, &known)) else { continue };
            let piece = Piece { key: format!("{place}/{known}"), value: piece.value };
            match place {
                "metrics" => self.metrics.push((known, piece)),
                _ => self.best.push((known, piece)),
            }
        }
    }

    /// The state of one of Lightning's callbacks: the best score, and how long nothing has been better.
    fn callback(&mut self, name: &str, state: &Value) {
        let Some(state) = state.as_dict() else { return };
        let key = || format!("callbacks/{}", name.split('{').next().unwrap_or_default());
        let score = |key: &str| state.get(key).and_then(scalar);
        if name.starts_with("ModelCheckpoint") {
            let metric = state.get("monitor").and_then(Value::as_str).and_then(known_metric);
            if let (Some(metric), Some(value)) = (metric, score("best_model_score")) {
                self.best.push((metric.to_string(), Piece { key: key(), value }));
            }
        } else if name.starts_with("EarlyStopping")
            && let (Some(best), Some(bad)) = (score("best_score"), state.get("wait_count").and_then(Value::as_int))
        {
            let value = EarlyState { best, bad_epochs: usize::try_from(bad).unwrap_or_default() };
            self.early = Some(Piece { key: key(), value });
        }
    }

    /// Collects the states of optimizers and schedulers anywhere near the root.
    fn search(&mut self, value: &'a Value, path: &mut String, depth: usize) {
        let mut each = |name: &str, value: &'a Value| {
            let length = path.len();
            if length > 0 {
                path.push('/');
            }
            path.push_str(name);
            self.search(value, path, depth + 1);
            path.truncate(length);
        };
        match value {
            Value::Dict(dict) if dict.get("param_groups").is_some() && dict.get("state").is_some() => {
                self.optimizers.push(Piece { key: path.clone(), value: dict });
            }
            // A scheduler of schedulers is one.
            Value::Dict(dict)
                if dict.get("last_epoch").is_some() && (dict.get("_last_lr").or(dict.get("base_lrs"))).is_some() =>
            {
                self.schedulers.push(Piece { key: path.clone(), value: dict });
            }
            Value::Dict(dict) if depth < MAX_DEPTH => dict.iter().for_each(|(key, value)| each(&key.text(), value)),
            Value::List(items) | Value::Tuple(items) if depth < MAX_DEPTH => {
                items.iter().take(64).enumerate().for_each(|(place, value)| each(&place.to_string(), value));
            }
            _ => {}
        }
    }
}

/// The metric that a name which a user gave means.
fn known_metric(name: &str) -> Option<&'static str> {
    let name = name.replace('/', "_");
    METRICS.iter().find(|(known, _)| *known == name).map(|(_, metric)| *metric)
}

fn number(dict: &StateDict, key: &str) -> Option<Piece<f64>> {
    dict.get(key).and_then(scalar).filter(|value| value.is_finite()).map(|value| Piece { key: key.to_string(), value })
}

/// The first of some keys that holds a whole number.
fn first(dict: &StateDict, keys: &[&str]) -> Option<Piece<u64>> {
    let whole = |key: &&str| {
        let value = number(dict, key)?.value;
        (value >= 0.0 && value.fract() == 0.0).then_some(Piece { key: (*key).to_string(), value: value as u64 })
    };
    keys.iter().find_map(whole)
}

/// An accuracy as a share: PyTorch's examples keep percent.
fn fraction(metric: &str, mut piece: Piece<f64>) -> Piece<f64> {
    if metric.ends_with("accuracy") && piece.value > 1.0 {
        piece.value /= 100.0;
    }
    piece
}
