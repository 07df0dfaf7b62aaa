//! A server's life: a newer model takes the place of an older one, and stopping loses nothing.

use std::io::{BufReader, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::client::{Reply, Server, request};
use super::{assert_same, labels, picture, predicted, trained};

#[test]
fn a_new_best_checkpoint_is_served_without_losing_a_request() {
    let dir = trained();
    let before = predicted(&dir, "run");
    let mut server = Server::start(&dir, &["run"]);
    let version = || server.get("/models").ok().json()[0]["version"].as_str().unwrap().to_string();
    let image = picture(&dir, 0);
    let answer =
        |server: &Server| labels(&server.post("/predict?top=3", "image/png", &image).ok().json()["predictions"][0]);
    assert_same(&answer(&server), &before[0]);
    dir.run(&["resume", "run", "--epochs", "4", "--device", "flex"]).done();
    let after = predicted(&dir, "run");
    assert_ne!(before, after, "the run has no new best checkpoint");
    let until = Instant::now() + Duration::from_secs(30);
    let best = std::fs::read_to_string(dir.path("run/best")).unwrap();
    // Others that were the best on the way may be served before.
    while !version().ends_with(best.trim()) {
        assert!(Instant::now() < until, "the new checkpoint is not served");
        answer(&server);
        std::thread::sleep(Duration::from_millis(20));
    }
    server.wait_for("run: now ");
    assert_same(&answer(&server), &after[0]);
    assert!(server.metric("rekindle_reloads_total{model=\"run\"}") >= 1.0);
}

#[test]
fn a_newer_file_that_is_damaged_leaves_the_model_as_it_was() {
    let dir = trained();
    dir.run(&["export", "run", "model.onnx"]).done();
    let expected = predicted(&dir, "model.onnx");
    let mut server = Server::start(&dir, &["model.onnx"]);
    // Replaced as programs replace files: the old one stays mapped.
    std::fs::write(dir.path("new"), b"no model").unwrap();
    std::fs::rename(dir.path("new"), dir.path("model.onnx")).unwrap();
    server.wait_for("the old one stays");
    let reply = server.post("/predict?top=3", "image/png", &picture(&dir, 1)).ok().json();
    assert_same(&labels(&reply["predictions"][0]), &expected[1]);
}

#[test]
fn stopping_answers_what_was_taken() {
    let dir = trained();
    let mut server = Server::start(&dir, &["run", "--window", "800"]);
    let image = picture(&dir, 0);
    let mut waiting = server.connect();
    waiting.write_all(&request("POST", "/predict", &[], &image)).unwrap();
    let mut idle = server.connect();
    idle.write_all(&request("GET", "/healthz", &[], b"")).unwrap();
    let mut idle = BufReader::new(idle);
    Reply::read(&mut idle).unwrap().ok();
    std::thread::sleep(Duration::from_millis(100));
    server.interrupt();
    // The request that waits in its window is answered; the connection that waits for another request is closed.
    let reply = Reply::read(&mut BufReader::new(waiting)).expect("an answer").ok();
    assert_eq!(reply.headers["connection"], "close");
    assert!(Reply::read(&mut idle).is_none());
    assert_eq!(server.ended(), 0);
    assert!(server.lines().last().unwrap().starts_with("stopped"), "{:?}", server.lines());
}

#[test]
fn a_stop_under_load_breaks_no_answer() {
    let dir = trained();
    let expected = predicted(&dir, "run");
    let mut server = Server::start(&dir, &["run", "--no-access-log"]);
    let image = picture(&dir, 0);
    let (answered, address) = (AtomicUsize::new(0), server.address);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Until the server is gone: a connection that it closes or refuses is no lost answer, half an answer would be.
                while let Ok(mut stream) = std::net::TcpStream::connect(address) {
                    let mut from = BufReader::new(stream.try_clone().unwrap());
                    for _ in 0..5 {
                        if stream.write_all(&request("POST", "/predict?top=3", &[], &image)).is_err() {
                            break;
                        }
                        let Some(reply) = Reply::read(&mut from) else { break };
                        assert_same(&labels(&reply.ok().json()["predictions"][0]), &expected[0]);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while answered.load(Ordering::Relaxed) < 200 {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.interrupt();
    });
    assert_eq!(server.ended(), 0);
}
