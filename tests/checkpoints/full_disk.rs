//! Writes that fail at any place of a save: a limit on the size of files, and a full disk.

use std::fs;
use std::process::Command;

use super::support::{TINY, copy, problems, strays};
use crate::support::program::{Answer, Dir};

/// A run with one epoch done, and the sizes of its checkpoint's files.
fn begun() -> (Dir, Vec<u64>) {
    let dir = Dir::with(TINY);
    dir.train("whole", &["--epochs", "2"]);
    dir.train("begun", &["--epochs", "1"]);
    let files = fs::read_dir(dir.path("begun/step-00000050")).unwrap();
    let mut sizes: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
    sizes.sort_unstable();
    (dir, sizes)
}

#[cfg(unix)]
#[test]
fn a_limit_on_file_size_leaves_every_earlier_checkpoint() {
    let (dir, sizes) = begun();
    let largest = sizes[sizes.len() - 1] / 512 + 2;
    // Each file's own end, and places between, in blocks of 512 bytes: the whole length of a save.
    let mut limits: Vec<u64> = (0..12).map(|part| part * largest / 12).collect();
    limits.extend(sizes.iter().flat_map(|size| [size / 512, size / 512 + 1]));
    // And one that is enough whatever a log has grown to.
    limits.extend([1, 2, 2 * largest + 128]);
    limits.sort_unstable();
    limits.dedup();
    let (mut failed, mut done) = (0, 0);
    for (turn, limit) in limits.iter().enumerate() {
        copy(&dir.path("begun"), &dir.path("run"));
        // With the signal ignored, as a shell may hand it on, and without.
        let trap = if turn % 2 == 0 { "trap '' XFSZ; " } else { "" };
        let script = format!("{trap}ulimit -f {limit}; exec \"$0\" \"$@\"");
        let resume = ["resume", "run", "--device", "flex", "--epochs", "2"];
        let output = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(env!("CARGO_BIN_EXE_rekindle"))
            .args(resume)
            .current_dir(dir.path(""))
            .output();
        let answer = Answer::from(output.unwrap());
        assert_eq!(problems(&dir.path("run")), [""; 0], "limit {limit}");
        assert!(dir.path("run/step-00000050").is_dir(), "limit {limit}");
        if answer.code == 0 {
            done += 1;
        } else {
            failed += 1;
            assert_eq!(answer.code, 2, "limit {limit}: {}", answer.stderr);
            let error = answer.error();
            assert!(error.starts_with("run/"), "limit {limit}: {error}");
            assert!(
                error.contains(": the file would be larger than is allowed here (see `ulimit -f`); "),
                "limit {limit}: {error}"
            );
            assert!(error.contains("the newest checkpoint is of step "), "limit {limit}: {error}");
            assert!(error.ends_with(": `rekindle resume run` goes on from there"), "limit {limit}: {error}");
            assert_eq!(strays(&dir.path("run")), [""; 0], "limit {limit}");
        }
        dir.run(&resume).done();
        assert_eq!(dir.weights("run"), dir.weights("whole"), "limit {limit}");
        assert_eq!(dir.optimizer("run"), dir.optimizer("whole"), "limit {limit}");
        assert_eq!(dir.metrics("run").len(), 2, "limit {limit}");
        fs::remove_dir_all(dir.path("run")).unwrap();
    }
    assert!(failed >= 10 && done >= 1, "{failed} failed, {done} did not");
}

/// The program on a small file system of its own: filled up but for so many KiB, emptied again.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=16m tmpfs full || exit 77
for room in $ROOMS; do
    rm -rf full/* full/.[!.]*
    cp -r begun full/run
    dd if=/dev/zero of=full/filler bs=1k 2>/dev/null
    truncate -s "-${room}k" full/filler
    "$REKINDLE" resume full/run --device flex --epochs 2 >/dev/null 2>stderr
    echo "room $room code $? $(grep '^error:' stderr)"
    "$REKINDLE" runs full/run --verify >/dev/null 2>stderr || { echo damaged; cat stderr; }
    [ -d full/run/step-00000050 ] || echo lost
    rm full/filler
    "$REKINDLE" resume full/run --device flex --epochs 2 >/dev/null 2>stderr || { echo stuck; cat stderr; }
    "$REKINDLE" diff full/run/step-00000100 whole/step-00000100 > /dev/null 2>&1 || echo "other weights"
    ls -A full/run | grep '^\.[^l]'
done
mount -o remount,ro full
"$REKINDLE" resume full/run --device flex --epochs 3 2>&1 | grep '^error:'
"$REKINDLE" train r.toml --run full/new --device flex 2>&1 | grep '^error:'
"$REKINDLE" eval full/run --device flex >/dev/null 2>stderr || { echo unreadable; cat stderr; }
true
"#;

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_every_earlier_checkpoint() {
    let (dir, sizes) = begun();
    fs::create_dir(dir.path("full")).unwrap();
    let whole = sizes.iter().sum::<u64>() / 1024;
    let rooms: Vec<u64> = (0..10).map(|part| part * whole / 9).chain([4, 8, 2 * whole + 100]).collect();
    let rooms: Vec<String> = rooms.iter().map(ToString::to_string).collect();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .current_dir(dir.path(""))
        .env("ROOMS", rooms.join(" "))
        .env("REKINDLE", env!("CARGO_BIN_EXE_rekindle"))
        .output();
    let answer = match output {
        Ok(output)
            if output.status.code() != Some(77) && !String::from_utf8_lossy(&output.stderr).contains("unshare") =>
        {
            Answer::from(output)
        }
        other => {
            // A container may forbid it. Continuous integration must not pass it over.
            assert!(std::env::var_os("REKINDLE_REQUIRE_MOUNT").is_none(), "no file system can be mounted: {other:?}");
            eprintln!("SKIPPED: a full disk: no file system can be mounted here");
            return;
        }
    };
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(lines.len(), rooms.len() + 2, "{}{}", answer.stdout, answer.stderr);
    let (runs, rest) = lines.split_at(rooms.len());
    let failed: Vec<&&str> = runs.iter().filter(|line| line.contains(" code 2 error: full/run/")).collect();
    for line in &failed {
        assert!(line.contains(": the disk is full; the newest checkpoint is of step "), "{line}");
        assert!(line.ends_with(": `rekindle resume full/run` goes on from there"), "{line}");
    }
    assert!(failed.len() >= 9, "{}", answer.stdout);
    assert_eq!(
        runs.iter().filter(|line| line.ends_with(" code 0 ")).count() + failed.len(),
        runs.len(),
        "{}",
        answer.stdout
    );
    assert_eq!(rest[0], "error: full/run: cannot lock the run: the file system is read-only");
    assert_eq!(rest[1], "error: full/new: cannot create the run's folder: the file system is read-only");
}

#[cfg(unix)]
#[test]
fn a_run_whose_folder_goes_away_ends_with_a_sentence() {
    let dir = Dir::with(&TINY.replace("epochs = 3", "epochs = 100000"));
    let arguments = ["train", "r.toml", "--device", "flex", "--run", "run", "--set", "checkpoint.every_steps=20"];
    let child = dir
        .command(&arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    super::support::wait_for("a checkpoint", || dir.path("run/last").is_file());
    fs::rename(dir.path("run"), dir.path("gone")).unwrap();
    let answer = Answer::from(child.wait_with_output().unwrap());
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    let error = answer.error();
    assert!(error.starts_with("run/") && error.contains("no such file; "), "{error}");
    assert_eq!(problems(&dir.path("gone")), [""; 0]);
}
