//! A server that is the real program, and a client that sends what it likes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::program::Dir;

/// No answer takes longer in a test.
const LONG: Duration = Duration::from_secs(60);

/// `rekindle serve`, or a training that is served.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts it on a free port of loopback.
    pub fn start(dir: &Dir, arguments: &[&str]) -> Self {
        Self::of(dir, &[&["serve", "--listen", "127.0.0.1:0", "--device", "flex"], arguments].concat())
    }

    /// Starts a command that says where it listens.
    pub fn of(dir: &Dir, arguments: &[&str]) -> Self {
        let mut child = dir.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, stderr) = (lines.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let mut server = Self { address: ([127, 0, 0, 1], 0).into(), child, lines };
        let line = server.wait_for("http://");
        let address = line.split("http://").nth(1).unwrap().split([' ', '/']).next().unwrap();
        server.address = address.parse().unwrap();
        // One that listens on every address is asked on loopback.
        server.address.set_ip([127, 0, 0, 1].into());
        server
    }

    /// Waits for a line on stderr that has a text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + LONG;
        loop {
            if let Some(line) = self.lines.lock().unwrap().iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let ended = self.child.try_wait().unwrap().is_some();
            assert!(!ended && Instant::now() < until, "no line with '{text}' in {:?}", self.lines.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, LONG).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(&request(method, path, headers, body)).unwrap();
        let mut from = BufReader::new(stream);
        if method == "HEAD" { Reply::head(&mut from) } else { Reply::read(&mut from) }.expect("an answer")
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, kind: &str, body: &[u8]) -> Reply {
        self.ask("POST", path, &[("Content-Type", kind)], body)
    }

    /// The value of a line of `/metrics`; 0 where there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Asks it to stop as Ctrl-C does.
    pub fn interrupt(&self) {
        let done = std::process::Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for its end; gives its exit code.
    pub fn ended(&mut self) -> i32 {
        let until = Instant::now() + LONG;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < until, "it does not end: {:?}", self.lines());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    [text.as_bytes(), b"\r\n", body].concat()
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads one; none when the connection ends before its first byte.
    pub fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut reply = Self::head(from)?;
        let length = reply.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        reply.body = vec![0; length];
        from.read_exact(&mut reply.body).expect("the whole body");
        Some(reply)
    }

    /// Reads status and headers alone.
    pub fn head(from: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            assert!(from.read_line(&mut line).unwrap() > 0, "the answer ends in its head");
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_string());
        }
        Some(Self { status, headers, body: Vec::new() })
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The sentence of an error.
    #[track_caller]
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_string()
    }

    /// The tensor of a `.npy` answer.
    #[track_caller]
    pub fn tensor(&self) -> rekindle_state::Tensor {
        let map = rekindle_state::Map::from_bytes("answer".as_ref(), self.body.clone());
        rekindle_state::read_npy(&map).unwrap().root.as_tensor().unwrap().clone()
    }
}
