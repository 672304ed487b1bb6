//! What came of telling the daemon to do something.

use std::fmt::Write;

use crate::commands::operate::states;
use crate::commands::operate::theme::{Theme, Tone, number};
use twitcher_control::api::{Drain, Reloaded, Run, Started, Status, WatchState, WatchSummary};
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
        (WatchState::Failed, _) => format!(
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

/// What a daemon that drains still waits for and how long, on one line.
pub(crate) fn draining(status: &Status, running: &[Run], look: &Theme) -> String {
    let mut text = match status.drain {
        Some(Drain { terminating: true, .. }) => {
            format!(
                "terminating {}",
                number(status.running, "run that goes on", "runs that go on")
            )
        }
        _ => format!("draining: {}", number(status.running, "run goes on", "runs go on")),
    };
    if !running.is_empty() {
        let _ = write!(text, ": {}", names(running));
    }
    if let Some(drain) = status.drain.filter(|drain| !drain.terminating && status.running > 0) {
        let _ = write!(text, "; what still runs {} is terminated", look.at(drain.deadline));
    }
    text
}

/// That a daemon has ended, and what it terminated for that.
pub(crate) fn drained(terminated: &[Run]) -> String {
    match terminated.is_empty() {
        true => "the daemon has ended\n".to_owned(),
        false => format!(
            "the daemon has ended; its drain timeout passed, and it terminated {}\n",
            names(terminated)
        ),
    }
}

/// Runs by their watches and ids.
fn names(runs: &[Run]) -> String {
    const NAMES: usize = 3;
    let name = |run: &Run| format!("{} ({})", sanitize::line(&run.watch), sanitize::line(&run.run));
    let mut text = runs.iter().take(NAMES).map(name).collect::<Vec<_>>().join(", ");
    if runs.len() > NAMES {
        let _ = write!(text, " and {} more", runs.len() - NAMES);
    }
    text
}
