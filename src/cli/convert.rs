//! `rekindle convert`: a model file in another format, renamed, cut or cast on the way.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use regex::Regex;
use rekindle_program::Program;
use rekindle_state::{
    DType, Format, Renames, SaveOptions, StateDict, TorchLegacy, TorchScript, TorchZip, Value, format_for, open, save,
    tensors,
};

use super::output::{line, say};
use super::source::expect_file;
use super::{Answer, Exit};

/// Write a model file in the format that the new file's extension names: .pth, .safetensors, .bpk, .npz or .npy.
///
/// Everything is kept that the format can say; what it cannot is told. Nothing in the file is executed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rekindle convert checkpoint.pth weights.safetensors --key model_state_dict --strip module. --dtype f16"
)]
pub struct Args {
    /// A model file of any format.
    input: PathBuf,
    /// The file to write; it may be the same one.
    output: PathBuf,
    /// Only the part under this path, such as model_state_dict; path elements are joined by '/'.
    #[arg(long, value_name = "PATH")]
    key: Option<String>,
    /// Take this prefix off the names of tensors.
    #[arg(long, value_name = "PREFIX")]
    strip: Option<String>,
    /// Replace what a regular expression finds in the names of tensors; $1 stands for a group. May be given several times.
    #[arg(long, value_name = "REGEX=TO", value_parser = rename)]
    rename: Vec<(Regex, String)>,
    /// Only tensors and values whose name this regular expression finds.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    only: Option<Regex>,
    /// Another element type for floating tensors: f16, bf16, f32 or f64.
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    dtype: Option<DType>,
    /// The format of PyTorch before 1.6.
    #[arg(long)]
    legacy: bool,
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| {
        // The last line of a regex error is its reason; those before draw the position.
        let reason = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
        format!("'{text}' is not a regular expression: {reason}")
    })
}

fn rename(text: &str) -> Result<(Regex, String), String> {
    let (from, to) =
        text.split_once('=').ok_or_else(|| format!("expected REGEX=TO, such as ^model\\.=, found '{text}'"))?;
    if from.is_empty() {
        return Err(format!("expected a regular expression before '=', found '{text}'"));
    }
    Ok((pattern(from)?, to.to_string()))
}

/// The element types that floating tensors are written in.
fn dtype(text: &str) -> Result<DType, String> {
    Ok(match text {
        "f16" | "float16" => DType::F16,
        "bf16" | "bfloat16" => DType::BF16,
        "f32" | "float32" => DType::F32,
        "f64" | "float64" => DType::F64,
        _ => return Err(format!("expected f16, bf16, f32 or f64, found '{text}'")),
    })
}

pub fn run(args: Args) -> Answer {
    expect_file(&args.input)?;
    let output = &args.output;
    let format = match (format_for(output)?, args.legacy) {
        (format, true) if format.name() == TorchZip.name() => &TorchLegacy,
        (_, true) => bail!("{}: --legacy is a format of PyTorch's: name the file .pth or .pt", output.display()),
        (format, false) => format,
    };
    let file = open(&args.input)?;
    let root = state(&args.input, file.content.root)?;
    let renames = Renames { key: args.key, strip: args.strip, rename: args.rename, only: args.only };
    for note in &file.notes {
        say!("{note}");
    }
    let (root, mut notes) = renames.apply(&root).map_err(|error| error.at(&args.input))?;
    notes.extend(file.modules.iter().filter(|_| file.format.name() != TorchScript.name()).map(|(path, module)| {
        let place = if path.is_empty() { "the file".to_string() } else { format!("'{path}'") };
        format!("{place} is a whole {} and is written as its state dict", module.class)
    }));
    let count = tensors(&root).len();
    if count == 0 {
        return Err(anyhow!(
            "{}: there is no tensor to write; `rekindle inspect` lists what is there",
            args.input.display()
        ));
    }
    // `format: pt` only says which library the tensors were for.
    let metadata =
        file.content.metadata.into_iter().filter(|(key, value)| (key.as_str(), value.as_str()) != ("format", "pt"));
    let options =
        SaveOptions { format: Some(format), dtype: args.dtype, metadata: metadata.collect(), ..SaveOptions::default() };
    notes.extend(save(output, &root, &options)?);
    for note in &notes {
        say!("{note}");
    }
    let tensors = if count == 1 { "1 tensor".to_string() } else { format!("{count} tensors") };
    line(format!("{}: {tensors} written", output.display()))?;
    Ok(Exit::Done)
}

/// What is written of a file: of a program, its parameters and persistent buffers, which `load_state_dict` takes.
fn state(path: &Path, root: Value) -> anyhow::Result<Value> {
    let Value::Dict(dict) = &root else { return Ok(root) };
    if !Program::is_program(path) {
        return Ok(root);
    }
    let program = Program::open(path)?;
    let mut own = StateDict::ordered();
    for (key, value) in dict.iter().filter(|(key, _)| program.is_state(&key.text())) {
        own.insert(key.clone(), value.clone());
    }
    Ok(Value::Dict(own))
}
