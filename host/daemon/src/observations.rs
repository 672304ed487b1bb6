//! What the source reports: states of nodes, what cannot be read, and that all is watched.

use std::time::SystemTime;

use tokio::task::yield_now;
use tracing::{error, info};

use super::decision_log::is_change;
use super::operators::Answer;
use super::service_manager::ServiceManager;
use super::several::Parts;
use super::{Daemon, SOURCE_RESTART};
use twitcher_launch::release_free_memory;
use twitcher_model::{EventKind, Observation, Phase, Seen, Version, WatchId};
use twitcher_scheduler::{Effect, Input};
use twitcher_source::{Change, SourceReport};

impl Daemon {
    pub(super) async fn on_source(&mut self, report: SourceReport) {
        match report {
            // It was read for what the watch was before a reload; what was asked for follows.
            SourceReport::Observed(id, observation) if self.registry.lacks_nodes(id, &observation) => {}
            SourceReport::Observed(id, observation) => {
                let (id, whole) = self.registry.take_in(id, observation);
                let unreadable = self.registry.parts(id).map(Parts::unreadable);
                if let Some(observation) = whole {
                    self.on_observation(id, observation).await;
                }
                if let Some(unreadable) = unreadable {
                    self.on_unreadable(id, unreadable);
                }
            }
            SourceReport::Unreadable(id, unreadable) => {
                let (id, unreadable) = self.registry.note_unreadable(id, Some(unreadable));
                self.on_unreadable(id, unreadable);
            }
            SourceReport::Readable(id) => {
                let (id, unreadable) = self.registry.note_unreadable(id, None);
                self.on_unreadable(id, unreadable);
            }
            // Also after a node was read again for a run on request.
            SourceReport::Armed if self.armed => {}
            SourceReport::Armed => {
                self.armed = true;
                if self.phase == Phase::Starting {
                    self.phase = Phase::Ready;
                }
                let (watches, unreadable) = (self.registry.len(), self.registry.count_unreadable());
                let said = self.first_looks.tell(watches, unreadable);
                self.happened_to_all(EventKind::Source, || said.to_owned());
                if !self.service.was_ready() {
                    self.tell_service(ServiceManager::ready);
                }
                self.say_status();
                // What loading took for a while would otherwise stay with the process for good.
                tokio::task::spawn_blocking(release_free_memory);
                if self.options.once {
                    self.look_no_more();
                }
            }
        }
    }

    pub(super) async fn on_observation(&mut self, id: WatchId, observation: Observation) {
        let (version, bytes) = (observation.version, observation.stdin.len());
        let named = observation.named();
        let named_stat = named.and_then(|named| named.observation.stat);
        let (stat, znode) = (named_stat.or(observation.stat), named.map(|named| named.znode.clone()));
        let mut effects = self.step(id, Input::Observed(observation));
        let is_change = is_change(&effects);
        let answer = Answer::of(&effects);
        if !self.armed {
            self.first_looks.note(&effects);
        }
        let starts = effects.iter().any(|effect| matches!(effect, Effect::Start(_)));
        if starts {
            // The launch goes out before a line about it costs time.
            self.carry_out(id, std::mem::take(&mut effects));
            yield_now().await;
        }
        if let Some(entry) = self.registry.get_mut(id) {
            entry.facts.seen = Some(Seen::new(version, stat, SystemTime::now()));
            if entry.note_refusal() {
                self.state.refused(&entry.watch, entry.facts.refused);
            }
        }
        if let Some(entry) = self.registry.get(id).filter(|_| is_change) {
            self.metrics.changes.inc();
            let (watch, exists) = (&entry.watch, version != Version::Absent);
            let stat = stat.unwrap_or_default();
            let znode = znode.as_ref().unwrap_or(&watch.znode);
            info!(
                watch = &*watch.name,
                znode = znode.as_str(),
                exists,
                version = stat.version,
                mzxid = stat.mzxid,
                bytes,
                "change seen"
            );
            self.happened(EventKind::Changed, id, None, || {
                let what = if exists { "changed" } else { "was deleted" };
                format!("{znode} {what}")
            });
        }
        self.carry_out(id, effects);
        self.end_verify_of_older(id);
        self.answer_runs(id, &answer);
        // What cannot be read of a subtree's parts is not over by that.
        if self
            .registry
            .unreadable(id)
            .is_some_and(|unreadable| unreadable.parts.is_none() && self.registry.parts(id).is_none())
        {
            self.on_unreadable(id, None);
        }
        self.report(id);
    }

    pub(super) fn tell_source(&mut self, change: Change) {
        for id in &change.remove {
            self.registry.forget_parts(*id);
        }
        // The source may have ended; it is told everything when it is started anew.
        let _ = self.source.changes.send(change);
    }

    /// A source ends only by a defect. What is watched must not depend on that.
    pub(super) async fn restart_source(&mut self) {
        error!("the source ended unexpectedly; starting it anew");
        tokio::time::sleep(SOURCE_RESTART).await;
        match self.options.source.spawn() {
            Ok(source) => {
                if let (Some(fleet), Some(session)) = (&mut self.fleet, source.znodes.keep_session()) {
                    fleet.use_session(session);
                }
                self.source = source;
                self.armed = false;
                let everything = self.registry.everything();
                self.tell_source(everything);
            }
            Err(error) => error!("{error:#}"),
        }
    }
}
