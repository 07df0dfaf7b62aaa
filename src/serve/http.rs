//! HTTP/1.1 over blocking sockets: a thread a connection, limits on sizes and times, and a stop that finishes what was taken.
//!
//! Heads are parsed by `httparse`. A request is answered by a [`Service`], which reads the body when it wants it: a client without
//! a token sends none. Every wait has a deadline, so that a slow client holds nothing but its thread.

use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::request::{Body, Connection, Head, Next, Room};

/// More connections than this are refused.
const MOST_CONNECTIONS: usize = 1024;
/// Bodies of the largest size that fit into memory at once; of smaller ones more.
const BODIES: usize = 16;
/// A connection needs little more than its buffers, and room for nested JSON and for decoding images.
const STACK: usize = 2 << 20;
/// Requests that are under way when the server stops have this long to be answered.
const LEAVING: Duration = Duration::from_secs(20);
/// How often the flag to stop is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// After an error of the system (no file descriptor left), accepting waits this long.
const PAUSE: Duration = Duration::from_millis(100);
/// A client that still sends when it was answered is listened to for this long: else it might lose the answer.
const LINGER: Duration = Duration::from_secs(2);

/// What answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one. A body that is not read is not waited for: the connection is closed.
    fn answer(&self, head: &Head, body: &mut Body<'_>) -> Reply;

    /// Hears of a request whose head was no HTTP, or never became whole.
    fn refused(&self, status: u16);
}

/// Limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes of a body.
    pub body: usize,
    /// The longest a request may take, from its first byte to the last one of its answer.
    pub time: Duration,
}

/// An answer.
pub struct Reply {
    /// The status: 200.
    pub status: u16,
    /// Headers beside those of the length and the connection.
    pub headers: Vec<(&'static str, String)>,
    /// What follows the head.
    pub content: Content,
}

/// What follows the head of an answer.
pub enum Content {
    /// Bytes.
    Whole(Vec<u8>),
    /// What is written until there is no more, or the client goes; then the connection is closed.
    Stream(Write),
}

/// Writes an answer bit by bit.
pub type Write = Box<dyn FnOnce(&mut Stream<'_>) -> io::Result<()>>;

/// An answer that is an error: a status and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub u16, pub String);

impl Failure {
    /// The request is wrong.
    pub fn wrong(text: impl Into<String>) -> Self {
        Self(400, text.into())
    }

    /// The server failed.
    pub fn inner(text: impl Into<String>) -> Self {
        Self(500, text.into())
    }
}

impl From<Failure> for Reply {
    fn from(Failure(status, text): Failure) -> Self {
        let mut reply = Self { status, ..Self::json(&serde_json::json!({ "error": text })) };
        if status == 503 {
            reply.headers.push(("Retry-After", "1".into()));
        }
        reply
    }
}

impl Reply {
    /// Bytes of a type.
    pub fn new(kind: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type", kind.to_string())];
        Self { status: 200, headers, content: Content::Whole(bytes.into()) }
    }

    /// A line of text.
    pub fn text(text: &str) -> Self {
        Self::new("text/plain; charset=utf-8", text)
    }

    /// A JSON value.
    pub fn json(value: &serde_json::Value) -> Self {
        Self::new("application/json", value.to_string())
    }

    /// The head as it is sent.
    fn head(&self, keeps: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            // A name of a model or a sentence may hold line breaks, which would end the header.
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Content::Whole(bytes) = &self.content {
            head.push_str(&format!("Content-Length: {}\r\n", bytes.len()));
        }
        head.push_str(if keeps { "\r\n" } else { "Connection: close\r\n\r\n" });
        head.into_bytes()
    }
}

/// The words of a status.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

/// Where a [`Content::Stream`] is written.
pub struct Stream<'c> {
    connection: &'c mut Connection,
    stopping: &'c AtomicBool,
}

impl Stream<'_> {
    /// Whether the server stops, or the client is gone.
    pub fn is_over(&self) -> bool {
        self.stopping.load(Ordering::Relaxed) || self.connection.is_gone()
    }

    /// Sends bytes now.
    ///
    /// # Errors
    /// When the client is gone, or does not take them in time.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.deadline = Instant::now() + LINGER;
        self.connection.send(bytes)
    }
}

/// What all connections share.
struct Shared<S> {
    service: S,
    limits: Limits,
    stopping: Arc<AtomicBool>,
    connections: AtomicUsize,
    room: Room,
}

/// Answers connections until `stop` is set, then finishes the requests under way; `stopping` is set from then on.
///
/// # Errors
/// When the system has no thread left to begin with.
pub fn serve(
    listener: TcpListener,
    service: impl Service,
    limits: Limits,
    stop: &AtomicBool,
    stopping: Arc<AtomicBool>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let room = Room::new(limits.body.saturating_mul(BODIES));
    let shared = Arc::new(Shared { service, limits, stopping, connections: AtomicUsize::new(0), room });
    let accepting = shared.clone();
    let thread = std::thread::Builder::new().name("accept".into()).spawn(move || accept(&listener, &accepting))?;
    while !stop.load(Ordering::Relaxed) && !thread.is_finished() {
        std::thread::sleep(LOOK);
    }
    shared.stopping.store(true, Ordering::Relaxed);
    // The thread waits for a connection: this is one.
    let _ = TcpStream::connect_timeout(&reachable(address), LINGER);
    let _ = thread.join();
    let until = Instant::now() + LEAVING;
    while shared.connections.load(Ordering::Acquire) > 0 && Instant::now() < until {
        std::thread::sleep(LOOK / 10);
    }
    Ok(())
}

/// The address by which this machine reaches itself.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

fn accept<S: Service>(listener: &TcpListener, shared: &Arc<Shared<S>>) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Ok((stream, _)) = accepted else {
            std::thread::sleep(PAUSE);
            continue;
        };
        if shared.connections.fetch_add(1, Ordering::AcqRel) >= MOST_CONNECTIONS {
            refuse(stream);
            shared.connections.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let own = shared.clone();
        let converse = move || {
            let _leaving = Leaving(&own.connections);
            converse(stream, &own);
        };
        if std::thread::Builder::new().name("connection".into()).stack_size(STACK).spawn(converse).is_err() {
            shared.connections.fetch_sub(1, Ordering::AcqRel);
            std::thread::sleep(PAUSE);
        }
    }
}

/// Counts a connection off, also when its thread ends by a panic.
struct Leaving<'c>(&'c AtomicUsize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Too many are here already. A head fits into the socket's buffer: nothing is waited for.
fn refuse(mut stream: TcpStream) {
    let reply = Reply::from(Failure(503, "too many connections: try again".into()));
    let mut bytes = reply.head(false);
    if let Content::Whole(body) = &reply.content {
        bytes.extend(body);
    }
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(&bytes));
}

/// The requests of a connection, one after another.
fn converse<S: Service>(stream: TcpStream, shared: &Shared<S>) {
    // Answers are small and whole: they need not wait for more.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::new(stream);
    loop {
        let head = match connection.next(&shared.stopping, shared.limits.time) {
            Next::Request(head) => head,
            Next::Nothing => return,
            Next::Broken(failure) => {
                shared.service.refused(failure.0);
                let _ = respond(&mut connection, failure.into(), false, false, &shared.stopping);
                return linger(&mut connection);
            }
        };
        let is_head = head.method == "HEAD";
        let (reply, all_read) = match Body::of(&head, &mut connection, shared.limits.body, &shared.room) {
            Ok(mut body) => {
                let reply = shared.service.answer(&head, &mut body);
                (reply, body.is_read())
            }
            Err(failure) => {
                shared.service.refused(failure.0);
                (failure.into(), false)
            }
        };
        let keeps = head.keeps
            && all_read
            && matches!(reply.content, Content::Whole(_))
            && !shared.stopping.load(Ordering::Relaxed);
        if respond(&mut connection, reply, keeps, is_head, &shared.stopping).is_err() {
            return;
        }
        if !keeps {
            return linger(&mut connection);
        }
    }
}

fn respond(
    connection: &mut Connection,
    reply: Reply,
    keeps: bool,
    is_head: bool,
    stopping: &AtomicBool,
) -> io::Result<()> {
    // A request that took all of its time is still told so.
    connection.deadline = connection.deadline.max(Instant::now() + LINGER);
    let mut bytes = reply.head(keeps);
    match reply.content {
        Content::Whole(_) if is_head => connection.send(&bytes),
        // One packet, where it fits.
        Content::Whole(body) => {
            bytes.extend(body);
            connection.send(&bytes)
        }
        Content::Stream(write) => {
            connection.send(&bytes)?;
            write(&mut Stream { connection, stopping })
        }
    }
}

/// Closes a connection whose client may still be sending: a reset would take the answer from it.
fn linger(connection: &mut Connection) {
    let _ = connection.stream.shutdown(Shutdown::Write);
    connection.deadline = Instant::now() + LINGER;
    let mut rest = [0; 16 << 10];
    while let Ok(1..) = connection.read(&mut rest) {}
}

/// Whether an error of a socket means that time is up.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
