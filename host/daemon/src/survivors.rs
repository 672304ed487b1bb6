//! Runs of a daemon that was killed: each belongs to its watch again as soon as that is known, and is followed to its end.

use std::collections::HashMap;

use nix::sys::signal::Signal;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use twitcher_launch::SurvivingRun;
use twitcher_model::{ProcessSettings, RunId, Watch};

/// The runs of the last daemon that still go on.
#[derive(Debug)]
pub struct Survivors {
    /// By watch; those of which there is none in the configuration so far.
    unclaimed: HashMap<String, Vec<SurvivingRun>>,
    /// Those that are followed, each with how to have it terminated.
    followed: HashMap<RunId, (SurvivingRun, oneshot::Sender<()>)>,
    /// Those that were asked by a rollout whether something is well, which are being terminated, with their watches.
    aside: HashMap<RunId, String>,
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
            aside: HashMap::new(),
            ended,
            ended_end,
        };
        for run in aside {
            info!(watch = run.watch, run_id = %run.run, pid = run.process.pid(),
                "a verify or check of the last daemon still runs, and its answer would reach nobody; terminating it");
            let id = run.run;
            survivors.aside.insert(id, run.watch.clone());
            survivors.follow(run, &ProcessSettings::default());
            survivors.terminate(id);
        }
        survivors
    }

    /// Whether a verify or check of the last daemon still runs for this watch.
    pub fn is_probing(&self, watch: &str) -> bool {
        self.aside.values().any(|of| of == watch)
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
        self.followed.insert(found.run, (found.clone(), terminate));
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
    /// terminating is terminated, and so is a program that stays, if `all_loaded`: no file could not be read that its watch may be in.
    pub fn tell_unclaimed(&mut self, all_loaded: bool) {
        let runs = self.unclaimed.values_mut();
        let ending: Vec<SurvivingRun> = runs.flat_map(|runs| runs.extract_if(.., |run| run.is_ending)).collect();
        for run in ending {
            info!(watch = run.watch, run_id = %run.run, pid = run.process.pid(),
                "the last daemon was terminating this run, whose watch is not in the configuration; going on with that");
            self.follow(run, &ProcessSettings::default());
        }
        let runs = self.unclaimed.values_mut();
        let stay = |run: &mut SurvivingRun| all_loaded && run.stays;
        let unwanted: Vec<SurvivingRun> = runs.flat_map(|runs| runs.extract_if(.., stay)).collect();
        for run in unwanted {
            info!(watch = run.watch, run_id = %run.run, pid = run.process.pid(),
                "a service of the last daemon still runs, whose watch is not in the configuration; terminating it");
            let id = run.run;
            self.follow(run, &ProcessSettings::default());
            self.terminate(id);
        }
        for run in self.unclaimed.values().flatten() {
            info!(watch = run.watch, run_id = %run.run, pid = run.process.pid(),
                "a run of the last daemon still runs; its watch is not in the configuration");
        }
    }

    /// Sends a signal to the main process of a run, if it is one of these and still there.
    pub fn notify(&self, run: RunId, signal: Signal) {
        if let Some((found, _)) = self.followed.get(&run)
            && let Err(error) = found.notify(signal)
        {
            info!(watch = found.watch, run_id = %run, %signal, %error, "the run of the last daemon has just ended");
        }
    }

    /// Terminates a run, as RESTART does. False if it is none of these.
    pub fn terminate(&mut self, run: RunId) -> bool {
        let Some((_, terminate)) = self.followed.remove(&run) else {
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
                self.aside.remove(&run);
                run
            }
            None => std::future::pending().await,
        }
    }
}
