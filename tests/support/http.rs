//! A small web server on loopback with the manners and the faults that downloads meet.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// How the server answers.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    /// Answer a Range request with the whole file and status 200.
    pub ignore_range: bool,
    /// Close the connection after this many bytes of a body, once.
    pub break_after: Option<usize>,
    /// Answer 503 this many times first.
    pub unavailable: usize,
}

/// One request: path and value of the Range header.
pub type Request = (String, Option<String>);

/// A running server. It ends with the test process.
pub struct Server {
    /// The address, without a slash at the end.
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serves files by path, such as `/set/file`.
    pub fn start(files: &[(&str, &[u8])], manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind to loopback");
        let url = format!("http://{}", listener.local_addr().expect("local address"));
        let files: HashMap<String, Vec<u8>> =
            files.iter().map(|(path, bytes)| (path.to_string(), bytes.to_vec())).collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            let mut manners = manners;
            for stream in listener.incoming().flatten() {
                // A client that goes away is no fault of the server.
                let _ = answer(stream, &files, &mut manners, &seen);
            }
        });
        Self { url, requests }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("requests").clone()
    }
}

fn answer(
    mut stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    manners: &mut Manners,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    seen.lock().expect("requests").push((path.clone(), range.clone()));
    if manners.unavailable > 0 {
        manners.unavailable -= 1;
        return head(&mut stream, "503 Service Unavailable", 0, "");
    }
    let Some(file) = files.get(&path) else {
        return head(&mut stream, "404 Not Found", 0, "");
    };
    let start = range
        .filter(|_| !manners.ignore_range)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let body = match start {
        Some(start) if start >= file.len() => {
            return head(&mut stream, "416 Range Not Satisfiable", 0, "");
        }
        Some(start) => {
            let range = format!("Content-Range: bytes {start}-{}/{}\r\n", file.len() - 1, file.len());
            head(&mut stream, "206 Partial Content", file.len() - start, &range)?;
            &file[start..]
        }
        None => {
            head(&mut stream, "200 OK", file.len(), "")?;
            &file[..]
        }
    };
    match manners.break_after.take() {
        Some(count) => stream.write_all(&body[..count.min(body.len())]),
        None => stream.write_all(body),
    }
}

fn head(stream: &mut TcpStream, status: &str, length: usize, more: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
}
