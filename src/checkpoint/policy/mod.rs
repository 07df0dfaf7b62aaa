//! When checkpoints are made and which of them are kept: one file that implements [`Policy`] for each key of a recipe's
//! `[checkpoint]`, and one row of the table here.

mod every_epochs;
mod every_minutes;
mod every_steps;
mod keep_all;
mod keep_last;
mod max_total_size;
mod mode;
mod retention;
mod top_k;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use every_epochs::EveryEpochs;
pub use every_minutes::EveryMinutes;
pub use every_steps::EverySteps;
pub use keep_all::KeepAll;
pub use keep_last::KeepLast;
pub use max_total_size::MaxTotalSize;
pub use mode::Mode;
pub use retention::{Candidate, Ranked, Verdict, judge};
pub use top_k::TopK;

/// A moment at which a checkpoint may be due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// So many epochs are complete.
    Epoch(usize),
    /// So many steps are done, in the middle of an epoch.
    Step(u64),
    /// So much time has passed since the last save, in the middle of an epoch.
    Since(Duration),
}

/// What the value of a key of `[checkpoint]` decides.
pub trait Policy: Default {
    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// What must be, and what was found.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether a checkpoint is due.
    fn is_due(&self, moment: Moment) -> bool {
        let _ = moment;
        false
    }

    /// The steps whose checkpoints must not be removed.
    fn keeps(&self, run: &Ranked<'_>) -> Vec<u64> {
        let _ = run;
        Vec::new()
    }

    /// Bytes that all checkpoints of the run together may take.
    fn limit(&self) -> Option<u64> {
        None
    }

    /// Whether it decides nothing, and a recipe need not have it.
    fn is_off(&self) -> bool {
        false
    }
}

/// Declares [`CheckpointSection`] with a key for each policy, and asks all of them.
macro_rules! policies {
    ($($(#[$doc:meta])* $key:ident: $kind:ident,)*) => {
        /// The section `[checkpoint]` of a recipe.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct CheckpointSection {
            $($(#[$doc])* #[serde(skip_serializing_if = "Policy::is_off")] pub $key: $kind,)*
            /// The metric that says which is best.
            pub monitor: String,
            /// Whether less or more of it is better; by default, what fits the metric.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub mode: Option<Mode>,
            /// Whether the optimizer's state is left out, without which a run cannot go on.
            pub weights_only: bool,
            /// Whether a training that breaks off on an error saves first.
            pub on_exception: bool,
        }

        impl Default for CheckpointSection {
            fn default() -> Self {
                Self {
                    $($key: $kind::default(),)*
                    monitor: "valid.loss".to_string(),
                    mode: None,
                    weights_only: false,
                    on_exception: true,
                }
            }
        }

        impl CheckpointSection {
            /// Refuses values that make no sense.
            ///
            /// # Errors
            /// The key, and what is wrong with its value.
            pub fn check(&self) -> Result<(), (&'static str, String)> {
                $(self.$key.check().map_err(|problem| (stringify!($key), problem))?;)*
                Ok(())
            }

            /// Whether a checkpoint is due.
            pub fn is_due(&self, moment: Moment) -> bool {
                $(self.$key.is_due(moment) ||)* false
            }

            /// The steps whose checkpoints must not be removed.
            fn keeps(&self, run: &Ranked<'_>) -> Vec<u64> {
                [$(self.$key.keeps(run),)*].concat()
            }

            /// Bytes that all checkpoints of the run together may take.
            fn limit(&self) -> Option<u64> {
                [$(self.$key.limit(),)*].into_iter().flatten().min()
            }
        }
    };
}

policies! {
    /// A checkpoint every so many epochs; 0 for none but the last.
    every_epochs: EveryEpochs,
    /// A checkpoint every so many steps.
    every_steps: EverySteps,
    /// A checkpoint when so many minutes have passed since the one before.
    every_minutes: EveryMinutes,
    /// How many of the newest checkpoints are kept.
    keep_last: KeepLast,
    /// Whether none is ever removed because of its age.
    keep_all: KeepAll,
    /// How many of the best checkpoints are kept.
    top_k: TopK,
    /// How much all checkpoints of the run may take together; `last` and `best` are kept in any case.
    max_total_size: MaxTotalSize,
}

impl CheckpointSection {
    /// The direction of the metric that is monitored.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_else(|| Mode::of(&self.monitor))
    }
}
