//! Update rules with their hyper-parameters, defaults and limits: those of `torch.optim`.

use serde::{Deserialize, Serialize};

use super::OptimError;
use super::error::config;
use super::state::Buffer;

/// `torch.optim.SGD` without its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Sgd {
    /// Share of the former velocity that is kept; 0 for none.
    pub momentum: f64,
    /// Share of each gradient, from the second update on, that does not enter the velocity.
    pub dampening: f64,
    /// Factor of the L2 penalty that is added to the gradient.
    pub weight_decay: f64,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, maximize: false }
    }
}

/// `torch.optim.Adam` and, with `decoupled`, `torch.optim.AdamW`, without the learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// Decay rates of the two running means.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Factor of the weight decay.
    pub weight_decay: f64,
    /// Divide by the largest mean of squares so far.
    pub amsgrad: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
    /// AdamW: weights decay by themselves, apart from the gradient.
    pub decoupled: bool,
}

impl Adam {
    /// PyTorch's defaults of Adam, or of AdamW when `decoupled`.
    pub fn new(decoupled: bool) -> Self {
        let weight_decay = if decoupled { 1e-2 } else { 0.0 };
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay, amsgrad: false, maximize: false, decoupled }
    }
}

/// `torch.optim.RMSprop` without its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct RmsProp {
    /// Decay rate of the running mean of squares.
    pub alpha: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Factor of the L2 penalty that is added to the gradient.
    pub weight_decay: f64,
    /// Share of the former velocity that is kept; 0 for none.
    pub momentum: f64,
    /// Divide by an estimate of the variance instead of the mean of squares.
    pub centered: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false, maximize: false }
    }
}

/// How a parameter moves with its gradient.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam and AdamW.
    Adam(Adam),
    /// RMSprop.
    RmsProp(RmsProp),
}

/// Hyper-parameters as somebody gave them, under PyTorch's keys: those that are absent keep their value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys of torch.optim, described with the rules")]
pub struct Settings {
    pub lr: Option<f64>,
    pub betas: Option<[f64; 2]>,
    pub eps: Option<f64>,
    pub alpha: Option<f64>,
    pub momentum: Option<f64>,
    pub dampening: Option<f64>,
    pub weight_decay: Option<f64>,
    pub nesterov: Option<bool>,
    pub centered: Option<bool>,
    pub amsgrad: Option<bool>,
    pub maximize: Option<bool>,
}

impl Settings {
    /// These settings without those that `common` has with the same value.
    pub(super) fn without(mut self, common: &Self) -> Self {
        fn forget<T: PartialEq>(slot: &mut Option<T>, common: &Option<T>) {
            if slot == common {
                *slot = None;
            }
        }
        forget(&mut self.lr, &common.lr);
        forget(&mut self.betas, &common.betas);
        forget(&mut self.eps, &common.eps);
        forget(&mut self.alpha, &common.alpha);
        forget(&mut self.momentum, &common.momentum);
        forget(&mut self.dampening, &common.dampening);
        forget(&mut self.weight_decay, &common.weight_decay);
        forget(&mut self.nesterov, &common.nesterov);
        forget(&mut self.centered, &common.centered);
        forget(&mut self.amsgrad, &common.amsgrad);
        forget(&mut self.maximize, &common.maximize);
        self
    }

    /// The first key that has a value.
    fn first(&self) -> Option<&'static str> {
        let set = [
            ("lr", self.lr.is_some()),
            ("betas", self.betas.is_some()),
            ("eps", self.eps.is_some()),
            ("alpha", self.alpha.is_some()),
            ("momentum", self.momentum.is_some()),
            ("dampening", self.dampening.is_some()),
            ("weight_decay", self.weight_decay.is_some()),
            ("nesterov", self.nesterov.is_some()),
            ("centered", self.centered.is_some()),
            ("amsgrad", self.amsgrad.is_some()),
            ("maximize", self.maximize.is_some()),
        ];
        set.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
    }
}

impl Rule {
    /// The names that a configuration may use.
    pub const NAMES: [&'static str; 4] = ["sgd", "adam", "adamw", "rmsprop"];

    /// A rule with PyTorch's defaults, and PyTorch's default learning rate for it.
    ///
    /// # Errors
    /// When no rule has this name.
    pub fn named(name: &str) -> Result<(f64, Self), OptimError> {
        match name {
            "sgd" => Ok((1e-3, Self::Sgd(Sgd::default()))),
            "adam" => Ok((1e-3, Self::Adam(Adam::new(false)))),
            "adamw" => Ok((1e-3, Self::Adam(Adam::new(true)))),
            "rmsprop" => Ok((1e-2, Self::RmsProp(RmsProp::default()))),
            _ => config(format!("unknown optimizer '{name}': expected one of {}", Self::NAMES.join(", "))),
        }
    }

    /// The name in a configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd(_) => "sgd",
            Self::Adam(adam) if adam.decoupled => "adamw",
            Self::Adam(_) => "adam",
            Self::RmsProp(_) => "rmsprop",
        }
    }

    /// The name of the class in `torch.optim`.
    pub fn torch_name(&self) -> &'static str {
        match self {
            Self::Sgd(_) => "SGD",
            Self::Adam(adam) if adam.decoupled => "AdamW",
            Self::Adam(_) => "Adam",
            Self::RmsProp(_) => "RMSprop",
        }
    }

    /// The keys that this rule knows.
    fn keys(&self) -> &'static str {
        match self {
            Self::Sgd(_) => "lr, momentum, dampening, weight_decay, nesterov, maximize",
            Self::Adam(_) => "lr, betas, eps, weight_decay, amsgrad, maximize",
            Self::RmsProp(_) => "lr, alpha, eps, weight_decay, momentum, centered, maximize",
        }
    }

    /// This rule and learning rate with some settings changed.
    ///
    /// # Errors
    /// When a setting does not belong to the rule, or a value is one that PyTorch refuses.
    pub fn with(&self, lr: f64, settings: &Settings) -> Result<(f64, Self), OptimError> {
        let mut lr = lr;
        let mut rest = settings.clone();
        let mut rule = self.clone();
        set(&mut lr, &mut rest.lr);
        match &mut rule {
            Self::Sgd(sgd) => {
                set(&mut sgd.momentum, &mut rest.momentum);
                set(&mut sgd.dampening, &mut rest.dampening);
                set(&mut sgd.weight_decay, &mut rest.weight_decay);
                set(&mut sgd.nesterov, &mut rest.nesterov);
                set(&mut sgd.maximize, &mut rest.maximize);
            }
            Self::Adam(adam) => {
                set(&mut adam.betas, &mut rest.betas);
                set(&mut adam.eps, &mut rest.eps);
                set(&mut adam.weight_decay, &mut rest.weight_decay);
                set(&mut adam.amsgrad, &mut rest.amsgrad);
                set(&mut adam.maximize, &mut rest.maximize);
            }
            Self::RmsProp(rms) => {
                set(&mut rms.alpha, &mut rest.alpha);
                set(&mut rms.eps, &mut rest.eps);
                set(&mut rms.weight_decay, &mut rest.weight_decay);
                set(&mut rms.momentum, &mut rest.momentum);
                set(&mut rms.centered, &mut rest.centered);
                set(&mut rms.maximize, &mut rest.maximize);
            }
        }
        if let Some(key) = rest.first() {
            return config(format!("optimizer '{}' has no setting '{key}': it knows {}", self.name(), self.keys()));
        }
        rule.check(lr)?;
        Ok((lr, rule))
    }

    /// Every setting of this rule with its value.
    pub fn settings(&self, lr: f64) -> Settings {
        let lr = Some(lr);
        match self {
            Self::Sgd(sgd) => Settings {
                lr,
                momentum: Some(sgd.momentum),
                dampening: Some(sgd.dampening),
                weight_decay: Some(sgd.weight_decay),
                nesterov: Some(sgd.nesterov),
                maximize: Some(sgd.maximize),
                ..Settings::default()
            },
            Self::Adam(adam) => Settings {
                lr,
                betas: Some(adam.betas),
                eps: Some(adam.eps),
                weight_decay: Some(adam.weight_decay),
                amsgrad: Some(adam.amsgrad),
                maximize: Some(adam.maximize),
                ..Settings::default()
            },
            Self::RmsProp(rms) => Settings {
                lr,
                alpha: Some(rms.alpha),
                eps: Some(rms.eps),
                weight_decay: Some(rms.weight_decay),
                momentum: Some(rms.momentum),
                centered: Some(rms.centered),
                maximize: Some(rms.maximize),
                ..Settings::default()
            },
        }
    }

    /// The limits that PyTorch's constructors check; infinite values are refused as well.
    fn check(&self, lr: f64) -> Result<(), OptimError> {
        let name = self.name();
        let not_negative = |key: &str, value: f64| {
            if value >= 0.0 && value.is_finite() {
                return Ok(());
            }
            config(format!("optimizer '{name}' cannot have {key} = {value}: expected a number that is 0 or more"))
        };
        not_negative("lr", lr)?;
        match self {
            Self::Sgd(sgd) => {
                not_negative("momentum", sgd.momentum)?;
                not_negative("weight_decay", sgd.weight_decay)?;
                if !sgd.dampening.is_finite() {
                    return config(format!(
                        "optimizer 'sgd' cannot have dampening = {}: expected a number",
                        sgd.dampening
                    ));
                }
                if sgd.nesterov && (sgd.momentum == 0.0 || sgd.dampening != 0.0) {
                    return config(format!(
                        "optimizer 'sgd' with nesterov = true needs a momentum above 0 and dampening = 0: found momentum = {} and dampening = {}",
                        sgd.momentum, sgd.dampening
                    ));
                }
            }
            Self::Adam(adam) => {
                not_negative("eps", adam.eps)?;
                not_negative("weight_decay", adam.weight_decay)?;
                for (index, beta) in adam.betas.iter().enumerate() {
                    if !(0.0..1.0).contains(beta) {
                        return config(format!(
                            "optimizer '{name}' cannot have betas[{index}] = {beta}: expected a number from 0 to 1, 1 excluded"
                        ));
                    }
                }
            }
            Self::RmsProp(rms) => {
                not_negative("alpha", rms.alpha)?;
                not_negative("eps", rms.eps)?;
                not_negative("weight_decay", rms.weight_decay)?;
                not_negative("momentum", rms.momentum)?;
            }
        }
        Ok(())
    }

    /// Whether the state counts updates.
    pub(super) fn counts(&self) -> bool {
        !matches!(self, Self::Sgd(_))
    }

    /// The running averages that this rule keeps, in the order in which PyTorch writes them.
    pub(super) fn buffers(&self) -> Vec<Buffer> {
        let all: &[(Buffer, bool)] = match self {
            Self::Sgd(sgd) => &[(Buffer::Momentum, sgd.momentum != 0.0)],
            Self::Adam(adam) => {
                &[(Buffer::ExpAvg, true), (Buffer::ExpAvgSq, true), (Buffer::MaxExpAvgSq, adam.amsgrad)]
            }
            Self::RmsProp(rms) => {
                &[(Buffer::SquareAvg, true), (Buffer::Momentum, rms.momentum > 0.0), (Buffer::GradAvg, rms.centered)]
            }
        };
        all.iter().filter(|(_, used)| *used).map(|(buffer, _)| *buffer).collect()
    }
}

/// Moves a value that was given into its place.
fn set<T>(slot: &mut T, value: &mut Option<T>) {
    if let Some(value) = value.take() {
        *slot = value;
    }
}
