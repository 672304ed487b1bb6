//! What the daemon says of updates and runs in its log.

use tracing::{debug, info, warn};

use super::watches::ActiveWatch;
use twitcher_control::view::command;
use twitcher_launch::RunReport;
use twitcher_model::{RunId, Trigger, Watch};
use twitcher_scheduler::{Decision, Effect, Ignored, Start};

/// Whether an observation was more than the first look or a repetition.
pub fn is_change(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| match effect {
        Effect::Start(Start { event, .. }) | Effect::Record(Decision::Waits { event, .. }) => {
            !matches!(event, Trigger::Load | Trigger::Manual | Trigger::Retry)
        }
        Effect::Record(Decision::Ignored(why)) => !matches!(
            why,
            Ignored::Absent | Ignored::NotOnLoad | Ignored::Unchanged | Ignored::Retired | Ignored::Up
        ),
        _ => false,
    })
}

/// What was found when watches were looked at for the first time: one line of the log, where one a watch would be 100,000.
#[derive(Debug, Default)]
pub struct FirstLooks {
    run: usize,
    not_on_load: usize,
    unchanged: usize,
    absent: usize,
}

impl FirstLooks {
    /// Counts what came of looking at a watch.
    pub fn note(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Start(Start { event, .. }) | Effect::Record(Decision::Waits { event, .. })
                    if *event == Trigger::Load =>
                {
                    self.run += 1;
                }
                Effect::Record(Decision::Ignored(Ignored::NotOnLoad)) => self.not_on_load += 1,
                Effect::Record(Decision::Ignored(Ignored::Unchanged)) => self.unchanged += 1,
                Effect::Record(Decision::Ignored(Ignored::Absent)) => self.absent += 1,
                _ => {}
            }
        }
    }

    /// Says that all watches are armed, but for those of which something cannot be read, and begins anew. Gives the words.
    pub fn tell(&mut self, watches: usize, unreadable: usize) -> &'static str {
        const ALL: &str = "all watches are armed";
        const SOME: &str = "watches are armed, but of some the node, or a part of it, cannot be read";
        let Self {
            run,
            not_on_load,
            unchanged,
            absent,
        } = std::mem::take(self);
        if unreadable == 0 {
            info!(watches, run, not_on_load, unchanged, absent, "{ALL}");
            return ALL;
        }
        warn!(
            watches,
            unreadable, run, not_on_load, unchanged, absent, "{SOME}: see `twitcher status --state unreadable`"
        );
        SOME
    }
}

pub fn log_decision(entry: &ActiveWatch, decision: Decision) {
    let watch = &*entry.watch.name;
    match decision {
        // A load decides so for any number of watches, and says for how many.
        Decision::Ignored(Ignored::Absent | Ignored::NotOnLoad | Ignored::Unchanged) => debug!(watch, "{decision}"),
        _ => info!(watch, "{decision}"),
    }
}

/// That a watch was paused, by whom and why.
pub fn paused_words(entry: Option<&ActiveWatch>) -> String {
    let paused = entry.and_then(|entry| entry.paused.as_deref());
    let by = paused.and_then(|paused| paused.by.as_deref());
    let reason = paused.and_then(|paused| paused.reason.as_deref());
    let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("watch paused{by}{reason}")
}

/// In place of a start, where nothing is started.
pub fn log_would_run(watch: &Watch, start: &Start) {
    let (name, event) = (&*watch.name, start.event);
    let (action, user) = (command(watch), &*watch.process.identity.user);
    let bytes = start.observation.stdin.len();
    info!(watch = name, %event, action, user, bytes, "would run");
}

/// How a run ended. That one was terminated for a newer state is no failure if it would not have ended otherwise.
pub fn log_end(watch: &Watch, run: RunId, report: &RunReport, is_replaced: bool) {
    let (watch, outcome) = (&*watch.name, &report.outcome);
    let seconds = (report.elapsed.as_secs_f64() * 1e6).round() / 1e6;
    let max_rss_kib = report.max_rss_kib;
    match outcome.is_success() || is_replaced {
        true => info!(watch, run_id = %run, %outcome, seconds, max_rss_kib, "run ended"),
        false => warn!(watch, run_id = %run, %outcome, seconds, max_rss_kib, "run ended"),
    }
}
