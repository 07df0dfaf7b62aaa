//! Bodies of requests: of a declared length or in chunks.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use httparse::Status;

use super::super::http::{Failure, is_timeout};
use super::connection::Connection;
use super::head::Head;
use super::{BLOCK, MOST_HEAD};

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
}

/// The body of a request, not yet read.
pub struct Body<'c> {
    connection: &'c mut Connection,
    length: Length,
    most: usize,
    room: &'c Room,
    /// Bytes of the room that it takes.
    taken: usize,
    /// The client waits for a word before it sends.
    expects: bool,
    is_read: bool,
}

/// Memory for the bodies of all requests that are under way.
pub(in crate::serve) struct Room {
    most: usize,
    taken: AtomicUsize,
}

impl Room {
    pub(in crate::serve) fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

impl<'c> Body<'c> {
    pub(in crate::serve) fn of(
        head: &Head,
        connection: &'c mut Connection,
        most: usize,
        room: &'c Room,
    ) -> Result<Self, Failure> {
        let values = |name: &'static str| {
            let all = head.headers.iter().filter(move |(known, _)| known == name);
            all.map(|(_, value)| value.as_str())
        };
        let lengths: Vec<&str> = values("content-length").collect();
        let codings: Vec<&str> = values("transfer-encoding").collect();
        let length = match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Length::Known(0),
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Length::Chunked,
            ([], _) => return Err(Failure(501, "of transfer encodings only chunked is read".into())),
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) && !length.is_empty() => {
                Length::Known(length.parse().unwrap_or(usize::MAX))
            }
            // Two lengths are how a request is hidden from a proxy.
            _ => return Err(Failure::wrong("the length of the body is not clear: expected one Content-Length")),
        };
        let expects = head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        let is_read = length == Length::Known(0);
        Ok(Self { connection, length, most, room, taken: 0, expects, is_read })
    }

    /// Whether nothing of it is left on the connection.
    pub(in crate::serve) fn is_read(&self) -> bool {
        self.is_read
    }

    /// When the request must be answered.
    pub fn deadline(&self) -> Instant {
        self.connection.deadline
    }

    /// Whether the client has gone away.
    pub fn is_gone(&self) -> bool {
        self.connection.is_gone()
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is larger than the limit, malformed, cut off, or too slow.
    pub fn read(&mut self) -> Result<Vec<u8>, Failure> {
        let too_large = Failure(413, format!("the body has more than {} bytes", self.most));
        match self.length {
            Length::Known(length) if length > self.most => return Err(too_large),
            _ if self.is_read => return Ok(Vec::new()),
            _ => {}
        }
        if self.expects && self.connection.buffer.is_empty() {
            self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|error| broken(&error))?;
        }
        let body = match self.length {
            Length::Known(length) => {
                let mut body = Vec::new();
                self.take(length, &mut body)?;
                body
            }
            Length::Chunked => self.chunks(&too_large)?,
        };
        self.is_read = true;
        Ok(body)
    }

    /// Appends so many bytes. Memory is asked for as they come, not as they are announced.
    fn take(&mut self, mut count: usize, body: &mut Vec<u8>) -> Result<(), Failure> {
        let here = count.min(self.connection.buffer.len());
        body.extend(self.connection.buffer.drain(..here));
        count -= here;
        let mut block = [0; BLOCK];
        while count > 0 {
            let most = count.min(BLOCK);
            let read = self.connection.read(&mut block[..most]).map_err(|error| broken(&error))?;
            if read == 0 {
                return Err(Failure::wrong("the request ends in its body"));
            }
            self.taken += read;
            if self.room.taken.fetch_add(read, Ordering::Relaxed) + read > self.room.most {
                return Err(Failure(503, "the requests under way take all the memory there is: try again".into()));
            }
            body.extend_from_slice(&block[..read]);
            count -= read;
        }
        Ok(())
    }

    fn chunks(&mut self, too_large: &Failure) -> Result<Vec<u8>, Failure> {
        let malformed = || Failure::wrong("the chunks of the body are malformed");
        let mut body = Vec::new();
        loop {
            let (line, size) = loop {
                match httparse::parse_chunk_size(&self.connection.buffer) {
                    Ok(Status::Complete(found)) => break found,
                    Ok(Status::Partial) if self.connection.buffer.len() <= MOST_HEAD => self.more()?,
                    _ => return Err(malformed()),
                }
            };
            self.connection.buffer.drain(..line);
            if size == 0 {
                return self.trailer().map(|()| body);
            }
            let size = usize::try_from(size).ok().filter(|size| *size <= self.most - body.len());
            self.take(size.ok_or_else(|| too_large.clone())?, &mut body)?;
            let mut end = Vec::new();
            self.take(2, &mut end)?;
            if end != b"\r\n" {
                return Err(malformed());
            }
        }
    }

    /// Passes over the lines behind the last chunk.
    fn trailer(&mut self) -> Result<(), Failure> {
        let mut passed = 0;
        loop {
            if let Some(end) = self.connection.buffer.windows(2).position(|pair| pair == b"\r\n") {
                self.connection.buffer.drain(..end + 2);
                if end == 0 {
                    return Ok(());
                }
                passed += end;
            } else {
                self.more()?;
            }
            if passed + self.connection.buffer.len() > MOST_HEAD + BLOCK {
                return Err(Failure::wrong("the trailer of the body is too long"));
            }
        }
    }

    fn more(&mut self) -> Result<(), Failure> {
        match self.connection.fill() {
            Ok(0) => Err(Failure::wrong("the request ends in its body")),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(&error)),
        }
    }
}

/// Why a body did not come.
fn broken(error: &io::Error) -> Failure {
    if is_timeout(error) {
        Failure(408, "the body of the request took too long".into())
    } else {
        Failure::wrong(format!("the body cannot be read: {error}"))
    }
}
