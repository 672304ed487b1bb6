//! What is wrong with a watch whose program stays, that has its data in a file, or that looks at several znodes.

use std::collections::HashSet;
use std::path::Path;

use super::{Builder, is_given, value_offset};
use crate::fields::Fields;
use crate::fields::calls::ActionSpec;
use crate::value::Registration;
use twitcher_model::{RunMode, WatchType};

impl Builder<'_, '_> {
    pub(super) fn check_znodes(&mut self, registration: &Registration, fields: &Fields, refused: &mut bool) {
        let Some(znodes) = fields.znode.as_ref().filter(|znodes| !znodes.more.is_empty()) else {
            return;
        };
        let mut wrong = |name: &str, message: String, hint: &str| {
            let at = value_offset(registration, name);
            self.error(registration, at, message, Some(hint.to_owned()));
            *refused = true;
        };
        let all: Vec<_> = std::iter::once(&znodes.first).chain(&znodes.more).collect();
        let mut seen = HashSet::new();
        if let Some(twice) = all.iter().find(|path| !seen.insert(**path)) {
            wrong("znode", format!("znode has {twice} twice"), "leave one of them out");
        }
        let within = all
            .iter()
            .flat_map(|one| all.iter().map(move |other| (one, other)))
            .find(|(one, other)| one != other && one.is_within(other));
        if let Some((one, other)) = within.filter(|_| fields.watch_type == WatchType::Tree) {
            let message = format!("znode has {one} and {other}, which is all of that already");
            wrong("znode", message, "leave one of them out");
        }
        let in_fleet = [
            ("rollout", fields.rollout.is_some()),
            ("publish", fields.publish && is_given(registration, "publish")),
        ];
        for (name, given) in in_fleet {
            if given {
                let message = format!("{name} is for watches of one znode: a fleet compares the state of one");
                wrong(name, message, "leave it out, or make it a watch for each znode");
            }
        }
    }

    pub(super) fn check_service(&mut self, registration: &Registration, fields: &Fields, refused: &mut bool) {
        let mut wrong = |name: &str, message: String, hint: &str| {
            let at = value_offset(registration, name);
            self.error(registration, at, message, Some(hint.to_owned()));
            *refused = true;
        };
        let is_told = fields.run_mode == RunMode::Restart || fields.notify_signal.is_some();
        if fields.service && !is_told {
            let message = format!("a service is never told of a change in {}", fields.run_mode);
            let hint = "give it run_mode = RESTART, which replaces it, or in QUEUE a notify_signal such as SIGHUP";
            wrong("service", message, hint);
        }
        if fields.service && fields.notify_signal.is_some() && matches!(fields.action, Some(ActionSpec::Component(_))) {
            let message = "a component gets no signals: notify_signal would end it".to_owned();
            wrong("notify_signal", message, "give it run_mode = RESTART");
        }
        if fields.service && fields.timeout.is_some() {
            let message = "timeout is for what ends by itself, and service = True says that this does not".to_owned();
            wrong("timeout", message, "leave one of them out");
        }
        if !fields.service && is_given(registration, "ready_after") {
            let message = "ready_after is for services".to_owned();
            wrong("ready_after", message, "add service = True, or leave it out");
        }
        let Some(file) = &fields.data_file else { return };
        if fields.run_mode == RunMode::Parallel {
            let message = "data_file is one file, and in PARALLEL several runs would have it at once".to_owned();
            wrong("data_file", message, "let the action read its stdin");
        }
        let is_private = match &fields.action {
            Some(ActionSpec::Shell(_, hardening) | ActionSpec::Argv(_, hardening)) => hardening.private_tmp,
            _ => false,
        };
        let in_tmp = |dir: &&&str| file.0.starts_with(Path::new(dir));
        if is_private && let Some(dir) = ["/tmp", "/var/tmp"].iter().find(in_tmp) {
            let message = format!("data_file is below {dir}, of which private_tmp gives the command an empty one");
            wrong("data_file", message, "put it below /run");
        }
    }
}
