//! How much the states of watches and the outcomes of runs matter, in the colours of a terminal.
//!
//! What states are called and mean is in the one table of the interface ([`twitcher_control::states`]).

use std::borrow::Cow;

use super::theme::Tone;
use twitcher_control::api::{Run, StateTone, WatchSummary};

/// What a watch does, for people.
pub(super) fn state(watch: &WatchSummary) -> &'static str {
    watch.state.info().words
}

/// Whether somebody should look at it.
pub(super) fn is_trouble(watch: &WatchSummary) -> bool {
    watch.state.is_trouble() || watch.unreadable.is_some()
}

/// What the colour of a watch's state says.
pub(super) fn tone_of(watch: &WatchSummary) -> Tone {
    match watch.state.info().tone {
        StateTone::Bad => Tone::Bad,
        StateTone::Odd | StateTone::Held => Tone::Odd,
        StateTone::Busy | StateTone::Waits => Tone::Busy,
        StateTone::Good => Tone::Good,
        StateTone::Dull => Tone::Dull,
    }
}

/// Puts those in trouble first, then those that do something; among like ones those that lag most.
pub(super) fn sort(watches: &mut [WatchSummary]) {
    let place = |watch: &WatchSummary| (watch.state.place(), watch.behind_since.is_none(), watch.behind_since);
    watches.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.name.cmp(&b.name)));
}

/// What the colour of a run says.
pub(super) fn run_tone(run: &Run) -> Tone {
    match run.outcome.as_deref() {
        None if run.overdue.is_some() => Tone::Bad,
        None => Tone::Busy,
        Some("success") => Tone::Good,
        Some("terminated" | "unknown") => Tone::Odd,
        Some(_) => Tone::Bad,
    }
}

/// How a run ended, or that it has not.
pub(super) fn run_end(run: &Run) -> Cow<'_, str> {
    match (&run.outcome, &run.words, &run.overdue) {
        (None, _, Some(overdue)) => format!("running, {overdue}").into(),
        (None, _, None) => "running".into(),
        (Some(_), Some(words), _) => words.into(),
        (Some(outcome), None, _) => outcome.into(),
    }
}
