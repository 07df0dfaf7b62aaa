//! `OneCycleLR`.

use std::f64::consts::PI;

use rekindle_state::{StateDict, Value};

use super::{CurveKind, Field};

/// `OneCycleLR(cycle_momentum=False)`: from `max_lr / div_factor` up to `max_lr`, and down to far below where it began, within
/// `total_steps`. The optimizer's own rate is not used, as in PyTorch.
#[derive(Debug, Clone, PartialEq)]
pub struct OneCycle {
    /// The highest rate.
    pub max_lr: f64,
    /// Steps in all.
    pub total_steps: u64,
    /// Share of the steps in which the rate rises.
    pub pct_start: f64,
    /// What the highest rate is divided by at first.
    pub div_factor: f64,
    /// What the first rate is divided by in the end.
    pub final_div_factor: f64,
    /// Along lines instead of cosines: `anneal_strategy="linear"`.
    pub linear: bool,
    /// Down to the first rate in as many steps as up, then on to the last.
    pub three_phase: bool,
}

impl Default for OneCycle {
    fn default() -> Self {
        Self {
            max_lr: 0.1,
            total_steps: 1,
            pct_start: 0.3,
            div_factor: 25.0,
            final_div_factor: 1e4,
            linear: false,
            three_phase: false,
        }
    }
}

/// A part of the cycle: its last step, the rates between which it moves, and what PyTorch calls these and the momenta.
type Phase = (f64, [f64; 2], [&'static str; 4]);

impl OneCycle {
    fn first(&self) -> f64 {
        self.max_lr / self.div_factor
    }

    fn last(&self) -> f64 {
        self.first() / self.final_div_factor
    }

    fn phases(&self) -> Vec<Phase> {
        let (total, share) = (self.total_steps as f64, self.pct_start);
        let (first, top, last) = (self.first(), self.max_lr, self.last());
        let up = (share * total - 1.0, [first, top], ["initial_lr", "max_lr", "max_momentum", "base_momentum"]);
        if self.three_phase {
            let down = [top, first];
            return vec![
                up,
                (2.0 * share * total - 2.0, down, ["max_lr", "initial_lr", "base_momentum", "max_momentum"]),
                (total - 1.0, [first, last], ["initial_lr", "min_lr", "max_momentum", "max_momentum"]),
            ];
        }
        vec![up, (total - 1.0, [top, last], ["max_lr", "min_lr", "base_momentum", "max_momentum"])]
    }
}

impl CurveKind for OneCycle {
    const NAME: &'static str = "one_cycle";
    const TORCH: &'static str = "OneCycleLR";
    const NEEDED: &'static [&'static str] = &["max_lr"];
    const LENGTH: Option<&'static str> = Some("total_steps");

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::number("max_lr", &mut self.max_lr).positive(),
            Field::length("total_steps", &mut self.total_steps),
            Field::number("pct_start", &mut self.pct_start).share(),
            Field::number("div_factor", &mut self.div_factor).positive(),
            Field::number("final_div_factor", &mut self.final_div_factor).positive(),
            Field::flag("linear", &mut self.linear),
            Field::flag("three_phase", &mut self.three_phase),
        ]
    }

    fn lr(&self, _: f64, count: u64) -> f64 {
        // PyTorch refuses to go on after the last step.
        let step = count.min(self.total_steps - 1) as f64;
        let phases = self.phases();
        let (mut start, mut rate) = (0.0, self.last());
        for (place, (end, [from, to], _)) in phases.iter().enumerate() {
            if step <= *end || place == phases.len() - 1 {
                let share = if *end > start { (step - start) / (end - start) } else { 1.0 };
                rate = if self.linear {
                    (to - from) * share + from
                } else {
                    to + (from - to) / 2.0 * ((PI * share).cos() + 1.0)
                };
                break;
            }
            start = *end;
        }
        rate
    }

    fn initial_lr(&self, _: f64) -> f64 {
        self.first()
    }

    fn group_keys(&self) -> Vec<(&'static str, f64)> {
        vec![("max_lr", self.max_lr), ("min_lr", self.last())]
    }

    fn state(&self, _: u64) -> Vec<(&'static str, Value)> {
        let phases = self.phases();
        let last = phases.len() - 1;
        let phase = |(place, (end, _, names)): (usize, Phase)| {
            let mut dict = StateDict::new();
            // The last one is a whole number there.
            let end = if place == last { Value::Int(end as i64) } else { Value::Float(end) };
            dict.insert("end_step", end);
            let keys = ["start_lr", "end_lr", "start_momentum", "end_momentum"];
            keys.into_iter().zip(names).for_each(|(key, name)| drop(dict.insert(key, name)));
            Value::Dict(dict)
        };
        vec![
            ("total_steps", i64::try_from(self.total_steps).map_or(Value::BigInt(self.total_steps.into()), Value::Int)),
            ("_schedule_phases", phases.into_iter().enumerate().map(phase).collect::<Vec<_>>().into()),
            ("_anneal_func_type", if self.linear { "linear" } else { "cos" }.into()),
            ("cycle_momentum", false.into()),
        ]
    }

    /// Its state says neither the highest nor the last rate.
    fn read(_: &StateDict) -> Option<Self> {
        None
    }
}
