#![no_main]

mod touch;

use libfuzzer_sys::fuzz_target;
use rekindle_state::read_onnx;

fuzz_target!(|data: &[u8]| touch::all(data, |map| read_onnx(map).map(|(content, _)| content)));
