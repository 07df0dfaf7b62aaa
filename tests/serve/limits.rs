//! What is refused, and how: sizes, times, tokens, nonsense.

use std::io::{BufReader, Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Reply, Server, request};
use super::{picture, trained};
use crate::support::program::Dir;

/// Sends bytes as they are and reads the answer.
fn raw(server: &Server, bytes: &[u8]) -> Reply {
    let mut stream = server.connect();
    stream.write_all(bytes).unwrap();
    Reply::read(&mut BufReader::new(stream)).expect("an answer")
}

#[test]
fn requests_that_do_not_fit_are_refused_with_a_sentence() {
    let dir = trained();
    let server = Server::start(&dir, &["run", "--max-bytes", "10kB"]);
    let json = |text: &str| server.post("/predict", "application/json", text.as_bytes());
    let cases = [
        (server.get("/nothing"), 404, "/openapi.json"),
        (server.get("/predict"), 405, "expected POST"),
        (server.ask("DELETE", "/models", &[], b""), 405, "expected GET"),
        (server.post("/models/other/predict", "image/png", &picture(&dir, 0)), 404, "the models are run"),
        (server.post("/predict", "text/html", b"x"), 415, "'text/html' is not read"),
        (server.post("/predict", "image/png", b"no image"), 400, "the image cannot be decoded"),
        (server.post("/predict", "image/png", b""), 400, "no body"),
        (server.post("/predict?top=many", "image/png", &picture(&dir, 0)), 400, "top: expected a number"),
        (server.post("/predict", "multipart/form-data; boundary=xx", b"nonsense"), 400, "the form is malformed"),
        (server.post("/predict", "application/x-npy", b"nonsense"), 400, "the body"),
        (json("{"), 400, "the body is no JSON"),
        (json("{}"), 400, "expected {\"inputs\""),
        (json(r#"{"inputs": {"other": [1]}}"#), 400, "there is no input 'other'; the inputs are input"),
        (json(r#"{"inputs": [[1, 2], [3]]}"#), 400, "side by side"),
        (json(r#"{"inputs": [[1, 2], [3, "a"]]}"#), 400, "expected a value of float32"),
        (json(r#"{"inputs": [[1, 2], [3, 4]]}"#), 400, "expected the shape [?, 1, 28, 28], found [2, 2]"),
        (json(&format!("{}1{}", "[".repeat(500), "]".repeat(500))), 400, "the body is no JSON"),
        (server.post("/predict", "image/png", &[0; 10_001]), 413, "more than 10000 bytes"),
        (server.post("/v2/models/run/infer", "", b"{\"inputs\": [{}]}"), 400, "the request cannot be read"),
        (raw(&server, b"\x16\x03\x01\x00\x05hello world\r\n\r\n"), 400, "this is no HTTP request"),
        (raw(&server, b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400, "not clear"),
        (raw(&server, b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400, "not clear"),
        (raw(&server, b"POST /predict HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"), 501, "chunked"),
        (raw(&server, &[&b"GET / HTTP/1.1\r\nA: "[..], &[b'a'; 20_000]].concat()), 431, "16384 bytes"),
        (raw(&server, b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400, "chunks"),
        (raw(&server, b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"), 413, "10000 bytes"),
    ];
    for (reply, status, text) in cases {
        assert!(
            reply.status == status && reply.error().contains(text),
            "{status} {text}: {} {}",
            reply.status,
            reply.text()
        );
        assert_eq!(reply.error().lines().count(), 1);
    }
    let infer = |input: serde_json::Value, length: Option<usize>| {
        let body = json!({ "inputs": [input] }).to_string();
        let length = length.unwrap_or(body.len()).to_string();
        let headers = [("Inference-Header-Content-Length", length.as_str())];
        server.ask("POST", "/v2/models/run/infer", &headers, body.as_bytes()).error()
    };
    let input = |more: serde_json::Value| {
        let mut input = json!({ "name": "input", "shape": [1, 1, 28, 28], "datatype": "FP32" });
        more.as_object().unwrap().iter().for_each(|(key, value)| input[key] = value.clone());
        input
    };
    let size = |size: u64| json!({ "parameters": { "binary_data_size": size } });
    assert!(infer(input(size(4)), None).contains("binary_data_size is 4, 0 bytes are left"));
    assert!(infer(input(size(0)), None).contains("does not take 0 bytes"));
    assert!(infer(input(size(0)), Some(9999)).contains("says 9999 bytes"));
    assert!(infer(input(json!({})), None).contains("neither data nor binary_data_size"));
    assert!(infer(input(json!({ "data": [1, 2] })), None).contains("does not hold 2 values"));
    assert!(infer(input(json!({ "datatype": "BYTES", "data": ["a"] })), None).contains("'BYTES' is not supported"));
    let huge = json!({ "shape": [u64::MAX, 2, 1, 1], "data": [1] });
    assert!(infer(input(huge), None).contains("does not hold 1 values"));
    // None of this has hurt it.
    server.post("/predict", "image/png", &picture(&dir, 0)).ok();
}

#[test]
fn bodies_come_in_chunks_and_several_on_a_connection() {
    let dir = trained();
    let server = Server::start(&dir, &["run"]);
    let image = picture(&dir, 0);
    let expected = server.post("/predict", "image/png", &image).ok().text();
    let mut stream = server.connect();
    let mut from = BufReader::new(stream.try_clone().unwrap());
    for piece in [1, 7, image.len()] {
        let mut body = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in image.chunks(piece) {
            body.extend([format!("{:x};note=1\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        body.extend(b"0\r\nTrailer: x\r\n\r\n");
        stream.write_all(&body).unwrap();
        assert_eq!(Reply::read(&mut from).unwrap().ok().text(), expected, "chunks of {piece}");
    }
    // Three at once, answered in order.
    let three = [
        request("GET", "/healthz", &[], b""),
        request("POST", "/predict", &[], &image),
        request("GET", "/v2", &[], b""),
    ];
    stream.write_all(&three.concat()).unwrap();
    assert_eq!(Reply::read(&mut from).unwrap().text(), "ok\n");
    assert_eq!(Reply::read(&mut from).unwrap().text(), expected);
    assert_eq!(Reply::read(&mut from).unwrap().json()["name"], "rekindle");
    // A client that asks first is told to go on.
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        image.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut word = [0; 25];
    from.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&image).unwrap();
    assert_eq!(Reply::read(&mut from).unwrap().ok().text(), expected);
}

#[test]
fn slow_clients_are_cut_off_and_hold_up_nobody() {
    let dir = trained();
    let server = Server::start(&dir, &["run", "--timeout", "1"]);
    let image = picture(&dir, 0);
    let (mut slow_head, mut slow_body) = (server.connect(), server.connect());
    slow_head.write_all(b"GET /heal").unwrap();
    let whole = request("POST", "/predict", &[], &image);
    slow_body.write_all(&whole[..whole.len() - 1]).unwrap();
    let started = Instant::now();
    server.post("/predict", "image/png", &image).ok();
    assert!(started.elapsed() < Duration::from_millis(900), "a slow client holds up another one");
    for stream in [slow_head, slow_body] {
        let reply = Reply::read(&mut BufReader::new(stream)).expect("an answer");
        assert!(reply.status == 408 && reply.error().contains("took"), "{} {}", reply.status, reply.text());
    }
    assert!(started.elapsed() < Duration::from_secs(10));
    // An answer that is not there in time: the batch waits for longer than the request may take.
    let server = Server::start(&dir, &["run", "--timeout", "0.5", "--window", "5000"]);
    let reply = server.post("/predict", "image/png", &image);
    assert_eq!((reply.status, reply.error().contains("not there in time")), (408, true));
}

#[test]
fn more_than_the_queue_are_told_to_come_again() {
    let dir = trained();
    let server = Server::start(&dir, &["run", "--queue", "1", "--batch-size", "2", "--window", "1500"]);
    let image = picture(&dir, 0);
    // Two items fit no batch of two that has one already: the second request waits aside, others in the queue.
    let statuses: Vec<Reply> = std::thread::scope(|scope| {
        let send = || server.post("/predict", "image/png", &image);
        let threads: Vec<_> = (0..24).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let answered = statuses.iter().filter(|reply| reply.status == 200).count();
    for reply in statuses.iter().filter(|reply| reply.status != 200) {
        assert_eq!((reply.status, reply.headers["retry-after"].as_str()), (503, "1"));
    }
    assert!(answered >= 2, "{answered} of 24 are answered");
    server.post("/predict", "image/png", &image).ok();
}

#[test]
fn who_leaves_is_not_computed_for() {
    let dir = trained();
    let mut server = Server::start(&dir, &["run", "--window", "1000"]);
    let mut stream = server.connect();
    stream.write_all(&request("POST", "/predict", &[], &picture(&dir, 0))).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(stream);
    server.wait_for("\"status\":499");
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(server.metric("rekindle_batch_items_count{model=\"run\"}"), 0.0);
    server.post("/predict", "image/png", &picture(&dir, 0)).ok();
    assert_eq!(server.metric("rekindle_batch_items_count{model=\"run\"}"), 1.0);
}

#[test]
fn strangers_need_a_token() {
    let dir = trained();
    let answer = dir.run(&["serve", "run", "--listen", "0.0.0.0:0", "--device", "flex"]);
    assert_eq!(answer.code, 2);
    assert!(answer.error().contains("--token"), "{}", answer.stderr);
    let server = Server::of(&dir, &["serve", "run", "--listen", "0.0.0.0:0", "--token", "secret", "--device", "flex"]);
    let image = picture(&dir, 0);
    let with = |token: &str| server.ask("POST", "/predict", &[("Authorization", token)], &image).status;
    assert_eq!(
        [with("Bearer secret"), with("Bearer secre"), with("Bearer secret2"), with("secret")],
        [200, 401, 401, 401]
    );
    let refused = server.post("/predict", "image/png", &image);
    assert_eq!((refused.status, refused.headers["www-authenticate"].as_str()), (401, "Bearer"));
    server.get("/healthz").ok();
    server.get("/v2/health/live").ok();
    assert_eq!(server.get("/metrics").status, 401);
    // It is in no line of the log.
    assert!(!server.lines().join("\n").contains("secret"));
}

#[test]
fn pages_of_other_servers_may_not_ask() {
    let dir = trained();
    let server = Server::start(&dir, &["run"]);
    let image = picture(&dir, 0);
    let own = format!("http://{}", server.address);
    let ask = |host: &str, origin: &str| {
        let mut stream = server.connect();
        let origin = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
        let head = format!("POST /predict HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Length: {}\r\n\r\n", image.len());
        stream.write_all(&[head.as_bytes(), &image].concat()).unwrap();
        Reply::read(&mut BufReader::new(stream)).unwrap().status
    };
    let host = server.address.to_string();
    assert_eq!([ask(&host, ""), ask(&host, &own), ask("localhost:80", ""), ask("[::1]:80", "")], [200; 4]);
    assert_eq!([ask(&host, "http://evil.example"), ask("evil.example", ""), ask(&host, "null")], [403; 3]);
}

#[test]
fn what_cannot_be_served_is_said_at_once() {
    let dir = Dir::new();
    let error = |arguments: &[&str]| {
        let answer = dir.run(&[&["serve", "--listen", "127.0.0.1:0", "--device", "flex"], arguments].concat());
        assert_eq!(answer.code, 2, "{}", answer.stderr);
        answer.error()
    };
    assert!(error(&["nothing"]).contains("model 'nothing'"));
    assert!(error(&["a=r.toml", "a=r.toml"]).contains("two models have the name 'a'"));
    assert!(error(&["r.toml", "--window=-1"]).contains("--window"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let answer = dir.run(&["serve", "r.toml", "--listen", &address, "--device", "flex"]);
    assert!(answer.error().contains("cannot listen on"), "{}", answer.stderr);
}
