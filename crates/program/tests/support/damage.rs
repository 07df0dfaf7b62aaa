//! Damages programs: bytes of the archive, and the JSON or script text inside, which is packed again so that the damage is read as a program.

use std::path::Path;
use std::time::{Duration, Instant};

use rekindle_onnx::graph::Kind;
use rekindle_onnx::{Array, Axis, DType, Data, HostOnly, Limits, Session, Value};
use rekindle_program::{Example, Mode, Program};
use rekindle_state::{Map, ProgramArchive};

/// Numbers without a pattern.
pub struct Random(pub u64);

impl Random {
    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A program in parts.
pub struct Parts {
    entries: Vec<(String, Vec<u8>)>,
    /// Which entries are text.
    texts: Vec<usize>,
    whole: Vec<u8>,
}

impl Parts {
    pub fn read(path: &Path) -> Self {
        let archive = ProgramArchive::open(&Map::open(path).unwrap()).unwrap();
        let names: Vec<String> = archive.names().map(str::to_string).collect();
        let entries: Vec<_> = names
            .into_iter()
            .filter_map(|name| archive.read(&name).ok().map(|bytes| (name.clone(), bytes.into_owned())))
            .collect();
        let text = |name: &str| name.ends_with(".json") || name.ends_with(".py");
        let texts = (0..entries.len()).filter(|&at| text(&entries[at].0)).collect();
        Self { entries, texts, whole: std::fs::read(path).unwrap() }
    }

    /// A damaged archive.
    pub fn damaged(&self, random: &mut Random) -> Vec<u8> {
        match random.below(8) {
            0 => {
                let mut whole = self.whole.clone();
                for _ in 0..=random.below(6) {
                    bytes(&mut whole, random);
                }
                whole
            }
            1 => {
                let mut entries = self.entries.clone();
                let which = random.below(entries.len());
                bytes(&mut entries[which].1, random);
                zip(&entries)
            }
            _ => {
                let mut entries = self.entries.clone();
                let which = self.texts[random.below(self.texts.len())];
                for _ in 0..=random.below(4) {
                    entries[which].1 = text(&entries[which].1, random);
                }
                zip(&entries)
            }
        }
    }
}

/// Changes bytes in place.
fn bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(5) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        2 => {
            let end = (at + 1 + random.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
        3 => {
            let end = (at + 1 + random.below(64)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, part);
        }
        _ => bytes.truncate(at.max(bytes.len() / 2)),
    }
}

/// Words, numbers and signs of a text, of which one or two are changed.
fn text(text: &[u8], random: &mut Random) -> Vec<u8> {
    let kind = |byte: u8| if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-') { 0 } else { 1 + byte };
    let mut tokens: Vec<&[u8]> = text.chunk_by(|a, b| kind(*a) == kind(*b)).collect();
    if tokens.is_empty() {
        return Vec::new();
    }
    const NUMBERS: [&str; 16] = [
        "-1",
        "0",
        "1",
        "2",
        "3",
        "7",
        "64",
        "100000",
        "2147483647",
        "4294967296",
        "9223372036854775807",
        "-9223372036854775808",
        "1000000000000",
        "1e308",
        "-0.0",
        "NaN",
    ];
    let numeric = |token: &[u8]| token[0].is_ascii_digit() || token[0] == b'-';
    let words: Vec<usize> = (0..tokens.len()).filter(|&at| kind(tokens[at][0]) == 0).collect();
    if words.is_empty() {
        return text.to_vec();
    }
    let at = words[random.below(words.len())];
    match random.below(6) {
        0 => {
            let numbers: Vec<usize> = words.iter().copied().filter(|&at| numeric(tokens[at])).collect();
            if !numbers.is_empty() {
                let at = numbers[random.below(numbers.len())];
                tokens[at] = NUMBERS[random.below(NUMBERS.len())].as_bytes();
            }
        }
        // Another word of the same text: names of values, operators, keys.
        1 | 2 => tokens[at] = tokens[words[random.below(words.len())]],
        3 => {
            tokens.remove(random.below(tokens.len()));
        }
        4 => {
            let from = random.below(tokens.len());
            let part = tokens[from..(from + 1 + random.below(40)).min(tokens.len())].to_vec();
            let to = random.below(tokens.len());
            tokens.splice(to..to, part);
        }
        _ => {
            let from = random.below(tokens.len());
            tokens.drain(from..(from + 1 + random.below(20)).min(tokens.len()));
        }
    }
    tokens.concat()
}

/// A zip of stored entries.
fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let place = out.len() as u32;
        let mut common = Vec::new();
        common.extend([20, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        common.extend(checksum(bytes).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(place.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let place = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(place.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// CRC-32 of zip.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// How far a program came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
pub enum Reached {
    Refused,
    Opened,
    Lowered,
    Ran,
}

/// Opens a file, describes it, lowers it in a mode, and runs it on small inputs.
pub fn tried(path: &Path, mode: Mode) -> (Reached, Duration) {
    let begun = Instant::now();
    let Ok(program) = Program::open(path) else { return (Reached::Refused, begun.elapsed()) };
    let _ = program.summary();
    let small = [Example { dtype: DType::F32, shape: vec![2, 6] }];
    let examples = if program.says_inputs() { None } else { Some(&small[..]) };
    let Ok(lowered) = program.lower_for(mode, mode != Mode::Eval, examples) else {
        return (Reached::Opened, begun.elapsed());
    };
    let ran = || -> Option<()> {
        let model = lowered.model().ok()?;
        let inputs = model.graph.inputs.iter().map(|port| (port.name.clone(), value(&port.kind))).collect();
        let mut session = Session::new(model, HostOnly).ok()?;
        session.set_limits(Limits { elements: 1 << 16, nodes: 2000, ..Limits::default() });
        session.run(inputs).ok().map(|_| ())
    };
    (if ran().is_some() { Reached::Ran } else { Reached::Lowered }, begun.elapsed())
}

fn value(kind: &Kind) -> Value {
    let (dtype, axes) = match kind {
        Kind::Array(dtype, axes) => (dtype.unwrap_or(DType::F32), axes.as_deref().unwrap_or(&[])),
        _ => (DType::F32, &[][..]),
    };
    let size = |axis: &Axis| if let Axis::Size(size) = axis { (*size).min(16) } else { 2 };
    let shape: Vec<usize> = axes.iter().map(size).take(4).collect();
    Array::from_data(shape.clone(), Data::zeros(dtype, shape.iter().product())).expect("as many zeros").into()
}
