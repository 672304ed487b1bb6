//! Watches whose changes roll out: the fleet is told what they would do, and says when their turn has come.
//!
//! Where there is no fleet to wait for, as with a local directory, each has its turn at once. A daemon that could be in a fleet and is
//! not has them wait, and says so: that one host was started without `--fleet` must not have it act before the others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::fleet::{run_view, state_id};
use super::probes::verify_of;
use super::watches::ActiveWatch;
use super::{Daemon, SourceOptions};
use twitcher_control::api::{self, Rollouts};
use twitcher_control::daemon_requests::{FleetRefused, RolloutOrder};
use twitcher_fleet::rollout::{
    Doing, HostState, LocalRollout, OrderError, PlanWave, RolloutEvent, RolloutSurvey, RolloutsFound, Said, Verb,
    Wanted,
};
use twitcher_fleet::survey::SurveyError;
use twitcher_fleet::{Fleet, FormatVersion, ResultState, StateId, WatchResult};
use twitcher_model::{Phase, Rollout, RolloutName, Version, WatchId, timestamp};
use twitcher_scheduler::Input;

/// What was last dealt with for each watch.
#[derive(Debug, Default)]
pub(super) struct Turns {
    answered: HashMap<WatchId, u64>,
    /// That there is no fleet has been said.
    told: bool,
    /// Since when the fleet cannot be asked for a turn in these rollouts.
    unavailable: HashMap<RolloutName, Duration>,
    /// When the first of them has been so for as long as is waited.
    next_patience: Option<Duration>,
    /// These watches start without their turn.
    ungoverned: HashSet<WatchId>,
    /// What a dry run has said of watches that wait for their turn.
    pretended: HashMap<WatchId, Version>,
}

impl Turns {
    /// When a watch starts without its turn, if nothing changes.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.next_patience
    }

    /// The next start of a watch is without its turn, or is not.
    pub(super) fn set_ungoverned(&mut self, id: WatchId, is: bool) {
        match is {
            true => drop(self.ungoverned.insert(id)),
            false => drop(self.ungoverned.remove(&id)),
        }
    }

    /// Whether a start of a watch is without its turn.
    pub(super) fn take_ungoverned(&mut self, id: WatchId) -> bool {
        self.ungoverned.remove(&id)
    }
}

/// What is to be done next for a rollout; never, where there is no fleet.
pub(super) async fn next(fleet: &mut Option<Fleet>) -> RolloutEvent {
    match fleet {
        Some(fleet) => fleet.next_event().await,
        None => std::future::pending().await,
    }
}

fn state_of(version: Version) -> StateId {
    match version {
        Version::Absent => StateId::Absent,
        Version::Data { mzxid, .. } => StateId::Zxid(mzxid),
        Version::Children { pzxid, .. } => StateId::Zxid(pzxid),
        Version::Tree { digest, .. } => StateId::Tree(digest),
    }
}

impl Daemon {
    /// Tells the fleet what watches with rollouts would do. Cheap where there is none.
    pub(super) fn tell_rollouts(&mut self) {
        if self.registry.by_turns().is_empty() && self.turns.answered.is_empty() {
            return;
        }
        let ids: Vec<WatchId> = self.registry.by_turns().iter().copied().collect();
        if self.phase == Phase::Draining {
            // What has started is told to its end; nothing else starts.
        } else if self.fleet.is_none() || self.options.dry_run {
            return self.take_turns(ids);
        }
        self.turns.answered.retain(|id, _| ids.contains(id));
        let mut locals: BTreeMap<RolloutName, (WatchId, LocalRollout)> = BTreeMap::new();
        for id in ids {
            let Some(local) = self.local_rollout(id) else { continue };
            // A watch that was renamed is there twice, as long as it acts under its former name: that comes first.
            let is_first = |other: &LocalRollout| local.acting && !other.acting;
            match locals.get(&local.policy.name) {
                Some((_, other)) if !is_first(other) => {}
                _ => drop(locals.insert(local.policy.name.clone(), (id, local))),
            }
        }
        let wanting: Vec<_> = locals
            .values()
            .map(|(id, local)| (*id, Arc::clone(&local.policy)))
            .collect();
        if let Some(fleet) = &self.fleet {
            fleet.roll_out(locals.into_values().map(|(_, local)| local).collect());
        }
        self.lose_patience(wanting);
    }

    /// Starts what has waited for a fleet that cannot be asked for as long as its rollout says.
    fn lose_patience(&mut self, watches: Vec<(WatchId, Arc<Rollout>)>) {
        let (now, fleet) = (self.now(), self.fleet.as_ref());
        self.turns.next_patience = None;
        let is_unavailable = |rollout: &Rollout| fleet.is_none_or(|fleet| !fleet.can_be_asked(&rollout.name));
        let unavailable: Vec<_> = watches
            .into_iter()
            .filter(|(_, rollout)| is_unavailable(rollout))
            .collect();
        let is_so = |name: &RolloutName| unavailable.iter().any(|(_, rollout)| rollout.name == *name);
        self.turns.unavailable.retain(|name, _| is_so(name));
        for (id, rollout) in unavailable {
            let since = *self.turns.unavailable.entry(rollout.name.clone()).or_insert(now);
            let Some(patience) = rollout.unavailable.filter(|_| self.phase != Phase::Draining) else {
                continue;
            };
            let due = since.saturating_add(patience);
            if due > now {
                let next = self.turns.next_patience.map_or(due, |next| next.min(due));
                self.turns.next_patience = Some(next);
                continue;
            }
            let Some(entry) = self.registry.get(id) else { continue };
            let Some(version) = self.wants_turn(id) else {
                continue;
            };
            warn!(
                watch = &*entry.watch.name,
                rollout = %rollout.name,
                "the fleet cannot be asked for its turn for {} s: acting without it",
                now.saturating_sub(since).as_secs()
            );
            self.turns.set_ungoverned(id, true);
            self.advance(id, Input::Turn { version });
            self.turns.set_ungoverned(id, false);
        }
    }

    /// Without a fleet.
    fn take_turns(&mut self, ids: Vec<WatchId>) {
        if !matches!(self.options.source, SourceOptions::Tree(_)) {
            if self.options.dry_run {
                return self.pretend_to_wait(ids);
            }
            let rollout = |id: WatchId| Some((id, self.registry.get(id)?.watch.rollout.clone()?));
            let watches: Vec<_> = ids.iter().copied().filter_map(rollout).collect();
            if !std::mem::replace(&mut self.turns.told, true) {
                warn!(
                    watches = ids.len(),
                    "watches have a rollout, and this daemon is in no fleet: they wait until it is started with --fleet, or for as long as \
                     their rollouts say with unavailable"
                );
            }
            return self.lose_patience(watches);
        }
        for id in ids {
            let now = self.now();
            let wants = self
                .registry
                .get(id)
                .and_then(|entry| entry.machine.wants_turn(now, &self.admission));
            if let Some(version) = wants {
                self.advance(id, Input::Turn { version });
            }
        }
    }

    /// A dry run takes no slots, and so has no turn.
    fn pretend_to_wait(&mut self, ids: Vec<WatchId>) {
        for id in ids {
            let Some(entry) = self.registry.get(id) else { continue };
            let Some(version) = entry.machine.wants_turn(self.now(), &self.admission) else {
                continue;
            };
            if self.turns.pretended.insert(id, version) != Some(version)
                && let Some(rollout) = &entry.watch.rollout
            {
                info!(watch = &*entry.watch.name, rollout = %rollout.name, "would wait for its turn in the rollout");
            }
        }
    }

    pub(super) fn show_rollouts(&self, which: Option<String>, reply: oneshot::Sender<Result<Rollouts, FleetRefused>>) {
        let Some(fleet) = &self.fleet else {
            return drop(reply.send(Err(FleetRefused::NoFleet)));
        };
        let wanted = which.as_ref().map(|name| name.parse::<RolloutName>()).transpose();
        let Ok(wanted) = wanted else {
            return drop(reply.send(Err(FleetRefused::NoRollout(which.unwrap_or_default()))));
        };
        let Some(wanted) = wanted else {
            let survey = fleet.survey_rollouts();
            return drop(tokio::spawn(async move {
                let _ = reply.send(survey.await.map(view_of).map_err(refusal));
            }));
        };
        let survey = fleet.survey_rollout(wanted);
        tokio::spawn(async move {
            let found = survey.await.map(|found| view_of(found.into()));
            let _ = reply.send(found.map_err(refusal));
        });
    }

    pub(super) fn order_rollout(
        &self,
        name: String,
        order: RolloutOrder,
        by: Option<String>,
        reply: oneshot::Sender<Result<Rollouts, FleetRefused>>,
    ) {
        let Some(fleet) = &self.fleet else {
            return drop(reply.send(Err(FleetRefused::NoFleet)));
        };
        let Ok(rollout) = name.parse::<RolloutName>() else {
            return drop(reply.send(Err(FleetRefused::NoRollout(name))));
        };
        // Who it was is told to the whole fleet, with the host that it was asked of.
        let who = format!("{} on {}", by.as_deref().unwrap_or("somebody"), fleet.options().name);
        let verb = match &order {
            RolloutOrder::Pause => Verb::Pause,
            RolloutOrder::Resume => Verb::Resume,
            RolloutOrder::Promote => Verb::Promote,
            RolloutOrder::Abort => Verb::Abort,
            RolloutOrder::Retry => Verb::Retry,
            RolloutOrder::Rollback => {
                let done = fleet.roll_back(rollout.clone(), who.clone());
                let survey = fleet.survey_rollout(rollout);
                return drop(tokio::spawn(answer(
                    name,
                    "rollback".to_owned(),
                    who,
                    done,
                    survey,
                    reply,
                )));
            }
            RolloutOrder::Release(host) => {
                let done = fleet.release(rollout.clone(), host.clone(), who.clone());
                let survey = fleet.survey_rollout(rollout);
                return drop(tokio::spawn(answer(
                    name,
                    format!("release of {host}"),
                    who,
                    done,
                    survey,
                    reply,
                )));
            }
        };
        let done = fleet.order(rollout.clone(), verb, who.clone());
        let survey = fleet.survey_rollout(rollout);
        tokio::spawn(answer(name, verb.as_str().to_owned(), who, done, survey, reply));
    }

    fn local_rollout(&self, id: WatchId) -> Option<LocalRollout> {
        let entry = self.registry.get(id)?;
        let policy = entry.watch.rollout.clone()?;
        let standing = entry.machine.standing(self.now());
        let seen = entry.facts.seen.as_ref().map(state_id);
        let unreadable = self.registry.unreadable(id).is_some();
        let doing = match self.wants_turn(id) {
            _ if standing.loading || (seen.is_none() && !unreadable) => Doing::Unsure,
            Some(version) => Doing::Wants(state_of(version)),
            None if standing.wait.is_some() => Doing::Waiting,
            None => Doing::Nothing,
        };
        let mut result = self.result(entry, unreadable).unwrap_or_else(|| nothing_seen(entry));
        let acting = entry.machine.is_acting();
        if let Some(failure) = self.probes.failure(id) {
            result.last = Some(failure.clone());
        }
        if self.phase == Phase::Draining && !acting && result.state == ResultState::Behind {
            // Whoever stops needs no slot that it has not begun to use.
            result.state = ResultState::Held;
        }
        Some(LocalRollout {
            policy,
            result,
            seen,
            doing,
            acting,
            answered: self.turns.answered.get(&id).copied().unwrap_or(0),
            unverified: verify_of(&entry.watch).is_some()
                && entry.facts.result.as_ref().is_some_and(|result| result.unverified),
            verification: self.probes.verification(id),
            check: self.probes.check(id),
        })
    }

    /// The state that a watch would start for, if it might: nothing as long as a verify still runs that was ended.
    fn wants_turn(&self, id: WatchId) -> Option<Version> {
        let entry = self.registry.get(id)?;
        let wants = entry.machine.wants_turn(self.now(), &self.admission)?;
        (!self.has_stale_verify(&entry.watch.name)).then_some(wants)
    }

    pub(super) fn on_rollout(&mut self, event: RolloutEvent) {
        let Some(id) = self.registry.id(&event.watch) else {
            return;
        };
        let answered = self.turns.answered.entry(id).or_default();
        *answered = event.number.max(*answered);
        let Some(entry) = self.registry.get(id) else { return };
        match event.wanted {
            Wanted::Start(state) => {
                if let Some(version) = self.wants_turn(id).filter(|version| state_of(*version) == state) {
                    info!(watch = &*entry.watch.name, %state, "its turn in the rollout has come");
                    self.turns.set_ungoverned(id, false);
                    self.advance(id, Input::Turn { version });
                }
            }
            Wanted::Verify(slot, of) => self.begin_verify(id, slot, of),
            Wanted::EndVerify => self.end_verify(id),
            Wanted::Check(wave) => self.begin_check(id, event.number, wave),
            Wanted::EndCheck => self.end_check(id),
            Wanted::Again => {
                info!(
                    watch = &*entry.watch.name,
                    "the rollout tries again what has failed here"
                );
                self.advance(id, Input::Unpark);
                let waits = self
                    .registry
                    .get(id)
                    .is_some_and(|entry| entry.machine.standing(self.now()).wait.is_some());
                if !waits {
                    self.advance(id, Input::RunNow { ungoverned: false });
                    let anew = self.registry.anew(id);
                    self.tell_source(anew);
                }
            }
        }
    }
}

/// Why rollouts cannot be told of.
fn refusal(error: SurveyError) -> FleetRefused {
    match error {
        SurveyError::Spoilt { why, gate } => FleetRefused::Spoilt(why, gate),
        error => FleetRefused::Unreadable(error.to_string()),
    }
}

/// Has something done, and answers with how the rollout stands then.
///
/// Whoever does not wait for the answer any more may have done something else since: then it is not begun, and only what was sent to ZooKeeper
/// already may be done all the same.
async fn answer(
    rollout: String,
    what: String,
    by: String,
    done: impl Future<Output = Result<(), OrderError>>,
    survey: impl Future<Output = Result<Vec<RolloutSurvey>, SurveyError>>,
    mut reply: oneshot::Sender<Result<Rollouts, FleetRefused>>,
) {
    let done = tokio::select! {
        biased;
        () = reply.closed() => {
            return info!(rollout, what, by, "given up, since whoever asked for it does not wait any more; what was sent to ZooKeeper by then may be done all the same");
        }
        done = done => done,
    };
    let done = match done {
        Ok(()) => {
            info!(rollout, what, by, "done to a rollout, because an operator wants so");
            let found = survey.await.map(|found| view_of(found.into()));
            found.map_err(refusal)
        }
        Err(OrderError::Unknown) => Err(FleetRefused::NoRollout(rollout)),
        Err(OrderError::Refused(why)) => Err(FleetRefused::Unreadable(why)),
        Err(OrderError::Spoilt { why, gate }) => Err(FleetRefused::Spoilt(why, gate)),
        Err(
            error @ (OrderError::Verb(_)
            | OrderError::NoSlot
            | OrderError::NothingKept
            | OrderError::NotTakenUp(_)
            | OrderError::Newer(_)),
        ) => Err(FleetRefused::NotNow(rollout, error.to_string())),
    };
    let _ = reply.send(done);
}

/// What is known of a rollout on this host.
pub(super) fn part_view(name: &RolloutName, said: Said) -> api::RolloutPart {
    let figures = said.figures.map(|figures| api::RolloutFigures {
        state: figures.state.as_str().to_owned(),
        hosts: figures
            .hosts
            .iter()
            .map(|(state, count)| (state.as_str().to_owned(), *count as u64))
            .collect(),
        slots: figures.slots as u64,
        at_once: figures.at_once.into(),
        unchanged: figures.since.elapsed().as_secs_f64(),
    });
    api::RolloutPart {
        name: name.to_string(),
        problem: said.problem,
        figures,
    }
}

/// A rollout as it is told.
fn rollout_view(survey: &RolloutSurvey) -> api::RolloutStatus {
    let gate = &survey.world.gate;
    let waves = survey.world.waves(&survey.hosts);
    let host = |(host, state): &(String, HostState)| {
        let view = survey.world.hosts.get(host);
        let part = view.and_then(|view| view.part.as_ref());
        api::RolloutHost {
            host: host.clone(),
            state: state.as_str().to_owned(),
            wave: waves.get(host.as_str()).map(|wave| *wave as u64 + 1),
            live: view.is_some_and(|view| view.live),
            slot: survey.world.holds_slot(host),
            serial: part.map_or(0, |(part, _)| part.serial),
            policy_differs: part.is_some_and(|(part, _)| part.policy != gate.policy),
            last_run: part.and_then(|(_, standing)| standing.last.as_ref()).map(run_view),
        }
    };
    api::RolloutStatus {
        name: survey.name.to_string(),
        znode: gate.goal.as_ref().map(|goal| goal.znode.clone()),
        watch_type: gate.goal.as_ref().map(|goal| goal.kind),
        serial: gate.serial,
        goal: gate.goal.as_ref().map(|goal| goal.state.to_string()),
        newest: survey.newest.map(|state| state.to_string()),
        state: gate.state.as_str().to_owned(),
        since: gate.since,
        why: gate.why.clone(),
        by: gate.by.clone(),
        wave: gate.wave as u64 + 1,
        waves: gate.plan.waves.len() as u64,
        plan: gate.plan.waves.iter().map(wave_view).collect(),
        at_once: gate.at_once.into(),
        slots: survey.world.occupied() as u64,
        max_failures: gate.max_failures.into(),
        steward: survey.steward.clone(),
        hosts: survey.hosts.iter().map(host).collect(),
    }
}

fn wave_view(wave: &PlanWave) -> api::RolloutWave {
    api::RolloutWave {
        labels: wave.labels().clone(),
        percent: wave.percent(),
        bake: wave.bake().as_secs_f64(),
        manual: wave.manual(),
    }
}

fn view_of(found: RolloutsFound) -> Rollouts {
    let broken = found.broken.into_iter().map(|broken| api::BrokenRollout {
        name: broken.name.to_string(),
        problem: broken.why,
        help: broken.spoilt.map(|gate| FleetRefused::heals(&gate)),
    });
    Rollouts {
        at: timestamp(SystemTime::now()),
        rollouts: found.rollouts.iter().map(rollout_view).collect(),
        broken: broken.collect(),
    }
}

fn nothing_seen(entry: &ActiveWatch) -> WatchResult {
    WatchResult {
        v: FormatVersion,
        watch: entry.watch.name.to_string(),
        znode: entry.watch.znode.to_string(),
        kind: entry.watch.watch_type,
        state: ResultState::Behind,
        at: None,
        good: None,
        last: None,
        part: None,
    }
}
