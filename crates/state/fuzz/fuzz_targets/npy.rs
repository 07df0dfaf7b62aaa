#![no_main]

mod touch;

use libfuzzer_sys::fuzz_target;
use rekindle_state::{read_npy, read_npz};

fuzz_target!(|data: &[u8]| {
    touch::all(data, read_npy);
    touch::all(data, read_npz);
});
