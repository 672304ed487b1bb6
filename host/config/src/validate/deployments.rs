//! A watch that deploys bundles: which ones, and what does not go with that.

use nix::unistd::{getgid, getuid};

use super::{Builder, is_given, value_offset};
use crate::accounts::Who;
use crate::fields::Fields;
use crate::fields::calls::ActionSpec;
use crate::fields::deployment;
use crate::fields::mismatch::Mismatch;
use crate::value::Registration;
use twitcher_model::{Deployment, Payload, RunMode, WatchType};

impl Builder<'_, '_> {
    /// What is deployed, if that is the action. Says of each argument what is wrong with it, and which other fields do not go with it.
    pub(super) fn deployment(
        &mut self,
        registration: &Registration,
        fields: &Fields,
        refused: &mut bool,
    ) -> Option<Deployment> {
        let Some(ActionSpec::Deploy(call)) = &fields.action else {
            return None;
        };
        self.check_beside_deployment(registration, fields, refused);
        let znode = fields.znode.as_ref().map(|znodes| &znodes.first);
        match deployment::read(call, znode) {
            Ok(deployment) => Some(deployment),
            Err(faults) => {
                for (at, Mismatch { message, hint }) in faults {
                    self.call_error(registration, call, at, message, hint);
                }
                *refused = true;
                None
            }
        }
    }

    fn check_beside_deployment(&mut self, registration: &Registration, fields: &Fields, refused: &mut bool) {
        let data = "it is the znode's data, on stdin, that says which version is deployed";
        let who = Who {
            uid: fields.uid.clone(),
            gid: fields.gid.clone(),
        };
        // Who cannot be found is told where all accounts are looked up.
        let identity = self.around.accounts.resolve(&who).ok();
        let (uid, gid) = identity.map_or((None, None), |identity| (identity.uid, identity.gid));
        let is_other_user = uid.is_some_and(|uid| uid != getuid().as_raw());
        let is_other_group = gid.is_some_and(|gid| gid != getgid().as_raw()) && is_given(registration, "gid");
        let daemons = "leave it out: bundles are installed as the daemon's own user, whoever runs what is in them";
        let wrong = [
            (is_other_user, "uid", "uid is not for Deploy(…)", daemons),
            (is_other_group, "gid", "gid is not for Deploy(…)", daemons),
            (
                fields.znode.as_ref().is_some_and(|znodes| !znodes.more.is_empty()),
                "znode",
                "Deploy(…) is for a watch of one znode",
                data,
            ),
            (
                fields.watch_type != WatchType::Data,
                "watch_type",
                "Deploy(…) needs watch_type WATCH_DATA",
                data,
            ),
            (
                !fields.pipe_stdin,
                "pipe_stdin",
                "pipe_stdin = False is not for Deploy(…)",
                data,
            ),
            (
                fields.payload == Payload::Json,
                "payload",
                "payload = JSON is not for Deploy(…)",
                data,
            ),
            (
                fields.data_file.is_some(),
                "data_file",
                "data_file is not for Deploy(…)",
                data,
            ),
            (
                is_given(registration, "cwd"),
                "cwd",
                "cwd is not for Deploy(…), which looks for nothing there",
                "leave it out",
            ),
            (
                fields.on_delete,
                "on_delete",
                "on_delete = True is not for Deploy(…): a znode that is gone names no version",
                "leave it out: what is installed stays",
            ),
            (
                fields.service,
                "service",
                "service = True is not for Deploy(…), which ends by itself",
                "leave it out",
            ),
            (
                fields.notify_signal.is_some(),
                "notify_signal",
                "notify_signal is not for Deploy(…): it would end it",
                "leave it out, or give it run_mode = RESTART",
            ),
            (
                fields.run_mode == RunMode::Parallel,
                "run_mode",
                "PARALLEL is not for Deploy(…): of two versions at once the older could become current last",
                "leave it out, or give it run_mode = RESTART",
            ),
        ];
        for (is_wrong, name, message, hint) in wrong {
            if is_wrong {
                let at = value_offset(registration, name);
                self.error(registration, at, message.to_owned(), Some(hint.to_owned()));
                *refused = true;
            }
        }
    }
}
