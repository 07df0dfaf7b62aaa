//! The ranks of one training, and the operations that they do together.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Alarm, GroupError, Transport};

/// Values that are summed in one go: MPI counts in `i32`, and what is received needs memory once more.
const BUCKET: usize = 1 << 24;

/// Bytes that are broadcast in one go.
const PIECE: usize = 1 << 28;

/// For how long the other ranks may keep this one waiting, in seconds, unless `REKINDLE_RANKS_TIMEOUT` says otherwise. As with
/// PyTorch's NCCL, this is longer than writing any checkpoint takes.
const PATIENCE: u64 = 600;

/// How long ending every rank may take before this process ends by itself.
const ABORT: Duration = Duration::from_secs(3);

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
    alarm: Alarm,
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
        make: impl FnOnce(Alarm) -> Result<T, GroupError> + Send + 'static,
    ) -> Result<Self, GroupError> {
        let alarm = Alarm::default();
        let raised = alarm.clone();
        let (jobs, incoming) = channel::<Job>();
        let (ready, started) = channel();
        let serve = move || {
            let mut transport = match make(raised) {
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
            alarm,
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
    fn ask<T: Send + 'static>(
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
        let answer = loop {
            let left = patience.saturating_sub(begun.elapsed());
            match pending.0.recv_timeout(TICK.min(left)) {
                Ok(answer) => break answer,
                Err(RecvTimeoutError::Disconnected) => break lost("the thread that speaks to them has ended".into()),
                Err(RecvTimeoutError::Timeout) => {
                    let alarm = self.alarm.raised();
                    if alarm.is_some() || begun.elapsed() >= patience {
                        self.stuck.store(true, Ordering::Relaxed);
                        let silent = || lost(format!("they have not answered for {} s", patience.as_secs()));
                        break alarm.map_or_else(silent, Err);
                    }
                }
            }
        };
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner) += begun.elapsed();
        answer
    }

    /// The sum of values over all ranks, added in rank order: each rank gets the same bits, every time.
    ///
    /// Each rank sums one chunk, so a rank sends and receives `2 (size - 1) / size` of the values, as a ring does.
    pub fn sum(&self, mut values: Vec<f32>) -> Pending<Vec<f32>> {
        self.ask(move |transport| {
            if transport.size() > 1 {
                values.chunks_mut(BUCKET).try_for_each(|bucket| sum(transport, bucket))?;
            }
            Ok(values)
        })
    }

    /// Whether any rank says so.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn any(&self, here: bool) -> Result<bool, GroupError> {
        Ok(self.gather(&[u8::from(here)])?.iter().any(|answer| answer.first() == Some(&1)))
    }

    /// The bytes of every rank, in rank order. With rank 0's bytes alone it is a broadcast, and in any case a barrier.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, GroupError> {
        let bytes = bytes.to_vec();
        if self.size == 1 {
            return Ok(vec![bytes]);
        }
        self.wait(self.ask(move |transport| transport.gather_bytes(&bytes)))
    }

    /// The bytes of rank 0 on every rank; the others give none.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn broadcast(&self, bytes: &[u8]) -> Result<Vec<u8>, GroupError> {
        let first = |bytes: &[u8]| -> Result<Vec<u8>, GroupError> {
            Ok(self.gather(if self.is_first() { bytes } else { &[] })?.into_iter().next().unwrap_or_default())
        };
        let length = first(&(bytes.len() as u64).to_le_bytes())?;
        let length = length.try_into().map_or(0, u64::from_le_bytes) as usize;
        let mut all = Vec::with_capacity(length);
        for piece in 0..length.div_ceil(PIECE) {
            let here = if self.is_first() { &bytes[piece * PIECE..length.min((piece + 1) * PIECE)] } else { &[] };
            all.extend(first(here)?);
        }
        Ok(all)
    }

    /// What every rank tells, in rank order, if each has something to tell: otherwise the first failure, on every rank.
    ///
    /// # Errors
    /// When any rank failed, or is gone.
    pub fn exchange<E: std::fmt::Display>(&self, told: Result<Vec<u8>, E>) -> Result<Vec<Vec<u8>>, GroupError> {
        let told = match told {
            Ok(bytes) => [&[0], &bytes[..]].concat(),
            Err(error) => [&[1], format!("{}\n{error}", self.host).as_bytes()].concat(),
        };
        let mut answers = self.gather(&told)?;
        if let Some(rank) = answers.iter().position(|answer| answer.first() != Some(&0)) {
            let text = String::from_utf8_lossy(answers[rank].get(1..).unwrap_or_default()).into_owned();
            let (host, reason) = text.split_once('\n').unwrap_or_default();
            return Err(GroupError::Failed { rank, host: host.to_string(), reason: reason.to_string() });
        }
        Ok(answers.iter_mut().map(|answer| answer.split_off(1)).collect())
    }

    /// What this rank has done, if every rank has: otherwise the first failure, on every rank.
    ///
    /// # Errors
    /// When any rank failed, or is gone.
    pub fn agree<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> Result<T, GroupError> {
        let (value, told) = match result {
            Ok(value) => (Some(value), Ok(Vec::new())),
            Err(error) => (None, Err(error)),
        };
        self.exchange(told)?;
        value.ok_or_else(|| GroupError::Failed {
            rank: self.rank,
            host: self.host.clone(),
            reason: "its own failure was not told".to_string(),
        })
    }

    /// Checks that every rank was started with the same thing as rank 0.
    ///
    /// # Errors
    /// On every rank, with the first rank that differs.
    pub fn check_same(&self, what: &str, value: &str) -> Result<(), GroupError> {
        let answers = self.gather(format!("{}\n{value}", self.host).as_bytes())?;
        let answers: Vec<(String, String)> = answers
            .iter()
            .map(|answer| {
                let text = String::from_utf8_lossy(answer).into_owned();
                text.split_once('\n').map_or_else(Default::default, |(host, value)| (host.into(), value.into()))
            })
            .collect();
        let expected = &answers[0].1;
        match answers.iter().enumerate().find(|(_, (_, value))| value != expected) {
            None => Ok(()),
            Some((rank, (host, found))) => Err(GroupError::Differs {
                rank,
                host: host.clone(),
                what: what.to_string(),
                found: found.clone(),
                expected: expected.clone(),
            }),
        }
    }

    /// Ends every rank at once, because this one cannot go on. The caller has said why.
    pub fn abort(&self, code: i32) {
        if self.size > 1 && !self.stuck.load(Ordering::Relaxed) {
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

/// Replaces values by their sum over all ranks, in rank order.
fn sum(transport: &mut dyn Transport, values: &mut [f32]) -> Result<(), GroupError> {
    let (rank, size) = (transport.rank(), transport.size());
    let counts: Vec<usize> = (0..size).map(|rank| share(values.len(), rank, size).len()).collect();
    let own = counts[rank];
    let mut received = vec![0.0; own * size];
    transport.scatter(values, &counts, &mut received)?;
    let (sums, others) = received.split_at_mut(own);
    for other in others.chunks_exact(own.max(1)) {
        sums.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
    }
    transport.gather(sums, &counts, values)
}

/// The part of `total` things that is a rank's: contiguous, in rank order, as even as can be.
pub fn share(total: usize, rank: usize, size: usize) -> Range<usize> {
    let start = |rank: usize| rank * (total / size) + rank.min(total % size);
    start(rank)..start(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::super::threads;
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for size in 1..7 {
            for total in 0..40 {
                let shares: Vec<_> = (0..size).map(|rank| share(total, rank, size)).collect();
                assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert_eq!((shares[0].start, shares[size - 1].end), (0, total));
                assert!(shares.iter().all(|share| share.len() - total / size <= 1));
            }
        }
    }

    #[test]
    fn sums_are_in_rank_order_on_every_rank() {
        for size in [1, 2, 3, 4] {
            for len in [0, 1, 2, 5, 1000] {
                let value =
                    |rank: usize, i: usize| ((i * 7 + rank * 13) as f32).sin() * 10f32.powi((rank % 3) as i32 * 3);
                let answers = threads::run(size, move |group| {
                    let values = |more: usize| (0..len).map(|i| value(group.rank(), i + more)).collect();
                    // What was asked for is done in order, whenever it is waited for.
                    let (first, second) = (group.sum(values(0)), group.sum(values(1)));
                    assert_eq!(group.gather(&[]).unwrap().len(), size);
                    (group.wait(second).unwrap(), group.wait(first).unwrap())
                });
                let expected = |i: usize| (1..size).fold(value(0, i), |sum, rank| sum + value(rank, i));
                for (second, first) in answers {
                    assert_eq!((first.len(), second.len()), (len, len));
                    assert!((0..len).all(|i| first[i].to_bits() == expected(i).to_bits()));
                    assert!((0..len).all(|i| second[i].to_bits() == expected(i + 1).to_bits()));
                }
            }
        }
    }

    #[test]
    fn a_difference_is_named_on_every_rank() {
        let errors = threads::run(3, |group| {
            let recipe = if group.rank() == 2 { "b" } else { "a" };
            group.check_same("program", "1").unwrap();
            group.check_same("recipe", recipe).unwrap_err().to_string()
        });
        for error in errors {
            assert!(error.starts_with("rank 2 on "), "{error}");
            assert!(error.ends_with("has another recipe than rank 0: found b, expected a"), "{error}");
        }
    }

    #[test]
    fn a_rank_that_is_gone_is_an_error_for_the_others() {
        let answers =
            threads::run(
                3,
                |group| if group.rank() == 1 { Ok(Vec::new()) } else { group.wait(group.sum(vec![1.0; 8])) },
            );
        assert!(answers[0].is_err() && answers[2].is_err());
    }

    #[test]
    fn any_rank_can_say_so() {
        let answers = threads::run(4, |group| {
            let told = (group.any(group.rank() == 3).unwrap(), group.any(false).unwrap());
            let bytes = group.broadcast(if group.is_first() { b"weights" } else { b"" }).unwrap();
            (told, bytes)
        });
        assert!(answers.iter().all(|answer| *answer == ((true, false), b"weights".to_vec())));
    }

    #[test]
    fn a_failure_of_one_is_known_to_all() {
        let answers = threads::run(3, |group| {
            let result = if group.rank() == 1 { Err("no such file") } else { Ok(1) };
            let error = group.agree(result).unwrap_err();
            assert!(error.is_everywhere());
            (error.to_string(), group.agree(Ok::<_, String>(group.rank())).unwrap())
        });
        for (rank, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer, ("rank 1 on thread 1: no such file".to_string(), rank));
        }
    }
}
