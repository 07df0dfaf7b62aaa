//! Optimizers, learning-rate schedules, gradient clipping and losses with exactly PyTorch's semantics and defaults.
//!
//! A configuration ([`OptimizerConfig`], [`SchedulerConfig`], [`LossConfig`]) is plain data with PyTorch's keys. Together with the
//! table of a model's parameters it becomes [`Group`]s, and these become Burn's own [`ModuleOptimizer`](burn::optim::ModuleOptimizer)
//! and [`ModuleLrScheduler`](burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler), so that Burn's learner trains with them.
//! [`to_state_dict`] and [`from_state_dict`] translate the optimizer's state to and from `optimizer.state_dict()`.

mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod clip;
mod config;
mod error;
mod export;
mod field;
mod fused;
mod groups;
mod import;
mod kind;
mod losses;
mod lr;
mod math;
mod nadam;
mod parameters;
mod radam;
mod record;
mod rmsprop;
mod rule;
mod schedule;
mod schedule_config;
mod schedule_state;
mod schedules;
mod settings;
mod sgd;
mod state;

pub use adadelta::Adadelta;
pub use adagrad::Adagrad;
pub use adam::Adam;
pub use adamax::Adamax;
pub use clip::{clip_grad_norm, clip_grad_value};
pub use config::{GroupConfig, OptimizerConfig};
pub use error::OptimError;
pub use export::to_state_dict;
pub use field::Field;
pub use groups::{Group, module_optimizer};
pub use import::{Difference, Restored, from_state_dict, scalar};
pub use kind::{Class, OptimizerKind};
pub use losses::{Compute, LossConfig, cross_entropy, l1, mse, nll, smooth_l1};
pub use lr::{GroupSchedule, module_scheduler};
pub use nadam::NAdam;
pub use parameters::{ParameterInfo, ParameterPart};
pub use radam::RAdam;
pub use rmsprop::RmsProp;
pub use rule::Rule;
pub use schedule::{Schedule, Warmup};
pub use schedule_config::{Per, SchedulerConfig};
pub use schedule_state::{RestoredSchedule, ScheduleDifference, scheduler_class};
pub use schedules::{
    Constant, Cosine, Curve, CurveKind, Exponential, Linear, MultiStep, OneCycle, Plateau, PlateauState, Polynomial,
    Step, WarmRestarts,
};
pub use settings::{Setting, Settings};
pub use sgd::Sgd;
pub use state::{Buffer, State};
