//! How far a transfer is, on a terminal.

use std::io::{self, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

/// How often it is shown.
const EVERY: Duration = Duration::from_millis(100);

/// What is smaller, in bytes, is gone before anybody could read of it.
const LARGE: u64 = 1 << 20;

/// Shows on stderr how much of something large has gone by. Where that is no terminal it shows nothing.
pub(super) struct Progress {
    what: String,
    done: u64,
    total: u64,
    shown: Option<Instant>,
    enabled: bool,
}

impl Progress {
    pub fn new(what: &str, total: u64) -> Self {
        Self {
            what: what.to_owned(),
            done: 0,
            total,
            shown: None,
            enabled: total >= LARGE && io::stderr().is_terminal(),
        }
    }

    pub fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if !self.enabled || self.shown.is_some_and(|shown| shown.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (done, total) = (mib(self.done), mib(self.total));
        // That it cannot be shown does not matter.
        let _ = write!(io::stderr(), "\r\x1b[K{}: {done:.1} of {total:.1} MiB", self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Shows how much was read.
pub(super) struct Counted<R> {
    pub reader: R,
    pub progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.progress.add(length);
        Ok(length)
    }
}
