//! Ranks as processes that MPI connects, on one machine or many.
//!
//! MPI's handles stay on one thread, which every operation is sent to: MPI then needs no locks of its own, and nothing here is
//! unsafe.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use mpi::Count;
use mpi::Threading;
use mpi::datatype::{Partition, PartitionMut};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

use super::{Group, GroupError, Launch, Transport};

/// For how long the other ranks may keep this one waiting, in seconds, unless `REKINDLE_RANKS_TIMEOUT` says otherwise. As with
/// PyTorch's NCCL, this is longer than writing any checkpoint takes.
const PATIENCE: u64 = 600;

/// How long ending every rank may take before this process ends by itself.
const ABORT: Duration = Duration::from_secs(3);

/// Bytes of a message that travels with its length, the length included.
const SHORT: usize = 64;

/// Bytes of the length.
const LENGTH: usize = 8;

/// Something for the thread that speaks to MPI.
enum Request {
    Scatter { values: Vec<f32>, counts: Vec<usize> },
    Gather { chunk: Vec<f32>, counts: Vec<usize> },
    GatherBytes(Vec<u8>),
    Abort(i32),
}

/// What it answers.
enum Answer {
    Values(Vec<f32>),
    Bytes(Vec<Vec<u8>>),
}

struct Mpi {
    rank: usize,
    size: usize,
    host: String,
    requests: Option<SyncSender<Request>>,
    answers: Receiver<Answer>,
    patience: Duration,
    thread: Option<thread::JoinHandle<()>>,
}

/// Starts MPI in a process that a launcher started.
pub(super) fn connect(launch: Launch) -> Result<Group, GroupError> {
    let start = |reason: String| GroupError::Start { reason };
    let (requests, incoming) = sync_channel(1);
    let (outgoing, answers) = sync_channel(1);
    let (ready, started) = sync_channel(1);
    let serve = move || {
        let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else { return };
        let world = universe.world();
        let host = mpi::environment::processor_name().unwrap_or_else(|_| "an unnamed host".to_string());
        if ready.send((world.rank() as usize, world.size() as usize, host)).is_ok() {
            answer(&world, &incoming, &outgoing);
        }
    };
    let thread = thread::Builder::new().name("mpi".into()).spawn(serve).map_err(|error| start(error.to_string()))?;
    let (rank, size, host) = started.recv().map_err(|_| start("it was started before in this process".into()))?;
    if size != launch.size {
        let reason = format!(
            "{} started {} processes, but MPI sees {size}: the program was built with another MPI than the launcher's",
            launch.launcher, launch.size
        );
        return Err(start(reason));
    }
    let patience = std::env::var("REKINDLE_RANKS_TIMEOUT").ok().and_then(|seconds| seconds.parse().ok());
    let patience = Duration::from_secs(patience.unwrap_or(PATIENCE));
    Ok(Group::new(Mpi { rank, size, host, requests: Some(requests), answers, patience, thread: Some(thread) }))
}

/// Serves requests until the group is dropped.
fn answer(world: &SimpleCommunicator, incoming: &Receiver<Request>, outgoing: &SyncSender<Answer>) {
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    for request in incoming {
        let answer = match request {
            Request::Scatter { values, counts } => {
                let own = counts[rank];
                let mut received = vec![0f32; own * size];
                let (counts, starts) = layout(&counts);
                let (all, at) = layout(&vec![own; size]);
                world.all_to_all_varcount_into(
                    &Partition::new(&values[..], counts, starts),
                    &mut PartitionMut::new(&mut received[..], all, at),
                );
                Answer::Values(received)
            }
            Request::Gather { chunk, counts } => {
                let mut values = vec![0f32; counts.iter().sum()];
                let (counts, starts) = layout(&counts);
                world.all_gather_varcount_into(&chunk[..], &mut PartitionMut::new(&mut values[..], counts, starts));
                Answer::Values(values)
            }
            Request::GatherBytes(bytes) => Answer::Bytes(gather_bytes(world, &bytes)),
            Request::Abort(code) => world.abort(code),
        };
        if outgoing.send(answer).is_err() {
            return;
        }
    }
}

/// The bytes of every rank. Short messages, which every step has, travel with their lengths.
fn gather_bytes(world: &SimpleCommunicator, bytes: &[u8]) -> Vec<Vec<u8>> {
    let size = world.size() as usize;
    let mut short = [0u8; SHORT];
    let begin = &bytes[..bytes.len().min(SHORT - LENGTH)];
    short[..LENGTH].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    short[LENGTH..LENGTH + begin.len()].copy_from_slice(begin);
    let mut all = vec![0u8; SHORT * size];
    world.all_gather_into(&short[..], &mut all[..]);
    let parts = all.chunks_exact(SHORT).map(|part| part.split_at(LENGTH));
    let length = |length: &[u8]| length.try_into().map_or(0, u64::from_le_bytes) as usize;
    let parts: Vec<(usize, &[u8])> = parts.map(|(bytes, rest)| (length(bytes), rest)).collect();
    if parts.iter().all(|(length, begin)| *length <= begin.len()) {
        return parts.into_iter().map(|(length, begin)| begin[..length].to_vec()).collect();
    }
    let lengths: Vec<usize> = parts.into_iter().map(|(length, _)| length).collect();
    let mut all = vec![0u8; lengths.iter().sum()];
    let (counts, starts) = layout(&lengths);
    world.all_gather_varcount_into(bytes, &mut PartitionMut::new(&mut all[..], counts, starts));
    let mut rest = &all[..];
    let take = |length: usize| {
        let (bytes, after) = rest.split_at(length);
        rest = after;
        bytes.to_vec()
    };
    lengths.into_iter().map(take).collect()
}

/// Lengths and starts as MPI counts them: in `i32`, which buckets of gradients are far below.
fn layout(counts: &[usize]) -> (Vec<Count>, Vec<Count>) {
    let mut at = 0;
    let starts = counts.iter().map(|&count| {
        let start = at;
        at += count as Count;
        start
    });
    let starts = starts.collect();
    (counts.iter().map(|&count| count as Count).collect(), starts)
}

impl Mpi {
    fn ask(&mut self, request: Request) -> Result<Answer, GroupError> {
        let patience = self.patience;
        self.ask_for(request, patience)
    }

    fn ask_for(&mut self, request: Request, patience: Duration) -> Result<Answer, GroupError> {
        let sent = self.requests.as_ref().is_some_and(|requests| requests.try_send(request).is_ok());
        if let Some(answer) = sent.then(|| self.answers.recv_timeout(patience).ok()).flatten() {
            return Ok(answer);
        }
        // The thread waits for a rank that does not come: nobody must wait for the thread.
        self.thread = None;
        let reason = format!("they have not answered for {} s", patience.as_secs());
        Err(GroupError::Lost { rank: self.rank, host: self.host.clone(), reason })
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn host(&self) -> String {
        self.host.clone()
    }

    fn scatter(&mut self, values: &[f32], counts: &[usize], received: &mut [f32]) -> Result<(), GroupError> {
        if let Answer::Values(values) =
            self.ask(Request::Scatter { values: values.to_vec(), counts: counts.to_vec() })?
        {
            received.copy_from_slice(&values);
        }
        Ok(())
    }

    fn gather(&mut self, chunk: &[f32], counts: &[usize], values: &mut [f32]) -> Result<(), GroupError> {
        if let Answer::Values(all) = self.ask(Request::Gather { chunk: chunk.to_vec(), counts: counts.to_vec() })? {
            values.copy_from_slice(&all);
        }
        Ok(())
    }

    fn gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, GroupError> {
        match self.ask(Request::GatherBytes(bytes.to_vec()))? {
            Answer::Bytes(all) => Ok(all),
            Answer::Values(_) => Ok(Vec::new()),
        }
    }

    fn abort(&mut self, code: i32) {
        // MPI ends this process too: there is no answer. Where its thread is stuck, the launcher ends the others once this one has.
        let _ = self.ask_for(Request::Abort(code), ABORT);
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // MPI is finalised there.
            let _ = thread.join();
        }
    }
}
