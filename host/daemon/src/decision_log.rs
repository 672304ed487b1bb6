//! What the daemon says of updates and runs in its log.

use tracing::{debug, info, warn};

use super::watches::ActiveWatch;
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
            Ignored::Absent | Ignored::NotOnLoad | Ignored::Unchanged | Ignored::Retired
        ),
        _ => false,
    })
}

pub fn log_decision(entry: &ActiveWatch, decision: Decision) {
    let watch = &*entry.watch.name;
    match decision {
        // The source has said already that the watch is armed and the node absent.
        Decision::Ignored(Ignored::Absent) => debug!(watch, "{decision}"),
        _ => info!(watch, "{decision}"),
    }
}

pub fn log_end(watch: &Watch, run: RunId, report: &RunReport) {
    let (watch, outcome) = (&*watch.name, &report.outcome);
    let seconds = (report.elapsed.as_secs_f64() * 1e6).round() / 1e6;
    let max_rss_kib = report.max_rss_kib;
    match outcome.is_success() {
        true => info!(watch, run_id = %run, %outcome, seconds, max_rss_kib, "run ended"),
        false => warn!(watch, run_id = %run, %outcome, seconds, max_rss_kib, "run ended"),
    }
}
