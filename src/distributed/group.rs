//! The ranks of one training, and the operations that they do together.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why ranks cannot work together.
#[derive(Debug, thiserror::Error)]
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
    /// Another rank is gone.
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

/// Values that are summed in one go: what is sent is copied once, and MPI counts in `i32`.
const BUCKET: usize = 1 << 24;

/// Bytes that are broadcast in one go.
const PIECE: usize = 1 << 28;

/// Moves values between ranks. Every operation is collective: each rank calls the same ones in the same order.
pub trait Transport: Send {
    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// The machine that this rank runs on.
    fn host(&self) -> String;

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

    /// Ends every rank at once, because this one cannot go on.
    fn abort(&mut self, code: i32);
}

/// The ranks of one training, as one of them sees it.
pub struct Group {
    transport: Mutex<Box<dyn Transport>>,
    waited: Mutex<Duration>,
    rank: usize,
    size: usize,
    host: String,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Group {
    /// The group that a transport connects.
    pub fn new(transport: impl Transport + 'static) -> Self {
        let (rank, size, host) = (transport.rank(), transport.size(), transport.host());
        Self { transport: Mutex::new(Box::new(transport)), waited: Mutex::default(), rank, size, host }
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

    /// Whether this is the rank that writes and prints.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Time spent in operations with the other ranks so far, waiting for them included.
    pub fn waited(&self) -> Duration {
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the other ranks.
    fn together<T>(&self, work: impl FnOnce(&mut dyn Transport) -> T) -> T {
        let begun = Instant::now();
        let mut transport: MutexGuard<'_, Box<dyn Transport>> =
            self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut **transport);
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner) += begun.elapsed();
        result
    }

    /// Replaces `values` by their sum over all ranks, added in rank order: each rank gets the same bits, every time.
    ///
    /// Each rank sums one chunk, so a rank sends and receives `2 (size - 1) / size` of the values, as a ring does.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn sum(&self, values: &mut [f32]) -> Result<(), GroupError> {
        if self.size == 1 {
            return Ok(());
        }
        values.chunks_mut(BUCKET).try_for_each(|bucket| self.sum_bucket(bucket))
    }

    fn sum_bucket(&self, values: &mut [f32]) -> Result<(), GroupError> {
        let counts: Vec<usize> = (0..self.size).map(|rank| share(values.len(), rank, self.size).len()).collect();
        let own = counts[self.rank];
        let mut received = vec![0.0; own * self.size];
        self.together(|transport| transport.scatter(values, &counts, &mut received))?;
        let (sums, others) = received.split_at_mut(own);
        for other in others.chunks_exact(own.max(1)) {
            sums.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        }
        self.together(|transport| transport.gather(sums, &counts, values))
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
        if self.size == 1 {
            return Ok(vec![bytes.to_vec()]);
        }
        self.together(|transport| transport.gather_bytes(bytes))
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
        if self.size > 1 {
            self.together(|transport| transport.abort(code));
        }
    }
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
                    let mut values: Vec<f32> = (0..len).map(|i| value(group.rank(), i)).collect();
                    group.sum(&mut values).unwrap();
                    values
                });
                let expected: Vec<f32> =
                    (0..len).map(|i| (1..size).fold(value(0, i), |sum, rank| sum + value(rank, i))).collect();
                for answer in answers {
                    assert!(answer.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
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
        let answers = threads::run(3, |group| if group.rank() == 1 { Ok(()) } else { group.sum(&mut [1.0; 8]) });
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
