//! A `.json` file: parsed and judged.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| twitcher_fuzzing::json(text));
