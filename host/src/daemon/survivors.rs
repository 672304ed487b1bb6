//! Runs of a daemon that was killed: found at the start, waited for, and only then are their watches observed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::model::{RunId, RunMode, Watch};
use crate::state::{Record, Runs};

/// The runs of this daemon, remembered for the next, and those of the last one that still go on.
pub struct Survivors {
    runs: Option<Runs>,
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
        let (runs, found) = match Runs::open(state_dir) {
            Ok((runs, found)) => (Some(runs), found),
            Err(error) => {
                warn!("{error}; should this daemon be killed, the next one will not know of its running actions");
                (None, Vec::new())
            }
        };
        Self {
            runs,
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
            if let Some(runs) = &self.runs {
                runs.ended(&record.run);
            }
            let left = self.holding.get(&record.watch).map_or(0, |count| count - 1);
            if left == 0 {
                self.holding.remove(&record.watch);
                return record.watch;
            }
            self.holding.insert(record.watch, left);
        }
    }

    pub fn note_start(&self, run: RunId, watch: &str, pid: i32) {
        if let Some(Err(error)) = self.runs.as_ref().map(|runs| runs.started(run, watch, pid)) {
            warn!(watch, "{error}");
        }
    }

    pub fn note_end(&self, run: RunId) {
        if let Some(runs) = &self.runs {
            runs.ended(&run.to_string());
        }
    }
}
