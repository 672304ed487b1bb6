//! What keeps watches from being served as they should be: nodes that cannot be read, runs whose time is up.
//!
//! It must not know why a node cannot be read, nor how a run is ended.

use std::sync::Arc;
use std::time::Duration;

use super::Daemon;
use super::operators::Answer;
use twitcher_model::{EventKind, RunId, Unreadable, WatchId};

impl Daemon {
    /// A node, or a part of a subtree, cannot be read, or all of it can again. The source has told the log.
    pub(super) fn on_unreadable(&mut self, id: WatchId, unreadable: Option<Arc<Unreadable>>) {
        let why = unreadable.as_ref().map(|unreadable| unreadable.why.clone());
        let is_whole = unreadable.as_ref().is_some_and(|unreadable| unreadable.parts.is_none());
        let before = self.registry.set_unreadable(id, unreadable);
        self.report(id);
        if is_whole {
            // A run on request starts once the node can be read: whoever waits for it is told what it waits for.
            self.answer_runs(id, &Answer::Waits);
        }
        if before.map(|before| before.why.clone()) == why {
            return;
        }
        self.happened(EventKind::Unreadable, id, None, || match why {
            Some(why) => format!("cannot be read: {why}"),
            None => "can be read again".to_owned(),
        });
        self.say_status();
    }

    /// The time of a run is up: it is being ended. The log has been told.
    pub(super) fn on_overdue(&mut self, run: RunId, timeout: Duration, kill_after: Duration) {
        // Of a command that a component has run, what the log says is enough.
        let Some(running) = self.runs.get_mut(&run) else { return };
        running.set_overdue(timeout, kill_after);
        let (id, facts) = (running.id, running.facts(run));
        self.happened(EventKind::Decided, id, Some(facts), || {
            format!(
                "run is past its timeout of {} s, and is being ended",
                timeout.as_secs_f64()
            )
        });
    }
}
