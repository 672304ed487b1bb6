//! Directories where inotify cannot be used: what is in them is looked at now and then, and compared.
//!
//! It must not know why that is so, nor when the next time is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::settling::PathEvent;

/// What of a directory matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Interest {
    /// Whatever happens in it, also to the contents of its files.
    Contents,
    /// These names: what comes and goes by them, and becomes another.
    Names(BTreeSet<OsString>),
}

/// Which file or directory it is, as far as that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// A number of an inode is soon given away again.
    created: Option<SystemTime>,
}

impl Identity {
    fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            created: metadata.created().ok(),
        }
    }

    /// Of the directory that a path leads to; none if it leads to none.
    pub(super) fn of_directory(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        metadata.is_dir().then(|| Self::new(&metadata))
    }
}

/// A time of a file: seconds and nanoseconds.
type Time = (i64, i64);

/// What tells that something by a name is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    /// Type, permissions and owner.
    rights: (u32, u32, u32),
    /// Size and times; none of a directory, where they say only that something in it changed.
    contents: Option<(u64, Time, Time)>,
    is_file: bool,
}

impl Stamp {
    fn new(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self {
            identity: Identity::new(metadata),
            rights: (metadata.mode(), metadata.uid(), metadata.gid()),
            contents: (!metadata.is_dir()).then(|| (metadata.size(), modified, changed)),
            is_file: metadata.is_file(),
        }
    }
}

/// A directory as it was when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    own: Option<Stamp>,
    /// When its entries last changed, where they cannot be listed.
    unlisted: Option<Time>,
    entries: BTreeMap<OsString, Stamp>,
    /// Files that somebody was writing to.
    written: BTreeSet<OsString>,
}

impl Snapshot {
    pub(super) fn take(directory: &Path, interest: &Interest) -> Self {
        let Ok(own) = fs::metadata(directory) else {
            return Self::default();
        };
        let mut snapshot = Self {
            own: Some(Stamp::new(&own)),
            ..Self::default()
        };
        let mut look = |name: OsString| {
            if let Ok(metadata) = fs::symlink_metadata(directory.join(&name)) {
                snapshot.entries.insert(name, Stamp::new(&metadata));
            }
        };
        match interest {
            Interest::Names(names) => names.iter().cloned().for_each(look),
            Interest::Contents => match fs::read_dir(directory) {
                Ok(entries) => entries.flatten().for_each(|entry| look(entry.file_name())),
                Err(_) => snapshot.unlisted = Some((own.ctime(), own.ctime_nsec())),
            },
        }
        snapshot
    }

    /// Whether the directory is there.
    pub(super) fn exists(&self) -> bool {
        self.own.is_some()
    }

    /// The files that count as being written, as closed: for when they are watched by something that tells of the next write.
    pub(super) fn closed(&self, directory: &Path) -> impl Iterator<Item = (PathBuf, PathEvent)> {
        let closed = |name| (directory.join(name), PathEvent::Closed);
        self.written.iter().map(closed)
    }

    /// What happened since `old`, by path. A file that changed counts as being written until it is found unchanged.
    pub(super) fn compare(&mut self, old: &Self, directory: &Path) -> Vec<(PathBuf, PathEvent)> {
        let mut events = Vec::new();
        let own = |snapshot: &Self| snapshot.own.map(|own| (own.identity, own.rights));
        if own(self) != own(old) || self.unlisted != old.unlisted {
            events.push((directory.to_owned(), PathEvent::Entry));
        }
        for (name, now) in &self.entries {
            let before = old.entries.get(name);
            let mut tell = |event| events.push((directory.join(name), event));
            if before == Some(now) {
                if old.written.contains(name) {
                    tell(PathEvent::Closed);
                }
                continue;
            }
            let is_same = before.is_some_and(|before| (before.identity, before.rights) == (now.identity, now.rights));
            if !(is_same && now.is_file) {
                tell(PathEvent::Entry);
            }
            if now.is_file {
                tell(PathEvent::Written);
                self.written.insert(name.clone());
            }
        }
        let gone = old.entries.keys().filter(|name| !self.entries.contains_key(*name));
        events.extend(gone.map(|name| (directory.join(name), PathEvent::Gone)));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::PathEvent::{Closed, Entry, Gone, Written};
    use super::*;

    struct Polled {
        dir: tempfile::TempDir,
        interest: Interest,
        last: Snapshot,
    }

    impl Polled {
        fn new(interest: Interest) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let last = Snapshot::take(dir.path(), &interest);
            Self { dir, interest, last }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn look(&mut self) -> Vec<(String, PathEvent)> {
            let mut now = Snapshot::take(self.dir.path(), &self.interest);
            let events = now.compare(&self.last, self.dir.path());
            self.last = now;
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            events.iter().map(|(path, event)| (name(path), *event)).collect()
        }
    }

    fn events(events: &[(&str, PathEvent)]) -> Vec<(String, PathEvent)> {
        events
            .iter()
            .map(|(name, event)| ((*name).to_owned(), *event))
            .collect()
    }

    #[test]
    fn files_that_are_written_replaced_and_removed() {
        let mut polled = Polled::new(Interest::Contents);
        assert_eq!(polled.look(), []);
        fs::write(polled.path("f"), "1").unwrap();
        assert_eq!(polled.look(), events(&[("f", Entry), ("f", Written)]));
        fs::write(polled.path("f"), "one").unwrap();
        assert_eq!(polled.look(), events(&[("f", Written)]));
        assert_eq!(polled.look(), events(&[("f", Closed)]));
        assert_eq!(polled.look(), []);
        fs::write(polled.path("g"), "1").unwrap();
        fs::rename(polled.path("g"), polled.path("f")).unwrap();
        assert_eq!(polled.look(), events(&[("f", Entry), ("f", Written)]));
        fs::remove_file(polled.path("f")).unwrap();
        assert_eq!(polled.look(), events(&[("f", Gone)]));
    }

    #[test]
    fn names_that_come_to_mean_something_else() {
        let mut polled = Polled::new(Interest::Names(["d".into()].into()));
        fs::write(polled.path("other"), "").unwrap();
        fs::create_dir(polled.path("d")).unwrap();
        assert_eq!(polled.look(), events(&[("d", Entry)]));
        fs::write(polled.path("d/in it"), "").unwrap();
        assert_eq!(polled.look(), [], "the directory is the same");
        fs::create_dir(polled.path("e")).unwrap();
        fs::rename(polled.path("d"), polled.path("old")).unwrap();
        fs::rename(polled.path("e"), polled.path("d")).unwrap();
        assert_eq!(polled.look(), events(&[("d", Entry)]));
        fs::remove_dir_all(polled.dir.path()).unwrap();
        let own = polled.dir.path().file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(polled.look(), [(own, Entry), ("d".to_owned(), Gone)]);
        assert!(!polled.last.exists());
    }
}
