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
    if let Some(why) = &watch.why {
        rows.push(("detail", sanitize::line(why), None));
    }
    rows.push(("next", next(watch), None));
    if let Some(pause) = &watch.paused {
        rows.push(("paused", paused(pause, look), None));
    }
    if let Some(unreadable) = &watch.unreadable {
        let said = format!(
            "{}, tried again {}",
            look.since(unreadable.since),
            look.at(unreadable.next_attempt)
        );
        rows.push(("unread", said, Some(Tone::Bad)));
    }
    if let Some(since) = watch.as_of {
        let said = format!(
            "{}: the source is not connected, and what changed since is not seen",
            look.ago(since)
        );
        rows.push(("as of", said, Some(Tone::Bad)));
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
    match watch.znodes.as_slice() {
        [] => rows.push(("znode", format!("{}{what}", sanitize::line(&watch.znode)), None)),
        znodes => rows.extend(znodes.iter().map(|one| {
            let seen = node(one.seen.as_ref(), watch.watch_type, "not read yet", look);
            ("znode", format!("{}{what}: {seen}", sanitize::line(&one.znode)), None)
        })),
    }
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

/// What the state means, and when it is over if that is known.
fn explanation(watch: &WatchSummary, look: &Theme) -> String {
    let info = watch.state.info();
    match (watch.state, watch.next_attempt) {
        (WatchState::Armed, _) => at_rest(watch),
        (WatchState::Queued, _) if watch.run_mode == RunMode::Restart => {
            "Its action runs for an older state, and is being terminated; then it runs for the newest.".to_owned()
        }
        (_, Some(at)) => format!("{} The next start is {}.", info.means, look.at(at)),
        (_, None) => info.means.to_owned(),
    }
}

/// Why a watch that waits for a change has nothing to do.
fn at_rest(watch: &WatchSummary) -> String {
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
    format!("Nothing to do: {reason}; it runs at the next change.")
}

/// What somebody does next who does not want to leave it at that.
fn next(watch: &WatchSummary) -> String {
    let state = watch.state.info().next_for(&quoted(&watch.name));
    let next = match &watch.unreadable {
        // Of what cannot be read, the cause says more than the state.
        Some(unreadable) => sanitize::line(&unreadable.remedy),
        None => state,
    };
    // Commands are not broken at the end of a line.
    let parts = next.split('`').enumerate();
    let parts = parts.map(|(at, part)| match at % 2 {
        0 => part.to_owned(),
        _ => together(&format!("`{part}`")),
    });
    parts.collect()
}

fn is_same(seen: &NodeState, handled: &NodeState) -> bool {
    (seen.exists, seen.version, seen.zxid, &seen.digest)
        == (handled.exists, handled.version, handled.zxid, &handled.digest)
}

fn handled(watch: &WatchSummary, look: &Theme) -> String {
    let same = match (&watch.seen, &watch.handled) {
        (Some(seen), Some(handled)) => watch.behind_since.is_none() && is_same(seen, handled),
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
    let zxid = match (state.zxid, &state.digest) {
        (Some(zxid), _) => format!(", zxid {zxid:#x}"),
        (None, Some(digest)) => format!(", digest {}", sanitize::line(digest)),
        (None, None) => String::new(),
    };
    format!("{what}{zxid}, {}", look.ago(state.at))
}
