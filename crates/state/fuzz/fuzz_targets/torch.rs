#![no_main]

mod touch;

use libfuzzer_sys::fuzz_target;
use rekindle_state::read;

fuzz_target!(|data: &[u8]| touch::all(data, |map| read(map).map(|file| file.content)));
