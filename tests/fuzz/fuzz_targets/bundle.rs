//! The reader of bundles: it may refuse them, and that is all.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| twitcher_fuzzing::bundle(bytes));
