//! How a watch's changes go out: its `rollout`, and what goes with one.

use super::{Builder, value_offset};
use crate::fields::Fields;
use crate::fields::mismatch::Mismatch;
use crate::fields::rollout;
use crate::value::{Registration, Value};
use twitcher_model::{Rollout, RunMode, RunOnLoad, WatchType};

impl Builder<'_, '_> {
    /// The rollout, if there is one. Says of each of its arguments what is wrong with it, and which other fields do not go with one.
    pub(super) fn rollout(
        &mut self,
        registration: &Registration,
        fields: &Fields,
        refused: &mut bool,
    ) -> Option<Rollout> {
        let call = &fields.rollout.as_ref()?.0;
        let rollout = match rollout::read(call) {
            Ok(rollout) => Some(rollout),
            Err(faults) => {
                for (at, Mismatch { message, hint }) in faults {
                    self.call_error(registration, call, at, message, hint);
                }
                *refused = true;
                None
            }
        };
        let gave = |name: &str| {
            registration
                .fields
                .iter()
                .any(|field| field.name == name && field.value != Value::None)
        };
        let is_always = fields.run_on_load == RunOnLoad::Always && gave("run_on_load");
        let with = |is_wrong: bool, name: &'static str, message: &str, hint: &str| {
            is_wrong.then(|| (name, message.to_owned(), hint.to_owned()))
        };
        let wrong = [
            with(
                is_always,
                "run_on_load",
                "run_on_load = True does not go with a rollout: a fleet whose daemons are restarted would run once more for what it has",
                "leave it out: IF_CHANGED is the default of a watch with a rollout",
            ),
            with(
                matches!(fields.run_mode, RunMode::Parallel | RunMode::Discard),
                "run_mode",
                "a watch with a rollout needs run_mode QUEUE or RESTART",
                "in PARALLEL a host would act more than once at a time, in DISCARD it would miss changes for good",
            ),
            with(
                fields.watch_type == WatchType::Tree,
                "watch_type",
                "WATCH_TREE does not go with a rollout: the states of a subtree have no order that all hosts see",
                "watch one znode that is set when the subtree is complete",
            ),
            with(
                !fields.splay.0.is_zero(),
                "splay",
                "splay does not go with a rollout, which says itself who comes when",
                "leave splay out",
            ),
            with(
                !fields.publish,
                "publish",
                "publish = False does not go with a rollout: what a host publishes is how its slot is given back",
                "leave publish out",
            ),
        ];
        for (name, message, hint) in wrong.into_iter().flatten() {
            let at = value_offset(registration, name);
            self.error(registration, at, message, Some(hint));
            *refused = true;
        }
        // What stays ends its turn once it is up, and may have none.
        if fields.timeout.is_none() && !fields.service && rollout.is_some() {
            let place = self.place(registration.within.as_deref());
            let at = value_offset(registration, "rollout");
            let message = "a run without a timeout can hold its slot of the rollout for ever";
            let note = place
                .error(at as usize, message)
                .with_hint(Some("give it timeout = 300 or the like".to_owned()));
            if !self.around.notes.contains(&note) {
                self.around.notes.push(note);
            }
        }
        rollout
    }
}
