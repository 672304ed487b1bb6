//! What the states of watches and the outcomes of runs are called, and how much they matter.
//!
//! It must not know how they look.

use super::theme::Tone;
use twitcher_control::api::{Run, STATES, WatchState, WatchSummary};

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
