//! How bytes travel between ranks.

use std::sync::{Arc, OnceLock};

use super::GroupError;

/// Where a transport says that it is lost, if it cannot return: what it has begun with another rank may never end.
#[derive(Debug, Clone, Default)]
pub struct Alarm(Arc<OnceLock<GroupError>>);

impl Alarm {
    /// Says so; the first time counts.
    pub fn raise(&self, error: GroupError) {
        let _ = self.0.set(error);
    }

    /// What has been said.
    pub fn raised(&self) -> Option<GroupError> {
        self.0.get().cloned()
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

    /// Gives each rank its chunk of `values` from every rank, in rank order: `received` holds `size` chunks of equal length.
    /// `counts` are the lengths of the chunks by receiving rank.
    ///
    /// # Errors
    /// When another rank is gone.
    fn scatter(&mut self, values: &[f32], counts: &[usize], received: &mut [f32]) -> Result<(), GroupError>;

    /// Puts the chunks of all ranks together, in rank order, on every rank.
    ///
    /// # Errors
    /// When another rank is gone.
    fn gather(&mut self, chunk: &[f32], counts: &[usize], values: &mut [f32]) -> Result<(), GroupError>;

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
