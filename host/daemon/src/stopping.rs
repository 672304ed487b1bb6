//! The end of a daemon: nothing starts any more, and what runs gets its time.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::{Daemon, DaemonEnd, GOODBYE, LAST_GRACE};
use twitcher_control::daemon_requests::{Refused, RequestQueue};
use twitcher_launch::{Control, RunEvent};
use twitcher_model::{EventKind, Phase};
use twitcher_sandbox::channel::Reason;
use twitcher_scheduler::Input;
use twitcher_source::Source;

/// How long what runs still has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draining {
    deadline: Instant,
    /// The same for people.
    pub(super) deadline_wall: SystemTime,
    /// Whether what still runs is being terminated.
    pub(super) terminating: bool,
}

impl Draining {
    fn within(time: Duration, terminating: bool) -> Self {
        Self {
            deadline: Instant::now() + time,
            // A time that no clock shows is none that anybody waits for.
            deadline_wall: SystemTime::now().checked_add(time).unwrap_or_else(SystemTime::now),
            terminating,
        }
    }
}

impl Daemon {
    /// By when what runs has to have ended, once it is known that the daemon drains.
    pub(super) fn drain_deadline(&mut self) -> Instant {
        let timeout = self.options.drain_timeout;
        self.draining
            .get_or_insert_with(|| Draining::within(timeout, false))
            .deadline
    }

    /// How many runs there are, those of rollouts' probes too.
    fn running(&self) -> usize {
        self.runs.len() + self.probes.kill_after().count()
    }

    /// Starts nothing more and lets what runs end.
    pub(super) async fn drain(
        mut self,
        runs: &mut UnboundedReceiver<RunEvent>,
        questions: &mut RequestQueue,
        again: impl Future<Output = ()>,
    ) -> DaemonEnd {
        let timeout = self.options.drain_timeout;
        self.phase = Phase::Draining;
        self.tell_service(|service| service.stopping());
        self.say_status();
        info!(
            running = self.runs.len(),
            drain_timeout = timeout.as_secs_f64(),
            "stopping"
        );
        let count = self.runs.len();
        self.happened_to_all(EventKind::Draining, || {
            format!(
                "stopping; {count} running, which are terminated after {} s",
                timeout.as_secs_f64()
            )
        });
        self.drain_deadline();
        self.launches.keep_warm(0);
        self.refuse_all_runs(Refused::Draining);
        let ids: Vec<_> = self.registry.ids().collect();
        for id in ids {
            self.advance(id, Input::Retire);
        }
        self.end_probes();
        // Ends the source's tasks and closes its session.
        let znodes = self.source.znodes.clone();
        self.source = Source::ended();
        // Components that still run may use znodes to their end.
        self.source.znodes = znodes;
        let mut deadline = self.drain_deadline();
        let mut ended = DaemonEnd::Drained;
        tokio::pin!(again);
        while !self.runs.is_empty() || !self.broker.is_idle() || !self.probes.is_idle() {
            self.tell_rollouts();
            let asked = tokio::select! {
                Some(event) = runs.recv() => {
                    self.on_run(event);
                    continue;
                }
                run = self.survivors.ended() => {
                    self.on_survivor_ended(run);
                    continue;
                }
                Some(ask) = questions.recv() => {
                    self.on_ask(ask);
                    continue;
                }
                () = yield_now(), if self.waiting.has_survey() => {
                    self.survey_on();
                    continue;
                }
                () = self.service.watchdog() => {
                    drop(self.service.alive());
                    continue;
                }
                () = sleep_until(deadline) => false,
                () = &mut again, if ended == DaemonEnd::Drained => true,
            };
            if ended == DaemonEnd::Terminated {
                error!(running = self.running(), "stopping although runs survive SIGKILL");
                break;
            }
            let why = if asked { "asked again to stop" } else { "drain timeout" };
            warn!(running = self.running(), "{why}: terminating what still runs");
            ended = DaemonEnd::Terminated;
            let actions = self.runs.values().map(|running| running.watch.process.kill_after);
            let longest = actions.chain(self.probes.kill_after()).max();
            let last = Draining::within(longest.unwrap_or_default() + LAST_GRACE, true);
            self.draining = Some(last);
            deadline = last.deadline;
            for run in self.runs.keys() {
                if !self.survivors.terminate(*run) {
                    self.launches.control(*run, Control::Terminate(Reason::Shutdown));
                }
            }
        }
        self.tell_rollouts();
        if let Some(fleet) = self.fleet.take() {
            fleet.leave().await;
        }
        self.source = Source::ended();
        // Lets the source close its session; else the server would keep it until it expires.
        tokio::time::sleep(GOODBYE).await;
        self.state.close();
        info!("stopped");
        ended
    }
}
