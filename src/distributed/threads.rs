//! Ranks as threads of one process: what tests run on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::{Group, GroupError, Transport};

/// What travels between two ranks.
enum Message {
    Values(Vec<f32>),
    Bytes(Vec<u8>),
}

/// One rank's ends of the channels to and from every rank.
struct Channels {
    rank: usize,
    to: Vec<Sender<Message>>,
    from: Vec<Receiver<Message>>,
}

impl Channels {
    fn lost(&self) -> GroupError {
        GroupError::Lost { rank: self.rank, host: self.host(), reason: "a thread has ended".into() }
    }

    /// Sends every rank a message, this one too, and receives theirs in rank order.
    fn swap(&self, message: impl Fn(usize) -> Message) -> Result<Vec<Message>, GroupError> {
        for (rank, to) in self.to.iter().enumerate() {
            to.send(message(rank)).map_err(|_| self.lost())?;
        }
        self.from.iter().map(|from| from.recv().map_err(|_| self.lost())).collect()
    }
}

impl Transport for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn host(&self) -> String {
        format!("thread {}", self.rank)
    }

    fn is_in_process(&self) -> bool {
        true
    }

    fn exchange(&mut self, send: &[&[f32]], receive: &mut [&mut [f32]]) -> Result<(), GroupError> {
        let messages = self.swap(|rank| Message::Values(send[rank].to_vec()))?;
        for (part, message) in receive.iter_mut().zip(messages) {
            let Message::Values(values) = message else { return Err(self.lost()) };
            part.copy_from_slice(&values);
        }
        Ok(())
    }

    fn gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, GroupError> {
        let answers = self.swap(|_| Message::Bytes(bytes.to_vec()))?;
        answers
            .into_iter()
            .map(|message| match message {
                Message::Bytes(bytes) => Ok(bytes),
                Message::Values(_) => Err(self.lost()),
            })
            .collect()
    }

    fn abort(&mut self, _: i32) {
        // The others notice that the channels of this rank are gone.
        self.to.clear();
    }
}

/// Groups for `size` ranks of this process, in rank order.
///
/// # Errors
/// When a thread cannot be started.
pub fn groups(size: usize) -> Result<Vec<Group>, GroupError> {
    let mut to: Vec<Vec<Sender<Message>>> = (0..size).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<Receiver<Message>>> = (0..size).map(|_| Vec::new()).collect();
    for sender in &mut to {
        for receiver in &mut from {
            let (send, receive) = channel();
            sender.push(send);
            receiver.push(receive);
        }
    }
    let group = |(rank, (to, from))| Group::start(move |_| Ok(Channels { rank, to, from }));
    to.into_iter().zip(from).enumerate().map(group).collect()
}

/// Runs something as each of `size` ranks, each on a thread of its own, and gives their answers in rank order.
///
/// # Panics
/// When a rank panics, or a thread cannot be started.
pub fn run<T: Send + 'static>(size: usize, rank: impl Fn(Group) -> T + Send + Sync + 'static) -> Vec<T> {
    let rank = Arc::new(rank);
    let threads: Vec<_> = groups(size)
        .unwrap_or_else(|error| panic!("{error}"))
        .into_iter()
        .map(|group| {
            let rank = Arc::clone(&rank);
            thread::spawn(move || rank(group))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
}
