//! Damages programs at random for so many seconds and reads each: `damage SECONDS SEED FILE…`. A file that makes the reader panic, or takes
//! longer than ten seconds, is kept as `damaged-N.pt2` in the current folder.

#[path = "../tests/support/damage.rs"]
mod damage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use damage::{Parts, Random, tried};
use rekindle_program::Mode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, seed, files @ ..] = args.as_slice() else {
        eprintln!("damage SECONDS SEED FILE…");
        return ExitCode::from(2);
    };
    let (Ok(seconds), Ok(seed)) = (seconds.parse(), seed.parse::<u64>()) else {
        eprintln!("SECONDS and SEED are numbers");
        return ExitCode::from(2);
    };
    let parts: Vec<Parts> = files.iter().map(|file| Parts::read(Path::new(file))).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let modes = [Mode::AsExported, Mode::Eval, Mode::Train, Mode::TrainFrozenStatistics];
    let path = std::env::temp_dir().join(format!("damaged-{}.pt2", std::process::id()));
    let (begun, mut reached, mut worst, mut kept) = (Instant::now(), [0_u64; 4], Duration::ZERO, 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let bytes = parts[random.below(parts.len())].damaged(&mut random);
        let mode = modes[random.below(modes.len())];
        if std::fs::write(&path, &bytes).is_err() {
            eprintln!("{} cannot be written", path.display());
            return ExitCode::from(2);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| tried(&path, mode)));
        let bad = match outcome {
            Ok((how, took)) => {
                reached[how as usize] += 1;
                worst = worst.max(took);
                (took > Duration::from_secs(10)).then(|| format!("{took:?}"))
            }
            Err(_) => Some("a panic".to_string()),
        };
        if let Some(why) = bad {
            let name = format!("damaged-{seed}-{kept}.pt2");
            kept += 1;
            eprintln!("{name} ({mode:?}): {why}");
            if std::fs::write(&name, &bytes).is_err() {
                return ExitCode::from(2);
            }
        }
    }
    let [refused, opened, lowered, ran] = reached;
    println!(
        "{refused} refused, {opened} opened, {lowered} lowered, {ran} ran; the longest took {worst:?}; {kept} kept"
    );
    let _ = std::fs::remove_file(&path);
    ExitCode::from(u8::from(kept > 0))
}
