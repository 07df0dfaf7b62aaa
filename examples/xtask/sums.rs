//! How long ranks take to add up values and to hear of each other: the constants of the guide's cost model.

use std::time::{Duration, Instant};

use rekindle::distributed::{self, Group, GroupError};

const MEGABYTES: [usize; 4] = [1, 4, 16, 64];
const ROUNDS: u32 = 20;

/// Values of 32 bits in a megabyte.
const VALUES: usize = 1_000_000 / 4;

pub fn run(arguments: Vec<String>) -> Result<bool, Box<dyn std::error::Error>> {
    let sizes = arguments.iter().map(|size| size.parse()).collect::<Result<Vec<usize>, _>>()?;
    let sizes = if sizes.is_empty() { MEGABYTES.to_vec() } else { sizes };
    let Some(group) = distributed::connect()? else {
        return Err("start several of it: mpirun -np 2 PROGRAM sums, built with the feature `mpi`".into());
    };
    let (message, _) = timed(&group, 200, || group.gather(&[]).map(drop))?;
    if group.is_first() {
        println!("{} ranks: a message {:.1} us", group.size(), message.as_secs_f64() * 1e6);
    }
    for size in sizes {
        let mut values = vec![1.0; size * VALUES];
        let (mean, best) = timed(&group, ROUNDS, || {
            values = group.wait(group.sum(std::mem::take(&mut values)))?;
            Ok(())
        })?;
        if group.is_first() {
            let bytes = 2.0 * (group.size() - 1) as f64 / group.size() as f64 * (size * VALUES * 4) as f64;
            println!(
                "{size} MB: {:.2} ms, at best {:.2} ms; each rank sends and receives {:.2} GB/s",
                mean.as_secs_f64() * 1e3,
                best.as_secs_f64() * 1e3,
                bytes / mean.as_secs_f64() / 1e9,
            );
        }
    }
    Ok(true)
}

/// The mean and the least time of something that all ranks do, after a first time.
fn timed(
    group: &Group,
    rounds: u32,
    mut work: impl FnMut() -> Result<(), GroupError>,
) -> Result<(Duration, Duration), GroupError> {
    let (mut all, mut best) = (Duration::ZERO, Duration::MAX);
    for round in 0..=rounds {
        group.gather(&[])?;
        let begun = Instant::now();
        work()?;
        if round > 0 {
            all += begun.elapsed();
            best = best.min(begun.elapsed());
        }
    }
    Ok((all / rounds, best))
}
