//! Tools of those who maintain rekindle: `cargo xtask` lists them.
//!
//! An example and no crate of the workspace: they need the library with all of Burn, and a program more would be linked in each
//! `cargo build --workspace`.

mod continuations;
mod nodes;
mod speed;
mod sums;

use std::process::ExitCode;

/// A tool answers whether all is well.
type Tool = fn(Vec<String>) -> Result<bool, Box<dyn std::error::Error>>;

const TOOLS: &[(&str, &str, Tool)] = &[
    ("nodes", "CASES [DEVICE...] [--only PART] [--write]   the ONNX project's node tests", nodes::run),
    ("speed", "MODEL [DEVICE] [REPEATS] [AXIS=SIZE...] [--plain]   how long an ONNX model takes", speed::run),
    ("continuations", "OUT   checkpoints from which PyTorch goes on, for .ci/continue_torch.py", continuations::run),
    ("sums", "[MEGABYTES...]   under mpirun: how long ranks take to add up values", sums::run),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some((.., tool)) = TOOLS.iter().find(|(known, ..)| *known == name) else {
        TOOLS.iter().for_each(|(name, about, _)| eprintln!("cargo xtask {name} {about}"));
        return ExitCode::from(2);
    };
    match tool(arguments.collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
