//! `run --once`: when every watch's action has run for what its znode is now, and what that came to.
//!
//! Everything else is as ever: the same rules, the same state, which is why `run_on_load=IF_CHANGED` does what it says here, too.

use tracing::{info, warn};

use super::{Daemon, Source};
use twitcher_scheduler::{Standing, Wait};

impl Daemon {
    /// Every watch has been read: what changes from now on is left to who comes next.
    pub(super) fn look_no_more(&mut self) {
        self.looked = true;
        let znodes = self.source.znodes.clone();
        self.source = Source::ended();
        // Components that still run may use znodes to their end.
        self.source.znodes = znodes;
    }

    /// Whether nothing runs any more, nor will by itself.
    pub(super) fn is_through(&self) -> bool {
        let waits =
            |standing: Standing| !matches!(standing.wait, None | Some(Wait::Parked | Wait::Paused | Wait::Rollout));
        self.looked
            && self.runs.iter().all(|(run, running)| {
                // What stays is through once it is up; the end of the daemon is its end.
                let entry = self.registry.get(running.id);
                entry.is_some_and(|entry| entry.machine.up() == Some(*run))
            })
            && self.broker.is_idle()
            && self.probes.is_idle()
            && self.registry.ids().all(|id| {
                let entry = self.registry.get(id);
                entry.is_none_or(|entry| !waits(entry.machine.standing(self.now())))
            })
    }

    /// Says what it came to. Whether every watch was read and no state is left that an action is to run for.
    pub(super) fn tell_of_once(&self) -> bool {
        let (mut unread, mut unhandled) = (0, 0);
        for id in self.registry.ids() {
            let Some(entry) = self.registry.get(id) else { continue };
            let (watch, znode) = (&*entry.watch.name, entry.watch.znode.as_str());
            let standing = entry.machine.standing(self.now());
            if let Some(unreadable) = self.registry.unreadable(id) {
                unread += 1;
                let why = &unreadable.why;
                match unreadable.parts {
                    None => warn!(
                        watch,
                        znode, why, "the znode could not be read, so its action has not run"
                    ),
                    Some(parts) => warn!(watch, znode, parts, why, "not all of the subtree could be read"),
                }
                continue;
            }
            if standing.loading {
                unread += 1;
                warn!(watch, znode, "the znode was not read, so its action has not run");
                continue;
            }
            if let Some(shrunk) = standing.shrunk {
                unhandled += 1;
                warn!(watch, znode, "its action has not run: {shrunk}");
                continue;
            }
            let failed = entry.facts.last_run.as_ref().is_some_and(|last| last.failure.is_some());
            if failed || standing.behind.is_some() {
                unhandled += 1;
                match standing.wait {
                    Some(Wait::Paused) => warn!(watch, znode, "its action has not run: the watch is paused"),
                    Some(Wait::Rollout) => {
                        warn!(
                            watch,
                            znode, "its action has not run: it waits for its turn in the rollout, and --once does not"
                        );
                    }
                    Some(Wait::Parked) => warn!(
                        watch,
                        znode,
                        "the watch is parked, since its action has failed (on_failure = STOP): it runs again once it is defined anew"
                    ),
                    _ => warn!(watch, znode, "its action has not succeeded"),
                }
            }
        }
        let refused = self.last_load.errors.len();
        let through = self.is_through();
        let watches = self.registry.len();
        match through {
            true => info!(
                watches,
                unhandled,
                unread,
                errors = refused,
                "every watch has been looked at once"
            ),
            false => warn!(watches, unhandled, unread, "stopped before every watch was handled"),
        }
        through && unread == 0 && unhandled == 0 && refused == 0
    }
}
