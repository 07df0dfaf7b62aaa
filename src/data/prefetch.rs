//! Threads that work ahead, with results in order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::DataError;

/// Finished results that each thread may have waiting.
const AHEAD: usize = 2;

/// Results of `make(n)` for each `n` of a range, in order, made by a number of threads. Thread
/// `w` makes every `workers`-th result and has a channel of its own, so that the order needs no
/// sorting and no thread runs further ahead than its channel holds.
pub(crate) struct Prefetch<T> {
    receivers: Vec<Receiver<T>>,
    threads: Vec<JoinHandle<()>>,
    left: Range<usize>,
    turn: usize,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts the threads; `workers` is at least 1.
    pub fn start(
        workers: usize,
        range: Range<usize>,
        make: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Result<Self, DataError> {
        let make = Arc::new(make);
        let mut prefetch = Self { receivers: Vec::new(), threads: Vec::new(), left: range.clone(), turn: 0 };
        for worker in 0..workers.min(range.len()) {
            let (sender, receiver) = sync_channel(AHEAD);
            let numbers = range.clone().skip(worker).step_by(workers);
            let make = Arc::clone(&make);
            let thread = thread::Builder::new()
                .name(format!("loader-{worker}"))
                .spawn(move || work(numbers, &*make, &sender))
                .map_err(|error| DataError::Worker { what: format!("could not be started ({error})") })?;
            prefetch.receivers.push(receiver);
            prefetch.threads.push(thread);
        }
        Ok(prefetch)
    }
}

fn work<T>(numbers: impl Iterator<Item = usize>, make: impl Fn(usize) -> T, out: &SyncSender<T>) {
    for number in numbers {
        // Nobody listens any more: the iteration was given up.
        if out.send(make(number)).is_err() {
            return;
        }
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left.next()?;
        let receiver = &self.receivers[self.turn];
        self.turn = (self.turn + 1) % self.receivers.len();
        Some(receiver.recv().map_err(|_| {
            // The order is broken; nothing can follow.
            self.left = 0..0;
            DataError::Worker { what: "ended before its work was done".to_owned() }
        }))
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // Closed channels end the threads after the result at hand.
        self.receivers.clear();
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened, and its result as missing.
            let _ = thread.join();
        }
    }
}
