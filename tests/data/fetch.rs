//! Downloads from a server on loopback.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rekindle::data::catalog::{Published, PublishedFile, published};
use rekindle::data::download::download;
use rekindle::data::fetch;
use rekindle::data::fetch::{MIRROR_VARIABLE, fetch_set};
use sha2::{Digest, Sha256};
use tempfile::tempdir;

use crate::support::http::{Manners, Server};

/// 300,000 bytes that no packer would shorten.
fn content() -> Vec<u8> {
    (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn get(server: &Server, dest: &Path, sha256: Option<&str>) -> Result<(), String> {
    let url = format!("{}/file", server.url);
    download(&url, dest, sha256, &mut |_| {}).map_err(|error| error.to_string().replace(&server.url, "URL"))
}

/// A set of one file whose own address leads nowhere.
fn small_set() -> Published {
    let file = PublishedFile { name: "file", bytes: 300_000, sha256: sum(&content()).leak() };
    Published { about: "a test", address: "http://127.0.0.1:1", files: vec![file].leak() }
}

#[test]
fn downloads_and_checks() {
    let dir = tempdir().unwrap();
    let server = Server::start(&[("/file", &content())], Manners::default());
    let dest = dir.path().join("new/folder/file");
    get(&server, &dest, Some(&sum(&content()))).unwrap();
    assert_eq!(fs::read(&dest).unwrap(), content());
    assert!(!dir.path().join("new/folder/file.part").exists());
    // The leading digits will do, in capitals too.
    get(&server, &dest, Some(&sum(&content())[..8].to_uppercase())).unwrap();
    get(&server, &dest, None).unwrap();
}

#[test]
fn continues_what_broke_off() {
    let dir = tempdir().unwrap();
    let dest = dir.path().join("file");
    let part = dir.path().join("file.part");
    fs::write(&part, &content()[..1000]).unwrap();
    let server = Server::start(&[("/file", &content())], Manners::default());
    get(&server, &dest, Some(&sum(&content()))).unwrap();
    assert_eq!(fs::read(&dest).unwrap(), content());
    assert_eq!(server.requests(), [("/file".to_owned(), Some("bytes=1000-".to_owned()))]);
    // Whoever listens hears of the whole file, from where the first try ended.
    fs::write(&part, &content()[..1000]).unwrap();
    let mut heard = Vec::new();
    let url = format!("{}/file", server.url);
    download(&url, &dest, Some(&sum(&content())), &mut |got| heard.push((got.bytes, got.of))).unwrap();
    assert!(heard.is_sorted() && heard.len() > 1 && heard[0].0 > 1000, "{heard:?}");
    assert_eq!(heard.last(), Some(&(300_000, Some(300_000))));

    // A server that ignores the range sends everything, and everything is taken.
    fs::write(&part, &content()[..1000]).unwrap();
    let manners = Manners { ignore_range: true, ..Manners::default() };
    let server = Server::start(&[("/file", &content())], manners);
    get(&server, &dest, Some(&sum(&content()))).unwrap();
    assert_eq!(fs::read(&dest).unwrap(), content());

    // The rest of another file, or more than the file has: from the start.
    for stale in [vec![1; 1000], content(), vec![1; 400_000]] {
        fs::write(&part, stale).unwrap();
        let server = Server::start(&[("/file", &content())], Manners::default());
        get(&server, &dest, Some(&sum(&content()))).unwrap();
        assert_eq!(fs::read(&dest).unwrap(), content());
    }

    // Nothing could tell a mixture without a sum.
    fs::write(&part, vec![1; 1000]).unwrap();
    let server = Server::start(&[("/file", &content())], Manners::default());
    get(&server, &dest, None).unwrap();
    assert_eq!(fs::read(&dest).unwrap(), content());
}

#[test]
fn tries_again_within_a_call() {
    let dir = tempdir().unwrap();
    let dest = dir.path().join("file");
    let manners = Manners { unavailable: 1, break_after: Some(100_000), ..Manners::default() };
    let server = Server::start(&[("/file", &content())], manners);
    get(&server, &dest, Some(&sum(&content()))).unwrap();
    assert_eq!(fs::read(&dest).unwrap(), content());
    let ranges: Vec<_> = server.requests().into_iter().map(|(_, range)| range).collect();
    assert_eq!(ranges.len(), 3);
    assert!(ranges[2].is_some(), "{ranges:?}");

    let manners = Manners { unavailable: 9, ..Manners::default() };
    let server = Server::start(&[("/file", &content())], manners);
    assert_eq!(
        get(&server, &dest, None).unwrap_err(),
        "URL/file: the download failed (the server answered 503); check the network and run the \
         command again"
    );
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn wrong_bytes_are_refused_and_removed() {
    let dir = tempdir().unwrap();
    let dest = dir.path().join("file");
    fs::write(&dest, "what was there").unwrap();
    let server = Server::start(&[("/file", b"other bytes")], Manners::default());
    assert_eq!(
        get(&server, &dest, Some(&sum(&content()))).unwrap_err(),
        format!(
            "URL/file: expected a file with sha256 {}, found {}; the download was removed, run \
             the command again or use another mirror",
            sum(&content()),
            sum(b"other bytes")
        )
    );
    assert!(!dir.path().join("file.part").exists());
    assert_eq!(fs::read(&dest).unwrap(), b"what was there");
}

#[test]
fn refusals_are_one_sentence() {
    let dir = tempdir().unwrap();
    let dest = dir.path().join("file");
    let server = Server::start(&[], Manners::default());
    assert_eq!(
        get(&server, &dest, None).unwrap_err(),
        "URL/file: expected a file, but the server answered 404; check the address or use another \
         mirror"
    );
    assert_eq!(server.requests().len(), 1);
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/file");
    assert_eq!(
        download(&url, &dest, None, &mut |_| {}).unwrap_err().to_string(),
        format!(
            "{url}: the download failed (connection refused); check the network and run the \
             command again"
        )
    );
    let text = download("no address", &dest, None, &mut |_| {}).unwrap_err().to_string();
    assert!(text.starts_with("no address: expected an address such as https://host/file, but it is not one"), "{text}");
}

#[test]
fn fetches_a_set_from_a_mirror_and_keeps_what_is_right() {
    let dir = tempdir().unwrap();
    let server = Server::start(&[("/base/small/file", &content())], Manners::default());
    let mirror = format!("{}/base/", server.url);
    let fetch = || fetch_set("small", &small_set(), Some(&mirror), dir.path(), &mut |_| {}).unwrap();
    assert_eq!(fetch().downloaded, ["file"]);
    assert_eq!(fetch().kept, ["file"]);
    assert_eq!(server.requests().len(), 1);
    fs::write(dir.path().join("file"), "damaged later").unwrap();
    assert_eq!(fetch().downloaded, ["file"]);
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), content());
}

#[test]
fn the_environment_names_a_mirror() {
    // The environment belongs to the whole process, so another one is started for it.
    let dir = tempdir().unwrap();
    let server = Server::start(&[("/small/file", &content())], Manners::default());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["data::fetch::fetches_from_the_environments_mirror", "--exact"])
        .env(MIRROR_VARIABLE, &server.url)
        .env("REKINDLE_TEST_DEST", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), content());
}

/// The other half of the test above; on its own it has nothing to do.
#[test]
fn fetches_from_the_environments_mirror() {
    if let Some(dest) = std::env::var_os("REKINDLE_TEST_DEST") {
        fetch_set("small", &small_set(), None, Path::new(&dest), &mut |_| {}).unwrap();
    }
}

#[test]
fn unknown_sets_are_refused_with_the_nearest_name() {
    assert_eq!(
        fetch("fashion-mnits", None, None, &mut |_| {}).unwrap_err().to_string(),
        "data set \"fashion-mnits\": expected one of mnist, fashion-mnist, cifar-10, found a name \
         that is not published; did you mean \"fashion-mnist\"?"
    );
    for (_, set) in published() {
        assert!(set.address.starts_with("https://"), "{}", set.address);
        assert!(set.files.iter().all(|file| file.sha256.len() == 64));
    }
}
