//! A connection: what was read and is not yet used, and when what is under way must be done.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::http::{Failure, is_timeout};
use super::BLOCK;
use super::head::{Head, head};

/// A connection that is kept waits this long for the next request.
const IDLE: Duration = Duration::from_secs(60);
/// A client has this long to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// How often a connection that waits looks whether the server stops.
const LOOK: Duration = Duration::from_millis(100);

/// A client.
pub(in crate::serve) struct Connection {
    pub(in crate::serve) stream: TcpStream,
    /// When what is under way must be done.
    pub(in crate::serve) deadline: Instant,
    /// Read, and not yet used.
    pub(super) buffer: Vec<u8>,
}

impl Read for Connection {
    /// Reads what is there, or waits for it until the deadline.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(into) {
                Err(error) if error.kind() == ErrorKind::Interrupted || is_timeout(&error) => {}
                other => return other,
            }
        }
    }
}

/// What a connection gives next.
pub(in crate::serve) enum Next {
    /// A request.
    Request(Head),
    /// It was closed, was silent for too long, or the server stops.
    Nothing,
    /// Something that is no request.
    Broken(Failure),
}

impl Connection {
    pub(in crate::serve) fn new(stream: TcpStream) -> Self {
        Self { stream, deadline: Instant::now() + IDLE, buffer: Vec::new() }
    }

    /// Waits for the next head. From its first byte on, the request has `time`.
    pub(in crate::serve) fn next(&mut self, stopping: &AtomicBool, time: Duration) -> Next {
        if self.buffer.is_empty() && !self.wait(stopping) {
            return Next::Nothing;
        }
        let began = Instant::now();
        self.deadline = began + HEAD.min(time);
        loop {
            match head(&self.buffer) {
                Ok(Some((head, length))) => {
                    self.buffer.drain(..length);
                    self.deadline = began + time;
                    return Next::Request(head);
                }
                Ok(None) => {}
                Err(failure) => return Next::Broken(failure),
            }
            match self.fill() {
                Ok(0) if self.buffer.is_empty() => return Next::Nothing,
                Ok(0) => return Next::Broken(Failure::wrong("the request ends in its head")),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {
                    let text = format!("the head of the request took longer than {} s", HEAD.min(time).as_secs_f64());
                    return Next::Broken(Failure(408, text));
                }
                Err(_) => return Next::Nothing,
            }
        }
    }

    /// Waits for a byte; says whether there is one.
    fn wait(&mut self, stopping: &AtomicBool) -> bool {
        let until = Instant::now() + IDLE;
        loop {
            if stopping.load(Ordering::Relaxed) || Instant::now() > until {
                return false;
            }
            self.deadline = Instant::now() + LOOK;
            match self.fill() {
                Ok(count) => return count > 0,
                Err(error) if is_timeout(&error) => {}
                Err(_) => return false,
            }
        }
    }

    /// Reads more into the buffer; 0 at the end.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        let mut block = [0; BLOCK];
        let count = self.read(&mut block)?;
        self.buffer.extend_from_slice(&block[..count]);
        Ok(count)
    }

    /// Whether the client has closed the connection.
    pub(in crate::serve) fn is_gone(&self) -> bool {
        if self.stream.set_nonblocking(true).is_err() {
            return true;
        }
        let peeked = self.stream.peek(&mut [0]);
        let _ = self.stream.set_nonblocking(false);
        match peeked {
            Ok(count) => count == 0,
            Err(error) => !is_timeout(&error) && error.kind() != ErrorKind::Interrupted,
        }
    }

    /// Sends bytes until the deadline.
    pub(in crate::serve) fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted || is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
