//! Sums over ranks, value by value in rank order: the same bits on every rank, every time.

use std::ops::Range;

use super::{Group, GroupError, Pending, Transport};

/// Values that are summed in one go: what the other ranks send of them, 2 MiB between two, stays in a processor's cache.
const PIECE: usize = 1 << 20;

/// So many values of all ranks together are fewer than what a second message costs: each rank sums all of them.
const SHORT: usize = 1 << 16;

impl Group {
    /// The sum of values over all ranks, added in rank order: each rank gets the same bits, every time.
    ///
    /// Each rank sums one part, so a rank sends and receives `2 (size - 1) / size` of the values, as a ring does.
    pub fn sum(&self, mut values: Vec<f32>) -> Pending<Vec<f32>> {
        self.ask(move |transport| {
            if transport.size() > 1 {
                values.chunks_mut(PIECE).try_for_each(|piece| sum(transport, piece))?;
            }
            Ok(values)
        })
    }
}

/// Replaces values by their sum over all ranks.
fn sum(transport: &mut dyn Transport, values: &mut [f32]) -> Result<(), GroupError> {
    let (rank, size) = (transport.rank(), transport.size());
    let all = values.len() * size <= SHORT;
    let parts: Vec<Range<usize>> =
        (0..size).map(|rank| if all { 0..values.len() } else { share(values.len(), rank, size) }).collect();
    let own = parts[rank].clone();

    let mut others = vec![0.0; own.len() * (size - 1)];
    let mut chunks = others.chunks_exact_mut(own.len().max(1));
    let mut receive: Vec<&mut [f32]> = (0..size)
        .map(|other| if other == rank { Default::default() } else { chunks.next().unwrap_or_default() })
        .collect();
    let send: Vec<&[f32]> =
        parts.iter().enumerate().map(|(other, part)| if other == rank { &[] } else { &values[part.clone()] }).collect();
    transport.exchange(&send, &mut receive)?;
    receive.remove(rank);
    add(&mut values[own], &mut receive, rank);
    if all {
        return Ok(());
    }

    let (mut rest, mut sums): (&mut [f32], &[f32]) = (values, &[]);
    let mut receive = Vec::with_capacity(size);
    for (other, part) in parts.iter().enumerate() {
        let (part, after) = rest.split_at_mut(part.len());
        rest = after;
        if other == rank {
            sums = part;
            receive.push(Default::default());
        } else {
            receive.push(part);
        }
    }
    let send: Vec<&[f32]> = (0..size).map(|other| if other == rank { &[] } else { sums }).collect();
    transport.exchange(&send, &mut receive)
}

/// Adds what the other ranks have to what this one has, in rank order. What was received is of no use afterwards.
fn add(own: &mut [f32], others: &mut [&mut [f32]], rank: usize) {
    fn plus(sum: &mut [f32], values: &[f32]) {
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    let (before, after) = others.split_at_mut(rank);
    if let Some((first, more)) = before.split_first_mut() {
        more.iter().for_each(|values| plus(first, values));
        plus(own, first);
    }
    after.iter().for_each(|values| plus(own, values));
}

/// The part of `total` things that is a rank's: contiguous, in rank order, as even as can be.
fn share(total: usize, rank: usize, size: usize) -> Range<usize> {
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
            for len in [0, 1, 2, 5, 1000, SHORT / size, SHORT / size + 1, PIECE + 3] {
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
    fn a_rank_that_is_gone_is_an_error_for_the_others() {
        let answers =
            threads::run(
                3,
                |group| if group.rank() == 1 { Ok(Vec::new()) } else { group.wait(group.sum(vec![1.0; 8])) },
            );
        assert!(answers[0].is_err() && answers[2].is_err());
    }
}
