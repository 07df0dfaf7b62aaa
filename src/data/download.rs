//! Files over HTTP and HTTPS: continued where they broke off, checked before they count.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rekindle_state::fs::{move_into_place, sha256_file};
use ureq::Agent;
use ureq::http::header;

/// How often a broken connection is tried, the first time included.
const TRIES: u32 = 3;
/// Waiting longer than this for a connection, an answer or the next bytes is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes moved at a time.
const CHUNK: usize = 1 << 16;

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server has an answer other than the file.
    #[error("{url}: expected a file, but the server answered {status}; {hint}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What to try.
        hint: &'static str,
    },
    /// No connection, or one that broke too often.
    #[error("{url}: the download failed ({reason}); check the network and run the command again{kept}")]
    Connection {
        /// The address.
        url: String,
        /// What went wrong.
        reason: String,
        /// Whether the next try continues this one.
        kept: &'static str,
    },
    /// The address itself is unusable.
    #[error("{url}: expected an address such as https://host/file, but it is not one ({reason})")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is not the expected one. It was removed.
    #[error(
        "{url}: expected a file with sha256 {expected}, found {found}; the download was removed, \
         run the command again or use another mirror"
    )]
    Checksum {
        /// The address.
        url: String,
        /// The digits of the expected sum.
        expected: String,
        /// The sum of the file.
        found: String,
    },
    /// The file could not be written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// How far a download has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The address.
    pub url: &'a str,
    /// Bytes that are here, those of earlier tries included.
    pub bytes: u64,
    /// Bytes of the whole file, if the server says it.
    pub of: Option<u64>,
}

/// Hears how downloads go on, after each block of bytes.
pub type Listener<'a> = &'a mut dyn FnMut(Received<'_>);

/// Downloads `url` to the file `dest`, whose folder is made if needed.
///
/// `sha256` is the expected sum in hexadecimal, or its leading digits, eight or more (torchvision
/// puts eight in its file names). With it, `dest` is only written once the sum is right, and a download
/// that breaks off leaves `dest` with `.part` added, which the next call continues (HTTP Range).
/// Without it, nothing could tell a mixture of two files apart, so every call starts anew.
///
/// What was at `dest` stays until the new file is whole; it takes its place by one rename.
pub fn download(url: &str, dest: &Path, sha256: Option<&str>, heard: Listener<'_>) -> Result<(), DownloadError> {
    if let Some(folder) = dest.parent() {
        fs::create_dir_all(folder).map_err(io(folder, "create the folder"))?;
    }
    let (part, expected) = (part_of(dest), sha256.map(str::to_ascii_lowercase));
    let mut transfer = Transfer { url, part, expected, heard, agent: agent() };
    transfer.run()?;
    move_into_place(&transfer.part, dest).map_err(io(dest, "rename the finished download"))
}

/// The SHA-256 of a file in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String, DownloadError> {
    Ok(sha256_file(path).map_err(io(path, "read the file"))?.1)
}

/// The name of an unfinished download.
fn part_of(dest: &Path) -> PathBuf {
    let mut name = dest.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> DownloadError {
    let path = path.to_path_buf();
    move |source| DownloadError::Io { path, action, source }
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        // The bytes as they are: sums are of the stored file.
        .accept_encoding("identity")
        .user_agent(concat!("rekindle/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .build()
        .into()
}

struct Transfer<'a> {
    url: &'a str,
    part: PathBuf,
    expected: Option<String>,
    heard: Listener<'a>,
    agent: Agent,
}

/// How one request ended short of a whole file.
enum Broken {
    /// Another try may help.
    Again(String),
    /// It would not.
    Final(DownloadError),
}

impl From<DownloadError> for Broken {
    fn from(error: DownloadError) -> Self {
        Self::Final(error)
    }
}

impl Transfer<'_> {
    /// Fills the part file and checks it.
    fn run(&mut self) -> Result<(), DownloadError> {
        if self.expected.is_none() {
            self.forget()?;
        }
        let continued = self.have() > 0;
        match self.fill_and_check() {
            // What was there from an earlier call may be of another file: once more from nothing.
            Err(DownloadError::Checksum { .. }) if continued => self.fill_and_check(),
            result => result,
        }
    }

    fn fill_and_check(&mut self) -> Result<(), DownloadError> {
        let mut tries = 1;
        loop {
            match self.request() {
                Ok(()) => break,
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Again(reason)) if tries == TRIES => {
                    return Err(self.connection(reason));
                }
                Err(Broken::Again(_)) => {
                    thread::sleep(Duration::from_millis(500) * tries);
                    tries += 1;
                }
            }
        }
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let found = sha256_of(&self.part)?;
        if expected.len() >= 8 && found.starts_with(expected.as_str()) {
            return Ok(());
        }
        self.forget()?;
        Err(DownloadError::Checksum { url: self.url.to_string(), expected: expected.clone(), found })
    }

    /// One request, for what is missing.
    fn request(&mut self) -> Result<(), Broken> {
        let have = self.have();
        let mut request = self.agent.get(self.url);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let response = request.call().map_err(|error| self.refused(error))?;
        let status = response.status().as_u16();
        let from = match status {
            200 => 0,
            206 if range_start(response.headers()) == Some(have) => have,
            // Another range than the one asked for, or the part is as long as the file or longer:
            // it cannot be continued.
            206 | 416 if have > 0 => {
                self.forget()?;
                return Err(Broken::Again(format!("the server answered {status}")));
            }
            500..=599 | 429 => {
                return Err(Broken::Again(format!("the server answered {status}")));
            }
            _ => {
                return Err(Broken::Final(DownloadError::Status {
                    url: self.url.to_string(),
                    status,
                    hint: match status {
                        404 | 410 => "check the address or use another mirror",
                        401 | 403 => "the server refuses access, use another mirror",
                        _ => "use another mirror",
                    },
                }));
            }
        };
        let length = response.body().content_length();
        self.receive(response.into_body().into_reader(), from, length)
    }

    /// Writes the body behind the first `from` bytes of the part file.
    fn receive(&mut self, mut body: impl Read, from: u64, length: Option<u64>) -> Result<(), Broken> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(from > 0)
            .write(true)
            .truncate(from == 0)
            .open(&self.part)
            .map_err(io(&self.part, "write the file"))?;
        let of = length.map(|length| from + length);
        let mut chunk = vec![0; CHUNK];
        let mut received = 0;
        loop {
            match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    file.write_all(&chunk[..count]).map_err(io(&self.part, "write the file"))?;
                    received += count as u64;
                    (self.heard)(Received { url: self.url, bytes: from + received, of });
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::Again(error.to_string())),
            }
        }
        if let Some(length) = length.filter(|&length| length != received) {
            return Err(Broken::Again(format!("{received} of {length} bytes arrived")));
        }
        Ok(file.sync_all().map_err(io(&self.part, "write the file"))?)
    }

    /// Bytes that earlier requests left.
    fn have(&self) -> u64 {
        fs::metadata(&self.part).map_or(0, |data| data.len())
    }

    /// Removes what earlier requests left.
    fn forget(&self) -> Result<(), DownloadError> {
        match fs::remove_file(&self.part) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io(&self.part, "remove the file")(error)),
            _ => Ok(()),
        }
    }

    fn connection(&self, reason: String) -> DownloadError {
        let kept = if self.expected.is_some() && self.have() > 0 { ", it continues where it stopped" } else { "" };
        DownloadError::Connection { url: self.url.to_string(), reason, kept }
    }

    /// Sorts what ureq reports before there is an answer.
    fn refused(&self, error: ureq::Error) -> Broken {
        match error {
            ureq::Error::BadUri(reason) => self.address(reason).into(),
            ureq::Error::Http(error) => self.address(error.to_string()).into(),
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.connection("connection refused".to_string()).into()
            }
            error @ (ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::Protocol(_)) => {
                Broken::Again(error.to_string())
            }
            error => self.connection(error.to_string()).into(),
        }
    }

    fn address(&self, reason: impl fmt::Display) -> DownloadError {
        DownloadError::Address { url: self.url.to_string(), reason: reason.to_string() }
    }
}

/// The first byte of a partial answer, from `Content-Range: bytes 5-9/10`.
fn range_start(headers: &ureq::http::HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let range = value.trim().strip_prefix("bytes")?.trim_start();
    range.split('-').next()?.trim().parse().ok()
}
