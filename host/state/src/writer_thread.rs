//! The thread that has the database: batches, trouble, and repair.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::database::{Database, DatabaseError, Stored};
use super::memory::{Batch, SharedMemory};
use super::quarantine::move_aside;
use super::{HistoryLimits, lock};

/// How long notes are collected before they are written. What happens within it costs one transaction, and a run that began and ended
/// within it is never written down as running.
pub(super) const BATCH: Duration = Duration::from_millis(50);
/// How often it is tried again when it does not work.
const RETRY: Duration = Duration::from_secs(3);

/// See the module's documentation.
pub(super) struct Writer {
    dir: PathBuf,
    limits: HistoryLimits,
    /// None while there is trouble.
    database: Option<Database>,
    trouble: Option<String>,
    /// What the database has is not what it was told.
    anew: bool,
    checked: bool,
}

impl Writer {
    /// Opens the database; what it has, if it can be had.
    pub(super) fn open(dir: &Path, limits: HistoryLimits) -> (Self, Stored) {
        let mut writer = Self {
            dir: dir.to_owned(),
            limits,
            database: None,
            trouble: None,
            anew: false,
            checked: false,
        };
        let stored = writer.connect().unwrap_or_default();
        (writer, stored)
    }

    /// Works until the book is closed and written.
    pub(super) fn serve(mut self, shared: &SharedMemory) {
        loop {
            lock(&shared.book).trouble.clone_from(&self.trouble);
            let closing = self.wait(shared);
            if self.database.is_none() && self.connect().is_some() {
                // What it had was read at the start. What is in memory now is newer.
                self.anew = true;
            }
            if self.database.is_some() {
                self.write(shared);
            }
            if closing {
                return;
            }
        }
    }

    /// Waits until there is something to do, and whatever comes with it. Whether it is for the last time.
    fn wait(&mut self, shared: &SharedMemory) -> bool {
        if !self.checked && self.database.is_some() {
            self.checked = true;
            let result = self.database.as_ref().map_or(Ok(()), Database::check);
            if let Err(error) = result {
                self.fail(error);
                return lock(&shared.book).closing;
            }
        }
        let begin = Instant::now();
        let mut book = lock(&shared.book);
        while !book.closing {
            let (news, patience) = match self.database {
                Some(_) if !self.anew => (book.has_news(), None),
                Some(_) => (true, None),
                None => (false, Some(RETRY.saturating_sub(begin.elapsed()))),
            };
            book = match patience {
                _ if news => break,
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    let waited = shared.news.wait_timeout(book, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => shared.news.wait(book).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let closing = book.closing;
        drop(book);
        if !closing {
            std::thread::sleep(BATCH);
        }
        lock(&shared.book).closing
    }

    fn write(&mut self, shared: &SharedMemory) {
        let noted = lock(&shared.book).noted();
        self.write_all(shared);
        // Also if it could not be written: nobody is to wait for what cannot be done.
        lock(&shared.book).written = noted;
        shared.written.notify_all();
    }

    fn write_all(&mut self, shared: &SharedMemory) {
        // Once more if the database had to be begun anew.
        for _ in 0..2 {
            let batch = lock(&shared.book).take(self.anew);
            let Some(database) = &mut self.database else { return };
            match database.write(&batch) {
                Ok(()) => return self.written(&batch),
                Err(error) => {
                    self.anew = true;
                    lock(&shared.book).give_back(batch);
                    self.fail(error);
                }
            }
        }
    }

    fn written(&mut self, batch: &Batch) {
        self.anew = false;
        if batch.dropped > 0 {
            warn!(
                runs = batch.dropped,
                "the history of some runs was lost while it could not be written"
            );
        }
        if self.trouble.take().is_some() {
            info!(
                watches = batch.watches.len(),
                "the state directory can be written again; everything is up to date"
            );
        }
    }

    fn connect(&mut self) -> Option<Stored> {
        // A damaged one is followed by a new one.
        for _ in 0..2 {
            match Database::open(&self.dir, self.limits) {
                Ok((database, stored)) => {
                    self.database = Some(database);
                    return Some(stored);
                }
                Err(error @ DatabaseError::Damaged { .. }) => {
                    if !self.replace(&error) {
                        return None;
                    }
                }
                Err(error) => {
                    self.say(&error);
                    return None;
                }
            }
        }
        None
    }

    /// The database cannot be used any more.
    fn fail(&mut self, error: DatabaseError) {
        self.database = None;
        self.anew = true;
        match error {
            DatabaseError::Damaged { .. } => {
                if self.replace(&error) {
                    self.connect();
                }
            }
            DatabaseError::Replaced { .. } => {
                warn!("{error}; a new one is begun");
                self.connect();
            }
            other => self.say(&other),
        }
    }

    /// Moves a damaged database aside.
    fn replace(&mut self, damage: &DatabaseError) -> bool {
        match move_aside(&self.dir) {
            Ok(to) => {
                error!("{damage}; it is moved to {} and a new one is begun", to.display());
                true
            }
            Err(error) => {
                self.say(&format_args!("{damage}, and cannot be moved aside: {error}"));
                false
            }
        }
    }

    /// Says what the trouble is, if that is not known.
    fn say(&mut self, trouble: &dyn std::fmt::Display) {
        let trouble = trouble.to_string();
        if self.trouble.as_ref() != Some(&trouble) {
            error!(
                "{trouble}; the daemon goes on, but should it be killed, the next one will not know what was handled since; \
                 trying again every {} s",
                RETRY.as_secs()
            );
        }
        self.trouble = Some(trouble);
    }
}
