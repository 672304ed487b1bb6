//! When a change to a file may be looked at: not while somebody is still at it.
//!
//! A path is told once nothing happened to it for a while: then whatever belongs together has happened, such as the removal and the
//! return of a file by an editor. If that is wished, a file that is *finished* is told at once before that, because there is nothing
//! to wait for: it was closed after it was written, or renamed to its path. That is only ever more than the rest: the path
//! is told as ever when it is quiet, so that who doubts what is there at first need not look yet.
//!
//! What being finished promises: of one writer, that its data is there, also if it wrote by `mmap` (a mapping keeps the file open), and if
//! it handed the open file on to its children (the last close counts). A close by one of several writers says nothing of the others,
//! as a close and another opening say nothing of what a script will do next. A file that is renamed while somebody writes to it is
//! not finished by that.
//!
//! Pure: told what happened when, it says which paths are finished, and which have settled. It must not know where the events come from.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
    /// Whether a file that is finished is told at once, too.
    pub finished: bool,
}

/// What happened to a path, as far as settling depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathEvent {
    /// It came, or changed its permissions or times: what is below it may have changed, too.
    Entry,
    /// It was removed, or renamed to another path.
    Gone,
    /// Something was renamed to this path: it came as a whole.
    Placed,
    /// A file was written to, and is not closed yet.
    Written,
    /// A file that had been opened for writing was closed.
    Closed,
    /// As [`PathEvent::Entry`], of what is only ever exchanged as a whole: there is nothing to wait for.
    Exchanged,
}

impl PathEvent {
    /// Whether something else may be at the path now, or what is there has other permissions.
    pub fn is_entry(self) -> bool {
        match self {
            PathEvent::Entry | PathEvent::Gone | PathEvent::Placed | PathEvent::Exchanged => true,
            PathEvent::Written | PathEvent::Closed => false,
        }
    }

    /// Whether a file may be finished by it.
    pub(super) fn may_finish(self) -> bool {
        matches!(self, PathEvent::Closed | PathEvent::Placed)
    }
}

/// A path that has settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledPath {
    /// The path that something happened to.
    pub path: PathBuf,
    /// It may be another file or directory now, or have other permissions: what is below it may have changed, too.
    pub entry: bool,
    /// Nothing happened to it since it was told as finished.
    pub told: bool,
}

/// Paths that something happened to and that have not been told yet.
#[derive(Debug)]
pub struct UnsettledPaths {
    times: SettleTimes,
    paths: HashMap<Arc<Path>, Unsettled>,
    by_due: BTreeSet<(Instant, Arc<Path>)>,
    /// Those that are finished and were not told since, in the order in which they were.
    finished: BTreeMap<u64, Arc<Path>>,
    last_finished: u64,
    in_between: Arc<HashSet<PathBuf>>,
    /// When a file that was being written last lost its name: what is renamed next may be that file.
    left_open: Option<Instant>,
}

#[derive(Debug)]
struct Unsettled {
    first: Instant,
    last: Instant,
    /// Since when a file is being written.
    writing: Option<Instant>,
    entry: bool,
    /// It went, and nothing happened since.
    gone: bool,
    /// Whether there is nothing to wait for: it was exchanged as a whole.
    whole: bool,
    /// Its number among those that are finished.
    finished: Option<u64>,
    /// It was told as finished, and nothing happened since.
    told: bool,
    /// It is not told as finished any more.
    patient: bool,
}

impl Unsettled {
    fn new(now: Instant) -> Self {
        Self {
            first: now,
            last: now,
            writing: None,
            entry: false,
            gone: false,
            whole: false,
            finished: None,
            told: false,
            patient: false,
        }
    }

    fn is_in_between(&self) -> bool {
        self.writing.is_some() || self.gone
    }

    fn due(&self, times: &SettleTimes) -> Instant {
        match self.writing {
            _ if self.whole => self.first,
            Some(since) => since + times.writing,
            None if self.gone => self.last + times.quiet,
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
            by_due: BTreeSet::new(),
            finished: BTreeMap::new(),
            last_finished: 0,
            in_between: Arc::default(),
            left_open: None,
        }
    }

    /// Notes that something happened to a path.
    pub fn note(&mut self, now: Instant, path: PathBuf, event: PathEvent) {
        let (path, mut unsettled) = match self.paths.remove_entry(path.as_path()) {
            Some((path, unsettled)) => {
                self.by_due.remove(&(unsettled.due(&self.times), Arc::clone(&path)));
                (path, unsettled)
            }
            None => (path.into(), Unsettled::new(now)),
        };
        let was_in_between = unsettled.is_in_between();
        unsettled.last = now;
        unsettled.told = false;
        unsettled.entry |= event.is_entry();
        unsettled.gone = event == PathEvent::Gone;
        let mut finished = unsettled.finished.is_some();
        match event {
            // Also while a file is being written: then its permissions change.
            PathEvent::Entry => {}
            PathEvent::Exchanged => unsettled.whole = true,
            PathEvent::Written => {
                unsettled.writing = unsettled.writing.or(Some(now));
                finished = false;
            }
            PathEvent::Closed => {
                unsettled.writing = None;
                finished = true;
            }
            // Whoever writes on writes to a file that has another name now, or none.
            PathEvent::Gone => {
                if unsettled.writing.take().is_some() {
                    self.left_open = Some(now);
                }
                finished = false;
            }
            PathEvent::Placed => {
                unsettled.writing = None;
                let left_open = self.left_open.take();
                finished = left_open.is_none_or(|left| left + self.times.quiet < now);
            }
        }
        let finished = finished && self.times.finished && !unsettled.patient;
        match (finished, unsettled.finished) {
            (true, None) => {
                self.last_finished += 1;
                self.finished.insert(self.last_finished, Arc::clone(&path));
                unsettled.finished = Some(self.last_finished);
            }
            (false, Some(number)) => {
                self.finished.remove(&number);
                unsettled.finished = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        match (was_in_between, unsettled.is_in_between()) {
            (false, true) => _ = Arc::make_mut(&mut self.in_between).insert(path.to_path_buf()),
            (true, false) => _ = Arc::make_mut(&mut self.in_between).remove(&*path),
            (true, true) | (false, false) => {}
        }
        self.by_due.insert((unsettled.due(&self.times), Arc::clone(&path)));
        self.paths.insert(path, unsettled);
    }

    /// The files that are being written right now, and what went just now: perhaps only until something else takes the name.
    pub fn in_between(&self) -> Arc<HashSet<PathBuf>> {
        Arc::clone(&self.in_between)
    }

    /// How many paths are unsettled.
    pub fn count(&self) -> usize {
        self.paths.len()
    }

    /// Forgets all unsettled paths.
    pub fn clear(&mut self) {
        *self = Self::new(self.times);
    }

    /// When the first path settles if nothing else happens.
    pub fn first_due(&self) -> Option<Instant> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// When the last path settles if nothing else happens.
    pub fn last_due(&self) -> Option<Instant> {
        self.by_due.last().map(|(due, _)| *due)
    }

    /// The paths that are finished since they were last asked for, at most so many; with each, whether it may be another file or directory
    /// now. They have still to settle.
    pub fn take_finished(&mut self, most: usize) -> Vec<(PathBuf, bool)> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((_, path)) = self.finished.pop_first()
        {
            if let Some(unsettled) = self.paths.get_mut(&path) {
                (unsettled.finished, unsettled.told) = (None, true);
                taken.push((path.to_path_buf(), unsettled.entry));
            }
        }
        taken
    }

    /// Until it has settled, a path is not told as finished any more: it changes faster than it can be looked at.
    pub fn be_patient(&mut self, path: &Path) {
        if let Some(unsettled) = self.paths.get_mut(path) {
            (unsettled.patient, unsettled.told) = (true, false);
            if let Some(number) = unsettled.finished.take() {
                self.finished.remove(&number);
            }
        }
    }

    /// Removes the paths that have settled.
    pub fn take_settled(&mut self, now: Instant) -> Vec<SettledPath> {
        let mut settled = Vec::new();
        while let Some((due, _)) = self.by_due.first()
            && *due <= now
            && let Some((_, path)) = self.by_due.pop_first()
            && let Some(unsettled) = self.paths.remove(&path)
        {
            if let Some(number) = unsettled.finished {
                self.finished.remove(&number);
            }
            if unsettled.is_in_between() {
                Arc::make_mut(&mut self.in_between).remove(&*path);
            }
            settled.push(SettledPath {
                path: path.to_path_buf(),
                entry: unsettled.entry,
                told: unsettled.told,
            });
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::PathEvent::{Closed, Entry, Gone, Placed, Written};
    use super::*;

    const PATIENCE: SettleTimes = SettleTimes {
        quiet: Duration::from_millis(10),
        busy: Duration::from_millis(100),
        writing: Duration::from_millis(1000),
        finished: true,
    };

    fn finished(settling: &mut UnsettledPaths, most: usize) -> Vec<PathBuf> {
        settling.take_finished(most).into_iter().map(|(path, _)| path).collect()
    }

    /// When "/f" settles after what happened to it at these milliseconds, and at which of them it was finished. What is finished is
    /// taken at once.
    fn told(touches: &[(u64, PathEvent)]) -> (u64, Vec<u64>) {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settling = UnsettledPaths::new(PATIENCE);
        let mut told = Vec::new();
        for (ms, what) in touches {
            settling.note(at(*ms), "/f".into(), *what);
            if finished(&mut settling, 1) == [PathBuf::from("/f")] {
                told.push(*ms);
            }
        }
        let due = settling.first_due().unwrap();
        assert!(settling.take_settled(due - Duration::from_nanos(1)).is_empty());
        assert_eq!(settling.take_settled(due).len(), 1);
        assert_eq!((settling.first_due(), settling.in_between().len()), (None, 0));
        ((due - start).as_millis() as u64, told)
    }

    #[test]
    fn settles_when_quiet_and_is_finished_when_closed_or_renamed_into_place() {
        for (name, touches, expected, finished) in [
            ("created", &[(0, Entry)][..], 10, &[][..]),
            ("each event renews the quiet", &[(0, Entry), (8, Entry)], 18, &[]),
            ("but not for ever", &[(0, Entry), (95, Entry)], 100, &[]),
            ("not while it is gone for a moment", &[(0, Entry), (95, Gone)], 105, &[]),
            (
                "created, written, closed",
                &[(0, Entry), (1, Written), (2, Closed)],
                12,
                &[2],
            ),
            ("written and not closed", &[(0, Written), (500, Written)], 1000, &[]),
            (
                "closed in between",
                &[(0, Written), (500, Closed), (501, Written)],
                1501,
                &[500],
            ),
            (
                "emptied and filled",
                &[(0, Written), (1, Closed), (2, Written), (3, Closed)],
                13,
                &[1, 3],
            ),
            (
                "its permissions change while it is written",
                &[(0, Written), (5, Entry), (50, Closed)],
                60,
                &[50],
            ),
            ("renamed into place", &[(0, Placed)], 10, &[0]),
            (
                "renamed over what is being written",
                &[(0, Written), (50, Placed)],
                60,
                &[50],
            ),
            ("removed", &[(0, Gone)], 10, &[]),
            ("removed while it is written", &[(0, Written), (50, Gone)], 60, &[]),
            (
                "exchanged by an editor",
                &[(0, Gone), (1, Entry), (2, Written), (3, Closed)],
                13,
                &[3],
            ),
            ("written and removed", &[(0, Written), (1, Closed), (2, Gone)], 12, &[1]),
        ] {
            assert_eq!(told(touches), (expected, finished.to_vec()), "{name}");
        }
    }

    #[test]
    fn what_is_not_finished_any_more_is_not_told_so() {
        let now = Instant::now();
        for ends in [Written, Gone] {
            let mut settling = UnsettledPaths::new(PATIENCE);
            settling.note(now, "/f".into(), Closed);
            settling.note(now, "/f".into(), ends);
            assert!(finished(&mut settling, 9).is_empty());
        }
    }

    #[test]
    fn a_file_that_is_renamed_while_it_is_written_is_finished_when_it_is_closed() {
        let now = Instant::now();
        let mut settling = UnsettledPaths::new(PATIENCE);
        settling.note(now, "/.draft".into(), Written);
        settling.note(now, "/.draft".into(), Gone);
        settling.note(now, "/f".into(), Placed);
        assert!(finished(&mut settling, 9).is_empty());
        settling.note(now, "/f".into(), Closed);
        assert_eq!(finished(&mut settling, 9), [PathBuf::from("/f")]);
        // One that was closed before.
        settling.note(now, "/.draft".into(), Written);
        settling.note(now, "/.draft".into(), Closed);
        settling.note(now, "/.draft".into(), Gone);
        settling.note(now, "/f".into(), Placed);
        assert_eq!(finished(&mut settling, 9), [PathBuf::from("/f")]);
    }

    #[test]
    fn finished_paths_are_told_in_order_and_once_and_settle_all_the_same() {
        let now = Instant::now();
        let mut settling = UnsettledPaths::new(PATIENCE);
        for path in ["/b", "/a", "/c", "/b"] {
            settling.note(now, path.into(), Closed);
        }
        assert_eq!(finished(&mut settling, 2), ["/b", "/a"].map(PathBuf::from));
        assert_eq!(finished(&mut settling, 2), ["/c"].map(PathBuf::from));
        settling.note(now, "/a".into(), Entry);
        assert!(finished(&mut settling, 2).is_empty());
        settling.note(now, "/c".into(), Written);
        let mut settled = settling.take_settled(now + PATIENCE.writing);
        settled.sort_by(|a, b| a.path.cmp(&b.path));
        let settled: Vec<_> = settled
            .iter()
            .map(|path| (path.path.to_str().unwrap(), path.told))
            .collect();
        assert_eq!(settled, [("/a", false), ("/b", true), ("/c", false)]);
    }

    #[test]
    fn what_changes_too_fast_is_told_when_it_has_settled() {
        let start = Instant::now();
        let mut settling = UnsettledPaths::new(PATIENCE);
        settling.note(start, "/f".into(), Closed);
        assert_eq!(finished(&mut settling, 9).len(), 1);
        settling.note(start, "/f".into(), Closed);
        settling.be_patient(Path::new("/f"));
        settling.note(start, "/f".into(), Closed);
        assert!(finished(&mut settling, 9).is_empty());
        let settled = settling.take_settled(start + PATIENCE.quiet);
        assert!(!settled[0].told);
        settling.note(start, "/f".into(), Closed);
        assert_eq!(finished(&mut settling, 9).len(), 1, "until then");
    }

    #[test]
    fn nothing_is_finished_where_that_is_not_wished() {
        let now = Instant::now();
        let mut settling = UnsettledPaths::new(SettleTimes {
            finished: false,
            ..PATIENCE
        });
        settling.note(now, "/f".into(), Closed);
        assert!(finished(&mut settling, 9).is_empty());
        assert!(!settling.take_settled(now + PATIENCE.quiet)[0].told);
    }

    #[test]
    fn each_path_settles_by_itself() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let paths = |settled: &[SettledPath]| settled.iter().map(|path| path.path.clone()).collect::<Vec<_>>();
        let mut settling = UnsettledPaths::new(PATIENCE);
        settling.note(start, "/slow".into(), Written);
        settling.note(start, "/quick".into(), Entry);
        assert_eq!(
            (settling.first_due(), settling.last_due()),
            (Some(at(10)), Some(at(1000)))
        );
        assert_eq!(paths(&settling.take_settled(at(10))), [PathBuf::from("/quick")]);
        assert!(settling.in_between().contains(Path::new("/slow")));
        assert_eq!(paths(&settling.take_settled(at(1000))), [PathBuf::from("/slow")]);
        assert_eq!(settling.first_due(), None);
    }
}
