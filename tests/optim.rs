//! Optimizers, schedules, clipping and losses against what PyTorch computes.

mod configs;
mod losses;
mod plateau;
mod resume;
mod schedules;
mod states;
mod support;
mod updates;
