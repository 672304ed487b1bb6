//! From facts to what the interface says. Pure, and done by the server: the daemon's loop has other work.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::api::{
    Drain, LastRun, NodeState, Pause, Run, RunDetail, StateCount, Status, UnreadableNode, WatchState, WatchSummary,
    WatchedZnode,
};
use super::facts::{LastRunFacts, Overview, VerifyFacts, WatchFacts};
use super::readiness::unready;
use twitcher_model::{
    Action, Outcome, Overdue, RunEnd, RunFacts, RunId, Seen, Shrinkage, Unreadable, Watch, timestamp,
};
use twitcher_scheduler::{Full, MachineState, Standing, Wait};
use twitcher_state::RunRecord;

/// The daemon, with how many of its watches are in each state.
pub fn status(host: &str, overview: Overview, watches: Vec<StateCount>, launcher_restarts: u64) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host.to_owned(),
        pid: std::process::id().cast_signed(),
        started: timestamp(overview.started),
        phase: overview.phase,
        drain: overview.drain.map(|(deadline, terminating)| Drain {
            deadline: timestamp(deadline),
            terminating,
        }),
        unready: unready(&overview),
        source: overview.source,
        config: overview.config,
        state_problem: overview.state_problem,
        watches,
        running: overview.running as u64,
        waiting: overview.waiting as u64,
        max_running: overview.max_running as u64,
        warm: overview.warm,
        launcher_restarts,
        fleet: overview.fleet,
        withheld: false,
    }
}

/// What a watch is doing.
pub fn state(watched: &WatchFacts) -> WatchState {
    let standing = &watched.standing;
    match standing.state {
        // Whatever was seen before, it is not known any more whether it is so.
        MachineState::Idle if watched.unreadable.is_some() => WatchState::Unreadable,
        MachineState::Held if standing.loading && watched.unreadable.is_some() => WatchState::Unreadable,
        MachineState::Idle if standing.loading => WatchState::Unread,
        MachineState::Idle if standing.empty => WatchState::RefusedEmpty,
        MachineState::Idle if standing.shrunk.is_some() => WatchState::RefusedShrink,
        // Behind, and nothing is under way that could make up for it.
        MachineState::Idle if standing.behind.is_some() => WatchState::Failed,
        MachineState::Idle if watched.seen.is_some_and(|seen| !seen.exists()) => WatchState::Absent,
        MachineState::Idle => WatchState::Armed,
        MachineState::Running if standing.up => WatchState::Up,
        MachineState::Running => WatchState::Running,
        MachineState::Queued => WatchState::Queued,
        MachineState::Held if standing.loading => WatchState::Unread,
        MachineState::Held => match standing.wait {
            Some(Wait::Settle(_)) => WatchState::Settling,
            Some(Wait::Splay(_)) => WatchState::Splaying,
            Some(Wait::Rollout) => WatchState::Waiting,
            _ => WatchState::Spaced,
        },
        MachineState::Waiting => WatchState::Waiting,
        MachineState::BackingOff => WatchState::BackingOff,
        MachineState::Paused => WatchState::Paused,
        MachineState::Parked => WatchState::Parked,
        MachineState::Retired => WatchState::Retired,
    }
}

/// How many watches are in each state, in the order of the states.
pub fn count(watches: &[WatchFacts]) -> Vec<StateCount> {
    let mut counts = std::collections::BTreeMap::new();
    for watched in watches {
        *counts.entry(state(watched)).or_insert(0) += 1;
    }
    let count = |(state, count)| StateCount { state, count };
    counts.into_iter().map(count).collect()
}

/// A watch.
pub fn summary(watched: &WatchFacts) -> WatchSummary {
    let (watch, standing) = (&watched.watch, &watched.standing);
    WatchSummary {
        name: watch.name.to_string(),
        znode: watch.znode.to_string(),
        znodes: watched
            .znodes
            .iter()
            .map(|(znode, seen)| WatchedZnode {
                znode: znode.to_string(),
                seen: seen.map(node),
            })
            .collect(),
        watch_type: watch.watch_type,
        run_mode: watch.policy.run_mode,
        action: kind(&watch.action).to_owned(),
        origin: format!("{}:{}", watch.origin.file.display(), watch.origin.line),
        state: state(watched),
        why: why(watched),
        seen: watched.seen.map(node),
        handled: watched.handled.map(node),
        behind_since: standing.behind.map(|since| watched.clock.wall(since)),
        up_since: watched.up.map(timestamp),
        next_attempt: standing.next.map(|at| watched.clock.wall(at)),
        running: watched.running.iter().map(ToString::to_string).collect(),
        last_run: watched.last_run.as_ref().map(|last| LastRun {
            success: last.failure.is_none(),
            ended: timestamp(last.ended),
            run: Some(last.run.to_string()),
            words: last.failure.as_deref().map(str::to_owned),
        }),
        paused: watched.paused.as_deref().map(|paused| Pause {
            since: timestamp(paused.at),
            by: paused.by.clone(),
            reason: paused.reason.clone(),
        }),
        unreadable: watched.unreadable.as_deref().map(unreadable),
        as_of: watched.as_of.map(timestamp),
    }
}

fn unreadable(unreadable: &Unreadable) -> UnreadableNode {
    UnreadableNode {
        why: unreadable.why.clone(),
        remedy: unreadable.remedy.clone(),
        parts: unreadable.parts.map(|parts| parts as u64),
        since: timestamp(unreadable.since),
        next_attempt: timestamp(unreadable.next_attempt),
    }
}

fn node(seen: Seen) -> NodeState {
    NodeState {
        exists: seen.exists(),
        version: seen.version(),
        zxid: seen.zxid(),
        digest: seen.tree().map(|digest| format!("{digest:016x}")),
        at: timestamp(seen.at),
    }
}

fn kind(action: &Action) -> &'static str {
    match action {
        Action::Shell(_) => "shell",
        Action::Argv(_) => "exec",
        Action::Function(_) => "function",
        Action::Wasm(_) => "wasm",
        Action::Deploy(_) => "deploy",
    }
}

/// What runs, as it is written.
pub fn command(watch: &Watch) -> String {
    match &watch.action {
        Action::Shell(line) => line.to_string(),
        Action::Argv(words) => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
        Action::Function(_) => format!("function action of {}", watch.origin.file.display()),
        Action::Wasm(action) => action.component.to_string(),
        Action::Deploy(deployment) => format!("deploy {deployment}"),
    }
}

/// A word as a shell would need it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// More words on what a watch is doing, where there are more to say.
fn why(watched: &WatchFacts) -> Option<String> {
    let Standing {
        state,
        wait,
        loading,
        asked,
        behind,
        ..
    } = watched.standing;
    let waits = wait.map(words);
    let said = match state {
        MachineState::Parked => Some(
            watched
                .parked
                .clone()
                .unwrap_or_else(|| "a run failed and on_failure is STOP".to_owned()),
        ),
        MachineState::Paused => {
            let waits = wait
                .map(|_| "; an update waits until it is resumed")
                .unwrap_or_default();
            Some(format!("{}{waits}", paused(watched)))
        }
        MachineState::Idle | MachineState::Held if loading && watched.unreadable.is_none() => {
            Some("the node has not been read yet".to_owned())
        }
        MachineState::BackingOff => Some(format!("{}; it is tried again{}", failure(watched), left(watched))),
        MachineState::Idle | MachineState::Running if asked => {
            Some("the node is being read for a run on request".to_owned())
        }
        MachineState::Idle if watched.standing.empty => Some("the node is empty and refuse_empty is True".to_owned()),
        MachineState::Idle if let Some(shrunk) = watched.standing.shrunk => Some(refused_words(watched, &shrunk)),
        MachineState::Idle if behind.is_some() => Some(failure(watched)),
        MachineState::Running if let Some(since) = watched.up => Some(up_words(since, watched.clock.wall)),
        MachineState::Idle | MachineState::Running => None,
        MachineState::Held => waits.map(|waits| format!("{waits}{}", left(watched))),
        MachineState::Queued | MachineState::Waiting => waits.map(str::to_owned),
        MachineState::Retired => Some("it was removed from the configuration; its last run goes on".to_owned()),
    };
    let overdue = watched
        .overdue
        .as_ref()
        .map(|(run, overdue)| overdue_run(*run, overdue, watched.clock.wall));
    let unreadable = watched.unreadable.as_deref().map(|unreadable| match unreadable.parts {
        None if matches!(state, MachineState::Idle | MachineState::Held) => unreadable.why.clone(),
        None => format!("it cannot be read: {}", unreadable.why),
        Some(1) => format!("a part cannot be read, the rest is watched: {}", unreadable.why),
        Some(parts) => format!("{parts} parts cannot be read, the rest is watched: {}", unreadable.why),
    });
    let verifying = watched
        .verify
        .as_deref()
        .map(|verify| verify_words(verify, watched.clock.wall));
    let refused = watched.standing.shrunk.filter(|_| state != MachineState::Idle);
    let refused = refused.map(|shrunk| refused_words(watched, &shrunk));
    let all: Vec<String> = [overdue, unreadable, refused, verifying, said]
        .into_iter()
        .flatten()
        .collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What verify of its rollout does.
fn verify_words(verify: &VerifyFacts, now: SystemTime) -> String {
    let ends = verify.ending.map(|(run, kill_at)| {
        let left = match kill_at.duration_since(now) {
            Ok(left) => format!("SIGKILL follows in {}", spoken(left)),
            Err(_) => "it was sent SIGKILL".to_owned(),
        };
        format!(
            "a verify of its rollout that was ended still runs (run {run}), and what is next waits for its end; {left}"
        )
    });
    let looks = verify.since.map(|since| {
        let time = spoken(now.duration_since(since).unwrap_or_default());
        let run = verify.run.map(|run| format!(" (run {run})")).unwrap_or_default();
        let said = verify.said.as_deref().map(|said| format!(", which said last that it is not: {}", said.trim_start_matches("verify: "))).unwrap_or_default();
        format!("its action has succeeded, and verify of its rollout says whether the host is well, for {time} now{said}{run}")
    });
    [looks, ends].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// For how long a service has been running.
fn up_words(since: SystemTime, now: SystemTime) -> String {
    format!("up {}", spoken(now.duration_since(since).unwrap_or_default()))
}

/// What a node has lost, and since when.
fn refused_words(watched: &WatchFacts, shrunk: &Shrinkage) -> String {
    match watched.refused {
        Some(since) => {
            let since = Timestamp::from_second(timestamp(since).as_second()).unwrap_or_default();
            format!("{shrunk}, refused since {since}")
        }
        None => shrunk.to_string(),
    }
}

/// How the last run failed.
fn failure(watched: &WatchFacts) -> String {
    match &watched.last_run {
        Some(LastRunFacts {
            run,
            failure: Some(failure),
            ..
        }) => format!("{failure} (run {run})"),
        // Nothing that has run since the daemon started.
        _ => "a run failed".to_owned(),
    }
}

/// What is the matter with a run whose time is up.
fn overdue_run(run: RunId, overdue: &Overdue, now: SystemTime) -> String {
    format!("run {run} is {}", overdue_words(overdue, now))
}

/// The same without its id.
fn overdue_words(overdue: &Overdue, now: SystemTime) -> String {
    let past = format!("past its timeout of {} and is being ended", spoken(overdue.timeout));
    match overdue.kill_at.duration_since(now) {
        Ok(left) => format!("{past}; SIGKILL follows in {}", spoken(left)),
        Err(_) => format!("{past}; it was sent SIGKILL"),
    }
}

/// Who holds it, and why.
fn paused(watched: &WatchFacts) -> String {
    let (by, reason) = match watched.paused.as_deref() {
        Some(paused) => (paused.by.as_deref(), paused.reason.as_deref()),
        None => (None, None),
    };
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{} paused it{reason}", by.unwrap_or("an operator"))
}

fn words(wait: Wait) -> &'static str {
    match wait {
        Wait::Settle(_) => "an update waits for the node to be quiet for settle",
        Wait::Splay(_) => "an update waits for this host's share of splay",
        Wait::MinInterval(_) => "an update waits for min_interval to pass since the last start",
        Wait::Running => "an update waits for the running action to end",
        Wait::Terminating => "an update waits for the running action, which is being terminated",
        Wait::Rollout => "an update waits for its turn in the rollout: see `twitcher fleet status`",
        Wait::Place => "an update waits for one of the max_parallel running actions to end",
        Wait::Turn(Full::All) => "an update waits for a place: --max-running actions are running",
        Wait::Turn(Full::Group) => "an update waits for a place: its group runs as many actions as it may",
        Wait::Parked => "an update waits for the watch to be resumed",
        Wait::Paused => "an update waits for the watch to be resumed",
    }
}

/// How long it is until the next attempt.
fn left(watched: &WatchFacts) -> String {
    let left = watched.standing.next.and_then(|at| at.checked_sub(watched.clock.now));
    match left {
        Some(left) if !left.is_zero() => format!(", {} more", spoken(left)),
        _ => String::new(),
    }
}

/// A duration as people say it.
pub fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..=119 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// A run, going on or ended just now.
pub fn run(facts: &RunFacts) -> Run {
    let end = facts.end.as_ref();
    let outcome = end.and_then(|end| end.outcome.as_ref());
    Run {
        run: facts.run.to_string(),
        watch: facts.watch.to_string(),
        event: facts.event.map(|event| event.as_str().to_owned()),
        attempt: facts.attempt,
        outcome: end.map(|_| Outcome::code(outcome).to_owned()),
        words: end.map(|_| Outcome::words(outcome)),
        exit_code: match outcome {
            Some(Outcome::Exited(code)) => Some(*code),
            _ => None,
        },
        signal: match outcome {
            Some(Outcome::Signaled { signal, .. }) => Some(*signal),
            _ => None,
        },
        pid: facts.pid.filter(|_| end.is_none()),
        overdue: facts
            .overdue
            .filter(|_| end.is_none())
            .map(|overdue| overdue_words(&overdue, SystemTime::now())),
        started: timestamp(facts.started),
        ended: end.map(|end| timestamp(end.at)),
        duration: end.map(|end| seconds(end.elapsed)),
        max_rss_kib: end.map(|end| end.max_rss_kib),
        output_bytes: end.map(|end: &RunEnd| end.output_bytes),
        log_ended: end.is_some_and(|end| end.log_ended),
    }
}

/// A run of the history.
pub fn record(record: RunRecord) -> Run {
    Run {
        run: record.run.to_string(),
        watch: record.watch,
        event: record.event,
        attempt: record.attempt,
        outcome: Some(record.outcome),
        words: Some(record.words),
        exit_code: record.exit_code,
        signal: record.signal,
        pid: None,
        overdue: None,
        started: timestamp(record.started),
        ended: Some(timestamp(record.ended)),
        duration: Some(seconds(record.elapsed)),
        max_rss_kib: Some(record.max_rss_kib),
        output_bytes: Some(record.output_bytes),
        log_ended: record.log_ended,
    }
}

/// A run with the end of what it wrote, of which there was `total`.
pub fn detail(run: Run, tail: &[u8], total: u64) -> RunDetail {
    RunDetail {
        run,
        output: String::from_utf8_lossy(tail).into_owned(),
        truncated: total > tail.len() as u64,
        withheld: false,
    }
}

/// Seconds to the microsecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}
