//! What operators ask of the daemon, answered by the loop between its other work.
//!
//! An answer is facts that are cheap to copy. All watches at once are looked at in portions, so that a change that comes meanwhile does
//! not wait for the last of 10,000.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Daemon;
use super::fleet;
use super::several::Parts;
use super::watches::ActiveWatch;
use twitcher_control::Occurrence;
use twitcher_control::api::{ConfigStatus, Reloaded, SourceStatus, WarmStatus};
use twitcher_control::daemon_requests::{DaemonRequest, Done, Order, Refused, Written};
use twitcher_control::facts::{Overview, WatchFacts};
use twitcher_launch::Control;
use twitcher_model::{EventKind, Moment, Phase, RunFacts, RunId, RunMode, WatchId, timestamp};
use twitcher_scheduler::{Decision, Effect, Ignored, Input, MachineState};
use twitcher_state::Paused;

/// Watches that are looked at in one go: some tens of microseconds.
const PORTION: usize = 128;

/// How long a run on request waits for its node to be read: less than whoever asks waits for the answer.
const READ_PATIENCE: Duration = Duration::from_secs(4);

/// All watches on their way to somebody who asked.
#[derive(Debug)]
pub(super) struct SnapshotInProgress {
    left: std::vec::IntoIter<WatchId>,
    seen: Vec<WatchFacts>,
    reply: oneshot::Sender<Vec<WatchFacts>>,
}

/// A run on request that waits for the node to be read.
#[derive(Debug)]
struct RunRequest {
    id: WatchId,
    /// Who asked is told by then, one way or the other, and nothing happens afterwards that was refused.
    until: Instant,
    reply: oneshot::Sender<Result<Done, Refused>>,
}

/// What operators wait for.
#[derive(Debug, Default)]
pub(super) struct WaitingOperators {
    /// One after the other.
    surveys: VecDeque<SnapshotInProgress>,
    /// Runs on request, until the node has been read.
    runs: Vec<RunRequest>,
    /// Loads of the configuration, by their number.
    loads: Vec<(u64, oneshot::Sender<Reloaded>)>,
}

impl WaitingOperators {
    /// Whether there are watches to be looked at.
    pub(super) fn has_survey(&self) -> bool {
        !self.surveys.is_empty()
    }

    /// When the first run on request has waited long enough.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.runs.iter().map(|request| request.until).min()
    }

    /// Answers those who wait for a load up to this one.
    pub(super) fn loaded(&mut self, number: u64, reloaded: &Reloaded) {
        for (_, reply) in self.loads.extract_if(.., |(wanted, _)| *wanted <= number) {
            let _ = reply.send(reloaded.clone());
        }
    }
}

impl Daemon {
    pub(super) fn on_ask(&mut self, ask: DaemonRequest) {
        // Whoever asked may have gone in the meantime.
        match ask {
            DaemonRequest::Alive(reply) => drop(reply.send(())),
            DaemonRequest::Overview(reply) => {
                self.count_what_others_count();
                drop(reply.send(self.overview()));
            }
            DaemonRequest::Snapshot(reply) => {
                let left: Vec<_> = self.registry.ids_by_name().collect();
                self.waiting.surveys.push_back(SnapshotInProgress {
                    seen: Vec::with_capacity(left.len()),
                    left: left.into_iter(),
                    reply,
                });
            }
            DaemonRequest::Watch(name, reply) => {
                let id = self.registry.id(&name);
                drop(reply.send(id.and_then(|id| self.watched(id))));
            }
            DaemonRequest::Running(reply) => {
                let running = self.runs.iter().map(|(run, running)| running.facts(*run));
                drop(reply.send(running.chain(self.probes.facts()).collect()));
            }
            DaemonRequest::Output(run, reply) => self.show_output(run, reply),
            DaemonRequest::Order(name, order, reply) => self.order(&name, order, reply),
            DaemonRequest::Fleet(reply) => self.show_fleet(reply),
            DaemonRequest::Laggards(of, reply) => self.show_laggards(of, reply),
            DaemonRequest::Rollouts(which, reply) => self.show_rollouts(which, reply),
            DaemonRequest::RolloutOrder(name, order, by, reply) => self.order_rollout(name, order, by, reply),
            DaemonRequest::Forget(host, by, reply) => self.forget_host(host, by, reply),
            DaemonRequest::Reload(reply) => {
                info!("an operator asks for the configuration to be loaded again");
                let number = self.reload();
                self.waiting.loads.push((number, reply));
            }
            DaemonRequest::Drain(reply) => {
                self.phase = Phase::Draining;
                self.drain_deadline();
                drop(reply.send(self.overview()));
            }
        }
    }

    /// Looks at the next watches that somebody wants to know of.
    pub(super) fn survey_on(&mut self) {
        let Some(mut survey) = self.waiting.surveys.pop_front() else {
            return;
        };
        let moment = self.moment();
        let some: Vec<_> = survey.left.by_ref().take(PORTION).collect();
        survey
            .seen
            .extend(some.into_iter().filter_map(|id| self.look(id, moment)));
        if survey.left.as_slice().is_empty() || survey.reply.is_closed() {
            let _ = survey.reply.send(survey.seen);
        } else {
            self.waiting.surveys.push_front(survey);
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now(),
            wall: SystemTime::now(),
        }
    }

    /// A watch as it is now.
    pub(super) fn watched(&self, id: WatchId) -> Option<WatchFacts> {
        self.look(id, self.moment())
    }

    fn look(&self, id: WatchId, moment: Moment) -> Option<WatchFacts> {
        let ActiveWatch {
            watch, machine, facts, ..
        } = self.registry.get(id)?;
        let standing = machine.standing(moment.now);
        let paused = self.registry.get(id).and_then(|entry| entry.paused.clone());
        let parked = (standing.state == MachineState::Parked)
            .then(|| self.state.known(watch)?.parked)
            .flatten()
            .map(|parked| parked.why);
        Some(WatchFacts {
            watch: watch.clone(),
            standing,
            clock: moment,
            seen: facts.seen,
            refused: facts.refused,
            verify: self.probes.verify_facts(id, &watch.name).map(Box::new),
            znodes: self.registry.parts(id).map(Parts::seen).unwrap_or_default(),
            up: machine
                .up()
                .filter(|_| standing.up)
                .and_then(|run| Some(self.runs.get(&run)?.started())),
            handled: facts.handled,
            overdue: machine
                .running()
                .find_map(|run| Some((run, self.runs.get(&run)?.overdue()?))),
            running: machine.running().collect(),
            last_run: facts.last_run.as_deref().or(facts.former_run.as_deref()).cloned(),
            parked,
            paused,
            unreadable: self.registry.unreadable(id).cloned(),
            as_of: self.disconnected_since(),
        })
    }

    /// Since when nothing is heard of what is watched, if that is so.
    fn disconnected_since(&self) -> Option<SystemTime> {
        let connection = self.source.connection.borrow();
        connection.since.filter(|_| !connection.connected)
    }

    pub(super) fn overview(&self) -> Overview {
        let connection = self.source.connection.borrow().clone();
        let (kind, target) = self.options.source.name();
        Overview {
            started: self.started,
            phase: self.phase,
            drain: self
                .draining
                .map(|draining| (draining.deadline_wall, draining.terminating)),
            source: SourceStatus {
                kind: kind.to_owned(),
                target,
                connected: connection.connected,
                since: connection.since.map(timestamp),
                problem: connection.problem,
            },
            armed: self.armed,
            config: self.config_status(),
            state_problem: self.state.trouble(),
            running: self.runs.len(),
            waiting: self.admission.waiting(),
            max_running: self.options.max_running,
            warm: self.warm(),
            unreadable: self.registry.count_unreadable(),
            fleet: self.fleet.as_ref().map(fleet::membership),
        }
    }

    fn warm(&self) -> WarmStatus {
        let figures = self.launches.warm();
        WarmStatus {
            waiting: figures.waiting(),
            held: figures.held(),
            most: self.options.warm_memory,
            ready: figures.ready(),
            unready: figures.unready(),
            ended: figures.ended(),
        }
    }

    fn config_status(&self) -> ConfigStatus {
        let paths = &self.options.config;
        ConfigStatus {
            paths: paths.iter().map(|path| path.display().to_string()).collect(),
            loaded: self.last_load.at.map(timestamp),
            errors: self.last_load.errors.clone(),
            notes: self.last_load.notes.clone(),
        }
    }

    /// Asks the task that follows a run.
    fn show_output(&self, run: RunId, reply: oneshot::Sender<Option<Written>>) {
        let (asked, written) = oneshot::channel();
        self.launches.control(run, Control::Show(asked));
        tokio::spawn(async move {
            // It does not answer if there is no such run, or none any more.
            let written = written.await.ok().map(|written| Written {
                tail: written.tail,
                total: written.total,
                log_ended: written.log_ended,
            });
            let _ = reply.send(written);
        });
    }

    fn order(&mut self, name: &str, order: Order, reply: oneshot::Sender<Result<Done, Refused>>) {
        let refused = match self.registry.id(name) {
            None => Refused::Unknown,
            Some(_) if self.phase == Phase::Draining => Refused::Draining,
            Some(id) => match (order, self.refuses_run(id)) {
                (Order::Run { .. }, Some(refused)) => refused,
                (Order::Run { ungoverned: false }, None) if self.registry.by_turns().contains(&id) => Refused::Rollout,
                (Order::Run { ungoverned }, None) => return self.run_now(id, ungoverned, reply),
                (Order::Pause { by, reason }, _) => {
                    info!(watch = name, by, reason, "an operator pauses the watch");
                    self.pause(id, by, reason);
                    return drop(reply.send(self.done(id, None)));
                }
                (Order::Resume, _) => {
                    info!(watch = name, "an operator resumes the watch");
                    self.advance(id, Input::Resume);
                    return drop(reply.send(self.done(id, None)));
                }
            },
        };
        let _ = reply.send(Err(refused));
    }

    /// Holds a watch. Who held it first is remembered, unless whoever does it again says why.
    fn pause(&mut self, id: WatchId, by: Option<String>, reason: Option<String>) {
        let Some(entry) = self.registry.get_mut(id) else { return };
        if entry.machine.state() == MachineState::Retired {
            return;
        }
        if !entry.machine.is_paused() || reason.is_some() {
            let at = SystemTime::now();
            let paused = Paused { at, by, reason };
            entry.paused = Some(Box::new(paused.clone()));
            self.state.paused(&entry.watch, Some(paused));
        }
        self.advance(id, Input::Pause);
    }

    fn done(&self, id: WatchId, run: Option<RunId>) -> Result<Done, Refused> {
        let watch = self.watched(id).ok_or(Refused::Retired)?;
        Ok(Done { run, watch })
    }

    /// Why a run on request need not even be tried.
    fn refuses_run(&self, id: WatchId) -> Option<Refused> {
        let entry = self.registry.get(id)?;
        match entry.machine.state() {
            MachineState::Retired => Some(Refused::Retired),
            MachineState::Paused => Some(Refused::Paused),
            MachineState::Parked => Some(Refused::Parked),
            MachineState::Running if entry.watch.policy.run_mode == RunMode::Discard => Some(Refused::Running),
            _ if !self.source.connection.borrow().connected => Some(Refused::Disconnected),
            _ => None,
        }
    }

    /// The node is read afresh, by watching it anew: what comes back is what the run is for. It is answered then.
    fn run_now(&mut self, id: WatchId, ungoverned: bool, reply: oneshot::Sender<Result<Done, Refused>>) {
        let Some(entry) = self.registry.get(id) else { return };
        info!(watch = &*entry.watch.name, "an operator asks for a run");
        if ungoverned && entry.watch.rollout.is_some() {
            self.turns.set_ungoverned(id, true);
        }
        self.advance(id, Input::RunNow { ungoverned });
        let until = Instant::now() + READ_PATIENCE;
        self.waiting.runs.push(RunRequest { id, until, reply });
        let anew = self.registry.anew(id);
        self.tell_source(anew);
    }

    /// The node of a watch was read: answers those who wait for that.
    pub(super) fn answer_runs(&mut self, id: WatchId, effects: &Answer) {
        let mine: Vec<RunRequest> = self.waiting.runs.extract_if(.., |request| request.id == id).collect();
        for RunRequest { reply, .. } in mine {
            let answer = match *effects {
                Answer::Started(run) => self.done(id, Some(run)),
                Answer::Waits => self.done(id, None),
                Answer::Refused(refused) => Err(refused),
            };
            let _ = reply.send(answer);
        }
    }

    /// Nodes that were not read in time are not run for when they are: whoever asked was told so.
    pub(super) fn expire_runs(&mut self) {
        let now = Instant::now();
        self.refuse_runs(Refused::Unread, |request| request.until <= now);
    }

    /// Nothing can be read any more, for now or for good.
    pub(super) fn refuse_all_runs(&mut self, why: Refused) {
        self.refuse_runs(why, |_| true);
    }

    fn refuse_runs(&mut self, why: Refused, which: impl Fn(&RunRequest) -> bool) {
        let refused: Vec<RunRequest> = self.waiting.runs.extract_if(.., |request| which(request)).collect();
        for RunRequest { id, reply, .. } in refused {
            // Another may still wait for the same node.
            if self.waiting.runs.iter().all(|request| request.id != id) {
                self.advance(id, Input::ForgoRun);
            }
            let _ = reply.send(Err(why));
        }
    }

    /// Something happened to a watch, or to a run of it.
    pub(super) fn happened(
        &self,
        kind: EventKind,
        id: WatchId,
        run: Option<RunFacts>,
        message: impl FnOnce() -> String,
    ) {
        self.events.happened(Occurrence {
            kind,
            message: message(),
            watch: self.watched(id),
            run,
        });
    }

    /// Something happened that is about no watch.
    pub(super) fn happened_to_all(&self, kind: EventKind, message: impl FnOnce() -> String) {
        self.events.happened(Occurrence {
            kind,
            message: message(),
            watch: None,
            run: None,
        });
    }

    /// Loads the configuration, and wants parked watches back, also those whose files are as they were. Gives the load's number.
    pub(super) fn reload(&mut self) -> u64 {
        if let Err(error) = self.service.reloading() {
            warn!(%error, "cannot tell the service manager");
        }
        let ids: Vec<_> = self.registry.ids().collect();
        for id in ids {
            self.advance(id, Input::Unpark);
        }
        let number = self.loader.request();
        self.told_reload = Some(number);
        number
    }
}

/// What became of a run on request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Started(RunId),
    Waits,
    Refused(Refused),
}

impl Answer {
    /// Reads it from what the machine answered to the observation.
    pub(super) fn of(effects: &[Effect]) -> Self {
        let found = effects.iter().find_map(|effect| match effect {
            Effect::Start(start) => Some(Answer::Started(start.run)),
            Effect::Record(Decision::Waits { .. }) => Some(Answer::Waits),
            Effect::Record(Decision::Ignored(why)) => Some(Answer::Refused(match why {
                Ignored::Absent | Ignored::Deleted => Refused::Absent,
                Ignored::Empty => Refused::Empty,
                Ignored::Running => Refused::Running,
                Ignored::Retired => Refused::Retired,
                // Only loads are ignored for these, and the run that was asked for takes the load's place.
                Ignored::NotOnLoad | Ignored::Unchanged | Ignored::Up => return None,
                // What was asked for accepts it.
                Ignored::Shrunk(_) => return None,
            })),
            _ => None,
        });
        found.unwrap_or(Answer::Waits)
    }
}
