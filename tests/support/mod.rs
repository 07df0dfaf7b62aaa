//! Helpers that several capabilities' tests share.

pub mod http;
pub mod numbers;
pub mod program;

use std::process::Command;

/// Runs a test's body in a process of its own: random numbers are one stream for a process, and other tests draw from it at the
/// same time. `test` is the path of the test that calls this.
pub fn alone(test: &str, body: impl FnOnce()) {
    const ALONE: &str = "REKINDLE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args([test, "--exact", "--test-threads=1"]).env(ALONE, "1").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (told, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}{errors}");
}
