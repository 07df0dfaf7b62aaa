//! Several ranks, here threads of one process, train as one does; batches that are accumulated are as one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rekindle::checkpoint::{Contents, Run, Which};
use rekindle::distributed::threads;
use rekindle::models::FashionClassifierConfig;
use rekindle::prelude::{DataConfig, DatasetName, DeviceName, Event, Limit, Training};
use rekindle::train::{Loaded, Outcome, Session, Snapshot, Start};
use rekindle_state::{Tolerance, Value, diff};

use crate::support::alone;
use crate::uninterrupted::{Bench, End, registry};

/// A network without anything random and without statistics: ranks and batches make no difference to it but rounding.
const PLAIN: &str = r#"
name = "plain"
model = { name = "fashion_classifier", classes = 10, hidden = [24, 20, 16, 12], dropout = 0.0 }
[data]
name = "fashion-mnist-sample"
workers = 1
normalize = { mean = [0.286], std = [0.353] }
[optimizer]
name = "sgd"
lr = 0.05
momentum = 0.9
[scheduler]
name = "cosine"
per = "step"
[train]
clip_grad_norm = 1.0
"#;

/// The same with Burn's batch normalisation, saved in the middle of epochs.
const NORMED: &str = r#"
name = "normed"
model = { name = "normed" }
[data]
name = "fashion-mnist-sample"
augment = ["random_horizontal_flip"]
[optimizer]
name = "adam"
lr = 1e-3
[train]
early_stopping = { patience = 2 }
[checkpoint]
every_steps = 2
"#;

/// Batch normalisation of this library's, without anything random.
const VGG: &str = r#"
name = "vgg"
model = { name = "vgg11_bn", widths = [4, 5, 6, 6, 6], hidden = [10, 8], classes = 10, dropout = 0.0 }
[data]
name = "cifar-10"
[optimizer]
name = "sgd"
lr = 1e-3
momentum = 0.9
[train]
epochs = 2
"#;

/// 51 steps an epoch of 8 images, the last of which has 3; validation in uneven parts.
const STEPS: [&str; 3] = ["train.epochs=1", "data.limit={ train = 403, test = 37 }", "data.batch_size=8"];

/// Two epochs of 5 images for each of 2 ranks, the last batch of which is smaller.
const SHORT: [&str; 3] = ["train.epochs=2", "data.limit={ train = 23, test = 9 }", "data.batch_size=5"];

fn settings(settings: &[&str], more: &[&str]) -> Vec<String> {
    settings.iter().chain(more).map(ToString::to_string).collect()
}

/// How a training begins, made anew for each rank.
#[derive(Clone)]
enum Begin {
    New(Box<Loaded>, PathBuf),
    Resume(PathBuf),
}

impl Begin {
    fn start(self) -> Start {
        match self {
            Self::New(loaded, dir) => Start::New { loaded, dir, numbered: false },
            Self::Resume(dir) => Start::Resume { dir, which: Which::Last, set: Vec::new() },
        }
    }
}

/// What came of a training: how it ended, and what was noted.
type Answer = Result<(Outcome, Vec<String>), String>;

/// Trains with a number of ranks; the last of them is asked to stop after a step, if one is given.
fn ranks(count: usize, begins: impl Fn(usize) -> Begin, stop_after: Option<u64>) -> Vec<Answer> {
    let begins: Vec<Begin> = (0..count).map(begins).collect();
    threads::run(count, move |group| {
        let (rank, size) = (group.rank(), group.size());
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let group = (size > 1).then(|| Arc::new(group));
        let start = begins[rank].clone().start();
        let session = Session::of_rank(&registry(), start, DeviceName::FLEX, stop, group);
        let session = session.map_err(|error| error.to_string())?;
        let notes = session.notes.clone();
        let session = session.on_step(move |step| {
            if rank == size - 1 && stop_after == Some(step) {
                asked.store(true, Ordering::Relaxed);
            }
        });
        let (outcome, _) = session.run().map_err(|error| error.to_string())?;
        Ok((outcome, notes))
    })
}

/// Trains anew to the end or to a step.
fn train(bench: &Bench, text: &str, keys: &[String], run: &str, count: usize, stop_after: Option<u64>) -> Run {
    let begin = Begin::New(bench.loaded(text, keys), bench.path(run));
    let expected = if stop_after.is_some() { Outcome::Interrupted } else { Outcome::Finished };
    for answer in ranks(count, |_| begin.clone(), stop_after) {
        assert_eq!(answer.unwrap().0, expected, "{run}");
    }
    Run::open(&bench.path(run)).unwrap()
}

fn resume(bench: &Bench, run: &str, count: usize, stop_after: Option<u64>) -> Vec<Answer> {
    ranks(count, |_| Begin::Resume(bench.path(run)), stop_after)
}

fn weights(run: &Run) -> Value {
    let contents: Contents = run.find(Which::Last).unwrap().read().unwrap();
    Value::Dict(Snapshot::new(&registry(), &contents, "the run").unwrap().model().unwrap())
}

/// Weights that differ by rounding alone.
#[track_caller]
fn assert_close(a: &Run, b: &Run, what: &str) {
    let found = diff(&weights(a), &weights(b), Tolerance { rtol: 1e-5, atol: 1e-6 }).unwrap();
    assert!(found.same && found.compared > 0, "{what}: {found:?}");
    let manifest = |run: &Run| run.find(Which::Last).unwrap().manifest().unwrap();
    let (a, b) = (manifest(a), manifest(b));
    assert_eq!((a.step, a.epoch, a.batch), (b.step, b.epoch, b.batch), "{what}");
    for (name, value) in &a.metrics {
        assert!((value - b.metrics[name]).abs() < 1e-4, "{what}: {name} {value} {}", b.metrics[name]);
    }
}

#[test]
fn ranks_and_accumulated_batches_are_one_large_batch() {
    alone("together::ranks_and_accumulated_batches_are_one_large_batch", || {
        let bench = Bench::new();
        let whole = train(&bench, PLAIN, &settings(&STEPS, &[]), "whole", 1, None);
        assert_eq!(whole.find(Which::Last).unwrap().step, 51);
        let parts = [
            (2, "data.batch_size=4", "train.accumulate=1"),
            (4, "data.batch_size=2", "train.accumulate=1"),
            (1, "data.batch_size=2", "train.accumulate=4"),
            (2, "data.batch_size=1", "train.accumulate=4"),
            (2, "train.global_batch=8", "train.accumulate=2"),
        ];
        for (count, batch, accumulate) in parts {
            let what = format!("{count} ranks, {batch}, {accumulate}");
            let run = train(&bench, PLAIN, &settings(&STEPS, &[batch, accumulate]), &what, count, None);
            assert_close(&run, &whole, &what);
            let manifest = run.find(Which::Last).unwrap().manifest().unwrap();
            assert_eq!(manifest.ranks, count);
        }
    });
}

#[test]
fn the_same_ranks_give_the_same_bits_interrupted_or_not() {
    alone("together::the_same_ranks_give_the_same_bits_interrupted_or_not", || {
        let bench = Bench::new();
        let cases = [
            ("plain", PLAIN, 2, "train.accumulate=1"),
            ("three", PLAIN, 3, "train.accumulate=1"),
            ("normed", NORMED, 2, "train.accumulate=1"),
            ("accumulated", NORMED, 1, "train.accumulate=2"),
            ("both", PLAIN, 2, "train.accumulate=2"),
            // Gradients that travel during the backward pass, though not in the first step after a start.
            ("wide", PLAIN, 2, "model.hidden=[16, 520, 520, 12]"),
            ("synchronised", VGG, 2, "train.sync_batch_norm=true"),
        ];
        for (name, text, count, more) in cases {
            let keys = match name {
                "synchronised" => settings(&["train.epochs=2", "data.limit={ train = 19, test = 4 }"], &[more]),
                _ => settings(&SHORT, &[more]),
            };
            let run = |run: &str, stop| train(&bench, text, &keys, &format!("{name}-{run}"), count, stop);
            let whole = End::of(&run("whole", None));
            End::of(&run("again", None)).assert_is(&whole, name);
            for stop in [1, 2] {
                let what = format!("stopped-{stop}");
                let stopped = run(&what, Some(stop));
                assert_eq!(stopped.find(Which::Last).unwrap().step, stop, "{name}");
                for answer in resume(&bench, &format!("{name}-{what}"), count, None) {
                    assert_eq!(answer.unwrap(), (Outcome::Finished, Vec::new()), "{name}");
                }
                End::of(&stopped).assert_is(&whole, &format!("{name}, {what}"));
            }
        }
    });
}

#[test]
fn synchronised_batch_normalisation_is_that_of_one_large_batch() {
    alone("together::synchronised_batch_normalisation_is_that_of_one_large_batch", || {
        let bench = Bench::new();
        let run = |name: &str, count: usize, keys: [&str; 3]| {
            let keys = settings(&keys, &["train.epochs=3", "data.limit={ train = 19, test = 4 }"]);
            train(&bench, VGG, &keys, name, count, None)
        };
        let synchronised = "train.sync_batch_norm=true";
        let keys = |batch, accumulate| [batch, accumulate, synchronised];
        let whole = run("whole", 1, keys("data.batch_size=8", "train.accumulate=1"));
        // In the last step of an epoch, which has 3 images, some ranks have fewer than others or none.
        for (count, batch) in [(2, "data.batch_size=4"), (4, "data.batch_size=2")] {
            let what = format!("{count} ranks, {batch}");
            assert_close(&run(&what, count, keys(batch, "train.accumulate=1")), &whole, &what);
        }
        let halves = run("halves", 1, keys("data.batch_size=4", "train.accumulate=2"));
        assert_close(&run("both", 2, keys("data.batch_size=2", "train.accumulate=2")), &halves, "accumulated");
        // It is not what ranks do otherwise.
        let local = run("local", 2, ["data.batch_size=4", "train.accumulate=1", "train.sync_batch_norm=false"]);
        let found = diff(&weights(&local), &weights(&whole), Tolerance { rtol: 1e-3, atol: 1e-3 }).unwrap();
        assert!(!found.same);
    });
}

#[test]
fn what_cannot_be_synchronised_is_said() {
    let bench = Bench::new();
    let told = |text: &str| {
        let begin =
            Begin::New(bench.loaded(text, &settings(&SHORT, &["train.sync_batch_norm=true"])), bench.path("run"));
        let answers: Vec<String> = ranks(2, |_| begin.clone(), None).into_iter().map(Result::unwrap_err).collect();
        assert_eq!(answers[0], answers[1]);
        answers.into_iter().next().unwrap()
    };
    let error = told(NORMED);
    assert!(error.contains("'norm' is a batch normalisation of Burn's") && error.contains("BatchNorm2d"), "{error}");
    let error = told(PLAIN);
    assert!(error.contains("the model has no batch normalisation that is trained"), "{error}");
}

#[test]
fn all_ranks_stop_early_together() {
    alone("together::all_ranks_stop_early_together", || {
        let bench = Bench::new();
        let keys = settings(&SHORT, &["train.epochs=9", "optimizer.lr=0.0", "train.early_stopping={ patience = 2 }"]);
        let begin = Begin::New(bench.loaded(PLAIN, &keys), bench.path("run"));
        for answer in ranks(3, |_| begin.clone(), None) {
            assert_eq!(answer.unwrap().0, Outcome::EarlyStopped);
        }
        let last = Run::open(&bench.path("run")).unwrap().find(Which::Last).unwrap();
        assert_eq!(last.manifest().unwrap().epoch, 3);
    });
}

#[test]
fn ranks_train_what_code_describes() {
    alone("together::ranks_train_what_code_describes", || {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, other) = (scratch.path().join("run"), scratch.path().join("other"));
        let limit = Limit { train: Some(24), test: Some(8) };
        let training = move |epochs: usize| {
            Training::of(FashionClassifierConfig { dropout: 0.0, hidden: [24, 20, 16, 12], ..Default::default() })
                .data(DataConfig { limit: Some(limit), ..DatasetName::FASHION_MNIST_SAMPLE.into() })
                .global_batch(8)
                .epochs(epochs)
                .device(DeviceName::FLEX)
        };
        training(2).run(&other).unwrap();
        let (steps, path) = (Arc::new(AtomicU64::new(0)), dir.clone());
        let heard = Arc::clone(&steps);
        let paths = threads::run(2, move |group| {
            let (group, heard) = (Arc::new(group), Arc::clone(&heard));
            let observer = move |event: &Event| {
                if matches!(event, Event::Step { .. }) {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            };
            training(1).ranks(group.clone()).observe(observer).run(&path).unwrap();
            // Its one epoch is done.
            training(2).ranks(group).resume(&path).unwrap().path().to_path_buf()
        });
        assert!(paths.iter().all(|path| *path == dir));
        // Rank 0 alone tells; one epoch has 3 steps.
        assert_eq!(steps.load(Ordering::Relaxed), 3);
        let (run, other) = (Run::open(&dir).unwrap(), Run::open(&other).unwrap());
        let manifest = run.find(Which::Last).unwrap().manifest().unwrap();
        assert_eq!((manifest.ranks, manifest.step, manifest.epoch), (2, 3, 1));
        let first = other.find(Which::Step(3)).unwrap().manifest().unwrap();
        assert!((first.metrics["valid.loss"] - manifest.metrics["valid.loss"]).abs() < 1e-4);
    });
}

#[test]
fn another_number_of_ranks_goes_on_and_is_told() {
    alone("together::another_number_of_ranks_goes_on_and_is_told", || {
        let bench = Bench::new();
        let keys = settings(&SHORT, &["train.global_batch=12"]);
        let run = train(&bench, PLAIN, &keys, "run", 2, Some(1));
        for (count, stop, told) in
            [(4, Some(2), "2 ranks trained the run, 4 ranks go on with it"), (1, None, "4 ranks trained")]
        {
            let answers = resume(&bench, "run", count, stop);
            let (outcome, notes) = answers[0].clone().unwrap();
            assert_eq!(outcome, if stop.is_some() { Outcome::Interrupted } else { Outcome::Finished });
            assert!(notes[0].contains(told) && notes[0].contains("the number of ranks"), "{notes:?}");
            assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|(there, _)| *there == outcome)));
        }
        let last = run.find(Which::Last).unwrap().manifest().unwrap();
        // 23 images, 12 a step: two steps an epoch, whoever takes them.
        assert_eq!((last.step, last.epoch, last.ranks), (4, 2, 1));
    });
}

#[test]
fn what_differs_between_ranks_is_found_before_the_first_step() {
    let bench = Bench::new();
    let cifar = PLAIN.replace("fashion-mnist-sample", "cifar-10");
    let keys = |more: &[&str]| settings(&SHORT, &[&["model.inputs=3072"], more].concat());
    let told = |other: &[&str]| -> Vec<String> {
        let begin = |more: &[&str]| Begin::New(bench.loaded(&cifar, &keys(more)), bench.path("run"));
        let answers = ranks(2, |rank| begin(if rank == 1 { other } else { &[] }), None);
        assert!(!bench.path("run").exists(), "a folder was made");
        answers.into_iter().map(|answer| answer.unwrap_err()).collect()
    };
    for error in told(&["optimizer.lr=0.5"]) {
        let expected =
            "rank 1 on thread 1 has another recipe than rank 0: found optimizer.lr = 0.5, expected optimizer.lr = 0.05";
        assert_eq!(error, expected);
    }
    for error in told(&["model.hidden=[9, 9, 9, 9]"]) {
        assert!(
            error.starts_with("rank 1 on thread 1 has another recipe than rank 0: found model.hidden = [9,"),
            "{error}"
        );
    }
    for error in told(&["data.dir=/nowhere"]) {
        assert!(error.starts_with("rank 1 on thread 1: ") && error.contains("/nowhere"), "{error}");
    }
    let other = bench.path("other");
    std::fs::create_dir(&other).unwrap();
    for file in std::fs::read_dir(bench.path("cifar")).unwrap().flatten() {
        let mut bytes = std::fs::read(file.path()).unwrap();
        bytes[7] ^= 1;
        std::fs::write(other.join(file.file_name()), bytes).unwrap();
    }
    for error in told(&[&format!("data.dir={}", other.display())]) {
        assert!(
            error.starts_with("rank 1 on thread 1 has another training data than rank 0: found 20 images"),
            "{error}"
        );
    }
}

#[test]
fn a_batch_that_cannot_be_divided_is_an_error() {
    let bench = Bench::new();
    let begin = Begin::New(bench.loaded(PLAIN, &settings(&SHORT, &["train.global_batch=7"])), bench.path("run"));
    for answer in ranks(2, |_| begin.clone(), None) {
        let error = answer.unwrap_err();
        assert!(
            error.ends_with("train.global_batch = 7 cannot be divided among 2 ranks: use a multiple of 2"),
            "{error}"
        );
    }
}

#[test]
fn a_checkpoint_of_ranks_has_the_statistics_of_the_first_and_its_metrics_are_of_them() {
    alone("together::a_checkpoint_of_ranks_has_the_statistics_of_the_first_and_its_metrics_are_of_them", || {
        let bench = Bench::new();
        let run = train(&bench, NORMED, &settings(&SHORT, &[]), "run", 2, None);
        let contents = run.find(Which::Last).unwrap().read().unwrap();
        let network = Snapshot::new(&registry(), &contents, "the run").unwrap().network;
        let loaded = bench.loaded(NORMED, &settings(&SHORT, &[]));
        let device = burn::tensor::Device::flex();
        let valid = loaded.recipe.data.loader(&loaded.base, rekindle::data::Split::Test, 42, &device).unwrap();
        let architecture = rekindle::train::recipe::architecture(&registry(), &loaded.recipe).unwrap();
        let objective = loaded.recipe.objective(&architecture);
        let found = rekindle::train::evaluate::evaluate(&network, &valid, &objective, |_| {}).unwrap();
        assert!((found.loss - contents.manifest.metrics["valid.loss"]).abs() < 1e-6);
        assert_eq!(found.items, 9);
    });
}

/// Built without MPI, a program that was started twice must not train twice.
#[cfg(not(feature = "mpi"))]
#[test]
fn a_launcher_without_the_feature_is_told_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let ask = |rank: &str, verb: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command
            .args(verb)
            .current_dir(folder.path())
            .env("OMPI_COMM_WORLD_RANK", rank)
            .env("OMPI_COMM_WORLD_SIZE", "2");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for verb in [["train", "fashion_mnist_sample"], ["resume", "run"]] {
        let (code, told) = ask("0", &verb);
        assert_eq!(code, Some(2));
        assert_eq!(
            told,
            "error: this process is rank 0 of 2, started by mpirun, but the program was built without MPI: install it with \
             `--features mpi`, or start it once\n"
        );
        // One says it for all.
        assert_eq!(ask("1", &verb), (Some(0), String::new()));
    }
    assert!(!folder.path().join("checkpoints").exists());
    let (code, _) = ask("0", &["models", "fashion_classifier"]);
    assert_eq!(code, Some(0));
}
