//! Checkpoints that nothing breaks: killed programs, full disks, damaged files; and which are kept.

mod damage;
mod full_disk;
mod kill;
mod panics;
mod policy;
mod stopping;
mod support;
