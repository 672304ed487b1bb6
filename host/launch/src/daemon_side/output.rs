//! What an action writes: lines for the log, bounded, and the last of it for the run's record.
//!
//! It must not know where the lines go; no I/O here.

use std::collections::VecDeque;

use tracing::warn;
use twitcher_model::sanitize;

use crate::daemon_side::invocation::{Captured, Invocation, Written};

/// How much a run may add to the log, in bytes; each line counts [`LINE_COST`] more than its text.
pub const LOGGED: usize = 1024 * 1024;
/// What the log adds to a line, about: a flood of empty lines is a flood too.
const LINE_COST: usize = 96;
/// How much of the end of a run's output is kept.
pub const KEPT: usize = 64 * 1024;
/// Longest line; a longer one is logged in pieces.
const LINE: usize = 8 * 1024;

/// Splits one stream of an action into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// The last piece was handed over for its length alone: should the line end right there, it is not followed by an empty one.
    cut: bool,
}

impl Lines {
    /// Takes what was read and hands each complete line to `line`, without its end.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.cut) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let room = LINE - self.partial.len();
            let window = &bytes[..bytes.len().min(room)];
            let (taken, complete) = match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (window.len(), window.len() == room),
            };
            let piece = &bytes[..taken];
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            self.cut = complete && text.len() == piece.len();
            if complete && self.partial.is_empty() {
                line(text);
            } else {
                self.partial.extend_from_slice(text);
                if complete {
                    line(&std::mem::take(&mut self.partial));
                }
            }
            bytes = &bytes[taken..];
        }
    }

    /// Hands over the last line if nothing ended it.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(&std::mem::take(&mut self.partial));
        }
    }
}

/// The output of one run, both streams.
#[derive(Debug, Default)]
pub struct Output {
    total: usize,
    logged: usize,
    tail: VecDeque<u8>,
    /// Where it goes instead of the log, for a run whose output is captured.
    pub captured: Option<Captured>,
}

/// Says that no more of a run's output is logged.
pub fn log_end(run: &Invocation) {
    warn!(watch = &*run.watch, run_id = %run.run, limit = LOGGED, "further output of this run is not logged");
}

/// Whether a line is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logging {
    /// The line is logged.
    On,
    /// This is the first that is not: say so once.
    EndsHere,
    /// The line is not logged.
    Off,
}

impl Output {
    /// Notes what was read.
    pub fn note(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(KEPT)..];
        let excess = (self.tail.len() + last.len()).saturating_sub(KEPT);
        self.tail.drain(..excess);
        self.tail.extend(last);
        self.total += bytes.len();
    }

    /// Notes what a component logged, as a line of its own among what it wrote.
    pub fn note_record(&mut self, level: &str, text: &str) {
        if self.tail.back().is_some_and(|last| *last != b'\n') {
            self.note(b"\n");
        }
        self.note(format!("{level} {text}\n").as_bytes());
    }

    /// Says whether a line may be logged.
    pub fn log(&mut self, line: &[u8]) -> Logging {
        if self.is_flood() {
            return Logging::Off;
        }
        self.logged += line.len() + LINE_COST;
        if self.is_flood() {
            Logging::EndsHere
        } else {
            Logging::On
        }
    }

    /// Whether nothing more is logged.
    pub fn is_flood(&self) -> bool {
        self.logged >= LOGGED
    }

    /// Bytes written so far, those of records among them.
    pub fn total(&self) -> usize {
        self.total
    }

    /// What there is so far.
    pub fn written(&self) -> Written {
        Written {
            tail: self.tail.iter().copied().collect(),
            total: self.total,
            log_ended: self.is_flood(),
        }
    }

    /// The last [`KEPT`] bytes at most.
    pub fn into_tail(self) -> Vec<u8> {
        self.tail.into()
    }
}

/// A line as text that cannot disturb a terminal or forge a log line: what is harmful is escaped, what is not UTF-8 is replaced.
pub fn printable(line: &[u8]) -> String {
    sanitize::escaped(&String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, |line| out.push(line.to_vec()));
        }
        lines.finish(|line| out.push(line.to_vec()));
        out
    }

    #[test]
    fn lines_are_found_across_reads() {
        assert_eq!(split(&[b"a\nb", b"c\n\n", b"d"]), [&b"a"[..], b"bc", b"", b"d"]);
        assert_eq!(split(&[]), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let long = vec![b'x'; 2 * LINE + 1];
        let lengths: Vec<_> = split(&[&long]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [LINE, LINE, 1]);
        let just = [vec![b'x'; LINE], b"\n\nz".to_vec()].concat();
        let lengths: Vec<_> = split(&[&just]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [LINE, 0, 1]);
    }

    #[test]
    fn logging_ends_once_whether_lines_are_long_or_many() {
        for line in [vec![b'x'; LINE], vec![]] {
            let mut output = Output::default();
            let said: Vec<_> = (0..20_000).map(|_| output.log(&line)).collect();
            let count = |what| said.iter().filter(|s| **s == what).count();
            assert_eq!(count(Logging::EndsHere), 1);
            assert_eq!(count(Logging::On), (LOGGED - 1) / (line.len() + LINE_COST));
        }
    }

    #[test]
    fn the_tail_is_the_last_of_it_and_bounded() {
        let mut output = Output::default();
        for _ in 0..13 {
            output.note(&[b'x'; 100_000]);
        }
        output.note(b"end");
        assert_eq!(output.total(), 1_300_003);
        let tail = output.into_tail();
        assert_eq!(tail.len(), KEPT);
        assert!(tail.ends_with(b"xend"));
    }

    #[test]
    fn a_record_is_a_line_of_its_own() {
        let mut output = Output::default();
        output.note(b"half a line");
        output.note_record("INFO", "fetched url=/a");
        output.note_record("WARN", "denied: x");
        let written = output.written();
        assert_eq!(written.tail, b"half a line\nINFO fetched url=/a\nWARN denied: x\n");
        assert_eq!((written.total, written.log_ended), (written.tail.len(), false));
    }

    #[test]
    fn lines_cannot_forge() {
        assert_eq!(printable(b"a\x1b[2Jb\r"), "a\\u{1b}[2Jb");
        assert_eq!(printable(b"\xff\tx"), "\u{fffd}\tx");
    }

    proptest! {
        #[test]
        fn splitting_agrees_with_the_plain_way(text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300), cut in 1usize..20) {
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            let mut plain: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            if plain.last().is_some_and(Vec::is_empty) { plain.pop(); }
            prop_assert_eq!(split(&pieces), plain);
        }
    }
}
