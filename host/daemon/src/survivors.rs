//! Runs of a daemon that was killed: each belongs to its watch again as soon as that is known, and is followed to its end.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use twitcher_launch::SurvivingRun;
use twitcher_model::{ProcessSettings, RunId, Watch};

/// The runs of the last daemon that still go on.
#[derive(Debug)]
pub struct Survivors {
    /// By watch; those of which there is none in the configuration so far.
    unclaimed: HashMap<String, Vec<SurvivingRun>>,
    /// How to terminate each run that is followed.
    followed: HashMap<RunId, oneshot::Sender<()>>,
    ended: mpsc::UnboundedSender<RunId>,
    ended_end: mpsc::UnboundedReceiver<RunId>,
}

impl Survivors {
    /// Must be called in a tokio runtime.
    pub fn new(found: Vec<SurvivingRun>) -> Self {
        let (ended, ended_end) = mpsc::unbounded_channel();
        let (aside, found): (Vec<_>, Vec<_>) = found.into_iter().partition(|run| run.is_aside);
        let mut unclaimed: HashMap<String, Vec<SurvivingRun>> = HashMap::new();
        for run in found {
            unclaimed.entry(run.watch.clone()).or_default().push(run);
        }
        let mut survivors = Self {
            unclaimed,
            followed: HashMap::new(),
            ended,
            ended_end,
        };
        for run in aside {
            info!(watch = run.watch, run_id = %run.run, pid = run.process.pid(),
                "a verify or check of the last daemon still runs, and its answer would reach nobody; terminating it");
            let id = run.run;
            survivors.follow(run, &ProcessSettings::default());
            survivors.terminate(id);
        }
        survivors
    }

    /// The runs of a watch that has just become known. Each will be answered by [`Survivors::ended`].
    pub fn claim(&mut self, watch: &Watch) -> Vec<SurvivingRun> {
        let found = self.unclaimed.remove(&*watch.name).unwrap_or_default();
        for run in &found {
            let also = if run.is_ending {
                ", and was being terminated"
            } else {
                ""
            };
            info!(watch = &*watch.name, run_id = %run.run, pid = run.process.pid(),
                "a run of the last daemon still runs{also}; it belongs to this watch");
            self.follow(run.clone(), &watch.process);
        }
        found
    }

    fn follow(&mut self, found: SurvivingRun, process: &ProcessSettings) {
        let (terminate, told) = oneshot::channel();
        self.followed.insert(found.run, terminate);
        let (limit, kill_after) = (process.timeout, process.kill_after);
        let ended = self.ended.clone();
        tokio::spawn(async move {
            if let Err(error) = found.ended(limit, kill_after, told).await {
                warn!(watch = found.watch, run_id = %found.run, %error, "cannot wait for the run of the last daemon");
            }
            let _ = ended.send(found.run);
        });
    }

    /// Says of each run that no watch has claimed that nothing waits for it. It may be claimed later; but one that the last daemon was
    /// terminating is terminated.
    pub fn tell_unclaimed(&mut self) {
        let runs = self.unclaimed.values_mut();
        let ending: Vec<SurvivingRun> = runs.flat_map(|runs| runs.extract_if(.., |run| run.is_ending)).collect();
        for run in ending {
            info!(watch = run.watch, run_id = %run.run, pid = run.process.pid(),
                "the last daemon was terminating this run, whose watch is not in the configuration; going on with that");
            self.follow(run, &ProcessSettings::default());
        }
        for run in self.unclaimed.values().flatten() {
            info!(watch = run.watch, run_id = %run.run, pid = run.process.pid(),
                "a run of the last daemon still runs; its watch is not in the configuration");
        }
    }

    /// Terminates a run, as RESTART does. False if it is none of these.
    pub fn terminate(&mut self, run: RunId) -> bool {
        let Some(terminate) = self.followed.remove(&run) else {
            return false;
        };
        // It may have ended just now.
        let _ = terminate.send(());
        true
    }

    /// The next run that has ended. Cancel safe.
    pub async fn ended(&mut self) -> RunId {
        // This keeps a sender itself, so there is always a next one.
        match self.ended_end.recv().await {
            Some(run) => {
                self.followed.remove(&run);
                run
            }
            None => std::future::pending().await,
        }
    }
}
