//! A program that sleeps: for a moment, says that it did, and then for an hour.

use std::thread::sleep;
use std::time::{Duration, Instant};

fn main() {
    let since = Instant::now();
    sleep(Duration::from_millis(50));
    assert!(since.elapsed() >= Duration::from_millis(50));
    println!("slept for a moment");
    sleep(Duration::from_secs(3600));
}
