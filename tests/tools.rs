//! What makes the program pleasant: reports, the table of runs, new folders, completions and manual pages.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::program::Dir;

/// Two trained runs that differ in their learning rates.
fn two_runs() -> Dir {
    let dir = Dir::new();
    dir.train("checkpoints/slow", &["--epochs", "2"]);
    dir.train("checkpoints/fast", &["--epochs", "2", "--set", "optimizer.lr=5e-3"]);
    dir
}

#[test]
fn a_report_shows_everything_about_a_run_and_loads_nothing() {
    let dir = two_runs();
    let answer = dir.run(&["report", "checkpoints/slow", "--device", "flex"]).done();
    assert!(answer.stdout.starts_with("checkpoints/slow/report.html: written, "), "{}", answer.stdout);
    let page = fs::read_to_string(dir.path("checkpoints/slow/report.html")).unwrap();
    for part in [
        "<h1>slow</h1>",
        "2 of 2 epochs, finished",
        "id=\"chart-loss\"",
        "id=\"chart-accuracy\"",
        "id=\"lr\"",
        "id=\"throughput\"",
        "Confusion matrix",
        "Ankle boot",
        "Worst mistakes",
        "data:image/png;base64,",
        "Linear(in_features=784, out_features=64, bias=True)",
        "hidden",
        "model.bpk",
        "sha256",
    ] {
        assert!(page.contains(part), "the page has no {part}");
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "the page names an address");
    // 100 items of the test set, each in one cell of the matrix.
    assert!(page.contains("100 items of the test set"));

    dir.run(&["report", "checkpoints/slow", "checkpoints/fast", "--no-predictions"]).done();
    let page = fs::read_to_string(dir.path("report.html")).unwrap();
    assert!(
        page.contains("2 runs") && page.contains("optimizer.lr") && page.contains("0.005"),
        "no difference is shown"
    );
    assert!(!page.contains("optimizer.eps"), "a key that is the same is shown as a difference");

    // What is missing is said in the page, and does not stop it.
    fs::remove_file(
        dir.path("checkpoints/fast")
            .join(fs::read_to_string(dir.path("checkpoints/fast/best")).unwrap().trim())
            .join("model.bpk"),
    )
    .unwrap();
    let answer = dir.run(&["report", "checkpoints/fast", "--device", "flex"]).done();
    assert!(answer.stderr.contains("the page has no predictions"), "{}", answer.stderr);
    assert!(fs::read_to_string(dir.path("checkpoints/fast/report.html")).unwrap().contains("damaged"));
    assert_eq!(dir.run(&["report", "nowhere"]).code, 2);
}

#[test]
fn the_table_of_runs_helps_to_choose() {
    let dir = two_runs();
    let table = dir.run(&["runs", "--sort", "valid.accuracy", "--differences"]).done().stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("valid.accuracy") && lines[0].ends_with("optimizer.lr"), "{table}");
    assert!(lines[1].starts_with("checkpoints/fast"), "the faster one learns more in two epochs: {table}");
    let json = dir.run(&["runs", "--json", "--filter", "optimizer.lr<0.005"]).done().json();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["run"], "checkpoints/slow");
    let csv = dir.run(&["runs", "checkpoints/slow", "--csv"]).done().stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("epoch,step,") && lines.len() == 3, "{csv}");
    let wrong = dir.run(&["runs", "--sort", "valid.acuracy"]).error();
    assert!(wrong.contains("did you mean 'valid.accuracy'?"), "{wrong}");

    let answer = dir.run(&["diff", "checkpoints/slow", "checkpoints/fast"]);
    assert_eq!(answer.code, 1);
    assert!(answer.stdout.contains("recipe: optimizer.lr: 0.002 and 0.005"), "{}", answer.stdout);
    assert!(answer.stdout.contains("metrics: valid.accuracy: "), "{}", answer.stdout);
}

#[test]
fn a_run_in_use_is_not_removed() {
    let dir = two_runs();
    // Another run starts from weights in the folder of the first.
    dir.run(&["export", "checkpoints/slow", "checkpoints/slow/weights.pth"]).done();
    dir.train("checkpoints/user", &["--epochs", "1", "--init", "checkpoints/slow/weights.pth"]);
    let refused = dir.run(&["runs", "--delete", "checkpoints/slow", "--yes"]);
    assert_eq!(refused.code, 2);
    assert!(refused.error().contains("starts from it (train.init.weights in its recipe)"), "{}", refused.stderr);
    assert!(dir.path("checkpoints/slow/recipe.toml").exists());
    // Nobody can confirm where stdin is no terminal.
    assert!(dir.run(&["runs", "--delete", "checkpoints/fast"]).error().contains("--yes"));
    dir.run(&["runs", "--delete", "checkpoints/fast", "--yes"]).done();
    assert!(!dir.path("checkpoints/fast").exists());

    // One that is trained at this moment.
    let arguments = ["train", "r.toml", "--device", "flex", "--run", "checkpoints/now", "--epochs", "10000"];
    let mut child = dir.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !dir.path("checkpoints/now/last").exists() && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let refused = dir.run(&["runs", "--delete", "checkpoints/now", "--yes"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(refused.error().contains("a process trains it at this moment"), "{}", refused.stderr);
    // Both at once may go: the one that starts from the other goes too. What is not a run's own stays.
    let both = ["runs", "--delete", "checkpoints/slow", "--delete", "checkpoints/user", "--yes"];
    let answer = dir.run(&both).done();
    assert!(answer.stdout.contains("stay: weights.pth"), "{}", answer.stdout);
    assert!(!dir.path("checkpoints/slow/recipe.toml").exists() && !dir.path("checkpoints/user").exists());
}

#[test]
fn a_new_folder_trains_as_it_is() {
    let dir = Dir::new();
    let answer = dir.run(&["new", "my flowers"]).done();
    assert!(answer.stdout.ends_with("next:\n  rekindle train my flowers/recipe.toml\n"), "{}", answer.stdout);
    let small = ["--set", "data.limit.train=128", "--set", "data.limit.test=64", "--epochs", "1", "--device", "flex"];
    dir.run(&[&["train", "my flowers/recipe.toml"][..], &small].concat()).done();
    assert!(dir.path("checkpoints/my_flowers/recipe.toml").exists());
    let again = dir.run(&["new", "my flowers"]);
    assert_eq!(again.code, 2);
    assert!(again.error().contains("it is there already"), "{}", again.stderr);
}

#[test]
fn a_new_crate_has_the_network_that_the_example_compiles() {
    let dir = Dir::new();
    let answer = dir.run(&["new", "2 mine", "--rust"]).done();
    assert!(answer.stdout.ends_with("cd 2 mine\n  cargo run --release -- train recipe.toml\n"), "{}", answer.stdout);
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = |path: &Path| fs::read_to_string(path).unwrap().parse::<toml::Table>().unwrap();
    let (example, new) =
        (table(&checkout.join("examples/own_model/Cargo.toml")), table(&dir.path("2 mine/Cargo.toml")));
    assert_eq!(new["package"]["name"].as_str(), Some("my_2_mine"));
    assert_eq!(new["dependencies"]["rekindle"]["path"].as_str(), checkout.to_str());
    for name in ["burn", "serde"] {
        assert_eq!(new["dependencies"][name], example["dependencies"][name]);
    }
    let compiled = checkout.join("examples/own_model").join(example["bin"][0]["path"].as_str().unwrap());
    assert_eq!(fs::read(compiled).unwrap(), fs::read(dir.path("2 mine/src/main.rs")).unwrap());
    assert_eq!(table(&dir.path("2 mine/recipe.toml"))["name"].as_str(), Some("2_mine"));
}

#[test]
fn shells_and_manuals_know_every_verb() {
    let dir = Dir::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = dir.run(&["completions", shell]).done().stdout;
        for verb in ["train", "report", "doctor"] {
            assert!(script.contains(verb), "{shell}: {verb} is missing");
        }
    }
    let answer = dir.run(&["man", "pages"]).done();
    let pages = fs::read_dir(dir.path("pages")).unwrap().count();
    assert!(answer.stdout.contains(&format!("{pages} pages written")), "{}: {pages} files", answer.stdout);
    let page = fs::read_to_string(dir.path("pages/rekindle-train.1")).unwrap();
    assert!(page.contains("Example") && page.contains("\\-\\-set"), "{page}");

    let help = dir.run(&["--help"]).done().stdout;
    for group in ["Train:", "Use a model:", "Files:", "What is here:", "Shell:", "Begin with:"] {
        assert!(help.contains(group), "{group} is missing in:\n{help}");
    }
    let doctor = dir.run(&["doctor", "--json"]).done().json();
    let found: Vec<&str> = doctor.as_array().unwrap().iter().filter_map(|finding| finding["what"].as_str()).collect();
    for what in ["program", "threads", "vector units", "memory", "devices", "cache", "disk"] {
        assert!(found.contains(&what), "{what} is missing in {found:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let dir = Dir::new();
    // The pipe is closed before the script is written, which is larger than a pipe's buffer.
    let program = env!("CARGO_BIN_EXE_rekindle");
    let shell = format!("'{program}' completions bash | head -n 1; echo ${{PIPESTATUS[0]}}");
    let output = Command::new("bash").arg("-c").arg(shell).current_dir(dir.path("")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().last(), Some("0"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_said_can_be_silenced_and_kept() {
    let dir = Dir::new();
    let answer = dir.train("run", &["--epochs", "1", "--quiet", "--log", "work.log"]);
    assert_eq!(answer.stderr, "");
    assert!(answer.stdout.contains("best checkpoint"), "{}", answer.stdout);
    let kept = fs::read_to_string(dir.path("work.log")).unwrap();
    let line = kept.lines().find(|line| line.contains("epoch 1/1")).unwrap();
    assert!(line.starts_with("20") && line.as_bytes()[10] == b'T' && line.as_bytes()[19] == b'Z', "{line}");
    // Errors are said all the same, and kept behind what is there already.
    let answer = dir.run(&["--log", "work.log", "--quiet", "eval", "nothing"]);
    assert!(answer.code == 2 && answer.stderr.starts_with("error: "), "{}", answer.stderr);
    let more = fs::read_to_string(dir.path("work.log")).unwrap();
    assert!(more.starts_with(&kept) && more.contains("Z error: "), "{more}");
    let answer = dir.run(&["--log", "nowhere/work.log", "runs"]);
    assert!(answer.error().contains("nowhere/work.log: cannot open the log"), "{}", answer.stderr);
}
