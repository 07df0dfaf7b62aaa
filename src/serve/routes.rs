//! The table of addresses, and what happens around every request: who may ask, counters, the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::batcher::{Patience, Refusal, Served};
use super::http::{Failure, Reply, Service};
use super::metrics::Metrics;
use super::request::{Body, Head};
use super::{openapi, predict, v2};

/// What all requests share.
pub struct App {
    /// The models, the default one first.
    pub models: Vec<Arc<Served>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What a request must bear, where it must.
    pub token: Option<String>,
    /// Whether the server stops.
    pub stopping: Arc<AtomicBool>,
    /// Hears of each request: a line of JSON.
    pub log: Box<dyn Fn(String) + Send + Sync>,
}

/// A request at the address that it was sent to.
pub(super) struct Call<'c, 'b> {
    pub app: &'c App,
    pub head: &'c Head,
    pub body: &'c mut Body<'b>,
    /// What stands for `{name}` in the address.
    name: Option<&'c str>,
}

impl<'c> Call<'c, '_> {
    /// The model that the address names, or the first one.
    pub fn model(&self) -> Result<&'c Arc<Served>, Failure> {
        let models = &self.app.models;
        let found = match self.name {
            Some(name) => models.iter().find(|model| model.name == name),
            None => models.first(),
        };
        found.ok_or_else(|| {
            let known: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            let name = self.name.unwrap_or_default();
            Failure(404, format!("there is no model '{name}'; the models are {}", known.join(", ")))
        })
    }

    /// Computes for as long as the client waits.
    pub fn infer(
        &self,
        model: &Served,
        inputs: Vec<rekindle_state::Tensor>,
    ) -> Result<Vec<rekindle_state::Tensor>, Failure> {
        let patience = Patience { deadline: self.body.deadline(), is_gone: &|| self.body.is_gone() };
        Ok(model.infer(inputs, &patience)?)
    }
}

/// What answers at an address.
type Handler = fn(&mut Call<'_, '_>) -> Result<Reply, Failure>;

/// Method, address, what answers.
pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    ("GET", "/", page),
    ("GET", "/healthz", |_| Ok(Reply::text("ok\n"))),
    ("GET", "/readyz", ready),
    ("GET", "/metrics", metrics),
    ("GET", "/openapi.json", |call| Ok(Reply::json(&openapi::document(call.app)))),
    ("GET", "/models", models),
    ("POST", "/predict", predict::answer),
    ("POST", "/models/{name}/predict", predict::answer),
    ("GET", "/v2", v2::server),
    ("GET", "/v2/health/live", v2::live),
    ("GET", "/v2/health/ready", v2::ready),
    ("GET", "/v2/models/{name}", v2::model),
    ("GET", "/v2/models/{name}/ready", v2::model_ready),
    ("POST", "/v2/models/{name}/infer", v2::infer),
    // There is one version of each model at a time, and any number means it.
    ("GET", "/v2/models/{name}/versions/{version}", v2::model),
    ("GET", "/v2/models/{name}/versions/{version}/ready", v2::model_ready),
    ("POST", "/v2/models/{name}/versions/{version}/infer", v2::infer),
];

/// Whoever asks whether the server lives needs no token.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"];

/// Whether a path is that of a route; what stands for `{name}`.
fn matches<'p>(route: &str, path: &'p [String]) -> Option<Option<&'p str>> {
    let parts: Vec<&str> = route.split('/').filter(|part| !part.is_empty()).collect();
    let fits = |(part, given): (&&str, &String)| part.starts_with('{') || *part == given;
    if parts.len() != path.len() || !parts.iter().zip(path).all(fits) {
        return None;
    }
    Some(parts.iter().position(|part| *part == "{name}").map(|at| path[at].as_str()))
}

impl App {
    fn call(&self, head: &Head, body: &mut Body<'_>, path: &[String]) -> (&'static str, Result<Reply, Failure>) {
        let there: Vec<_> = ROUTES.iter().filter_map(|row| Some((row, matches(row.1, path)?))).collect();
        let route = there.first().map_or("other", |(row, _)| row.1);
        if let Err(failure) = self.may_ask(head, route) {
            return (route, Err(failure));
        }
        let method = if head.method == "HEAD" { "GET" } else { head.method.as_str() };
        let Some(((_, _, handler), name)) = there.iter().find(|(row, _)| row.0 == method) else {
            let failure = match there.first() {
                Some((row, _)) => Failure(405, format!("{} is not for this address: expected {}", head.method, row.0)),
                None => Failure(404, "there is nothing at this address; GET /openapi.json lists what there is".into()),
            };
            return (route, Err(failure));
        };
        (route, handler(&mut Call { app: self, head, body, name: *name }))
    }

    /// Refuses whoever lacks the token. Without one, the server is for programs of this machine and not for the pages of others
    /// that its browser shows: these name themselves in `Origin`, or come under another name of the address in `Host`.
    fn may_ask(&self, head: &Head, route: &str) -> Result<(), Failure> {
        if OPEN.contains(&route) {
            return Ok(());
        }
        if let Some(token) = &self.token {
            let given =
                head.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
            let needed = || Failure(401, "a token is needed: Authorization: Bearer TOKEN".into());
            return if same(given, token) { Ok(()) } else { Err(needed()) };
        }
        local(head)
    }
}

/// Refuses requests that a page of another server made, where there is no token.
pub(super) fn local(head: &Head) -> Result<(), Failure> {
    let host = head.header("host").unwrap_or("localhost");
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let own = match name.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    };
    let from_here = head.header("origin").is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    if own && from_here {
        return Ok(());
    }
    Err(Failure(403, "without --token, only programs of this machine and the server's own page may ask".into()))
}

/// Whether two texts are the same; the comparison takes the same time wherever they differ.
fn same(given: &str, token: &str) -> bool {
    let differ = given.bytes().zip(token.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
    given.len() == token.len() && differ == 0
}

impl Service for App {
    fn answer(&self, head: &Head, body: &mut Body<'_>) -> Reply {
        let started = Instant::now();
        let path = head.segments();
        let run = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.call(head, body, &path)));
        let (route, answer) = crate::error::without_panic_output(run)
            .unwrap_or_else(|panic| ("other", Err(Failure::inner(crate::error::failure(&*panic)))));
        let mut reply = answer.unwrap_or_else(Reply::from);
        reply.headers.push(("X-Content-Type-Options", "nosniff".into()));
        match reply.status {
            401 => reply.headers.push(("WWW-Authenticate", "Bearer".into())),
            405 => {
                let allowed = ROUTES.iter().find(|row| row.1 == route).map_or("GET", |row| row.0);
                reply.headers.push(("Allow", allowed.into()));
            }
            _ => {}
        }
        let took = started.elapsed();
        self.metrics.answered(route, reply.status, took);
        let ms = (took.as_secs_f64() * 1e5).round() / 1e2;
        let line = json!({ "method": head.method, "path": head.path, "status": reply.status, "ms": ms });
        (self.log)(line.to_string());
        reply
    }

    fn refused(&self, status: u16) {
        self.metrics.answered("other", status, std::time::Duration::ZERO);
        (self.log)(json!({ "status": status, "refused": "no whole request" }).to_string());
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wrong(text) => Self::wrong(text),
            Refusal::Busy => Self(503, "too many requests wait already: try again".into()),
            Refusal::Stopping => Self(503, "the server stops".into()),
            Refusal::Late => Self(408, "the answer was not there in time: see --timeout".into()),
            // Nobody reads it; the log says what happened.
            Refusal::Gone => Self(499, "the client has gone away".into()),
        }
    }
}

fn ready(call: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    if call.app.stopping.load(Ordering::Relaxed) {
        return Err(Refusal::Stopping.into());
    }
    Ok(Reply::text("ready\n"))
}

fn metrics(call: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    Ok(Reply::new("text/plain; version=0.0.4; charset=utf-8", call.app.metrics.render()))
}

/// What the page may do: run its own script, show images, ask this server.
pub(super) const POLICY: &str = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn page(call: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    let mut reply = Reply::new("text/html; charset=utf-8", openapi::page(call.app));
    reply.headers.push(("Content-Security-Policy", POLICY.into()));
    Ok(reply)
}

fn models(call: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    let describe = |model: &Arc<Served>| {
        let description = model.description();
        let mut value = v2::metadata(&model.name, &description);
        value["version"] = json!(description.version);
        value["classes"] = json!(description.labels);
        value["images"] = json!(description.image.is_some());
        value
    };
    Ok(Reply::json(&Value::Array(call.app.models.iter().map(describe).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('/').filter(|part| !part.is_empty()).map(str::to_string).collect()
    }

    #[test]
    fn addresses_are_found_with_their_names() {
        assert_eq!(matches("/", &path("/")), Some(None));
        assert_eq!(matches("/models/{name}/predict", &path("/models/a/predict")), Some(Some("a")));
        assert_eq!(matches("/models/{name}/predict", &path("/models/a")), None);
        assert_eq!(matches("/v2/models/{name}/versions/{version}", &path("/v2/models/a/versions/7")), Some(Some("a")));
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same("secret", "secret"));
        assert!(
            !same("secre", "secret") && !same("secret!", "secret") && !same("", "secret") && !same("sEcret", "secret")
        );
    }
}
