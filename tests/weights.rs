//! `--weights` from an address and from torchvision's names, against a server on loopback.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::http::{Manners, Server};

/// A narrow classifier's weights, and a picture to classify.
fn fixtures() -> (Vec<u8>, tempfile::TempDir) {
    let weights =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights/fashion_classifier.pth"));
    let folder = tempfile::tempdir().expect("a scratch folder");
    let grey = image::GrayImage::from_fn(12, 12, |x, y| image::Luma([(x * 20 + y) as u8]));
    grey.save(folder.path().join("picture.png")).expect("a picture");
    let recipe = "name = \"narrow\"\nmodel = { name = \"fashion_classifier\", inputs = 144, hidden = [20, 16, 14, 12] }\n\
                  data = { name = \"fashion-mnist\" }\noptimizer = { name = \"adam\" }\n";
    std::fs::write(folder.path().join("narrow.toml"), recipe).expect("a recipe");
    (weights.expect("the fixture"), folder)
}

fn predict(folder: &Path, model: &str, weights: &str, mirror: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.current_dir(folder).env("XDG_CACHE_HOME", folder.join("cache"));
    command.args(["predict", model, "picture.png", "--weights", weights, "--device", "flex", "--json"]);
    if let Some(mirror) = mirror {
        command.env("REKINDLE_WEIGHTS_MIRROR", mirror);
    }
    command.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn weights_from_an_address_are_downloaded_once() {
    let (weights, folder) = fixtures();
    let server = Server::start(&[("/narrow.pth", &weights)], Manners::default());
    let url = format!("{}/narrow.pth", server.url);
    let first = predict(folder.path(), "narrow.toml", &url, None);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let second = predict(folder.path(), "narrow.toml", &url, None);
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(server.requests().len(), 1, "the second run uses the cache");
    let answer: serde_json::Value = serde_json::from_slice(&first.stdout).expect("JSON");
    let labels = answer[0]["labels"].as_array().expect("labels");
    assert_eq!(labels.len(), 5);
    let first_two = [labels[0]["probability"].as_f64(), labels[1]["probability"].as_f64()];
    assert!(first_two[0] >= first_two[1], "the likeliest first");
}

#[test]
fn an_address_whose_digits_do_not_fit_is_refused() {
    let (weights, folder) = fixtures();
    let server = Server::start(&[("/narrow-0123abcd.pth", &weights)], Manners::default());
    let answer = predict(folder.path(), "narrow.toml", &format!("{}/narrow-0123abcd.pth", server.url), None);
    assert_eq!(answer.status.code(), Some(2));
    let error = text(&answer.stderr);
    assert!(error.contains("0123abcd") && error.contains("sha256"), "{error}");
}

#[test]
fn torchvisions_names_are_looked_up_at_the_mirror() {
    let (weights, folder) = fixtures();
    // Not VGG's weights: the digits in the published name say so before they are used.
    let server = Server::start(&[("/vgg16-397923af.pth", &weights)], Manners::default());
    let answer = predict(folder.path(), "vgg16", "vgg16:IMAGENET1K_V1", Some(&server.url));
    assert_eq!(answer.status.code(), Some(2));
    assert!(text(&answer.stderr).contains("397923af"), "{}", text(&answer.stderr));
    assert_eq!(server.requests().len(), 1);
    let answer = predict(folder.path(), "vgg16", "vgg16:IMAGENET", None);
    assert_eq!(answer.status.code(), Some(2));
    assert!(
        text(&answer.stderr)
            .starts_with("error: unknown weights 'vgg16:IMAGENET': expected a file, an https:// address, or one of")
    );
}

#[test]
fn weights_that_do_not_fit_are_listed() {
    let (weights, folder) = fixtures();
    std::fs::write(folder.path().join("narrow.pth"), weights).expect("a file");
    let answer = predict(folder.path(), "the_model_class", "narrow.pth", None);
    assert_eq!(answer.status.code(), Some(2));
    let error = text(&answer.stderr);
    assert!(error.contains("the weights do not fit the model; --partial loads what fits"), "{error}");
    assert!(error.contains("missing in the file:\n    conv.weight"), "{error}");
}
