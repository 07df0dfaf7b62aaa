//! A training's own page while it runs: curves as epochs end, a bar as steps are done, a button that stops as Ctrl-C does.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ServeError;
use super::http::{self, Content, Failure, Limits, Reply, Service, Stream};
use super::request::{Body, Head};
use super::routes::{POLICY, local};
use crate::models::Registry;
use crate::report::{self, Layers};
use crate::tasks::Metric;
use crate::train::{Event, Observer};

/// How often a page that is open is told of the state.
const TELL: Duration = Duration::from_millis(200);
/// After so long without a change, a page is told that the server is still there.
const ALIVE: Duration = Duration::from_secs(15);
/// A request to the page is small and answered at once.
const LIMITS: Limits = Limits { body: 1 << 10, time: Duration::from_secs(10) };

/// The page of a training.
pub struct Live {
    /// Where it is.
    pub address: SocketAddr,
    state: Arc<State>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the training thread says and pages hear.
struct State {
    now: Mutex<Now>,
    metric: &'static Metric,
}

/// Where the training stands.
#[derive(Default)]
struct Now {
    /// Grows with every change.
    version: u64,
    /// Epochs that ended while it was watched: the page's body is another one then.
    ended: u64,
    epoch: usize,
    epochs: usize,
    items: u64,
    of: u64,
    step: u64,
    loss: Option<f64>,
    score: Option<f64>,
    /// When the epoch began, and with how many items done.
    began: Option<(Instant, u64)>,
    phase: &'static str,
}

impl State {
    fn change(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut now);
        now.version += 1;
    }

    /// The version and its JSON.
    fn now(&self) -> (u64, Value) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = now.began.and_then(|(began, before)| {
            let (seconds, done) = (began.elapsed().as_secs_f64(), now.items.saturating_sub(before));
            (seconds > 0.0 && done > 0).then(|| done as f64 / seconds)
        });
        let left = rate.map(|rate| now.of.saturating_sub(now.items) as f64 / rate);
        let value = json!({
            "phase": now.phase, "epoch": now.epoch, "epochs": now.epochs, "items": now.items, "of": now.of, "step": now.step,
            "loss": now.loss, "metric": self.metric.name.replace('_', " "), "score": now.score.map(self.metric.show),
            "rate": rate, "left": left, "ended": now.ended,
        });
        (now.version, value)
    }
}

/// Tells the pages of a training's events.
struct Teller(Arc<State>);

impl Observer for Teller {
    fn event(&mut self, event: &Event) {
        self.0.change(|now| match event {
            Event::EpochStarted { epoch, epochs, items, done } => {
                (now.epoch, now.epochs, now.items, now.of) = (*epoch, *epochs, *done, *items);
                now.began = Some((Instant::now(), *done));
                now.phase = "training";
            }
            Event::Step { step, items, loss, score } => {
                (now.step, now.items, now.loss, now.score) = (*step, *items, *loss, *score);
            }
            Event::EpochEnded(report) => {
                now.ended += 1;
                now.items = now.of;
                now.step = report.step;
            }
            Event::Stopped => now.phase = "stopped",
            Event::Note(_) => {}
        });
    }
}

impl Live {
    /// Opens the page of a run whose training begins now; `stop` is what its button sets.
    ///
    /// # Errors
    /// When the address can be reached from other machines (the page has no token), or cannot be listened on.
    pub fn start(
        registry: &Registry,
        run: &Path,
        metric: &'static Metric,
        address: SocketAddr,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, ServeError> {
        if !address.ip().is_loopback() {
            return Err(ServeError::Foreign { address });
        }
        let refused = |error: io::Error| ServeError::Listen { address, reason: error.to_string() };
        let listener = TcpListener::bind(address).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let now = Now { phase: "starting", ..Now::default() };
        let state = Arc::new(State { now: Mutex::new(now), metric });
        let over = Arc::new(AtomicBool::new(false));
        let page = Page {
            run: run.to_path_buf(),
            registry: registry.clone(),
            // Once, before the training: building a network draws from the seeds that the training draws from.
            layers: report::layers_of(registry, run),
            state: state.clone(),
            stop,
        };
        let ended = over.clone();
        let serve = move || drop(http::serve(listener, page, LIMITS, &ended, Arc::default()));
        let thread = std::thread::Builder::new().name("live page".into()).spawn(serve)?;
        Ok(Self { address, state, over, thread: Some(thread) })
    }

    /// What listens to the training for the page.
    pub fn observer(&self) -> impl Observer + 'static {
        Teller(self.state.clone())
    }

    /// Tells the pages how the training ended, and closes them.
    pub fn end(mut self, phase: &'static str) {
        self.state.change(|now| now.phase = phase);
        self.close();
    }

    fn close(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
    }
}

/// What answers the page's requests.
struct Page {
    run: PathBuf,
    registry: Registry,
    layers: Layers,
    state: Arc<State>,
    stop: Arc<AtomicBool>,
}

impl Service for Page {
    fn answer(&self, head: &Head, _: &mut Body<'_>) -> Reply {
        let path = head.segments();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let answer = local(head).and_then(|()| match (head.method.as_str(), path.as_slice()) {
            ("GET" | "HEAD", []) => self.page(),
            ("GET", ["events"]) => Ok(self.events()),
            ("POST", ["stop"]) => {
                self.stop.store(true, Ordering::Relaxed);
                self.state.change(|now| now.phase = "stopping");
                Ok(Reply::json(&json!({ "stopping": true })))
            }
            _ => Err(Failure(404, "the page of a training is at /, its events at /events".into())),
        });
        let mut reply = answer.unwrap_or_else(Reply::from);
        reply.headers.push(("X-Content-Type-Options", "nosniff".into()));
        reply
    }

    fn refused(&self, _: u16) {}
}

impl Page {
    fn page(&self) -> Result<Reply, Failure> {
        let data = report::gather_live(&self.registry, &self.run, self.layers.clone());
        let data = data.map_err(|error| Failure::inner(error.to_string()))?;
        let mut reply = Reply::new("text/html; charset=utf-8", report::live_page(&data));
        reply.headers.push(("Content-Security-Policy", POLICY.into()));
        reply.headers.push(("Cache-Control", "no-store".into()));
        Ok(reply)
    }

    /// Server-sent events: the state whenever it changed.
    fn events(&self) -> Reply {
        let state = self.state.clone();
        let headers =
            vec![("Content-Type", "text/event-stream".to_string()), ("Cache-Control", "no-store".to_string())];
        Reply { status: 200, headers, content: Content::Stream(Box::new(move |stream| tell(&state, stream))) }
    }
}

fn tell(state: &State, stream: &mut Stream<'_>) -> io::Result<()> {
    let (mut known, mut told) = (None, Instant::now());
    loop {
        // Asked first, so that the last state is sent after it was set.
        let is_over = stream.is_over();
        let (version, value) = state.now();
        if known != Some(version) {
            stream.send(format!("data: {value}\n\n").as_bytes())?;
            (known, told) = (Some(version), Instant::now());
        } else if told.elapsed() > ALIVE {
            stream.send(b": still here\n\n")?;
            told = Instant::now();
        }
        if is_over {
            return Ok(());
        }
        std::thread::sleep(TELL);
    }
}
