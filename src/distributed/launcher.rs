//! Whether this process is one of several that a launcher started, and the group that they form.

use super::{Group, GroupError};

/// How this process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// The launcher whose variables were found.
    pub launcher: &'static str,
    /// Number of this process among all.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Number of this process on its machine.
    pub local_rank: usize,
    /// Number of processes on this machine.
    pub local_size: usize,
}

/// Variables that launchers set: name of the launcher, rank, size, rank on the machine, processes on the machine.
const LAUNCHERS: [(&str, [&str; 4]); 3] = [
    (
        "mpirun",
        ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"],
    ),
    ("mpiexec", ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"]),
    ("srun", ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"]),
];

impl Launch {
    /// Threads that compute on this rank: the machine's cores, divided by its ranks, and no more than the launcher gave it.
    pub fn threads(&self) -> usize {
        let given = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = cores.lines().filter(|line| line.starts_with("processor")).count().max(given);
        given.min(cores / self.local_size).max(1)
    }
}

/// How this process was started, if it is one of several.
pub fn launched() -> Option<Launch> {
    launched_by(|name| std::env::var(name).ok())
}

fn launched_by(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    // Slurm writes `4(x2)` where several machines have as many.
    let number = |name: &str| variable(name)?.split(['(', ',']).next()?.parse::<usize>().ok();
    let found = LAUNCHERS.iter().find_map(|(launcher, [rank, size, local_rank, local_size])| {
        let (rank, size) = (number(rank)?, number(size)?);
        let local_rank = number(local_rank).unwrap_or(rank);
        Some(Launch { launcher, rank, size, local_rank, local_size: number(local_size).unwrap_or(size).max(1) })
    })?;
    (found.size > 1).then_some(found)
}

/// The group of this process: connected by MPI when a launcher started several, otherwise none.
///
/// # Errors
/// When there are several and this build has no MPI, or MPI does not start.
pub fn connect() -> Result<Option<Group>, GroupError> {
    let Some(launch) = launched() else { return Ok(None) };
    #[cfg(feature = "mpi")]
    return super::mpi::connect(launch).map(Some);
    #[cfg(not(feature = "mpi"))]
    Err(GroupError::NotInThisBuild { launcher: launch.launcher, rank: launch.rank, size: launch.size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<Launch> {
        launched_by(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_string()))
    }

    #[test]
    fn launchers_are_recognised_by_their_variables() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")]), None);
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        let expected = Launch { launcher: "mpirun", rank: 3, size: 4, local_rank: 1, local_size: 2 };
        assert_eq!(found(&open_mpi), Some(expected));
        let slurm = [
            ("SLURM_PROCID", "5"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_STEP_TASKS_PER_NODE", "4(x2)"),
        ];
        let expected = Launch { launcher: "srun", rank: 5, size: 8, local_rank: 1, local_size: 4 };
        assert_eq!(found(&slurm), Some(expected));
    }
}
