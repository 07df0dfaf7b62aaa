#![no_main]

mod touch;

use libfuzzer_sys::fuzz_target;
use rekindle_state::read_safetensors;

fuzz_target!(|data: &[u8]| touch::all(data, read_safetensors));
