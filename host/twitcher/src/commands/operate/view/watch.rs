//! One watch: why its action ran, or did not.

use crate::commands::operate::states;
use crate::commands::operate::table::{fields, together};
use crate::commands::operate::theme::{Theme, Tone};
use twitcher_control::api::{NodeState, Pause, WatchDetail, WatchState, WatchSummary};
use twitcher_model::sanitize;
use twitcher_model::{RunMode, WatchType};

use super::{quoted, runs};

/// A watch with its last runs.
pub(crate) fn watch(detail: &WatchDetail, look: &Theme) -> String {
    let watch = &detail.watch;
    let tone = states::tone_of(watch);
    let mut text = format!(
        "{}: {}{}\n",
        look.paint(&sanitize::line(&watch.name), Tone::Strong),
        look.paint(states::state(watch), tone),
        match watch.behind_since {
            Some(since) => format!(", behind {}", look.since(since)),
            None => String::new(),
        }
    );
    let mut rows = vec![("why", explanation(watch, look), None)];
    // Of the other states the explanation says it all.
    let more = matches!(
        watch.state,
        WatchState::Armed | WatchState::Absent | WatchState::Running | WatchState::Waiting | WatchState::Parked
    );
    if let Some(why) = watch.why.as_ref().filter(|_| more) {
        rows.push(("detail", sanitize::line(why), None));
    }
    if let Some(pause) = &watch.paused {
        rows.push(("paused", paused(pause, look), None));
    }
    rows.push((
        "seen",
        node(watch.seen.as_ref(), watch.watch_type, "not yet", look),
        None,
    ));
    rows.push(("handled", handled(watch, look), None));
    let what = match watch.watch_type {
        WatchType::Data => "",
        WatchType::Children => " (its children)",
        WatchType::Tree => " (all below it)",
    };
    rows.push(("znode", format!("{}{what}", sanitize::line(&watch.znode)), None));
    let action = sanitize::line(&watch.action);
    rows.push(("action", format!("{action}: {}", sanitize::line(&detail.command)), None));
    rows.push(("defined", sanitize::line(&watch.origin), None));
    let settings = detail.settings.iter().map(|setting| {
        let (key, value) = (sanitize::line(&setting.key), sanitize::line(&setting.value));
        format!("{key} = {value}")
    });
    let settings: Vec<String> = settings.collect();
    if !settings.is_empty() {
        rows.push(("settings", settings.join(", "), None));
    }
    text.push_str(&fields(&rows, look));
    text.push('\n');
    match detail.runs.is_empty() {
        true => text.push_str("no run is remembered\n"),
        false => text.push_str(&runs::table(&detail.runs, false, look)),
    }
    text
}

/// Who holds a watch, since when, and why.
fn paused(pause: &Pause, look: &Theme) -> String {
    let by = pause
        .by
        .as_deref()
        .map_or_else(|| "an operator".to_owned(), sanitize::line);
    let reason = pause.reason.as_deref().map(sanitize::line);
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("by {by}, {}{reason}", look.ago(pause.since))
}

/// What the state means, and what leads out of it.
fn explanation(watch: &WatchSummary, look: &Theme) -> String {
    let name = quoted(&watch.name);
    let resume = together(&format!("`twitcher resume {name}`"));
    let when = watch.next_attempt.map_or_else(|| "soon".to_owned(), |at| look.at(at));
    match watch.state {
        WatchState::Unread => {
            "its node has not been read yet; `twitcher status` tells whether the source is connected".to_owned()
        }
        WatchState::Armed => at_rest(watch, &name),
        WatchState::Absent if watch.behind_since.is_some() => at_rest(watch, &name),
        WatchState::Absent => "its node does not exist; the action runs when it is created".to_owned(),
        WatchState::RefusedEmpty => {
            "its node is empty, which refuse_empty says is not ready; the action runs when it has contents".to_owned()
        }
        WatchState::Running => "its action runs for the newest state".to_owned(),
        WatchState::Queued if watch.run_mode == RunMode::Restart => {
            "its action ran when the node changed, and is being terminated; then it runs for the newest state"
                .to_owned()
        }
        WatchState::Queued => {
            "its action ran when the node changed; when that run has ended, it runs again, for the newest state"
                .to_owned()
        }
        WatchState::Settling => {
            format!("the node changed; the action runs {when}, unless there is another change before (settle)")
        }
        WatchState::Splaying => {
            format!("the node changed; the action runs {when}, so that not all hosts run it at once (splay)")
        }
        WatchState::Spaced => {
            format!("the node changed soon after the last start; the action runs {when} (min_interval)")
        }
        WatchState::Waiting => {
            "as many actions run as may at once, in all (--max-running) or in its group; it runs when it is its turn"
                .to_owned()
        }
        WatchState::BackingOff => {
            format!("its last run failed, and is tried again {when}, or as soon as the node changes (on_failure)")
        }
        WatchState::Paused => format!("an operator holds it: changes wait until {resume}"),
        WatchState::Parked => format!(
            "a run failed, and on_failure says to stop then: changes wait until {resume}, or until its definition \
             changes"
        ),
        WatchState::Retired => "it was removed from the configuration; its last run goes on".to_owned(),
    }
}

/// Why a watch that waits for a change has nothing to do.
fn at_rest(watch: &WatchSummary, name: &str) -> String {
    if watch.behind_since.is_some() {
        return format!(
            "its last run failed, and is not retried (on_failure): the action runs at the next change, or with \
             {}",
            together(&format!("`twitcher run-now {name}`"))
        );
    }
    let reason = match (&watch.seen, &watch.handled) {
        (Some(seen), Some(handled)) if is_same(seen, handled) => {
            "the action has succeeded for the state that the node is in"
        }
        (Some(_), None) => "the state that the node was found in is not run for (run_on_load)",
        (Some(_), Some(_)) if watch.run_mode == RunMode::Discard => {
            "the node changed while the action ran, which DISCARD ignores"
        }
        _ => "the node's last change is none that is run for",
    };
    format!("nothing to do: {reason}; it runs at the next change")
}

fn is_same(seen: &NodeState, handled: &NodeState) -> bool {
    (seen.exists, seen.version, seen.zxid) == (handled.exists, handled.version, handled.zxid)
}

fn handled(watch: &WatchSummary, look: &Theme) -> String {
    let same = match (&watch.seen, &watch.handled) {
        (Some(seen), Some(handled)) => is_same(seen, handled),
        _ => false,
    };
    let text = node(watch.handled.as_ref(), watch.watch_type, "no state yet", look);
    if same { format!("{text}: the same") } else { text }
}

fn node(state: Option<&NodeState>, watch_type: WatchType, none: &str, look: &Theme) -> String {
    let Some(state) = state else {
        return none.to_owned();
    };
    let what = match (state.exists, state.version) {
        (false, _) => "no node".to_owned(),
        (true, None) => "the node".to_owned(),
        (true, Some(version)) if watch_type == WatchType::Children => format!("version {version} of its children"),
        (true, Some(version)) => format!("version {version}"),
    };
    let zxid = state.zxid.map(|zxid| format!(", zxid {zxid:#x}")).unwrap_or_default();
    format!("{what}{zxid}, {}", look.ago(state.at))
}
