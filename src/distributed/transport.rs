//! How bytes travel between ranks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use super::GroupError;

/// What a group and its transport, which has a thread of its own, let each other know.
#[derive(Debug, Clone, Default)]
pub struct Link(Arc<State>);

#[derive(Debug, Default)]
struct State {
    lost: OnceLock<GroupError>,
    waiting: AtomicUsize,
    transport: OnceLock<Thread>,
}

impl Link {
    /// The transport says that it is lost, where it cannot return: what it has begun with another rank may never end. The first
    /// time counts.
    pub fn raise(&self, error: GroupError) {
        let _ = self.0.lost.set(error);
    }

    /// What the transport has said.
    pub fn raised(&self) -> Option<GroupError> {
        self.0.lost.get().cloned()
    }

    /// Whether a thread of this rank waits for the transport, so that its core is free: otherwise it computes, on as many threads as
    /// there are cores for.
    pub fn is_awaited(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    /// Lets the transport's thread, which calls it, rest; less long when somebody begins to wait for it.
    pub fn rest(&self, pause: Duration) {
        self.0.transport.get_or_init(thread::current);
        thread::park_timeout(pause);
    }

    /// Does what waits for the transport.
    pub(super) fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(thread) = self.0.transport.get() {
            thread.unpark();
        }
        let result = wait();
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

/// Moves values between ranks. Every operation is collective: each rank calls the same ones in the same order, from one thread.
pub trait Transport: 'static {
    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// The machine that this rank runs on.
    fn host(&self) -> String;

    /// Whether all ranks are threads of this process.
    fn is_in_process(&self) -> bool {
        false
    }

    /// Sends each other rank its part and receives one from it. Both are by rank and empty for this one; both sides know the lengths.
    ///
    /// # Errors
    /// When another rank is gone.
    fn exchange(&mut self, send: &[&[f32]], receive: &mut [&mut [f32]]) -> Result<(), GroupError>;

    /// The bytes of every rank, in rank order, on every rank.
    ///
    /// # Errors
    /// When another rank is gone.
    fn gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, GroupError>;

    /// Called about once a second while there is nothing else to do.
    fn idle(&mut self) {}

    /// Ends every rank at once, because this one cannot go on.
    fn abort(&mut self, code: i32);
}
