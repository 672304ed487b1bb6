//! When a change to a file may be looked at: not while somebody is still at it.
//!
//! Pure: told what happened when, it says which paths have settled. It must not know where the events come from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// How long changes of a path are held back, until it counts as settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleTimes {
    /// A path has settled when nothing happened to it for so long.
    pub quiet: Duration,
    /// A path that something keeps happening to is told after so long all the same.
    pub busy: Duration,
    /// A file that is being written is told after so long even if it is still not closed.
    pub writing: Duration,
}

/// What happened to a path, as far as settling depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathEvent {
    /// It came, went or changed its permissions: what is below it may have changed, too.
    Entry,
    /// A file was written to, and is not closed yet.
    Written,
    /// A file that had been opened for writing was closed.
    Closed,
    /// As [`PathEvent::Entry`], of what is only ever exchanged as a whole: there is nothing to wait for.
    Exchanged,
}

/// Paths that something happened to and that have not been told yet.
#[derive(Debug)]
pub struct UnsettledPaths {
    times: SettleTimes,
    paths: HashMap<PathBuf, Unsettled>,
}

#[derive(Debug)]
struct Unsettled {
    first: Instant,
    last: Instant,
    /// Since when a file is being written.
    writing: Option<Instant>,
    entry: bool,
    /// Whether there is nothing to wait for: it was exchanged as a whole.
    whole: bool,
}

impl Unsettled {
    fn due(&self, times: &SettleTimes) -> Instant {
        match self.writing {
            _ if self.whole => self.first,
            Some(since) => since + times.writing,
            None => (self.last + times.quiet).min(self.first + times.busy),
        }
    }
}

impl UnsettledPaths {
    /// No unsettled paths yet.
    pub fn new(times: SettleTimes) -> Self {
        Self {
            times,
            paths: HashMap::new(),
        }
    }

    /// Notes that something happened to a path.
    pub fn note(&mut self, now: Instant, path: PathBuf, event: PathEvent) {
        let path = self.paths.entry(path).or_insert(Unsettled {
            first: now,
            last: now,
            writing: None,
            entry: false,
            whole: false,
        });
        path.last = now;
        match event {
            PathEvent::Entry => path.entry = true,
            PathEvent::Exchanged => (path.entry, path.whole) = (true, true),
            PathEvent::Written => path.writing = path.writing.or(Some(now)),
            PathEvent::Closed => path.writing = None,
        }
        if event == PathEvent::Entry {
            // Renamed or removed: whoever writes on writes to a file that has no name here any more.
            path.writing = None;
        }
    }

    /// The files that are being written right now.
    pub fn being_written(&self) -> impl Iterator<Item = &Path> {
        let written = self.paths.iter().filter(|(_, path)| path.writing.is_some());
        written.map(|(path, _)| path.as_path())
    }

    /// How many paths are unsettled.
    pub fn count(&self) -> usize {
        self.paths.len()
    }

    /// Forgets all unsettled paths.
    pub fn clear(&mut self) {
        self.paths = HashMap::new();
    }

    /// When the first path settles if nothing else happens.
    pub fn first_due(&self) -> Option<Instant> {
        self.paths.values().map(|path| path.due(&self.times)).min()
    }

    /// When the last path settles if nothing else happens.
    pub fn last_due(&self) -> Option<Instant> {
        self.paths.values().map(|path| path.due(&self.times)).max()
    }

    /// Removes the paths that have settled; with each, whether what is below it may have changed, too.
    pub fn take_settled(&mut self, now: Instant) -> Vec<(PathBuf, bool)> {
        let times = self.times;
        let settled = self.paths.extract_if(|_, path| path.due(&times) <= now);
        settled.map(|(path, unsettled)| (path, unsettled.entry)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: SettleTimes = SettleTimes {
        quiet: Duration::from_millis(10),
        busy: Duration::from_millis(100),
        writing: Duration::from_millis(1000),
    };

    /// When "/f" settles after what happened to it at these milliseconds.
    fn due(touches: &[(u64, PathEvent)]) -> u64 {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settling = UnsettledPaths::new(PATIENCE);
        for (ms, what) in touches {
            settling.note(at(*ms), "/f".into(), *what);
        }
        let due = settling.first_due().unwrap();
        assert!(settling.take_settled(due - Duration::from_nanos(1)).is_empty());
        assert_eq!(settling.take_settled(due).len(), 1);
        (due - start).as_millis() as u64
    }

    #[test]
    fn settles_when_quiet_and_closed() {
        use PathEvent::{Closed, Entry, Written};
        for (name, touches, expected) in [
            ("one event", &[(0, Entry)][..], 10),
            ("each event renews the quiet", &[(0, Entry), (8, Entry)], 18),
            ("but not for ever", &[(0, Entry), (95, Entry)], 100),
            ("created, written, closed", &[(0, Entry), (1, Written), (2, Closed)], 12),
            ("written and not closed", &[(0, Written), (500, Written)], 1000),
            (
                "closed in between",
                &[(0, Written), (500, Closed), (501, Written)],
                1501,
            ),
            ("renamed over while written", &[(0, Written), (50, Entry)], 60),
        ] {
            assert_eq!(due(touches), expected, "{name}");
        }
    }

    #[test]
    fn each_path_settles_by_itself() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settling = UnsettledPaths::new(PATIENCE);
        settling.note(start, "/slow".into(), PathEvent::Written);
        settling.note(start, "/quick".into(), PathEvent::Entry);
        assert_eq!(
            (settling.first_due(), settling.last_due()),
            (Some(at(10)), Some(at(1000)))
        );
        assert_eq!(settling.take_settled(at(10)), [(PathBuf::from("/quick"), true)]);
        assert_eq!(settling.being_written().collect::<Vec<_>>(), [Path::new("/slow")]);
        assert_eq!(settling.take_settled(at(1000)), [(PathBuf::from("/slow"), false)]);
        assert_eq!(settling.first_due(), None);
    }
}
