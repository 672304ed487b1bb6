//! Appends the random numbers that it draws to /out/drawn, one line each: secure ones, others, and the seed.

use std::fmt::Write as _;
use std::io::Write as _;

use wasip2::random::{insecure, insecure_seed, random};

guests::action!(|_| {
    let mut lines = String::new();
    let _ = writeln!(lines, "{:?}", random::get_random_bytes(16));
    let _ = writeln!(lines, "{:?}", insecure::get_insecure_random_bytes(16));
    let _ = writeln!(lines, "{:?}", insecure_seed::insecure_seed());
    let file = std::fs::OpenOptions::new().create(true).append(true).open("/out/drawn");
    file.and_then(|mut file| file.write_all(lines.as_bytes())).map_err(|error| Failure::Permanent(error.to_string()))
});
