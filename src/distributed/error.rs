//! Why ranks cannot work together.

/// Why ranks cannot work together.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GroupError {
    /// The program was started as several ranks, and this build has no engine for them.
    #[error(
        "this process is rank {rank} of {size}, started by {launcher}, but the program was built without MPI: \
         install it with `--features mpi`, or start it once"
    )]
    NotInThisBuild {
        /// The launcher whose variables were found.
        launcher: &'static str,
        /// Number of this process.
        rank: usize,
        /// Number of processes.
        size: usize,
    },
    /// The ranks cannot be connected.
    #[error("MPI does not start: {reason}")]
    Start {
        /// Why not.
        reason: String,
    },
    /// A rank cannot go on, and every rank knows.
    #[error("rank {rank} on {host}: {reason}")]
    Failed {
        /// The first rank that failed.
        rank: usize,
        /// Its host.
        host: String,
        /// What happened there.
        reason: String,
    },
    /// Another rank is gone: its machine, its process or the way to it.
    #[error("rank {rank} on {host} has not been heard of for {seconds} s: its machine or the network between is gone")]
    Gone {
        /// The rank that is gone.
        rank: usize,
        /// Its host.
        host: String,
        /// For how long.
        seconds: usize,
    },
    /// The other ranks do not answer.
    #[error("rank {rank} on {host} lost the other ranks: {reason}")]
    Lost {
        /// The rank that noticed.
        rank: usize,
        /// Its host.
        host: String,
        /// What happened.
        reason: String,
    },
    /// Ranks were started with different inputs.
    #[error("rank {rank} on {host} has another {what} than rank 0: found {found}, expected {expected}")]
    Differs {
        /// The rank that differs.
        rank: usize,
        /// Its host.
        host: String,
        /// What differs: the recipe, the program's version, the data.
        what: String,
        /// Its value there.
        found: String,
        /// Its value at rank 0.
        expected: String,
    },
}

impl GroupError {
    /// Whether every rank has this error, so that all of them can end in order.
    pub fn is_everywhere(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Differs { .. })
    }
}
