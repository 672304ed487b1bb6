//! Runs of a daemon that was killed: found at the start, waited for, and only then are their watches observed.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::model::{RunId, RunMode, Watch};
use crate::state::{Record, Runs};

/// What is written down.
enum Note {
    Started { run: RunId, watch: Arc<str>, pid: i32 },
    Ended { run: String },
}

impl Note {
    fn ended(&self) -> Option<String> {
        match self {
            Note::Ended { run } => Some(run.clone()),
            Note::Started { .. } => None,
        }
    }
}

/// The runs of this daemon, remembered for the next, and those of the last one that still go on.
pub struct Survivors {
    notes: Option<std::sync::mpsc::Sender<Note>>,
    /// Found, but their watches are not known yet.
    found: Vec<Record>,
    /// How many runs each watch waits for.
    holding: HashMap<String, usize>,
    ended: mpsc::UnboundedSender<Record>,
    ended_end: mpsc::UnboundedReceiver<Record>,
}

impl Survivors {
    pub fn find(state_dir: &Path) -> Self {
        let (ended, ended_end) = mpsc::unbounded_channel();
        let (notes, found) = match Runs::open(state_dir) {
            Ok((runs, found)) => (write_down(runs), found),
            Err(error) => {
                warn!("{error}; should this daemon be killed, the next one will not know of its running actions");
                (None, Vec::new())
            }
        };
        Self {
            notes,
            found,
            holding: HashMap::new(),
            ended,
            ended_end,
        }
    }

    /// Now that the configuration is known: waits for the runs of its watches. In PARALLEL nothing need wait for them.
    pub fn watches<'a>(&mut self, named: impl Fn(&str) -> Option<&'a Arc<Watch>>) {
        for record in std::mem::take(&mut self.found) {
            let Some(watch) = named(&record.watch).filter(|watch| watch.policy.run_mode != RunMode::Parallel) else {
                info!(
                    watch = record.watch,
                    run_id = record.run,
                    "a run of the last daemon still runs; nothing waits for it"
                );
                continue;
            };
            let pid = record.process.pid();
            info!(
                watch = record.watch,
                run_id = record.run,
                pid,
                "a run of the last daemon still runs; its watch waits for it"
            );
            *self.holding.entry(record.watch.clone()).or_default() += 1;
            let (settings, ended) = (Arc::clone(&watch.process), self.ended.clone());
            tokio::spawn(async move {
                if let Err(error) = record
                    .process
                    .ended(&record.run, settings.timeout, settings.kill_after)
                    .await
                {
                    warn!(watch = record.watch, run_id = record.run, %error, "cannot wait for the run of the last daemon");
                }
                let _ = ended.send(record);
            });
        }
    }

    /// Whether a watch must wait.
    pub fn hold(&self, watch: &str) -> bool {
        self.holding.contains_key(watch)
    }

    /// The next watch that need not wait any more. Cancel safe.
    pub async fn ended(&mut self) -> String {
        loop {
            // This keeps a sender itself, so there is always a next one.
            let Some(record) = self.ended_end.recv().await else {
                return std::future::pending().await;
            };
            info!(
                watch = record.watch,
                run_id = record.run,
                "the run of the last daemon has ended"
            );
            self.note(Note::Ended { run: record.run });
            let left = self.holding.get(&record.watch).map_or(0, |count| count - 1);
            if left == 0 {
                self.holding.remove(&record.watch);
                return record.watch;
            }
            self.holding.insert(record.watch, left);
        }
    }

    pub fn note_start(&self, run: RunId, watch: &Arc<str>, pid: i32) {
        let watch = Arc::clone(watch);
        self.note(Note::Started { run, watch, pid });
    }

    pub fn note_end(&self, run: RunId) {
        self.note(Note::Ended { run: run.to_string() });
    }

    fn note(&self, note: Note) {
        if let Some(notes) = &self.notes {
            // The thread ends after this.
            let _ = notes.send(note);
        }
    }
}

/// Keeps the disk off the way from a change to its action: a thread writes. What ended before it was written never is.
fn write_down(runs: Runs) -> Option<std::sync::mpsc::Sender<Note>> {
    let (to, notes) = std::sync::mpsc::channel();
    let work = move || {
        while let Ok(first) = notes.recv() {
            let batch: Vec<Note> = std::iter::once(first).chain(notes.try_iter()).collect();
            let ended: HashSet<String> = batch.iter().filter_map(Note::ended).collect();
            for note in &batch {
                match note {
                    Note::Started { run, .. } if ended.contains(&run.to_string()) => {}
                    Note::Started { run, watch, pid } => {
                        if let Err(error) = runs.started(*run, watch, *pid) {
                            warn!(watch = &**watch, "{error}");
                        }
                    }
                    Note::Ended { run } => runs.ended(run),
                }
            }
        }
    };
    match std::thread::Builder::new()
        .name("twitcher-state".to_owned())
        .spawn(work)
    {
        Ok(_) => Some(to),
        Err(error) => {
            warn!(%error, "cannot start a thread; the next daemon will not know of running actions");
            None
        }
    }
}
