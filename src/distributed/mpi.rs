//! Ranks as processes that MPI connects, on one machine or many.
//!
//! MPI's handles stay on the group's thread: MPI then needs no locks of its own, and nothing here is unsafe.

use std::cell::{Cell, RefCell};
use std::thread;
use std::time::{Duration, Instant};

use mpi::Count;
use mpi::Threading;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::request::{Request, Scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};

use super::{Group, GroupError, Launch, Link, Transport};

/// Bytes of a message that travels with its length, the length included.
const SHORT: usize = 64;

/// Bytes of the length.
const LENGTH: usize = 8;

/// For how long a transport that is waited for asks without a pause: it is the asking that moves values.
const AWAKE: Duration = Duration::from_millis(50);

/// The pause after that, and while nobody waits: cores that compute must not be taken from it.
const PAUSE: Duration = Duration::from_micros(200);

/// How often ranks let each other know that they are there.
const BEAT: Duration = Duration::from_secs(1);

/// So many beats missed, and a rank is gone.
const MISSED: usize = 8;

/// The tag of these messages.
const TAG: i32 = 77;

/// The tag of values.
const VALUES: i32 = 78;

struct Mpi {
    world: SimpleCommunicator,
    hosts: Vec<String>,
    link: Link,
    beaten: Cell<Instant>,
    /// For each rank, how many beats of this one's have passed since it was heard of. Rank 0 and each other one listen to each other.
    missed: RefCell<Vec<usize>>,
    /// MPI is finalised when this is dropped.
    _universe: Universe,
}

/// Starts MPI in a process that a launcher started.
pub(super) fn connect(launch: Launch) -> Result<Group, GroupError> {
    Group::start(move |link| {
        let start = |reason: String| GroupError::Start { reason };
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)
            .ok_or_else(|| start("it was started before in this process".into()))?;
        let world = universe.world();
        let size = world.size() as usize;
        if size != launch.size {
            let reason = format!(
                "{} started {} processes, but MPI sees {size}: the program was built with another MPI than the launcher's",
                launch.launcher, launch.size
            );
            return Err(start(reason));
        }
        let (beaten, missed) = (Cell::new(Instant::now()), RefCell::new(vec![0; size]));
        let mut mpi = Mpi { world, hosts: Vec::new(), link, beaten, missed, _universe: universe };
        let hosts = mpi.gather_bytes(mpi.host().as_bytes())?;
        mpi.hosts = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
        Ok(mpi)
    })
}

impl Mpi {
    /// Waits for everything that was begun. MPI's own waiting keeps a core busy, and never ends when a rank is gone.
    fn finish<'a, D: ?Sized + 'a, S: Scope<'a>>(&self, begun: impl IntoIterator<Item = Request<'a, D, S>>) {
        let mut left: Vec<Request<'a, D, S>> = begun.into_iter().collect();
        let since = Instant::now();
        loop {
            left = left.into_iter().filter_map(|request| request.test().err()).collect();
            if left.is_empty() {
                return;
            }
            if self.link.is_awaited() && since.elapsed() < AWAKE {
                thread::yield_now();
            } else {
                self.link.rest(PAUSE);
            }
            self.beat();
        }
    }

    /// Lets the others know that this rank is there, and looks whether they are.
    fn beat(&self) {
        if self.beaten.get().elapsed() < BEAT {
            return;
        }
        self.beaten.set(Instant::now());
        let mut missed = self.missed.borrow_mut();
        missed.iter_mut().for_each(|missed| *missed += 1);
        while let Some(status) = self.world.any_process().immediate_probe_with_tag(TAG) {
            let (_, status) = self.world.process_at_rank(status.source_rank()).receive_with_tag::<u8>(TAG);
            missed[status.source_rank() as usize] = 0;
        }
        let others = if self.world.rank() == 0 { 1..self.hosts.len() } else { 0..self.hosts.len().min(1) };
        for rank in others {
            if missed[rank] > MISSED {
                // What was begun with that rank never ends, and MPI must not be left in the middle of it.
                self.link.raise(GroupError::Gone { rank, host: self.hosts[rank].clone(), seconds: MISSED });
                loop {
                    thread::park();
                }
            }
            self.world.process_at_rank(rank as i32).send_with_tag(&0u8, TAG);
        }
    }

    fn gather_parts(&self, part: &[u8], lengths: &[usize]) -> Vec<u8> {
        let mut all = vec![0u8; lengths.iter().sum()];
        let (counts, starts) = layout(lengths);
        let mut into = PartitionMut::new(&mut all[..], counts, starts);
        mpi::request::scope(|scope| {
            self.finish([self.world.immediate_all_gather_varcount_into(scope, part, &mut into)]);
        });
        drop(into);
        all
    }
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

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn host(&self) -> String {
        mpi::environment::processor_name().unwrap_or_else(|_| "an unnamed host".to_string())
    }

    fn exchange(&mut self, send: &[&[f32]], receive: &mut [&mut [f32]]) -> Result<(), GroupError> {
        let others = |rank: &usize| *rank != self.rank();
        mpi::request::scope(|scope| {
            let parts = receive.iter_mut().enumerate().filter(|(rank, _)| others(rank));
            let mut begun: Vec<_> = parts
                .map(|(rank, part)| {
                    self.world.process_at_rank(rank as i32).immediate_receive_into_with_tag(scope, &mut **part, VALUES)
                })
                .collect();
            let parts = send.iter().enumerate().filter(|(rank, _)| others(rank));
            begun.extend(parts.map(|(rank, part)| {
                self.world.process_at_rank(rank as i32).immediate_send_with_tag(scope, *part, VALUES)
            }));
            self.finish(begun);
        });
        Ok(())
    }

    /// Short messages, which every step has, travel with their lengths.
    fn gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, GroupError> {
        let mut short = [0u8; SHORT];
        let begin = &bytes[..bytes.len().min(SHORT - LENGTH)];
        short[..LENGTH].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        short[LENGTH..LENGTH + begin.len()].copy_from_slice(begin);
        let mut all = vec![0u8; SHORT * self.size()];
        mpi::request::scope(|scope| {
            self.finish([self.world.immediate_all_gather_into(scope, &short[..], &mut all[..])]);
        });
        let parts = all.chunks_exact(SHORT).map(|part| part.split_at(LENGTH));
        let length = |length: &[u8]| length.try_into().map_or(0, u64::from_le_bytes) as usize;
        let parts: Vec<(usize, &[u8])> = parts.map(|(bytes, rest)| (length(bytes), rest)).collect();
        if parts.iter().all(|(length, begin)| *length <= begin.len()) {
            return Ok(parts.into_iter().map(|(length, begin)| begin[..length].to_vec()).collect());
        }
        let lengths: Vec<usize> = parts.into_iter().map(|(length, _)| length).collect();
        let all = self.gather_parts(bytes, &lengths);
        let mut rest = &all[..];
        let take = |length: usize| {
            let (bytes, after) = rest.split_at(length);
            rest = after;
            bytes.to_vec()
        };
        Ok(lengths.into_iter().map(take).collect())
    }

    fn idle(&mut self) {
        self.beat();
    }

    fn abort(&mut self, code: i32) {
        self.world.abort(code);
    }
}
