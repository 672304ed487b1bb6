//! A `.twc` file: parsed, evaluated and judged.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| twitcher_fuzzing::twc(text));
