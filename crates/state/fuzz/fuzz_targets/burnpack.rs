#![no_main]

mod touch;

use libfuzzer_sys::fuzz_target;
use rekindle_state::read_burnpack;

fuzz_target!(|data: &[u8]| touch::all(data, read_burnpack));
