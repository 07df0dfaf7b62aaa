//! Requests from a connection: heads, and bodies of a declared length or in chunks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use httparse::Status;

use super::http::{Failure, is_timeout};

/// The most bytes of a head.
const MOST_HEAD: usize = 16 << 10;
/// The most headers.
const MOST_HEADERS: usize = 64;
/// A connection that is kept waits this long for the next request.
const IDLE: Duration = Duration::from_secs(60);
/// A client has this long to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// How often a connection that waits looks whether the server stops.
const LOOK: Duration = Duration::from_millis(100);
/// Read at once.
const BLOCK: usize = 16 << 10;

/// A client.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// When what is under way must be done.
    pub(super) deadline: Instant,
    /// Read, and not yet used.
    buffer: Vec<u8>,
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
pub(super) enum Next {
    /// A request.
    Request(Head),
    /// It was closed, was silent for too long, or the server stops.
    Nothing,
    /// Something that is no request.
    Broken(Failure),
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, deadline: Instant::now() + IDLE, buffer: Vec::new() }
    }

    /// Waits for the next head. From its first byte on, the request has `time`.
    pub(super) fn next(&mut self, stopping: &AtomicBool, time: Duration) -> Next {
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
    fn fill(&mut self) -> io::Result<usize> {
        let mut block = [0; BLOCK];
        let count = self.read(&mut block)?;
        self.buffer.extend_from_slice(&block[..count]);
        Ok(count)
    }

    /// Whether the client has closed the connection.
    pub(super) fn is_gone(&self) -> bool {
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
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
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

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// GET, POST, ….
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// Whether the client wants to send another request after this one.
    pub(super) keeps: bool,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The parts of the path between slashes, without percent codes.
    pub fn segments(&self) -> Vec<String> {
        self.path.split('/').filter(|part| !part.is_empty()).map(decoded).collect()
    }

    /// The value of a name in the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
    }
}

/// Text without percent codes. A code that is none stays as it is.
fn decoded(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A head and its length, when it is whole.
fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) if length <= MOST_HEAD => length,
        Ok(Status::Partial) if bytes.len() <= MOST_HEAD => return Ok(None),
        Ok(_) => return Err(Failure(431, format!("the head of the request has more than {MOST_HEAD} bytes"))),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Failure(431, format!("the request has more than {MOST_HEADERS} headers")));
        }
        Err(error) => return Err(Failure::wrong(format!("this is no HTTP request: {error}"))),
    };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_string()))
        .collect();
    let wants = |word: &str| {
        let connection = headers.iter().filter(|(name, _)| name == "connection");
        connection.flat_map(|(_, value)| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    let keeps = !wants("close") && (request.version == Some(1) || wants("keep-alive"));
    let method = request.method.unwrap_or_default().to_string();
    Ok(Some((Head { method, path: path.to_string(), query: query.to_string(), keeps, headers }, length)))
}

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
pub(super) struct Room {
    most: usize,
    taken: AtomicUsize,
}

impl Room {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

impl<'c> Body<'c> {
    pub(super) fn of(
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
    pub(super) fn is_read(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_whole_or_wrong() {
        let text = b"POST /models/a%20b/predict?top=3 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n\r\nrest";
        let (head_, length) = head(text).unwrap().unwrap();
        assert_eq!(&text[length..], b"rest");
        assert_eq!(
            (head_.segments(), head_.parameter("top")),
            (vec!["models".into(), "a b".into(), "predict".into()], Some("3".into()))
        );
        assert_eq!((head_.header("content-type"), head_.keeps), (Some("image/png"), true));
        assert_eq!(head(&text[..20]).unwrap(), None);
        assert_eq!(head(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap_err().0, 400);
        assert_eq!(head(&[b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; MOST_HEAD]].concat()).unwrap_err().0, 431);
        let many: String = (0..=MOST_HEADERS).map(|i| format!("H{i}: x\r\n")).collect();
        assert_eq!(head(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).unwrap_err().0, 431);
        assert!(!head(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().0.keeps);
    }

    #[test]
    fn percent_codes_that_are_none_stay() {
        assert_eq!(decoded("a%2Fb%zz%4"), "a/b%zz%4");
    }
}
