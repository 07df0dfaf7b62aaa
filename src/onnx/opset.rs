//! Operator sets that are written.

/// The oldest operator set that is written.
pub const OLDEST_OPSET: i64 = 13;
/// The newest operator set that is written.
pub const NEWEST_OPSET: i64 = 21;
