//! The daemon as a whole, and its watches.

use std::fmt::Write;

use crate::commands::operate::states;
use crate::commands::operate::table::{Table, cut, fields, number as figures, together, whole};
use crate::commands::operate::theme::{Theme, Tone, number};
use twitcher_control::api::{FleetMembership, Phase, STATES, Status, WarmStatus, WatchState, WatchSummary};
use twitcher_model::sanitize;

use super::{MEDIUM, WIDE, is_at_least};

/// Most errors of the configuration that are listed.
const ERRORS_SHOWN: usize = 3;
/// Most watches in trouble that are listed unless all are wanted, and of the others.
const TROUBLED_SHOWN: usize = 100;
const OTHERS_SHOWN: usize = 20;

/// Which watches are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown<'a> {
    /// Those in trouble, and a few.
    Some,
    /// All watches.
    All,
    /// All in these states.
    In(&'a [WatchState]),
}

/// The daemon with its watches.
pub(crate) fn status(status: &Status, watches: Vec<WatchSummary>, shown: Shown<'_>, look: &Theme) -> String {
    let mut text = head(status, &watches, look);
    let (listed, left) = listed(watches, shown);
    if !listed.is_empty() {
        text.push('\n');
        text.push_str(&table(&listed, look));
    } else if matches!(shown, Shown::In(_)) {
        text.push_str("\nno watch is in such a state\n");
    }
    if left > 0 {
        let others = number(left as u64, "more watch", "more watches");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{others}: see all with --all, or some with --state STATE");
    }
    text
}

/// The watches of a znode.
pub(crate) fn of_znode(mut watches: Vec<WatchSummary>, look: &Theme) -> String {
    states::sort(&mut watches);
    table(&watches, look)
}

fn head(status: &Status, watches: &[WatchSummary], look: &Theme) -> String {
    let version = look.paint(&format!("twitcher {}", sanitize::line(&status.version)), Tone::Strong);
    // The reason of a source that is not connected is below.
    let unready = match &status.unready {
        Some(_) if !status.source.connected => Some("not connected".to_owned()),
        unready => unready.as_deref().map(sanitize::line),
    };
    let (phase, tone) = match (status.phase, unready) {
        (Phase::Draining, _) => (
            "draining: it starts nothing more, and ends with what runs".to_owned(),
            Tone::Odd,
        ),
        (Phase::Starting, Some(why)) => (format!("starting: {why}"), Tone::Odd),
        (Phase::Ready, Some(why)) => (format!("not ready: {why}"), Tone::Bad),
        (Phase::Starting | Phase::Ready, None) => ("ready".to_owned(), Tone::Good),
    };
    let mut text = format!(
        "{version}, pid {}, started {}: {}\n",
        status.pid,
        look.ago(status.started),
        look.paint(&phase, tone),
    );
    let mut rows = vec![source(status, look), config(status, look)];
    let refused = &status.config.errors;
    for error in refused.iter().take(ERRORS_SHOWN) {
        let first = error.lines().next().unwrap_or_default();
        rows.push(("refused", sanitize::line(first), Some(Tone::Bad)));
    }
    if refused.len() > ERRORS_SHOWN {
        let more = refused.len() - ERRORS_SHOWN;
        rows.push((
            "",
            format!("and {more} more: see all with `twitcher check`"),
            Some(Tone::Bad),
        ));
    }
    let mut actions = format!("{} running of at most {}", status.running, status.max_running);
    if status.waiting > 0 {
        let _ = write!(actions, ", {} waiting for a place", status.waiting);
    }
    rows.push(("actions", actions, None));
    if status.warm.most == 0 {
        let said = "no process waits for the next run of a component: --warm-memory is 0";
        rows.push(("warm", said.to_owned(), None));
    } else if status.warm
        != (WarmStatus {
            most: status.warm.most,
            ..WarmStatus::default()
        })
    {
        rows.push(("warm", warm(&status.warm), None));
    }
    if let Some(problem) = &status.state_problem {
        let said = format!(
            "{}; a restart would run again what was handled since",
            sanitize::line(problem)
        );
        rows.push(("state", said, Some(Tone::Bad)));
    }
    if status.launcher_restarts > 0 {
        let times = number(status.launcher_restarts, "time", "times");
        let said = format!("the process that starts actions ended unexpectedly, {times}; the log says why");
        rows.push(("launcher", said, Some(Tone::Odd)));
    }
    if let Some(membership) = &status.fleet {
        rows.push(fleet(membership, look));
    }
    let unreadable = watches.iter().filter(|watch| watch.unreadable.is_some()).count() as u64;
    if unreadable > 0 {
        let said = format!(
            "something of {} cannot be read; {} says what",
            number(unreadable, "watch", "watches"),
            together("`twitcher status WATCH`")
        );
        rows.push(("unread", said, Some(Tone::Bad)));
    }
    rows.push(("watches", counts(status), None));
    if let Some(since) = status.source.since.filter(|_| !status.source.connected) {
        let said = format!(
            "{}, when the connection was lost: what changed since is not seen",
            look.ago(since)
        );
        rows.push(("as of", said, Some(Tone::Bad)));
    }
    text.push_str(&fields(&rows, look));
    text
}

/// The processes that wait, and whether they were there when they were needed.
fn warm(warm: &WarmStatus) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "{} for the next run of a component, with {:.1} MiB of at most {:.0}",
        match warm.waiting {
            0 => "none waits".to_owned(),
            1 => "1 process waits".to_owned(),
            many => format!("{many} processes wait"),
        },
        mib(warm.held),
        mib(warm.most)
    );
    let runs = warm.ready + warm.unready;
    if runs > 0 {
        let _ = write!(
            text,
            "; one was ready for {} of {}",
            warm.ready,
            number(runs, "run", "runs")
        );
    }
    if warm.ended > 0 {
        let _ = write!(text, "; {} ended while waiting, the log says why", warm.ended);
    }
    text
}

fn source(status: &Status, look: &Theme) -> (&'static str, String, Option<Tone>) {
    let source = &status.source;
    let mut said = format!("{} {}, ", sanitize::line(&source.kind), sanitize::line(&source.target));
    said.push_str(if source.connected { "connected" } else { "not connected" });
    if let Some(since) = source.since {
        said.push(' ');
        said.push_str(&look.since(since));
    }
    if let Some(problem) = &source.problem {
        said.push_str(": ");
        said.push_str(&sanitize::line(problem));
    }
    ("source", said, (!source.connected).then_some(Tone::Bad))
}

/// Whether the fleet knows what this host has handled.
fn fleet(fleet: &FleetMembership, look: &Theme) -> (&'static str, String, Option<Tone>) {
    let mut said = format!("{} as {}", sanitize::line(&fleet.root), sanitize::line(&fleet.host));
    match (fleet.since, &fleet.problem) {
        (Some(since), _) => {
            let _ = write!(said, ", joined {}", look.ago(since));
        }
        (None, None) => said.push_str(", joining"),
        (None, Some(problem)) => {
            let _ = write!(said, ", not joined: {}", sanitize::line(problem));
        }
    }
    if fleet.unpublished > 0 {
        let _ = write!(
            said,
            "; {} not published yet",
            number(fleet.unpublished, "result", "results")
        );
    }
    let mut is_bad = fleet.problem.is_some();
    for part in &fleet.rollouts {
        if let Some(problem) = &part.problem {
            let _ = write!(
                said,
                "; rollout {}: {}",
                sanitize::line(&part.name),
                sanitize::line(problem)
            );
            is_bad = true;
        }
    }
    ("fleet", said, is_bad.then_some(Tone::Bad))
}

fn config(status: &Status, look: &Theme) -> (&'static str, String, Option<Tone>) {
    let config = &status.config;
    let paths: Vec<String> = config.paths.iter().map(|path| sanitize::line(path)).collect();
    let loaded = match config.loaded {
        Some(at) => format!("loaded {}", look.ago(at)),
        None => "not loaded yet".to_owned(),
    };
    let mut said = format!("{}, {loaded}", paths.join(", "));
    if !config.notes.is_empty() {
        let notes = number(config.notes.len() as u64, "note", "notes");
        let _ = write!(said, ", with {notes} (`twitcher check`)");
    }
    ("config", said, None)
}

/// How many watches there are, and in which states.
fn counts(status: &Status) -> String {
    let total: u64 = status.watches.iter().map(|count| count.count).sum();
    let parts: Vec<String> = STATES
        .iter()
        .filter_map(|info| {
            let count = status.watches.iter().find(|count| count.state == info.state)?;
            (count.count > 0).then(|| together(&format!("{} {}", count.count, info.words)))
        })
        .collect();
    match parts.is_empty() {
        true => total.to_string(),
        false => format!("{total}: {}", parts.join(", ")),
    }
}

/// The watches to list, in order, and how many are left out.
fn listed(mut watches: Vec<WatchSummary>, shown: Shown<'_>) -> (Vec<WatchSummary>, usize) {
    if let Shown::In(states) = shown {
        watches.retain(|watch| states.contains(&watch.state));
    }
    states::sort(&mut watches);
    if shown != Shown::Some {
        return (watches, 0);
    }
    let all = watches.len();
    let (mut troubled, mut others): (Vec<_>, Vec<_>) = watches.into_iter().partition(states::is_trouble);
    troubled.truncate(TROUBLED_SHOWN);
    others.truncate(OTHERS_SHOWN);
    troubled.append(&mut others);
    let left = all - troubled.len();
    (troubled, left)
}

fn table(watches: &[WatchSummary], look: &Theme) -> String {
    let mut table = Table::new(&[
        cut("WATCH", 16),
        whole("STATE"),
        figures("BEHIND"),
        whole("LAST RUN"),
        cut("ZNODE", 16),
        cut("WHY", 16),
    ]);
    for watch in watches {
        let tone = states::tone_of(watch);
        let behind = watch
            .behind_since
            .map(|since| look.for_so_long(since))
            .unwrap_or_default();
        let (last, last_tone) = match &watch.last_run {
            Some(run) if run.success => (format!("ok {}", look.ago(run.ended)), None),
            Some(run) => (format!("failed {}", look.ago(run.ended)), Some(Tone::Bad)),
            None => ("-".to_owned(), Some(Tone::Dull)),
        };
        let behind_tone = states::is_trouble(watch).then_some(tone);
        let znode = match is_at_least(look, WIDE) {
            true => match watch.znodes.len() {
                0 => sanitize::line(&watch.znode),
                all => format!("{} and {} more", sanitize::line(&watch.znode), all - 1),
            },
            false => String::new(),
        };
        let why = match is_at_least(look, MEDIUM) {
            true => why(watch, look),
            false => String::new(),
        };
        table.row([
            (sanitize::line(&watch.name), None),
            (states::state(watch).to_owned(), Some(tone)),
            (behind, behind_tone),
            (last, last_tone),
            (znode, None),
            (why, None),
        ]);
    }
    table.render(look)
}

/// Why it is not at rest, in a few words.
fn why(watch: &WatchSummary, look: &Theme) -> String {
    let why = watch.why.as_deref().map(sanitize::line).unwrap_or_default();
    let failure = watch.last_run.as_ref().and_then(|run| run.words.as_deref());
    match (watch.next_attempt, watch.state) {
        _ if watch.unreadable.is_some() => why,
        // When is what matters, and the state says the rest.
        (Some(at), WatchState::BackingOff) => match failure {
            Some(failure) => format!("{}; tried again {}", sanitize::line(failure), look.at(at)),
            None => format!("tried again {}", look.at(at)),
        },
        (Some(at), _) => format!("runs {}", look.at(at)),
        (None, _) => why,
    }
}
