//! Requests from a connection: heads, and bodies of a declared length or in chunks.

mod body;
mod connection;
mod head;

pub use body::Body;
pub(super) use body::Room;
pub(super) use connection::{Connection, Next};
pub use head::Head;

/// The most bytes of a head.
const MOST_HEAD: usize = 16 << 10;
/// Read at once.
const BLOCK: usize = 16 << 10;
