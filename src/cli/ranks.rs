//! `mpirun -np N rekindle train …`: this process as one of several that train together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Answer, Exit};
use crate::device::DeviceName;
use crate::distributed::{self, Group, GroupError};
use crate::error::failure;
use crate::train::TrainError;

/// Runs a training: alone, or together with the other processes that a launcher has started.
pub fn together(train: impl FnOnce(Option<Arc<Group>>) -> Answer) -> Answer {
    let group = match distributed::connect() {
        Ok(None) => return train(None),
        Ok(Some(group)) => Arc::new(group),
        // It is the same for all: one says so.
        Err(_) if distributed::launched().is_some_and(|launch| launch.rank > 0) => return Ok(Exit::Done),
        Err(error) => return Err(error.into()),
    };
    let answer = catch_unwind(AssertUnwindSafe(|| train(Some(group.clone()))));
    let answer = answer.unwrap_or_else(|panic| Err(anyhow::anyhow!(failure(&*panic))));
    end(&group, answer)
}

/// Ends this rank so that what the others do is not cut off: a launcher ends all of them when one ends with an error.
fn end(group: &Group, answer: Answer) -> Answer {
    match answer {
        Err(error) if !is_everywhere(&error) => {
            eprintln!("error: rank {} on {}: {}", group.rank(), group.host(), super::sentence(&error));
            group.abort(Exit::Error as i32);
            // Nobody waits for the others from here on.
            std::process::exit(Exit::Error as i32)
        }
        answer => {
            // Rank 0 has written everything when it comes here.
            let together = group.gather(&[]);
            if group.is_first() { answer } else { together.map(|_| Exit::Done).map_err(Into::into) }
        }
    }
}

fn is_everywhere(error: &anyhow::Error) -> bool {
    error.downcast_ref::<TrainError>().is_some_and(TrainError::is_everywhere)
        || error.downcast_ref::<GroupError>().is_some_and(GroupError::is_everywhere)
}

/// Something that every rank does, and that none has done unless all have.
pub fn agree<T>(group: Option<&Group>, result: anyhow::Result<T>) -> anyhow::Result<T> {
    match group {
        Some(group) => Ok(group.agree(result.map_err(|error| super::sentence(&error)))?),
        None => result,
    }
}

/// The device of this process: ranks of one machine take its adapters in turn.
pub fn device(name: DeviceName) -> DeviceName {
    distributed::launched().map_or(name, |launch| name.on_rank(launch.local_rank))
}
