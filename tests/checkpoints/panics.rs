//! A panic in the middle of a step, which only a caller of the library can bring about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rekindle::checkpoint::Which;
use rekindle::device::DeviceName;
use rekindle::models::Registry;
use rekindle::train::{Session, Start, recipe};

use super::support::{TINY, problems, steps, strays};
use crate::support::program::Dir;

#[test]
fn a_panic_inside_a_step_saves_the_steps_before() {
    let dir = Dir::with(TINY);
    let run = dir.path("run");
    let start = || {
        let loaded = Box::new(
            recipe::load(&Registry::built_in(), &dir.path("r.toml"), &["checkpoint.every_epochs=1".to_string()])
                .unwrap(),
        );
        Start::New { loaded, dir: run.clone(), numbered: false }
    };
    let session =
        Session::new(&Registry::built_in(), start(), DeviceName::FLEX, Arc::new(AtomicBool::new(false))).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let session = session.on_step(move |step| {
        count.store(step, Ordering::Relaxed);
        assert!(step < 73, "the step went wrong");
    });
    let error = session.run().map(|_| ()).unwrap_err().to_string();
    assert_eq!(seen.load(Ordering::Relaxed), 73);
    let (place, path) = (run.display(), &run);
    assert_eq!(
        error,
        format!(
            "training stopped at step 72: an internal error: the step went wrong; the newest checkpoint is of step 72: \
             `rekindle resume {place}` goes on from there"
        )
    );
    assert_eq!(steps(&dir, "run"), [50, 72]);
    assert_eq!((problems(path), strays(path)), (Vec::new(), Vec::new()));
    let resume = Start::Resume { dir: run.clone(), which: Which::Last, set: Vec::new() };
    Session::new(&Registry::built_in(), resume, DeviceName::FLEX, Arc::new(AtomicBool::new(false)))
        .unwrap()
        .run()
        .unwrap();
    dir.train("whole", &[]);
    assert_eq!(dir.weights("run"), dir.weights("whole"));
    assert_eq!(dir.optimizer("run"), dir.optimizer("whole"));
}
