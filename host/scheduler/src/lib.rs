//! The run-mode machine: pure decisions about when an action runs. One [`Machine`] per watch.
//!
//! It must not know how observations come about, what an action is, or what time it is: no clock, no I/O, no async, and no
//! module of this crate but [`twitcher_model`]. The daemon tells it what happened and when ([`Input`]), and does what it
//! answers ([`Effect`]), in the order given.
//!
//! # What is run for
//!
//! An observation is an *update* when its version differs from the last one seen. Each update either starts a run, waits,
//! or is ignored for a reason that is recorded. The finer points:
//!
//! - **Load.** The first observation is the load: a node that exists is run for with event `load` if `run_on_load`, else
//!   remembered as seen; an absent node only arms the watch. After [`Input::Reload`] the next observation is a load again.
//!   If the watch still looks at the same node, what was seen before counts: a change that falls into the gap between the old
//!   subscription and the new one is an ordinary update even without `run_on_load`. Nothing starts between the reload and
//!   its load, because what waits is about to be replaced or confirmed.
//!   With IF_CHANGED a load is run for unless the last run that *succeeded*, of this daemon or a former one, was for that very
//!   state ([`twitcher_model::Position`]): a failure is no success, whatever `on_failure` says. With `on_delete`, a node that is absent
//!   at load is `deleted` if the last success was for a state in which it existed.
//! - **Found runs.** A run that the last daemon left behind ([`Machine::adopt`]) counts as one that runs: the load waits for it in
//!   QUEUE and DISCARD, PARALLEL counts it, and RESTART terminates it unless it is for the state that is loaded. Nobody learns how it
//!   ended, so it is no success, and the load that waited runs.
//! - **Event.** What happened to the node since the last state that was *handled* (run for, or ignored for good), not since
//!   the last one seen: a node created empty, refused, and filled later is `created` for its action; so is one deleted and
//!   created again between two reads, which shows as another czxid; a `load` that is replaced while it waits stays a `load`.
//! - **Deletion without `on_delete`.** The latest state is "no node" and nothing is to be run for it, so an update that still
//!   waits is dropped: an action started with contents that no longer exist would act on what the operator has withdrawn.
//!   In PARALLEL only an update that settles is dropped, because all others are promised a run of their own.
//! - **`refuse_empty`.** An empty node (in WATCH_CHILDREN: one without children) is *not ready*, unlike a deleted one, so it
//!   counts as a glitch: it is seen but replaces nothing, and an update that waits still runs. WATCH_TREE has no "empty".
//! - **`refuse_shrink`.** A state that lost more than that share of what there was at the last success is seen and replaces nothing, as an
//!   empty one. A run on request accepts it, and its success is what later states are compared with. A deletion is none: `on_delete`
//!   says what becomes of it; but a node that came again is compared with what there was before.
//! - **Several znodes** are one node here, whose state is that of all ([`twitcher_model::SeveralZnodes`]): as with a subtree, an update
//!   carries the paths that changed. It exists as long as one of them does, and is empty if one that exists is.
//! - **Changed paths.** In WATCH_TREE an update carries the paths that changed since the previous one, so an update that
//!   replaces another takes over its paths, as the run after a terminated one does in RESTART. Lost on purpose: the paths of
//!   updates that DISCARD ignores, of a node that went away, and of a run that failed and is not retried.
//!
//! # When it runs
//!
//! An update passes three gates before its run mode is asked: `settle`, then `delay` (this host's share of `splay`), then
//! `min_interval` since the last start. A newer update replaces one that waits, in every mode but PARALLEL, where only one
//! that still settles is replaced. Loads are delayed too (a fleet restarts as one as easily as it changes as one) but not
//! settled. `gate.rs` says how replaced updates and gates combine without starving.
//!
//! RESTART terminates the running action when the new update is through its gates, not before: with a splay the fleet would
//! otherwise stop as one and only start one by one. DISCARD ignores what is seen during a run, but a load is no mere update:
//! it waits for the former action to end. PARALLEL lets at most `max_parallel` updates wait beside the running ones; beyond
//! that the oldest waiting is superseded, so that memory stays bounded.
//!
//! # Admission
//!
//! An update that is through its gates and has a place of its own watch still needs one of the daemon and of its group
//! ([`admission`]). While it waits for that it is a waiting update like any other: a newer one replaces it, a deletion drops it,
//! and what finally starts is the newest. A watch that has nothing to start any more leaves the queue. RESTART gives its place up
//! with the run that it terminates and asks for another. Runs that the last daemon left behind are not counted.
//!
//! # Rollouts
//!
//! Where a watch has a rollout ([`Policy::by_turns`]), an update that is through its gates waits until it is told that the turn of just that
//! state has come ([`Input::Turn`]). Loads wait too: a fleet that is restarted must not start as one, nor pass a halt. Retries do not: they
//! belong to the turn that the run had. A turn that cannot be used at once, because no place is free, is lost, and another is asked for.
//!
//! # Programs that stay
//!
//! With [`Policy::service`] the action is a program that does not end by itself (`machine/service.rs`). Its run has handled its state once
//! it has started ([`Input::Started`]) and stayed for that long: [`Effect::Up`]. From then on it has no place of those that are admitted to:
//! a service that runs for ever would take it from the others for ever.
//!
//! - **Newer updates** replace it in RESTART, and in QUEUE are told to it by a signal ([`Effect::Notify`]), in both once they are through
//!   their gates; in QUEUE also once it is up, for a program that has just started may not have a handler yet. Having been told, it must
//!   stay for as long again. A telling that fails (the data file cannot be written) is retried as a run that failed, and the program goes
//!   on meanwhile.
//! - **Its end** is a failure, whatever its exit code, unless it was terminated; once it was up, attempts count anew, and the watch is behind
//!   since its end.
//! - **Load.** IF_CHANGED does not leave it out, because the program of the last daemon is gone; where it is not, and runs for the very
//!   state, it is taken over as one that is up. One that was started before a reload, or for another state, is terminated for the load.
//! - **Removal and drain** terminate it.
//!
//! # Failure
//!
//! A run fails when it does not do its work; [`Ending`] tells the kinds apart. Runs that were terminated for a newer update do not
//! count, nor do those that were started before the last reload or whose watch was removed. A component that gives up for newer
//! state has not failed; but if nothing newer waits its state would be left to nobody, so where there are retries it counts as
//! a failure.
//!
//! With [`Policy::retry`], the failed update waits again and runs with event `retry`, the contents that it had, and the next attempt
//! number. The times it can do so, when, and for which failures, is arithmetic (`retrying.rs`). The finer points:
//!
//! - **Newer updates** supersede a retry: one that waits when the run fails makes it pointless, one that comes during the back-off
//!   replaces it, whatever the mode; and its attempts count from 1. So in DISCARD an update that comes during the back-off runs,
//!   because nothing else does. Those that DISCARD ignored during the run stay ignored, and the retry is for the older state.
//! - **PARALLEL** promises each update its own run, so each is retried by itself, and a newer one changes nothing. Retries wait in the
//!   same bounded list; when it is full they are dropped before any update that has had no run.
//! - **Deletion**, in every mode and with `on_delete` too: nothing is retried of what the node was before.
//! - **`refuse_empty`.** An empty node supersedes nothing, and so leaves the retry alone.
//! - **Gates.** The back-off stands in for `settle` and `splay`, and its jitter for the latter's spread; `min_interval` holds. A newer
//!   update has gates of its own and inherits none.
//! - **Changed paths** of a failed run that a newer update supersedes go to that update, as those of a terminated one do.
//! - **Reload.** A run that goes on fails without consequences. A pending retry stays, with its time and its attempts, unless the load
//!   replaces it, the new policy has no retries, or the watch looks at another node.
//! - **Removal and drain** drop it. **[`Input::Resume`]** does not hurry it.
//!
//! A failure that is not retried, or not any more, leads to [`Policy::on_failure`]. STOP parks the watch: the newest update waits
//! until [`Input::Resume`] or a reload, and so do retries of other updates (PARALLEL). Where nothing newer waits, the failed update does:
//! it runs then with event `retry`, its attempts counted anew, and what is said above of retries holds for it. A watch that was
//! parked when the last daemon ended has what its load finds to run for, also without `run_on_load`, unless it was handled. A failure
//! that is superseded leads to nothing.
//!
//! # Operators
//!
//! - **[`Input::Pause`]** starts nothing until [`Input::Resume`], which ends parking as well: updates wait and replace each other as
//!   always, what runs goes on, and RESTART terminates nothing. A reload leaves the watch paused, for it says nothing about why an
//!   operator holds it; removal ends it. [`Input::Unpark`] ends parking alone.
//! - **[`Input::RunNow`]** makes the next observation an update with event `manual`, whatever its version: the daemon has the node read
//!   afresh. It passes `settle` and `splay` by, not `min_interval`; then its run mode is asked as for any other, so DISCARD ignores it
//!   while the action runs. An absent node is only run for with `on_delete`, an empty one not with `refuse_empty`; one that
//!   shrank is run for, and so accepted. A load that is due anyway, and is run for, is that run. [`Input::ForgoRun`] takes it back, as long as nothing was observed.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod admission;
mod decision;
mod ending;
mod gate;
mod machine;
pub mod paths;
mod retrying;
mod run_ids;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use twitcher_model::{Fingerprint, Observation, Policy, RunId, Trigger, Version};

pub use admission::{Admission, Full};
pub use decision::{Decision, Dropped, Ignored, Wait};
pub use ending::{Cause, Ending};
pub use machine::{Machine, Standing};
pub use retrying::NotRetried;
pub use run_ids::RunIds;

/// What a machine is told: something happened, or somebody wants something.
#[derive(Debug, Clone)]
pub enum Input {
    /// The source read the node.
    Observed(Observation),
    /// A run ended and everything of it is gone, or it could not be launched.
    Exited {
        /// Which run, by the id in its [`Start`].
        run: RunId,
        /// How it ended.
        ending: Ending,
    },
    /// The process of a run exists. Only of programs that stay anything depends on it.
    Started {
        /// Which run.
        run: RunId,
    },
    /// What [`Effect::Notify`] asks for was done for a program that stays, or could not be.
    Told {
        /// Which run.
        run: RunId,
        /// Why it could not.
        failed: Option<Cause>,
    },
    /// [`Admission::admit`] gave the watch a place.
    Admitted,
    /// The turn of this state has come in the watch's rollout: see [`Machine::wants_turn`]. It starts at once, or not at all.
    Turn {
        /// The state.
        version: Version,
    },
    /// The time of the last [`Effect::ArmTimer`] has come.
    Timer,
    /// The watch was changed, or came back after [`Input::Retire`]. The daemon has it observed afresh; that observation is its
    /// load. Running runs stay owned. Ends parking.
    Reload {
        /// How the watch is run from now on.
        policy: Arc<Policy>,
        /// Whether znode and watch type are what they were. If not, all that was seen is forgotten.
        same_node: bool,
    },
    /// The watch was removed, or the daemon drains: nothing starts any more, what runs goes on, unless it would stay for ever.
    Retire,
    /// An operator holds the watch: nothing starts until [`Input::Resume`].
    Pause,
    /// An operator ends that, and parking.
    Resume,
    /// Ends parking.
    Unpark,
    /// An operator wants a run for what the node is now: the next observation. Where there is a rollout it waits for its turn, unless
    /// it is to pass it by.
    RunNow {
        /// Whether it does.
        ungoverned: bool,
    },
    /// The operator does not want it any more.
    ForgoRun,
}

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start the action. Answered by [`Input::Exited`], sooner or later.
    Start(Start),
    /// Tell a run of a newer state: by a signal to its main process, and before that by its data file, if it has one. Of a program that
    /// stays, answered by [`Input::Told`], unless it ends before.
    Notify {
        /// The run, and the newer state as if it were started for it.
        start: Start,
        /// Signal number.
        signal: i32,
    },
    /// The program that stays has handled its state.
    Up {
        /// Which run.
        run: RunId,
        /// The state, of a run that was taken over from the last daemon.
        state: Option<Observation>,
    },
    /// Terminate a run: SIGTERM, `kill_after`, SIGKILL. Said once a run; answered by [`Input::Exited`].
    Terminate {
        /// Which run.
        run: RunId,
    },
    /// Step with [`Input::Timer`] at this time or later. A machine has one timer: this replaces the former.
    ArmTimer {
        /// When, on the clock of [`Machine::step`].
        at: Duration,
    },
    /// The timer is no longer needed.
    DisarmTimer,
    /// The run failed and its policy is STOP: the watch is parked now.
    Park {
        /// The run that failed.
        run: RunId,
    },
    /// What became of an update, for the log.
    Record(Decision),
}

/// What is known of the state that a run of the last daemon is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundFor {
    /// Its transactions: all that the run has written down.
    Version(Version),
    /// All of it: it is up for that state, of a program that stays.
    State(Fingerprint),
}

/// A run to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The new run's id.
    pub run: RunId,
    /// Why it runs.
    pub event: Trigger,
    /// Which run for this state it is, from 1.
    pub attempt: u32,
    /// The state it runs for.
    pub observation: Observation,
}

/// What a watch is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MachineState {
    /// Waiting for a change.
    Idle,
    /// Running, nothing waits.
    Running,
    /// Running, and an update waits.
    Queued,
    /// Not running; an update waits for `settle`, `splay`, `min_interval` or the load after a reload.
    Held,
    /// Not running; an update waits for a place: the daemon or the watch's group runs as many actions as it may.
    Waiting,
    /// Not running; a failed update waits to be retried.
    BackingOff,
    /// A run failed under STOP; waiting for a reload or an operator. Other runs may go on.
    Parked,
    /// Held by an operator. What runs goes on.
    Paused,
    /// Removed; what runs goes on.
    Retired,
}
