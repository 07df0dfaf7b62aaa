//! `rekindle codegen`: Burn source and weights for an ONNX file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;

use super::output::line;
use super::{Answer, Exit};
use crate::error::panic_message;
use crate::onnx::codegen;

/// Generate Burn source and weights for an ONNX file or a PyTorch program, through burn-import (burn-onnx).
///
/// Writes NAME.rs with a Burn module `Model` and NAME.bpk with its weights. A crate that includes the source needs `burn` and
/// `burn-store` of the same release. To run an ONNX file without a compiler, use `rekindle run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle codegen mnist-8.onnx src/generated")]
pub struct Args {
    /// The ONNX file or program.
    model: PathBuf,
    /// The folder to write to.
    dir: PathBuf,
    /// Generate in this process: it may be aborted.
    #[arg(long, hide = true)]
    in_process: bool,
}

pub fn run(args: &Args) -> Answer {
    if args.in_process {
        // What the generator says when it gives up is for the process that started this one: whole, in one line.
        let generated = catch_unwind(AssertUnwindSafe(|| codegen::generate_here(&args.model, &args.dir)));
        generated.map_err(|panic| anyhow::anyhow!(panic_message(&*panic)))??;
        return Ok(Exit::Done);
    }
    let mut generator = Command::new(std::env::current_exe()?);
    generator.args(["codegen", "--in-process", "--"]);
    let files = codegen::generate(&args.model, &args.dir, generator)?;
    line(format!("{}: the source of a Burn module", files.source.display()))?;
    line(format!("{}: its weights", files.weights.display()))?;
    line("In a crate with `burn` and `burn-store` of the same release:")?;
    line(format!("  mod model {{ include!({:?}); }}", files.source.display().to_string()))?;
    line(format!("  let model = model::Model::from_file({:?}, &device);", files.weights.display().to_string()))?;
    Ok(Exit::Done)
}
