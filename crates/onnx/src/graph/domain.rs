//! Domains of operators.

/// The standard domain has two names.
pub(super) fn normal(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}
