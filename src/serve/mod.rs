//! Models over HTTP: predictions of images and tensors, KServe's protocol, health and metrics.
//!
//! [`run`] answers requests until it is told to stop. A model is a [`Source`], which loads an [`Engine`]; each engine computes on a
//! thread of its own, where requests that arrive within a window are joined to a batch.

mod batcher;
mod engine;
mod form;
pub mod graph;
pub mod http;
mod images;
mod live;
mod metrics;
pub mod network;
mod openapi;
mod predict;
mod request;
mod routes;
mod tensors;
mod v2;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use batcher::Batching;
pub use engine::{Answers, Description, Engine, Loaded, Port, Source};
pub use images::Images;
pub use live::Live;
pub use request::{Body, Head};

use batcher::Served;
use metrics::Metrics;
use routes::App;

/// How often a source is asked whether it has something new.
const FOLLOW: Duration = Duration::from_secs(1);

/// How a server answers.
pub struct Options {
    /// The address and port.
    pub address: SocketAddr,
    /// What a request must bear; needed for addresses that other machines reach.
    pub token: Option<String>,
    /// How requests are joined.
    pub batching: Batching,
    /// The most bytes of a body, and the longest a request may take.
    pub limits: http::Limits,
    /// Hears of each request: a line of JSON.
    pub log: Box<dyn Fn(String) + Send + Sync>,
    /// Hears of what happens to the server: sentences.
    pub say: Arc<dyn Fn(String) + Send + Sync>,
}

/// Why a server does not start. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A model does not load.
    #[error("model '{name}': {reason}")]
    Model {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}; choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        reason: String,
    },
    /// Others may reach the address, and there is no token.
    #[error(
        "{address} can be reached from other machines: give --token TOKEN (or REKINDLE_TOKEN), or listen on 127.0.0.1"
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// Others may reach the address of a page that has no token.
    #[error("{address} can be reached from other machines, and the page of a training has no token: use 127.0.0.1")]
    Foreign {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Serves models by name, the first one as the default, until `stop` is set; requests under way are answered before it returns.
///
/// # Errors
/// When a model does not load, or the address cannot be listened on.
pub fn run(sources: Vec<(String, Arc<dyn Source>)>, options: Options, stop: &AtomicBool) -> Result<(), ServeError> {
    let Options { address, token, batching, limits, log, say } = options;
    if !address.ip().is_loopback() && token.is_none() {
        return Err(ServeError::Open { address });
    }
    let refused = |error: std::io::Error| ServeError::Listen { address, reason: error.to_string() };
    // Before the models are loaded, so that an address in use is known at once.
    let listener = TcpListener::bind(address).map_err(refused)?;
    let metrics = Arc::new(Metrics::default());
    let mut models = Vec::new();
    for (name, source) in sources {
        // Asked before it is loaded: what changes meanwhile is loaded again.
        let known = source.current();
        let loaded = source.load().map_err(|reason| ServeError::Model { name: name.clone(), reason })?;
        say(format!("{name}: {}", loaded.description.version));
        let served = Served::start(name, loaded, batching, metrics.clone())?;
        let listener = say.clone();
        served.follow(source, known, FOLLOW, move |text| listener(text));
        models.push(served);
    }
    let bound = listener.local_addr().unwrap_or(address);
    let stopping = Arc::new(AtomicBool::new(false));
    let app = App { models, metrics, token, stopping: stopping.clone(), log };
    say(format!("listening on http://{bound}"));
    http::serve(listener, app, limits, stop, stopping)?;
    say("stopped; every request that was taken is answered".into());
    Ok(())
}
