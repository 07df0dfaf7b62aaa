//! Damaged files give a value or an error: never a panic, and soon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::support::{Stopwatch, own};
use rekindle_state::{Map, read};

/// Opcodes of pickle that change what the next ones mean.
const OPCODES: &[u8] = b"()[]}cRbQtaesu.2h\x81\x85\x86\x87\x93NKMJ";

/// A small generator of random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<_> = ["odd", "models", "resume", "old", "variants", "hostile"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(own().join(folder)).into_iter().flatten().flatten())
        .map(|file| file.path())
        .collect();
    files.sort();
    files
}

fn survives(bytes: Vec<u8>, what: &str) {
    let watch = Stopwatch::start();
    let _ = read(&Map::from_bytes(Path::new("damaged"), bytes)).and_then(|file| file.listing(true));
    let taken = watch.taken();
    assert!(taken < Duration::from_secs(1), "{what} took {taken:?}");
}

/// How often each file is damaged; more with `DAMAGE_ROUNDS` in the environment.
fn rounds() -> usize {
    std::env::var("DAMAGE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(60)
}

#[test]
fn changed_bytes() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for path in files() {
        let good = std::fs::read(&path).unwrap();
        if good.is_empty() {
            continue;
        }
        for _ in 0..rounds() {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = match random.below(4) {
                    0 => bytes[at] ^ (1 << random.below(8)),
                    1 => 0xff,
                    2 => OPCODES[random.below(OPCODES.len())],
                    _ => random.below(256) as u8,
                };
            }
            survives(bytes, &path.display().to_string());
        }
    }
}

/// The same inside the pickle, with the archive's checksum switched off: most changes otherwise end at the checksum.
#[test]
fn changed_pickles() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for path in files() {
        let mut good = std::fs::read(&path).unwrap();
        let Some(start) = good
            .windows(4)
            .position(|window| window == b"\x80\x02}q" || window == b"\x80\x02cc" || window == b"\x80\x02}(")
        else {
            continue;
        };
        // Every checksum in the directory becomes 0, which says that there is none.
        for at in 0..good.len().saturating_sub(46) {
            if good[at..].starts_with(b"PK\x01\x02") {
                good[at + 16..at + 20].fill(0);
            }
        }
        let len = good.len().min(start + 4000) - start;
        for _ in 0..rounds() {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(3) {
                bytes[start + random.below(len)] = match random.below(2) {
                    0 => OPCODES[random.below(OPCODES.len())],
                    _ => random.below(256) as u8,
                };
            }
            survives(bytes, &path.display().to_string());
        }
    }
}

#[test]
fn cut_short() {
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    for path in files() {
        let good = std::fs::read(&path).unwrap();
        for _ in 0..rounds() / 4 {
            survives(good[..random.below(good.len())].to_vec(), &path.display().to_string());
        }
    }
}

/// Values nested as deep as is allowed, in every kind of container, on the small stack of a test's thread.
#[test]
fn deep_values() {
    let lists = [b"]".repeat(900), b"a".repeat(899)].concat();
    let tuples = [b"N".to_vec(), b"\x85".repeat(900)].concat();
    let dicts = [b"}X\x01\0\0\0k".repeat(900), b"N".to_vec(), b"s".repeat(900)].concat();
    let objects = [b"cmy\nThing\n)R}X\x01\0\0\0k".repeat(300), b"N".to_vec(), b"sb".repeat(300)].concat();
    for values in [lists, tuples, dicts, objects] {
        for wrapped in [values.clone(), [b"cmy\nThing\n(".to_vec(), values, b"tR".to_vec()].concat()] {
            let pickle = [b"\x80\x02".to_vec(), wrapped, b".".to_vec()].concat();
            let file = read(&Map::from_bytes(Path::new("deep"), pickle)).unwrap();
            let listing = file.clone().listing(true).unwrap();
            assert!(!serde_json::to_string(&listing).unwrap().is_empty());
        }
    }
}

/// Several pickles in one file, as repeated `pickle.dump` writes them.
#[test]
fn several_pickles() {
    let file = read(&Map::from_bytes(Path::new("several"), b"\x80\x02K\x01.\x80\x02]K\x02a.".to_vec())).unwrap();
    let listing = file.listing(false).unwrap();
    assert_eq!(serde_json::to_value(listing.values).unwrap(), serde_json::json!({"0": 1, "1/0": 2}));
}

/// A torch file inside a pickle is judged like the pickle itself, also when its value is dropped.
#[test]
fn inner_files_are_judged() {
    let evil = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02cos\nsystem\nX\x01\0\0\0x\x85R.\x80\x02].";
    let call = [b"ctorch.storage\n_load_from_bytes\nB".as_slice(), &(evil.len() as u32).to_le_bytes(), evil, b"\x85R"]
        .concat();
    let kept = [b"\x80\x03".as_slice(), &call, b"."].concat();
    let dropped = [b"\x80\x03".as_slice(), &call, b"0K\x01."].concat();
    for (pickle, named) in [(kept, "os.system"), (dropped, "torch.load")] {
        let listing = read(&Map::from_bytes(Path::new("inner"), pickle)).unwrap().listing(false).unwrap();
        assert!(!listing.safe);
        assert!(
            listing.globals.iter().any(|global| global.name == named && global.verdict == "runs code"),
            "{:?}",
            listing.globals
        );
    }
}

/// Torch files inside each other end somewhere.
#[test]
fn inner_files_are_few() {
    let mut inner = b"\x80\x02N.".to_vec();
    for _ in 0..2000 {
        let mut file =
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x03ctorch.storage\n_load_from_bytes\nB".to_vec();
        file.extend((inner.len() as u32).to_le_bytes());
        file.extend(&inner);
        file.extend(b"\x85R.\x80\x02].");
        inner = file;
    }
    let error = read(&Map::from_bytes(Path::new("inner"), inner)).unwrap_err();
    assert!(error.to_string().contains("more than 4 deep"), "{error}");
}

/// One long text that is named again and again, in place, as a key and inside a shared list.
#[test]
fn repeated_text() {
    let text = [b"X".as_slice(), &(1_u32 << 20).to_le_bytes(), &[b'a'; 1 << 20]].concat();
    let list = [b"\x80\x02](".as_slice(), &text, b"q\0", &b"h\0".repeat(5000), b"e."].concat();
    let shared = [b"\x80\x02(](".as_slice(), &text, b"eq\0", &b"h\0".repeat(5000), b"l."].concat();
    let escaped = [b"\x80\x02(V".as_slice(), &[b'a'; 1 << 20], b"\nq\0", &b"h\0".repeat(5000), b"l."].concat();
    let keys = [b"\x80\x02(".as_slice(), &text, b"q\x010", &b"}h\x01Ns".repeat(5000), b"l."].concat();
    for pickle in [list, shared, escaped, keys] {
        let error = read(&Map::from_bytes(Path::new("repeated"), pickle)).unwrap_err();
        assert!(error.to_string().contains("again and again"), "{error}");
    }
}
