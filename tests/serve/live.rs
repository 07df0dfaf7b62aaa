//! `rekindle train --serve`: the page of a training while it runs.

use std::io::{BufRead, BufReader, Write};

use serde_json::Value;

use super::client::{Reply, Server, request};
use crate::support::program::Dir;

/// The states that a page hears of, until one fits.
fn hear(from: &mut impl BufRead, until: impl Fn(&Value) -> bool) -> Value {
    loop {
        let mut line = String::new();
        assert!(from.read_line(&mut line).unwrap() > 0, "the events end");
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let state: Value = serde_json::from_str(data).unwrap();
        if until(&state) {
            return state;
        }
    }
}

#[test]
fn a_page_follows_the_training_and_stops_it() {
    let dir = Dir::new();
    let arguments =
        ["train", "r.toml", "--run", "run", "--epochs", "5000", "--device", "flex", "--serve", "127.0.0.1:0"];
    let mut server = Server::of(&dir, &arguments);
    let page = server.get("/").ok();
    assert!(page.text().contains("id=\"live\"") && page.text().contains("Linear(in_features=784, out_features=64"));
    assert!(page.headers["content-security-policy"].contains("connect-src 'self'"));
    let mut stream = server.connect();
    stream.write_all(&request("GET", "/events", &[], b"")).unwrap();
    let mut events = BufReader::new(stream);
    let head = Reply::head(&mut events).unwrap();
    assert_eq!((head.status, head.headers["content-type"].as_str()), (200, "text/event-stream"));
    let state = hear(&mut events, |state| state["ended"].as_u64() >= Some(2) && state["loss"].is_number());
    assert_eq!((&state["phase"], &state["epochs"], &state["of"]), (&"training".into(), &5000.into(), &300.into()));
    assert!(state["step"].as_u64() >= Some(30) && state["score"].as_str().unwrap().contains('%'), "{state}");
    assert!(server.get("/").ok().text().contains("id=\"chart-loss\""), "the page has no curve of the epochs");
    // The button asks as Ctrl-C does; a page of another server may not.
    assert_eq!(server.ask("POST", "/stop", &[("Origin", "http://evil.example")], b"").status, 403);
    assert_eq!(server.get("/stop").status, 404);
    server.ask("POST", "/stop", &[], b"").ok();
    hear(&mut events, |state| state["phase"] == "interrupted");
    assert_eq!(server.ended(), 130);
    assert!(server.lines().iter().any(|line| line.contains("everything is saved")), "{:?}", server.lines());
    assert!(dir.path("run/last").exists());
}

/// Whoever watches changes nothing: not a bit.
#[test]
fn a_training_that_is_watched_gives_the_same_weights() {
    let dir = Dir::new();
    dir.train("alone", &[]);
    let mut server =
        Server::of(&dir, &["train", "r.toml", "--run", "watched", "--device", "flex", "--serve", "127.0.0.1:0"]);
    let address = server.address;
    let watch = std::thread::spawn(move || {
        while let Ok(mut stream) = std::net::TcpStream::connect(address) {
            let _ = stream.write_all(&request("GET", "/", &[], b""));
            if Reply::read(&mut BufReader::new(stream)).is_none() {
                return;
            }
        }
    });
    assert_eq!(server.ended(), 0, "{:?}", server.lines());
    watch.join().unwrap();
    assert_eq!(dir.weights("alone"), dir.weights("watched"));
    assert_eq!(
        dir.metrics("alone").last().unwrap()["valid.loss"],
        dir.metrics("watched").last().unwrap()["valid.loss"]
    );
}

#[test]
fn the_page_is_for_this_machine_alone() {
    let dir = Dir::new();
    let answer = dir.run(&["train", "r.toml", "--run", "run", "--device", "flex", "--serve", "0.0.0.0:0"]);
    assert_eq!(answer.code, 2);
    assert!(answer.error().contains("use 127.0.0.1"), "{}", answer.stderr);
}
