//! WebAssembly that is compiled, and looked at.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| twitcher_fuzzing::component(bytes));
