//! What the states of watches and the outcomes of runs are called, and how much they matter.
//!
//! It must not know how they look.

use super::look::Tone;
use crate::control::api::{Run, WatchState, WatchSummary};

/// The outcomes of runs, as the interface names them; the last is that of runs that have none yet.
pub const OUTCOMES: [&str; 9] = [
    "success",
    "exited",
    "signaled",
    "timed_out",
    "terminated",
    "failed",
    "launch_failed",
    "unknown",
    "running",
];

/// Every state, with its name in the interface and for people; those that somebody should look at come first.
pub const STATES: [(WatchState, &str, &str); 14] = [
    (WatchState::Parked, "parked", "parked"),
    (WatchState::BackingOff, "backing_off", "backing off"),
    (WatchState::Paused, "paused", "paused"),
    (WatchState::RefusedEmpty, "refused_empty", "refused empty"),
    (WatchState::Waiting, "waiting", "waiting"),
    (WatchState::Queued, "queued", "queued"),
    (WatchState::Running, "running", "running"),
    (WatchState::Settling, "settling", "settling"),
    (WatchState::Splaying, "splaying", "splaying"),
    (WatchState::Spaced, "spaced", "spaced"),
    (WatchState::Unread, "unread", "unread"),
    (WatchState::Retired, "retired", "retired"),
    (WatchState::Absent, "absent", "absent"),
    (WatchState::Armed, "armed", "armed"),
];

/// The place of a state among all.
fn place(state: WatchState) -> usize {
    STATES
        .iter()
        .position(|(known, ..)| *known == state)
        .unwrap_or(STATES.len())
}

/// What a watch does, for people.
pub(super) fn state(watch: &WatchSummary) -> &'static str {
    match is_stuck(watch) {
        true => FAILED,
        false => STATES.get(place(watch.state)).map_or("unknown", |(.., words)| words),
    }
}

/// What is said of a watch that is stuck: that it is armed would be no more than half of it.
pub(super) const FAILED: &str = "failed";

/// What the colour of a state says.
pub(super) fn tone(state: WatchState) -> Tone {
    match state {
        WatchState::Parked => Tone::Bad,
        WatchState::BackingOff | WatchState::Paused | WatchState::RefusedEmpty => Tone::Odd,
        WatchState::Waiting
        | WatchState::Queued
        | WatchState::Running
        | WatchState::Settling
        | WatchState::Splaying
        | WatchState::Spaced
        | WatchState::Unread => Tone::Busy,
        WatchState::Retired | WatchState::Absent => Tone::Dull,
        WatchState::Armed => Tone::Good,
    }
}

/// Whether nothing is under way that could make up for the state that no action has succeeded for.
pub(super) fn is_stuck(watch: &WatchSummary) -> bool {
    watch.behind_since.is_some() && matches!(watch.state, WatchState::Armed | WatchState::Absent)
}

/// Whether somebody should look at it.
pub(super) fn is_trouble(watch: &WatchSummary) -> bool {
    is_stuck(watch) || matches!(tone(watch.state), Tone::Bad | Tone::Odd)
}

/// The tone of a watch, which knows more than its state does.
pub(super) fn tone_of(watch: &WatchSummary) -> Tone {
    if is_stuck(watch) { Tone::Bad } else { tone(watch.state) }
}

/// Puts those in trouble first, then those that do something; among like ones those that lag most.
pub(super) fn sort(watches: &mut [WatchSummary]) {
    watches.sort_by_cached_key(|watch| {
        let place = if is_stuck(watch) { 1 } else { place(watch.state) };
        (
            place,
            watch.behind_since.is_none(),
            watch.behind_since,
            watch.name.clone(),
        )
    });
}

/// What the colour of a run says.
pub(super) fn run_tone(run: &Run) -> Tone {
    match run.outcome.as_deref() {
        None => Tone::Busy,
        Some("success") => Tone::Good,
        Some("terminated" | "unknown") => Tone::Odd,
        Some(_) => Tone::Bad,
    }
}

/// How a run ended, or that it has not.
pub(super) fn run_end(run: &Run) -> &str {
    match (&run.outcome, &run.words) {
        (None, _) => "running",
        (Some(_), Some(words)) => words,
        (Some(outcome), None) => outcome,
    }
}
