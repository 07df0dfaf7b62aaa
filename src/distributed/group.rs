//! The ranks of one training, and the thread that speaks to them: sums and messages are asked of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{GroupError, Link, Transport};

/// For how long the other ranks may keep this one waiting, in seconds, unless `REKINDLE_RANKS_TIMEOUT` says otherwise. As with
/// PyTorch's NCCL, this is longer than writing any checkpoint takes.
const PATIENCE: u64 = 600;

/// How long ending every rank may take before this process ends by itself.
const ABORT: Duration = Duration::from_secs(3);

/// How long a launcher may take, after a rank is gone, to find that out by itself and to end this process. A process that ends before
/// makes the launcher send word to the lost machine: it then waits for TCP to give up, which is after 15 minutes.
const LAUNCHER: Duration = Duration::from_secs(10);

/// How often the thread looks after the connection, and a waiting one whether it still stands.
const TICK: Duration = Duration::from_secs(1);

/// Something to do with the other ranks.
type Job = Box<dyn FnOnce(&mut dyn Transport) + Send>;

/// The ranks of one training, as one of them sees it.
///
/// A thread of its own speaks to the others: what is asked of it is done in the order of asking, while the asking thread goes on.
pub struct Group {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Whether the thread waits for ranks that do not come: nobody must wait for it.
    stuck: AtomicBool,
    link: Link,
    patience: Duration,
    waited: Mutex<Duration>,
    rank: usize,
    size: usize,
    host: String,
    in_process: bool,
}

/// Something that was asked for and may not be there yet: see [`Group::wait`].
pub struct Pending<T>(Receiver<Result<T, GroupError>>);

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Group {
    /// The group that a transport connects; it is made, used and dropped on the group's thread.
    ///
    /// # Errors
    /// When the transport cannot be made.
    pub fn start<T: Transport>(
        make: impl FnOnce(Link) -> Result<T, GroupError> + Send + 'static,
    ) -> Result<Self, GroupError> {
        let link = Link::default();
        let there = link.clone();
        let (jobs, incoming) = channel::<Job>();
        let (ready, started) = channel();
        let serve = move || {
            let mut transport = match make(there) {
                Ok(transport) => transport,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let who = (transport.rank(), transport.size(), transport.host(), transport.is_in_process());
            let mut wanted = ready.send(Ok(who)).is_ok();
            while wanted {
                match incoming.recv_timeout(TICK) {
                    Ok(job) => job(&mut transport),
                    Err(RecvTimeoutError::Timeout) => transport.idle(),
                    Err(RecvTimeoutError::Disconnected) => wanted = false,
                }
            }
        };
        let failed = |reason: String| GroupError::Start { reason };
        let thread = thread::Builder::new().name("ranks".into()).spawn(serve);
        let thread = thread.map_err(|error| failed(error.to_string()))?;
        let (rank, size, host, in_process) = started.recv().map_err(|_| failed("its thread has ended".into()))??;
        let patience = std::env::var("REKINDLE_RANKS_TIMEOUT").ok().and_then(|seconds| seconds.parse().ok());
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            stuck: AtomicBool::new(false),
            link,
            patience: Duration::from_secs(patience.unwrap_or(PATIENCE)),
            waited: Mutex::default(),
            rank,
            size,
            host,
            in_process,
        })
    }

    /// Number of this rank, from 0. Rank 0 alone writes and prints.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The machine that this rank runs on.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether all ranks are threads of this process.
    pub fn is_in_process(&self) -> bool {
        self.in_process
    }

    /// Whether this is the rank that writes and prints.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Time spent waiting for the other ranks so far, and for what is done together with them.
    pub fn waited(&self) -> Duration {
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for something to be done with the other ranks, after what was asked for before.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Transport) -> Result<T, GroupError> + Send + 'static,
    ) -> Pending<T> {
        let (answer, pending) = channel();
        let job: Job = Box::new(move |transport| drop(answer.send(work(transport))));
        // A thread that has ended answers nothing, which is what waiting finds.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
        Pending(pending)
    }

    /// Waits for something that was asked for.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn wait<T>(&self, pending: Pending<T>) -> Result<T, GroupError> {
        self.wait_for(pending, self.patience)
    }

    fn wait_for<T>(&self, pending: Pending<T>, patience: Duration) -> Result<T, GroupError> {
        let begun = Instant::now();
        let lost = |reason: String| Err(GroupError::Lost { rank: self.rank, host: self.host.clone(), reason });
        let answer = self.link.waiting(|| {
            loop {
                let left = patience.saturating_sub(begun.elapsed());
                match pending.0.recv_timeout(TICK.min(left)) {
                    Ok(answer) => break answer,
                    Err(RecvTimeoutError::Disconnected) => {
                        break lost("the thread that speaks to them has ended".into());
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        let lost_there = self.link.raised();
                        if lost_there.is_some() || begun.elapsed() >= patience {
                            self.stuck.store(true, Ordering::Relaxed);
                            let silent = || lost(format!("they have not answered for {} s", patience.as_secs()));
                            break lost_there.map_or_else(silent, Err);
                        }
                    }
                }
            }
        });
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner) += begun.elapsed();
        answer
    }

    /// Ends every rank at once, because this one cannot go on. The caller has said why.
    pub fn abort(&self, code: i32) {
        if self.link.raised().is_some() {
            thread::sleep(LAUNCHER);
        } else if self.size > 1 && !self.stuck.load(Ordering::Relaxed) {
            // MPI ends this process too: there is no answer. Where the thread is stuck, the launcher ends the others once this
            // process has ended.
            let end = move |transport: &mut dyn Transport| {
                transport.abort(code);
                Ok(())
            };
            let _ = self.wait_for(self.ask(end), ABORT);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.jobs = None;
        let stuck = self.stuck.load(Ordering::Relaxed);
        if let Some(thread) =
            self.thread.take().filter(|thread| !stuck && thread.thread().id() != thread::current().id())
        {
            // The transport ends there, after what was asked for.
            let _ = thread.join();
        }
    }
}
