//! Whether a device computes right: one list of cases, run on any device and compared with PyTorch's answers.
//!
//! [`cases`] is the list and [`run`] runs one of them on a device. A new network is one line in `fixture`, a
//! new check one line in [`cases`]. PyTorch's answers are in the program; `fixtures/make_check_fixtures.py` made them.
//!
//! What is allowed (`error` is the largest difference that was found, in the same terms):
//!
//! | cases | compared with | allowed |
//! |---|---|---|
//! | `forward` | PyTorch, in evaluation mode | \|a−b\| ≤ 1e-5 + 1e-3·\|b\|, as the tutorial checks an ONNX export |
//! | `gradients` | PyTorch: the loss and each parameter's gradient | 1e-4 of the tensor's largest value |
//! | `step`, `resume` | PyTorch: what one step, or five after a checkpoint, changed | 1e-3 of the tensor's largest change |
//! | `zoo` | PyTorch in 64 bits, of a narrow form of each of torchvision's families: logits, losses, gradients, and what one or five steps leave | 1e-4 of the tensor's largest value |
//! | `record` | the bytes that were loaded | none |
//! | `training`, `moves` | two epochs on burn-flex: each step's loss | 1e-3 of the loss |
//! | `deterministic` | the same training again | none |
//! | `dropout`, `dropout2d` | the probability, by the share that is kept | 0.05, on any device |
//!
//! The floor of a tensor's scale is a hundredth of the largest among its network's tensors, so that a gradient which is zero
//! but for rounding (a bias before batch normalisation) is not measured against itself. Where the kernels of GPUs add in
//! another order, or use faster exponentials, [`GPU_SLACK`] times as much is allowed.

mod error;
mod fixture;
mod layers;
mod measure;
mod networks;
mod training;
mod zoo;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;

pub use error::CheckError;
pub use fixture::Fixture;
pub use measure::Measure;
pub use networks::Trainer;

use crate::device::OpenDevice;

/// By how much more a GPU may differ than a CPU, where rounding makes the difference.
pub const GPU_SLACK: f64 = 5.0;

/// What a case gives: how far the device is off, or why it may not run there.
enum Answer {
    Measured(Measure),
    NotRun(&'static str),
}

type Result<T> = std::result::Result<T, CheckError>;

/// One thing to compute on a device and to compare.
pub struct Case {
    /// What is checked, the network, and the optimizer if there is one: `step/net/adam`.
    pub name: String,
    /// Whether a GPU in software runs it too.
    essential: bool,
    check: Box<Check>,
}

/// The computation and comparison of a case.
type Check = dyn Fn(&OpenDevice) -> Result<Answer> + Send + Sync;

/// What came of a case on a device.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything agrees.
    Passed {
        /// The largest difference.
        max_error: f64,
        /// What was allowed.
        allowed: f64,
    },
    /// Something differs, or could not be computed at all.
    Failed {
        /// The tensor that differs most and by how much, or the error.
        reason: String,
    },
    /// The device may not run it.
    NotRun {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// Whether the device computed something wrong.
    pub fn failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

impl Case {
    fn new(name: impl Into<String>, check: impl Fn(&OpenDevice) -> Result<Measure> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), essential: true, check: Box::new(move |device| check(device).map(Answer::Measured)) }
    }

    /// A case that CPUs alone may run.
    fn on_cpus(
        name: &str,
        reason: &'static str,
        check: impl Fn(&OpenDevice) -> Result<Measure> + Send + Sync + 'static,
    ) -> Self {
        let check = move |device: &OpenDevice| {
            if is_cpu(device) { check(device).map(Answer::Measured) } else { Ok(Answer::NotRun(reason)) }
        };
        Self { name: name.to_string(), essential: true, check: Box::new(check) }
    }

    /// The same, left out on a GPU in software unless `essential`.
    fn essential(self, essential: bool) -> Self {
        Self { essential, ..self }
    }
}

/// The list. It is in an order in which neighbours share shapes: a GPU compiles a kernel for each.
///
/// # Errors
/// When a file of the program is broken.
pub fn cases() -> std::result::Result<Vec<Case>, CheckError> {
    let mut cases = Vec::new();
    for embedded in fixture::EMBEDDED {
        let fixture = Arc::new(embedded.read()?);
        let name = fixture.name();
        let mut add = |name: String, essential: bool, check: fn(&Fixture, &OpenDevice) -> Result<Measure>| {
            let fixture = Arc::clone(&fixture);
            cases.push(Case::new(name, move |device| check(&fixture, device)).essential(essential));
        };
        // Training kernels are those of these two networks; the others would only be compiled for other shapes.
        let trains = ["the_model_class", "vgg11_bn"].contains(&name);
        add(format!("forward/{name}"), true, networks::forward);
        add(format!("record/{name}"), true, networks::record);
        add(format!("gradients/{name}"), trains, networks::gradients);
        for (index, optimizer) in fixture.steps()?.into_iter().enumerate() {
            let fixture = Arc::clone(&fixture);
            let case =
                Case::new(format!("step/{name}/{optimizer}"), move |device| networks::step(&fixture, index, device));
            cases.push(case.essential(trains));
        }
        for (index, optimizer) in fixture.resumes()?.into_iter().enumerate() {
            let fixture = Arc::clone(&fixture);
            let case = Case::new(format!("resume/{name}/{optimizer}"), move |device| {
                networks::resume(&fixture, index, device)
            });
            cases.push(case.essential(trains));
        }
    }
    for steps in zoo::all()? {
        let name = format!("zoo/{}", steps.name());
        cases.push(Case::new(name, move |device| steps.check(device)).essential(false));
    }
    cases.push(Case::new("dropout", layers::dropout));
    cases.push(Case::new("dropout2d", layers::dropout2d));
    cases.push(Case::new("training", training::agrees));
    cases.push(Case::new("moves", training::moves));
    let order = "kernels of a GPU may add in another order each time";
    cases.push(Case::on_cpus("deterministic", order, training::deterministic));
    Ok(cases)
}

/// Why a GPU in software leaves a case out.
const SOFTWARE: &str =
    "a GPU in software compiles kernels for minutes: there, the_model_class and vgg11_bn stand for the others";

/// Runs a case on a device. A panic of a backend or driver is a failure of the case.
pub fn run(device: &OpenDevice, case: &Case) -> Outcome {
    if device.software_gpu && !case.essential {
        return Outcome::NotRun { reason: SOFTWARE.to_string() };
    }
    let answer = crate::error::without_panic_output(|| catch_unwind(AssertUnwindSafe(|| (case.check)(device))));
    match answer {
        Ok(Ok(Answer::NotRun(reason))) => Outcome::NotRun { reason: reason.to_string() },
        Ok(Ok(Answer::Measured(measure))) => {
            let slack = if is_cpu(device) || !measure.rounding { 1.0 } else { GPU_SLACK };
            let allowed = measure.allowed * slack;
            let Measure { error, place, .. } = measure;
            if error <= allowed {
                return Outcome::Passed { max_error: error, allowed };
            }
            Outcome::Failed { reason: format!("{place} is off by {error:.1e}, allowed is {allowed:.0e}") }
        }
        Ok(Err(error)) => Outcome::Failed { reason: error.to_string() },
        Err(panic) => Outcome::Failed { reason: format!("panicked: {}", crate::error::panic_text(&*panic)) },
    }
}

/// Whether a device is one of the CPU backends, which add in a fixed order.
fn is_cpu(device: &OpenDevice) -> bool {
    device.backend.is_cpu()
}
