//! Why a network cannot be written as ONNX, or what was written is not right.

/// An error of the ONNX exporter and its verification. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The operator set is not one that is written.
    #[error(
        "opset {found} is not written: choose one from {} to {}",
        super::opset::OLDEST_OPSET,
        super::opset::NEWEST_OPSET
    )]
    Opset {
        /// What was asked for.
        found: i64,
    },
    /// Operations of the network for which there is no ONNX.
    #[error("{}: no ONNX of opset {opset} is known for {}", operations(.missing), .missing.join("; "))]
    Unsupported {
        /// All of them, each with its place in the network.
        missing: Vec<String>,
        /// The operator set.
        opset: i64,
    },
    /// The network cannot be traced.
    #[error("the network cannot be traced: {0}")]
    Trace(String),
    /// The network does different things for different batch sizes.
    #[error("the batch size cannot be left open: {0}; fix it with --batch N")]
    Batch(String),
    /// Names that clash or do not fit.
    #[error("{0}")]
    Names(String),
    /// The network or its weights.
    #[error(transparent)]
    State(#[from] rekindle_state::Error),
    /// A graph cannot be read or run.
    #[error(transparent)]
    Graph(#[from] rekindle_onnx::Error),
    /// A PyTorch program cannot become a graph.
    #[error(transparent)]
    Program(#[from] rekindle_program::Error),
    /// A reference is not one of the model.
    #[error("{0}")]
    Reference(String),
    /// What was written is no valid ONNX; the exporter is wrong.
    #[error("the written graph is not valid ONNX: {}", .0.join("; "))]
    Structure(Vec<String>),
    /// An engine computes something else than the network.
    #[error("{}: not written, because an engine computes something else than the network: {first}", path.display())]
    Differs {
        /// The file that is not there.
        path: std::path::PathBuf,
        /// The engine and the first node that differs.
        first: String,
    },
    /// An engine could not run the written file.
    #[error("{engine} cannot run the written graph: {reason}")]
    Engine {
        /// Its name.
        engine: &'static str,
        /// Why not.
        reason: String,
    },
}

fn operations(missing: &[String]) -> String {
    match missing.len() {
        1 => "an operation cannot be exported".to_string(),
        count => format!("{count} operations cannot be exported"),
    }
}
