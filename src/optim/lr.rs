//! A schedule as Burn's learner wants it: stepped before each optimizer step, giving the rate of that step.

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::optim::LearningRate;

use super::error::config;
use super::{Group, OptimError, ParameterInfo, Schedule};

/// The learning rate of one parameter group over a training.
///
/// Burn steps a scheduler before each optimizer step; PyTorch steps it after an epoch or a batch. So this counts Burn's calls, and
/// every `interval` of them is one step of the schedule. Its record is this count, and how often a schedule that follows a metric was
/// lowered.
#[derive(Debug, Clone)]
pub struct GroupSchedule {
    schedule: Schedule,
    base_lr: f64,
    interval: u64,
    calls: u64,
}

impl GroupSchedule {
    /// A schedule for a group with this base rate, as it is after `calls` optimizer steps.
    pub fn new(schedule: Schedule, base_lr: f64, interval: u64, calls: u64) -> Self {
        Self { schedule, base_lr, interval: interval.max(1), calls }
    }
}

const CALLS: &str = "calls";
const LOWERED: &str = "lowered";

impl LrScheduler for GroupSchedule {
    fn step(&mut self) -> LearningRate {
        let lr = self.schedule.lr(self.base_lr, self.calls / self.interval);
        self.calls += 1;
        lr
    }

    fn to_record(&self) -> LrSchedulerRecord {
        let record = LrSchedulerRecord::new().with_scalar(CALLS, self.calls);
        match self.schedule.curve.is_measured() {
            true => record.with_scalar(LOWERED, self.schedule.lowered),
            false => record,
        }
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(calls) = record.scalar(CALLS) {
            self.calls = calls;
        }
        if let Some(lowered) = record.scalar(LOWERED) {
            self.schedule.lowered = lowered;
        }
    }
}

/// Burn's scheduler for some groups, each with its base rate, as it is after `calls` optimizer steps.
///
/// # Errors
/// When there are no groups.
pub fn module_scheduler(
    groups: &[Group],
    parameters: &[ParameterInfo],
    schedule: &Schedule,
    interval: u64,
    calls: u64,
) -> Result<ModuleLrScheduler, OptimError> {
    let Some((first, others)) = groups.split_first() else {
        return config("a scheduler needs at least one parameter group");
    };
    let of = |group: &Group| GroupSchedule::new(schedule.clone(), group.base_lr(), interval, calls);
    // Burn's first group holds every parameter that no later one claims.
    let scheduler = ModuleLrScheduler::new(of(first));
    Ok(others.iter().fold(scheduler, |scheduler, group| scheduler.with_group(group.param_group(parameters), of(group))))
}
