//! What daemon, launcher and components say to one another.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| twitcher_fuzzing::wire(bytes));
