//! ONNX Runtime, where Python has it: a short script reads the inputs and writes the outputs as `.npy` files.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rekindle_state::{DType, Map, Tensor, Value, read_npy, write_npy};

use super::Values;
use super::engine::Engine;

/// The engine.
pub struct OnnxRuntime;

/// Checks the model with `onnx` too, if that is there.
const SCRIPT: &str = r#"
import sys
try:
    import numpy, onnxruntime
except ImportError as error:
    sys.exit(f"missing: {error.name}")
folder, model, name, count = sys.argv[1:]
try:
    import onnx
    onnx.checker.check_model(model, full_check=True)
except ImportError:
    pass
onnxruntime.set_default_logger_severity(3)
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
for batch in range(int(count)):
    outputs = session.run(None, {name: numpy.load(f"{folder}/{batch}.npy")})
    for place, output in enumerate(outputs):
        numpy.save(f"{folder}/{batch}.{place}.npy", numpy.ascontiguousarray(output, dtype=numpy.float32))
print(len(session.get_outputs()))
"#;

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        "ONNX Runtime"
    }

    fn run(&self, model: &Path, input: &str, inputs: &[Values]) -> Result<Vec<Vec<Values>>, String> {
        // Beside the model, in the folder that is removed afterwards.
        let folder = model.parent().unwrap_or(Path::new(".")).join("onnxruntime");
        std::fs::create_dir_all(&folder).map_err(|error| format!("its inputs cannot be written: {error}"))?;
        for (batch, values) in inputs.iter().enumerate() {
            save(&folder.join(format!("{batch}.npy")), values).map_err(|error| error.to_string())?;
        }
        let count = python(&folder, model, input, inputs.len())?;
        let batch = |batch: usize| (0..count).map(|place| load(&folder.join(format!("{batch}.{place}.npy")))).collect();
        (0..inputs.len()).map(batch).collect()
    }
}

fn python(folder: &Path, model: &Path, input: &str, inputs: usize) -> Result<usize, String> {
    let python = std::env::var("REKINDLE_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let mut command = Command::new(&python);
    command.arg("-").arg(folder).arg(model).arg(input).arg(inputs.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let help = "install it with `pip install onnxruntime`, or set REKINDLE_PYTHON to a Python that has it";
    let mut child = command.spawn().map_err(|error| format!("'{python}' cannot be started ({error}); {help}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A Python that ends before it has read this says why on stderr.
        let _ = stdin.write_all(SCRIPT.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("'{python}' failed: {error}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if let Some(module) = err.trim().strip_prefix("missing: ") {
        return Err(format!("'{python}' has no module {module}; {help}"));
    }
    let count = out.trim().parse().ok().filter(|_| output.status.success());
    count.ok_or_else(|| err.trim().lines().last().unwrap_or("it said nothing").to_string())
}

fn save(path: &Path, values: &Values) -> rekindle_state::Result<()> {
    let shape: Vec<u64> = values.shape.iter().map(|&size| size as u64).collect();
    let bytes = values.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    write_npy(path, &Value::Tensor(Tensor::from_bytes(DType::F32, &shape, bytes)?)).map(drop)
}

fn load(path: &Path) -> Result<Values, String> {
    let read = || -> rekindle_state::Result<Option<Values>> {
        let Value::Tensor(tensor) = read_npy(&Map::open(path)?)?.root else { return Ok(None) };
        let bytes = tensor.bytes()?;
        let data =
            bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap_or_default())).collect();
        Ok(Some(Values { shape: tensor.shape().iter().map(|&size| size as usize).collect(), data }))
    };
    read().map_err(|error| error.to_string())?.ok_or_else(|| "it wrote no tensor".to_string())
}
