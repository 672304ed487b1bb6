//! What came of telling the daemon to do something.

use std::fmt::Write;

use crate::commands::operate::states;
use crate::commands::operate::theme::{Theme, Tone, number};
use twitcher_control::api::{Reloaded, Started, Status, WatchState, WatchSummary};
use twitcher_model::sanitize;

use super::quoted;

/// A run on request.
pub(crate) fn started(started: &Started, look: &Theme) -> String {
    let name = sanitize::line(&started.watch.name);
    match &started.run {
        Some(run) => {
            let run = sanitize::line(run);
            format!("{name}: run {run} started; its output: `twitcher logs {run}`\n")
        }
        None => format!(
            "{name}: nothing started yet, it is {}\n",
            state_and_why(&started.watch, look)
        ),
    }
}

/// A watch that was paused or resumed.
pub(crate) fn held(watch: &WatchSummary, look: &Theme) -> String {
    let hint = match (watch.state, watch.running.is_empty()) {
        _ if states::is_stuck(watch) => format!(
            "; goes on at the next change, or with `twitcher run-now {}`",
            quoted(&watch.name)
        ),
        (WatchState::Paused, true) => format!("; `twitcher resume {}` lets it go on", quoted(&watch.name)),
        (WatchState::Paused, false) => "; what runs goes on to its end".to_owned(),
        _ => String::new(),
    };
    format!(
        "{}: {}{hint}\n",
        sanitize::line(&watch.name),
        state_and_why(watch, look)
    )
}

fn state_and_why(watch: &WatchSummary, look: &Theme) -> String {
    let mut text = look.paint(states::state(watch), states::tone_of(watch));
    if let Some(why) = &watch.why {
        let _ = write!(text, " ({})", sanitize::line(why));
    }
    if let Some(next) = watch.next_attempt {
        let _ = write!(text, ", runs {}", look.at(next));
    }
    text
}

/// A configuration that was loaded again. Errors are separate: they belong on stderr.
pub(crate) fn reloaded(reloaded: &Reloaded, look: &Theme) -> String {
    let Reloaded {
        watches,
        added,
        changed,
        removed,
        errors,
    } = reloaded;
    let text = format!(
        "{} in force: {added} added, {changed} changed, {removed} removed\n",
        number(*watches, "watch", "watches")
    );
    match errors.len() as u64 {
        0 => text,
        count => {
            let refused = number(count, "error: its file keeps", "errors: their files keep");
            format!(
                "{text}{}\n",
                look.paint(&format!("{refused} the watches from before"), Tone::Bad)
            )
        }
    }
}

/// What a daemon that drains still waits for, on one line.
pub(crate) fn draining(status: &Status, running: &[WatchSummary]) -> String {
    const NAMES: usize = 3;
    let names: Vec<String> = running
        .iter()
        .filter(|watch| !watch.running.is_empty())
        .map(|watch| sanitize::line(&watch.name))
        .collect();
    let mut text = format!("draining: {}", number(status.running, "run goes on", "runs go on"));
    if !names.is_empty() {
        let _ = write!(text, ": {}", names[..names.len().min(NAMES)].join(", "));
        if names.len() > NAMES {
            let _ = write!(text, " and {} more", names.len() - NAMES);
        }
    }
    text
}
