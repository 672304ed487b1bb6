//! What the fleet is told of watches and runs, and what operators are told of the fleet.
//!
//! Nothing waits for any of it: the fleet's task publishes when it can, and what operators ask is found out beside the loop.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::Daemon;
use super::probes::verify_of;
use super::rollouts::part_view;
use super::runs::ActiveRun;
use super::watches::ActiveWatch;
use twitcher_control::api;
use twitcher_control::daemon_requests::FleetRefused;
use twitcher_fleet::forget::ForgetError;
use twitcher_fleet::laggards::{Laggard, Of, laggards};
use twitcher_fleet::survey::{FleetHost, Survey};
use twitcher_fleet::{Fleet, FleetOptions, FormatVersion, LastRun, ResultState, StateId, WatchResult, outcome};
use twitcher_launch::RunReport;
use twitcher_model::{Outcome, Phase, RunId, RunMode, Seen, WatchId, WatchType, sanitize, timestamp};
use twitcher_scheduler::MachineState;
use twitcher_source::Source;

/// The last run of a watch that ended, and what it was for. Kept with the state of the watch: what could not be published is published
/// by the next daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EndedFor {
    at: Option<StateId>,
    last: LastRun,
    /// It has succeeded in its turn, and its rollout's verify has not said yet that the host is well. Whatever becomes of the host's slot,
    /// it is not taken for current.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unverified: bool,
    /// It ended while the daemon stopped.
    #[serde(skip)]
    stopping: bool,
}

impl EndedFor {
    /// From what a daemon has kept.
    pub(super) fn parse(text: &str) -> Option<Box<Self>> {
        serde_json::from_str(text).ok().map(Box::new)
    }
}

/// Joins a fleet, if the daemon is to be in one.
pub(super) fn join(options: Option<FleetOptions>, source: &Source) -> Option<Fleet> {
    let (options, session) = (options?, source.znodes.keep_session());
    if session.is_none() {
        warn!("a fleet is in ZooKeeper, and what is watched is not: the daemon is in none");
    }
    Some(Fleet::join(options, session?))
}

/// How the daemon stands with its fleet.
pub(super) fn membership(fleet: &Fleet) -> api::FleetMembership {
    let membership = fleet.membership();
    api::FleetMembership {
        root: fleet.options().root.to_string(),
        host: fleet.options().name.to_string(),
        since: membership.since.map(timestamp),
        problem: membership.problem,
        unpublished: membership.unpublished as u64,
        lag: membership.lag.as_secs_f64(),
        rollouts: fleet
            .said()
            .into_iter()
            .map(|(name, said)| part_view(&name, said))
            .collect(),
    }
}

pub(super) fn state_id(seen: &Seen) -> StateId {
    match (seen.zxid(), seen.tree()) {
        (_, Some(digest)) => StateId::Tree(digest),
        (Some(zxid), None) => StateId::Zxid(zxid),
        (None, None) => StateId::Absent,
    }
}

impl Daemon {
    /// Notes how a run ended, for the fleet.
    pub(super) fn note_result(&mut self, run: RunId, running: &mut ActiveRun, report: &RunReport) {
        if self.fleet.is_none() || !running.watch.publish {
            return;
        }
        let facts = running.facts(run);
        let (code, words) = (
            Outcome::code(Some(&report.outcome)),
            Outcome::words(Some(&report.outcome)),
        );
        let at = running.seen().as_ref().map(state_id);
        let before = self
            .registry
            .get(running.id)
            .and_then(|entry| entry.facts.result.as_ref());
        let is_unverified = match report.outcome.is_success() {
            true => !running.ungoverned && verify_of(&running.watch).is_some(),
            false => before.is_some_and(|before| before.unverified && before.at == at),
        };
        let result = EndedFor {
            stopping: self.phase == Phase::Draining,
            at,
            unverified: is_unverified,
            last: LastRun {
                run: run.to_string(),
                // What a component says of its failure is for those who may read its output.
                outcome: outcome(Outcome::outline(code, &words)),
                attempt: facts.attempt,
                started: timestamp(facts.started),
                seconds: (report.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
                ungoverned: running.ungoverned,
            },
        };
        let text = serde_json::to_string(&result).unwrap_or_default();
        self.state.result(&running.watch, text.into());
        if let Some(entry) = self.registry.get_mut(running.id)
            && entry.watch.looks_at_same(&running.watch)
        {
            entry.facts.result = Some(Box::new(result));
        }
    }

    /// Notes what says best why a watch stands so in its rollout, where that is no run of its action.
    pub(super) fn note_last(&mut self, id: WatchId, last: LastRun) {
        let Some(entry) = self.registry.get_mut(id) else { return };
        let Some(result) = entry.facts.result.as_mut() else {
            return;
        };
        result.last = last;
        let text = serde_json::to_string(result).unwrap_or_default();
        self.state.result(&entry.watch, text.into());
    }

    /// Notes whether it is still to be found out if the host is well that has acted. Kept, because a watch can leave its rollout and come
    /// back, and nobody else knows then.
    pub(super) fn note_unverified(&mut self, id: WatchId, is: bool) {
        let Some(entry) = self.registry.get_mut(id) else { return };
        let Some(result) = entry.facts.result.as_mut() else {
            return;
        };
        if std::mem::replace(&mut result.unverified, is) != is {
            let text = serde_json::to_string(result).unwrap_or_default();
            self.state.result(&entry.watch, text.into());
        }
    }

    /// Tells the fleet where this host stands with a watch.
    pub(super) fn report(&self, id: WatchId) {
        let Some(fleet) = &self.fleet else { return };
        let is_published = |entry: &&ActiveWatch| entry.watch.publish && entry.watch.rollout.is_none();
        let Some(entry) = self.registry.get(id).filter(is_published) else {
            return;
        };
        // That the daemon stops changes nothing of where the host stands, unless it ended a run.
        if self.phase == Phase::Draining && !entry.facts.result.as_ref().is_some_and(|result| result.stopping) {
            return;
        }
        let unreadable = self.registry.unreadable(id).is_some();
        if let Some(result) = self.result(entry, unreadable) {
            fleet.publish(&result);
        }
    }

    /// Tells the fleet which watches there are, and where this host stands with each.
    pub(super) fn report_all(&mut self) {
        self.tell_rollouts();
        let Some(fleet) = &self.fleet else { return };
        let entries: Vec<_> = self
            .registry
            .ids()
            .filter_map(|id| Some((id, self.registry.get(id)?)))
            .collect();
        let published = entries
            .iter()
            .filter(|(_, entry)| entry.watch.publish && entry.watch.rollout.is_none())
            .filter(|(_, entry)| self.registry.has(&entry.watch.name));
        fleet.keep(published.map(|(_, entry)| &*entry.watch.name));
        for (id, _) in entries {
            self.report(id);
        }
    }

    /// None if there is nothing to say yet.
    pub(super) fn result(&self, entry: &ActiveWatch, unreadable: bool) -> Option<WatchResult> {
        let (watch, facts) = (&entry.watch, &entry.facts);
        let (seen, handled) = (facts.seen.as_ref().map(state_id), facts.handled.as_ref().map(state_id));
        if seen.is_none() && !unreadable {
            return None;
        }
        let standing = entry.machine.standing(self.now());
        let is_behind = standing.behind.is_some();
        let state = match standing.state {
            _ if unreadable => ResultState::Unreadable,
            MachineState::Parked => ResultState::Held,
            MachineState::Paused if is_behind => ResultState::Held,
            MachineState::Idle if is_behind => ResultState::Failed,
            MachineState::Idle if standing.empty || standing.shrunk.is_some() => ResultState::Behind,
            // The daemon stops: what it does not do any more the next one does.
            MachineState::Retired if is_behind || seen != handled => ResultState::Behind,
            _ if is_behind => ResultState::Behind,
            _ => ResultState::Current,
        };
        // What came while the action ran is ignored for good in DISCARD: nobody has handled it.
        let ignores = watch.policy.run_mode == RunMode::Discard && handled.is_some();
        let at = facts.result.as_ref().and_then(|result| result.at);
        // It was run for once more, as `retry` has it, and has failed then.
        let has_failed_since =
            matches!(state, ResultState::Failed | ResultState::Held) && is_behind && at == seen && at == handled;
        let good = match state {
            ResultState::Current if !ignores => seen,
            _ if has_failed_since => None,
            _ => handled,
        };
        Some(WatchResult {
            v: FormatVersion,
            watch: watch.name.to_string(),
            znode: watch.znode.to_string(),
            kind: watch.watch_type,
            state,
            at,
            good,
            last: facts.result.as_ref().map(|result| result.last.clone()),
            part: None,
        })
    }

    pub(super) fn show_fleet(&self, reply: oneshot::Sender<Result<api::Fleet, FleetRefused>>) {
        self.survey(reply, |survey, asked| {
            let of_all = laggards(survey, Of::All, |znode| asked.tree(znode));
            let mut hosts: Vec<api::FleetHost> =
                survey.hosts.iter().map(|host| host_view(host, survey, asked)).collect();
            let mut lagging: HashMap<&str, u64> = HashMap::new();
            for laggard in of_all.laggards {
                *lagging.entry(&laggard.host.name).or_default() += 1;
                let host = hosts.binary_search_by(|host| host.name.as_str().cmp(&laggard.host.name));
                let result = host.ok().and_then(|at| {
                    hosts[at]
                        .watches
                        .iter_mut()
                        .find(|one| one.watch == laggard.result.watch)
                });
                if let Some(result) = result {
                    result.lags = true;
                }
            }
            for host in &mut hosts {
                host.lagging = lagging.get(host.name.as_str()).copied().unwrap_or_default();
            }
            Ok(api::Fleet {
                root: asked.root.clone(),
                host: asked.host.clone(),
                problem: asked.problem.clone(),
                at: survey.at,
                hosts,
            })
        });
    }

    pub(super) fn show_laggards(
        &self,
        of: Option<String>,
        reply: oneshot::Sender<Result<api::Laggards, FleetRefused>>,
    ) {
        self.survey(reply, move |survey, asked| {
            let found = laggards(survey, Of::named(of.as_deref(), survey), |znode| asked.tree(znode));
            if let Some(name) = of.filter(|_| found.hosts == 0 && found.unknown.is_empty()) {
                return Err(FleetRefused::Unknown(name));
            }
            let unknown = |host: &&FleetHost| api::UnknownHost {
                host: host.name.clone(),
                problem: host.problem.clone().unwrap_or_default(),
            };
            Ok(api::Laggards {
                at: survey.at,
                hosts: found.hosts as u64,
                laggards: found.laggards.iter().map(laggard_view).collect(),
                unknown: found.unknown.iter().map(unknown).collect(),
            })
        });
    }

    pub(super) fn forget_host(
        &self,
        host: String,
        by: Option<String>,
        reply: oneshot::Sender<Result<api::Forgotten, FleetRefused>>,
    ) {
        let Some(fleet) = &self.fleet else {
            return drop(reply.send(Err(FleetRefused::NoFleet)));
        };
        let forgotten = fleet.forget(host.clone());
        // It goes on to its end whether or not anybody waits for the answer.
        tokio::spawn(async move {
            let shown = sanitize::line(&host);
            let answer = match forgotten.await {
                Ok(forgotten) => {
                    info!(
                        host = shown,
                        by, "the fleet has forgotten a host, because an operator wants so"
                    );
                    Ok(api::Forgotten {
                        host,
                        znodes: forgotten.znodes as u64,
                    })
                }
                Err(ForgetError::Unknown) => Err(FleetRefused::NoHost(host)),
                Err(ForgetError::Live) => Err(FleetRefused::Live(host)),
                Err(ForgetError::HoldsSlot(rollout)) => Err(FleetRefused::HoldsSlot(host, rollout)),
                Err(ForgetError::Refused(why)) => {
                    warn!(
                        host = shown,
                        by, "the fleet has not forgotten a host, though an operator wants so: {why}"
                    );
                    Err(FleetRefused::NotForgotten(why))
                }
            };
            let _ = reply.send(answer);
        });
    }

    /// Looks at the fleet and answers from what is found, all of it beside the loop.
    fn survey<T: Send + 'static>(
        &self,
        reply: oneshot::Sender<Result<T, FleetRefused>>,
        view: impl FnOnce(&Survey, &Asked) -> Result<T, FleetRefused> + Send + 'static,
    ) {
        let Some(fleet) = &self.fleet else {
            return drop(reply.send(Err(FleetRefused::NoFleet)));
        };
        let of_trees = self.registry.ids().filter_map(|id| self.registry.get(id));
        let of_trees = of_trees.filter(|entry| entry.watch.watch_type == WatchType::Tree);
        let asked = Asked {
            root: fleet.options().root.to_string(),
            host: fleet.options().name.to_string(),
            problem: fleet.membership().problem,
            trees: of_trees
                .filter_map(|entry| Some((entry.watch.znode.to_string(), state_id(entry.facts.seen.as_ref()?))))
                .collect(),
        };
        let survey = fleet.survey();
        tokio::spawn(async move {
            let answer = match survey.await {
                Ok(survey) => spawn_blocking(move || view(&survey, &asked))
                    .await
                    .unwrap_or_else(|error| Err(FleetRefused::Unreadable(error.to_string()))),
                Err(error) => Err(FleetRefused::Unreadable(error.to_string())),
            };
            let _ = reply.send(answer);
        });
    }
}

/// What the daemon that is asked knows itself.
struct Asked {
    root: String,
    host: String,
    problem: Option<String>,
    /// The states of the subtrees that it watches.
    trees: HashMap<String, StateId>,
}

impl Asked {
    fn tree(&self, znode: &str) -> Option<StateId> {
        self.trees.get(znode).copied()
    }
}

fn host_view(host: &FleetHost, survey: &Survey, asked: &Asked) -> api::FleetHost {
    let newest = |result: &WatchResult| match result.kind {
        WatchType::Tree => asked.tree(&result.znode),
        kind => survey.states.get(&(result.znode.clone(), kind)).copied().flatten(),
    };
    let watches = host
        .results
        .iter()
        .map(|result| result_view(result, newest(result), false));
    api::FleetHost {
        name: host.name.clone(),
        id: host.id.clone(),
        live: host.live,
        labels: host.labels.clone(),
        version: host.version.clone(),
        problem: host.problem.clone(),
        lagging: 0,
        watches: watches.collect(),
    }
}

fn laggard_view(laggard: &Laggard<'_>) -> api::Laggard {
    api::Laggard {
        host: laggard.host.name.clone(),
        live: laggard.host.live,
        result: result_view(laggard.result, laggard.state, true),
    }
}

fn result_view(result: &WatchResult, newest: Option<StateId>, lags: bool) -> api::FleetResult {
    let text = |state: StateId| state.to_string();
    api::FleetResult {
        watch: result.watch.clone(),
        znode: result.znode.clone(),
        watch_type: result.kind,
        state: result.state.as_str().to_owned(),
        lags,
        at: result.at.map(text),
        good: result.good.map(text),
        newest: newest.map(text),
        last_run: result.last.as_ref().map(run_view),
    }
}

pub(super) fn run_view(last: &LastRun) -> api::FleetRun {
    api::FleetRun {
        run: last.run.clone(),
        outcome: last.outcome.clone(),
        attempt: last.attempt,
        started: last.started,
        duration: last.seconds,
        ungoverned: last.ungoverned,
    }
}
