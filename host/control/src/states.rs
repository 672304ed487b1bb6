//! The states of a watch, each with all that is said of it anywhere: one table, from which the commands, the page, the filters, the
//! metrics and the help take their words.
//!
//! It must not know how a watch gets into a state, nor how a state looks but for the kind of its colour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use StateTone::{Bad, Busy, Dull, Good, Held, Odd, Waits};
use WatchState::{
    Absent, Armed, BackingOff, Failed, Parked, Paused, Queued, RefusedEmpty, RefusedShrink, Retired, Running, Settling,
    Spaced, Splaying, Unread, Unreadable, Up, Waiting,
};

/// What a watch is doing, and so why its action runs or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchState {
    /// Its node has not been read yet.
    Unread,
    /// Its node, or a part of its subtree, cannot be read.
    Unreadable,
    /// It waits for a change; there is nothing to do.
    Armed,
    /// A run failed, and nothing is under way that could make up for it before the next change.
    Failed,
    /// It waits for a change, and its node does not exist.
    Absent,
    /// The node is empty, and `refuse_empty` says that this is not ready.
    RefusedEmpty,
    /// The node has lost more than `refuse_shrink` lets it since the last success.
    RefusedShrink,
    /// Its action runs for the newest state.
    Running,
    /// It is a service, whose program has stayed for `ready_after` with the newest state.
    Up,
    /// Its action runs, and an update waits for its end.
    Queued,
    /// An update waits for the node to be quiet for `settle`.
    Settling,
    /// An update waits for this host's share of `splay`.
    Splaying,
    /// An update waits for `min_interval` to pass since the last start.
    Spaced,
    /// An update waits for a place: as many actions run as may, of all watches or of its group.
    Waiting,
    /// A run failed and will be tried again.
    BackingOff,
    /// An operator holds it: updates wait until it is resumed.
    Paused,
    /// A run failed and `on_failure` is STOP: updates wait until it is resumed or defined anew.
    Parked,
    /// It was removed; its last run goes on.
    Retired,
}

/// What the colour of a state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateTone {
    /// Somebody must do something.
    Bad,
    /// It is not as it should be, and may become so by itself.
    Odd,
    /// Somebody wants it so.
    Held,
    /// Something goes on.
    Busy,
    /// Something will go on.
    Waits,
    /// As it should be.
    Good,
    /// Of no interest.
    Dull,
}

/// A state, with what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StateInfo {
    /// The state, by the name that it has in the interface, in the filter of `twitcher status` and in metrics.
    pub state: WatchState,
    /// What people call it.
    pub words: &'static str,
    /// What its colour says.
    pub tone: StateTone,
    /// The symbol by which the page shows it.
    pub symbol: &'static str,
    /// What it means, in a sentence.
    pub means: &'static str,
    /// What somebody who does not want to leave it at that does next, as commands in backquotes; WATCH stands for the watch's name.
    pub next: &'static str,
}

/// All states.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct States {
    /// Those that somebody should look at come first.
    pub states: &'static [StateInfo],
}

/// Every state; those that somebody should look at come first.
pub const STATES: [StateInfo; 18] = [
    StateInfo {
        state: Parked,
        words: "parked",
        tone: Bad,
        symbol: "stop",
        means: "A run failed, and on_failure is STOP: changes wait until it is resumed, or until its definition changes.",
        next: "Mend the cause (`twitcher logs --last WATCH`), then `twitcher resume WATCH`.",
    },
    StateInfo {
        state: Failed,
        words: "failed",
        tone: Bad,
        symbol: "cross",
        means: "The last run failed, and it is not tried again (on_failure): the action runs at the next change.",
        next: "Mend the cause (`twitcher logs --last WATCH`), then `twitcher run-now WATCH`.",
    },
    StateInfo {
        state: Unreadable,
        words: "unreadable",
        tone: Bad,
        symbol: "alert",
        means: "Its node, or a part of its subtree, cannot be read: changes there are not seen, and so not run for. It is tried \
                again by itself.",
        next: "Do what `twitcher status WATCH` says about the cause; it shows when that has helped.",
    },
    StateInfo {
        state: BackingOff,
        words: "backing off",
        tone: Odd,
        symbol: "again",
        means: "The last run failed; it is tried again after a while, or as soon as the node changes (on_failure).",
        next: "See why (`twitcher logs --last WATCH`); `twitcher run-now WATCH` does not wait.",
    },
    StateInfo {
        state: RefusedShrink,
        words: "refused shrink",
        tone: Odd,
        symbol: "empty",
        means: "The node has lost more since the last success than refuse_shrink lets it: the action does not run for what it is now.",
        next: "Look at what is left of it; `twitcher run-now WATCH` accepts it. Else set the node right.",
    },
    StateInfo {
        state: RefusedEmpty,
        words: "refused empty",
        tone: Odd,
        symbol: "empty",
        means: "The node is empty, and refuse_empty says that this is not ready: the action runs when it has contents.",
        next: "Set the node; `twitcher status WATCH` shows whether that was seen.",
    },
    StateInfo {
        state: Paused,
        words: "paused",
        tone: Held,
        symbol: "pause",
        means: "An operator holds it: changes wait until it is resumed.",
        next: "`twitcher resume WATCH` lets it go on.",
    },
    StateInfo {
        state: Waiting,
        words: "waiting",
        tone: Waits,
        symbol: "clock",
        means: "It runs when it is its turn: its rollout gives it one, or as many actions run as may at once, in all or in its group.",
        next: "If its rollout does not, `twitcher fleet status` says why; `twitcher history --outcome running` shows what runs.",
    },
    StateInfo {
        state: Queued,
        words: "queued",
        tone: Busy,
        symbol: "queued",
        means: "Its action runs for an older state; when that run has ended, it runs for the newest.",
        next: "`twitcher logs --last WATCH` shows what the run has written. If it hangs, give the watch a timeout.",
    },
    StateInfo {
        state: Running,
        words: "running",
        tone: Busy,
        symbol: "run",
        means: "Its action runs for the newest state.",
        next: "`twitcher logs --last WATCH` shows what it has written. If it hangs, give the watch a timeout.",
    },
    StateInfo {
        state: Settling,
        words: "settling",
        tone: Waits,
        symbol: "clock",
        means: "The node changed; the action runs once it has been quiet for settle. settle_max bounds the wait.",
        next: "`twitcher run-now WATCH` does not wait.",
    },
    StateInfo {
        state: Splaying,
        words: "splaying",
        tone: Waits,
        symbol: "clock",
        means: "The node changed; the action runs when this host's share of splay is over, so that not all hosts run it at once.",
        next: "`twitcher run-now WATCH` does not wait.",
    },
    StateInfo {
        state: Spaced,
        words: "spaced",
        tone: Waits,
        symbol: "clock",
        means: "The node changed soon after the last start; the action runs when min_interval is over.",
        next: "`twitcher status WATCH` shows when that is.",
    },
    StateInfo {
        state: Unread,
        words: "unread",
        tone: Waits,
        symbol: "dots",
        means: "Its node has not been read yet; it is as soon as the source is connected.",
        next: "`twitcher status` tells whether it is connected.",
    },
    StateInfo {
        state: Retired,
        words: "retired",
        tone: Dull,
        symbol: "leave",
        means: "It was removed from the configuration; its last run goes on.",
        next: "`twitcher logs --last WATCH` shows what that has written.",
    },
    StateInfo {
        state: Absent,
        words: "absent",
        tone: Dull,
        symbol: "dashed",
        means: "Nothing to do: its node does not exist. Its creation runs the action; its deletion does only with on_delete.",
        next: "If it should exist, look for it at the servers and below the chroot that `twitcher status` names.",
    },
    StateInfo {
        state: Up,
        words: "up",
        tone: Good,
        symbol: "run",
        means: "Its program stays (service), and has stayed for ready_after with the newest state. A change replaces or tells it.",
        next: "`twitcher logs --last WATCH` shows what it has written, `twitcher run-now WATCH` replaces or tells it all the same.",
    },
    StateInfo {
        state: Armed,
        words: "armed",
        tone: Good,
        symbol: "armed",
        means: "Nothing to do: the last change that was seen was handled, or ignored (DISCARD, run_on_load). It runs at the next.",
        next: "`twitcher history WATCH` shows its runs, `twitcher run-now WATCH` runs it all the same.",
    },
];

impl WatchState {
    /// What is said of it.
    pub fn info(self) -> &'static StateInfo {
        // A test has it that each is there.
        STATES.iter().find(|info| info.state == self).unwrap_or(&STATES[0])
    }

    /// The state of this name in the interface.
    pub fn named(name: &str) -> Option<Self> {
        STATES
            .iter()
            .find(|info| info.state.name() == name)
            .map(|info| info.state)
    }

    /// Its name in the interface, in filters and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Unread => "unread",
            Unreadable => "unreadable",
            Armed => "armed",
            Failed => "failed",
            Absent => "absent",
            RefusedEmpty => "refused_empty",
            RefusedShrink => "refused_shrink",
            Running => "running",
            Up => "up",
            Queued => "queued",
            Settling => "settling",
            Splaying => "splaying",
            Spaced => "spaced",
            Waiting => "waiting",
            BackingOff => "backing_off",
            Paused => "paused",
            Parked => "parked",
            Retired => "retired",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_trouble(self) -> bool {
        matches!(self.info().tone, Bad | Odd | Held)
    }

    /// Its place among all, from 0: those that somebody should look at come first.
    pub fn place(self) -> usize {
        STATES
            .iter()
            .position(|info| info.state == self)
            .unwrap_or(STATES.len())
    }
}

impl StateInfo {
    /// What to do next, for a watch of this name as a shell takes it.
    pub fn next_for(&self, watch: &str) -> String {
        self.next.replace("WATCH", watch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_in_the_table_once_under_its_name() {
        let schema = schemars::schema_for!(WatchState).to_value();
        let mut named: Vec<&str> = schema["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|state| state["const"].as_str().unwrap())
            .collect();
        let mut table: Vec<&str> = STATES.iter().map(|info| info.state.name()).collect();
        named.sort_unstable();
        table.sort_unstable();
        assert_eq!(table, named);
        for info in &STATES {
            let name = info.state.name();
            assert_eq!(serde_json::to_value(info.state).unwrap(), name);
            assert_eq!((WatchState::named(name), info.state.info()), (Some(info.state), info));
            assert_eq!(
                info.words,
                name.replace('_', " "),
                "people and programs call it the same"
            );
        }
        assert!(STATES.is_sorted_by_key(|info| !info.state.is_trouble()));
    }

    #[test]
    fn every_state_says_in_sentences_what_it_is_and_which_command_comes_next() {
        for info in &STATES {
            assert!(info.means.ends_with('.') && info.next.ends_with('.'), "{info:?}");
            assert!(info.next.contains("`twitcher "), "{info:?}");
            assert!(!info.next_for("'a b'").contains("WATCH"), "{info:?}");
        }
    }
}
