//! Taking over a configuration that was loaded: what of it is new, what is known of that, and who waited for it.

use std::time::SystemTime;

use tracing::{info, warn};

use super::Daemon;
use super::fleet::EndedFor;
use super::loader::LoadedConfig;
use super::runs::{ActiveRun, definition};
use super::service_manager::ServiceManager;
use twitcher_control::api::Reloaded;
use twitcher_control::facts::LastRunFacts;
use twitcher_model::WatchId;
use twitcher_model::{EventKind, Seen};
use twitcher_scheduler::{FoundFor, Input};
use twitcher_state::{Handled, Parked};

/// What the last load of the configuration came to.
#[derive(Debug, Default)]
pub(super) struct LastLoad {
    pub(super) at: Option<SystemTime>,
    pub(super) errors: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Daemon {
    pub(super) fn on_loaded(&mut self, loaded: Result<LoadedConfig, u64>) {
        let once = self.options.once;
        match loaded {
            // Something has changed since the first load: what was loaded then is what runs.
            Ok(_) if once && self.last_load.at.is_some() => {}
            Ok(loaded) => {
                self.take_over(loaded);
                if once && self.registry.len() == 0 {
                    self.look_no_more();
                }
            }
            // Whoever waits for it is to know.
            Err(number) => {
                if once {
                    self.last_load
                        .errors
                        .push("the configuration could not be loaded".to_owned());
                    self.look_no_more();
                }
                let failed = Reloaded {
                    watches: self.registry.len() as u64,
                    added: 0,
                    changed: 0,
                    removed: 0,
                    errors: vec!["loading failed by a defect of twitcher, which its log tells".to_owned()],
                };
                self.load_ended(number, &failed);
            }
        }
    }

    fn take_over(&mut self, loaded: LoadedConfig) {
        self.last_load = LastLoad {
            at: Some(SystemTime::now()),
            errors: loaded.errors,
            notes: loaded.notes,
        };
        let plan = self.registry.plan(loaded.watches);
        let summary = plan.summary();
        if loaded.repeated && plan.is_empty() {
            return;
        }
        let result = if loaded.failed_files == 0 { "success" } else { "failure" };
        self.metrics.loads.with_label_values(&[result]).inc();
        self.admission.set_limits(loaded.groups);
        for id in plan.added {
            self.restore(id);
        }
        for (file, names) in loaded.names {
            self.state.took_names(file, names);
        }
        self.survivors.tell_unclaimed(loaded.failed_files == 0);
        self.state.loaded(|name| self.registry.has(name));
        for (id, input) in plan.inputs {
            if let Some(entry) = self.registry.get_mut(id) {
                if matches!(input, Input::Retire) {
                    // Should it come back, it is a new one.
                    entry.paused = None;
                    self.state.paused(&entry.watch, None);
                } else if let Some(paused) = entry.paused.as_deref() {
                    // What is known of another node goes with it, but not that an operator holds the watch.
                    self.state.paused(&entry.watch, Some(paused.clone()));
                }
            }
            self.advance(id, input);
            self.registry.forget_if_finished(id);
        }
        self.end_stray_probes();
        self.launches.reloaded(self.registry.components());
        self.admit();
        self.report_all();
        self.armed = false;
        self.tell_source(plan.change);
        info!(
            watches = self.registry.len(),
            added = summary.added,
            changed = summary.changed,
            removed = summary.removed,
            unchanged = summary.unchanged,
            changed_files = loaded.changed_files,
            failed_files = loaded.failed_files,
            "configuration loaded"
        );
        let reloaded = Reloaded {
            watches: self.registry.len() as u64,
            added: summary.added as u64,
            changed: summary.changed as u64,
            removed: summary.removed as u64,
            errors: self.last_load.errors.clone(),
        };
        self.happened_to_all(EventKind::Loaded, || {
            let Reloaded {
                watches,
                added,
                changed,
                removed,
                errors,
            } = &reloaded;
            let problems = match errors.len() {
                0 => String::new(),
                count => format!(", {count} errors"),
            };
            format!(
                "configuration loaded: {watches} watches, {added} added, {changed} changed, {removed} removed{problems}"
            )
        });
        self.load_ended(loaded.number, &reloaded);
        self.say_status();
    }

    fn load_ended(&mut self, number: u64, reloaded: &Reloaded) {
        self.waiting.loaded(number, reloaded);
        let told = self.told_reload.take_if(|told| *told <= number);
        if told.is_some() && self.service.was_ready() {
            self.tell_service(ServiceManager::ready);
        }
    }

    /// Gives a new watch what former daemons, or this one before it was removed, knew of it and left behind.
    fn restore(&mut self, id: WatchId) {
        let Some(entry) = self.registry.get_mut(id) else { return };
        let watch = &entry.watch;
        let known = self.state.known(watch);
        let handled = known.as_ref().and_then(|known| known.handled);
        entry.facts.refused = known.as_ref().and_then(|known| known.refused);
        entry.facts.result = known
            .as_ref()
            .and_then(|known| EndedFor::parse(known.result.as_deref()?));
        entry.facts.former_run = self.state.take_former_run(&watch.name).map(|former| {
            Box::new(LastRunFacts {
                run: former.run,
                ended: former.ended,
                outcome: former.outcome,
                failure: (former.outcome != "success").then_some(former.words),
            })
        });
        if let Some(paused) = known.as_ref().and_then(|known| known.paused.clone()) {
            let (by, reason) = (&paused.by, &paused.reason);
            warn!(
                watch = &*watch.name,
                by, reason, "watch is still paused; resume it to go on"
            );
            entry.paused = Some(Box::new(paused));
            entry.machine.restore_pause();
        }
        let parked = known.and_then(|known| known.parked);
        let still_parked = parked.as_ref().filter(|parked| parked.definition == definition(watch));
        if let Some(Parked { why, .. }) = still_parked {
            warn!(
                watch = &*watch.name,
                why, "watch is still parked; change its file or send SIGHUP to go on"
            );
        } else if parked.is_some() {
            info!(
                watch = &*watch.name,
                "watch was parked, but is defined anew; it goes on"
            );
            self.state.parked(watch, None);
        }
        let seen = |handled: Handled| Seen::new(handled.position.version, handled.stat, handled.at);
        entry.facts.handled = handled.map(seen);
        let done = handled.map(|handled| handled.position.fingerprint());
        entry.machine.restore(done, still_parked.is_some());
        entry.machine.restore_size(handled.and_then(|handled| handled.size));
        for found in self.survivors.claim(watch) {
            let is_same = found.definition.is_none_or(|known| known == definition(watch));
            let told = handled.filter(|handled| handled.run == found.run);
            let found_for = match (told, found.version) {
                _ if !is_same => None,
                // A program that stays has been told of that since, or has at least handled it: its data is known, too.
                (Some(handled), _) => Some(FoundFor::State(handled.position.fingerprint())),
                (None, version) => version.map(FoundFor::Version),
            };
            entry.machine.adopt(found.run, found_for, &mut self.admission);
            self.runs.insert(found.run, ActiveRun::found(id, watch, &found));
        }
    }
}
