//! The judge: says what is wrong, from the journals, the znodes as they are in the end, and what /proc and the servers tell. Pure, and it
//! knows nothing of how the daemon works: only what is promised.

use std::collections::{BTreeMap, HashSet};

use super::journal::{Line, Start, flat, starts};
use super::payload;
use super::watches::{Kind, Mode, Node, Watch};

/// A znode as it is in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    Absent,
    Data {
        mzxid: i64,
        data: String,
    },
    /// Sorted.
    Children(Vec<String>),
    /// All there are.
    Tree(Vec<Below>),
    /// Of a watch of several: each znode, by its path.
    Several(Vec<(String, Final)>),
}

/// A znode of a subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    pub path: String,
    /// When its data was set last, in milliseconds since 1970.
    pub since: u64,
    pub mzxid: i64,
    pub data: String,
}

impl Final {
    /// Whether there is nothing.
    pub fn is_absent(&self) -> bool {
        match self {
            Final::Absent => true,
            Final::Several(all) => all.iter().all(|(_, state)| state.is_absent()),
            Final::Data { .. } | Final::Children(_) | Final::Tree(_) => false,
        }
    }
}

/// (a) Whether an action was started for the state that lasts, in every mode that promises it: all but DISCARD, and that too if it was
/// `idle` when it changed.
pub fn acted(watch: &Watch, state: &Final, lines: &[Line], idle: bool) -> Result<(), String> {
    let last = starts(lines).next_back();
    let lacking = |wanted: String| {
        let last = last.map_or("nothing".to_owned(), |last| format!("{last:?}"));
        Err(format!("{}: wanted {wanted}, ran last for {last}", watch.name))
    };
    let for_it = |is: &dyn Fn(&Start) -> bool| match watch.mode {
        // They start in order, but need not get to their first line in order.
        Mode::Parallel => starts(lines).rev().take(64).any(is),
        _ => last.is_some_and(is),
    };
    match state {
        _ if watch.mode == Mode::Discard && !idle => Ok(()),
        _ if state.is_absent() => Ok(()),
        _ if watch.payload => {
            let shown = last.map_or(Err("nothing".to_owned()), |last| {
                payload::shows(watch, state, &last.stdin)
            });
            shown.or_else(lacking)
        }
        Final::Absent | Final::Several(_) => Ok(()),
        Final::Data { mzxid, data } => match for_it(&|start| start.mzxid == *mzxid && start.stdin == flat(data)) {
            true => Ok(()),
            false => lacking(format!("{data:?} of transaction {mzxid}")),
        },
        Final::Children(names) => {
            let wanted = names.join(" ");
            match for_it(&|start| start.stdin == wanted) {
                true => Ok(()),
                false => lacking(format!("children {wanted:?}")),
            }
        }
        Final::Tree(nodes) => {
            let told = |path: &str, since: u64| {
                starts(lines)
                    .filter(|start| start.at >= since)
                    .any(|start| start.stdin.split(' ').any(|told| told == path))
            };
            // What DISCARD ignored before stays untold.
            let newest = nodes.iter().map(|node| node.since).max();
            let promised = |since: u64| watch.mode != Mode::Discard || Some(since) == newest;
            let mut promised = nodes.iter().filter(|node| promised(node.since));
            match promised.find(|node| !told(&node.path, node.since)) {
                None => Ok(()),
                Some(Below { path, since, .. }) => lacking(format!("to be told of {path} since {since}")),
            }
        }
    }
}

/// Whether the last action is of the watch, or the component, as it is now.
pub fn of_revision(watch: &Watch, revision: &str, state: &Final, lines: &[Line]) -> Result<(), String> {
    match starts(lines).next_back() {
        Some(last) if last.revision != revision && !state.is_absent() => Err(format!(
            "{}: ran last as revision {}, is at {revision}",
            watch.name, last.revision
        )),
        _ => Ok(()),
    }
}

/// (b) Overlaps: told by the actions themselves, and seen in the order of their lines.
pub fn overlaps(watch: &Watch, lines: &[Line]) -> Vec<String> {
    let mut found = Vec::new();
    let mut last = "";
    let mut outlived = HashSet::new();
    for line in lines {
        match line {
            Line::Start(start) => last = &start.run,
            Line::Crowd { run, others, at } => {
                found.push(format!("{}: run {run} at {at} overlaps with {others}", watch.name));
            }
            Line::End { run, at } if watch.mode != Mode::Parallel && *run != last => {
                found.push(format!(
                    "{}: run {last} began before run {run} ended at {at}",
                    watch.name
                ));
            }
            Line::Still { run, at } if watch.mode != Mode::Parallel && *run != last => {
                // It says so again and again.
                if outlived.insert(run) {
                    found.push(format!(
                        "{}: run {last} began although something of run {run} was there at {at}",
                        watch.name
                    ));
                }
            }
            Line::End { .. } | Line::Still { .. } | Line::Failed { .. } | Line::Told { .. } => {}
            Line::Garbage(text) => found.push(format!("{}: a line that is none: {text:?}", watch.name)),
        }
    }
    found
}

/// Runs twice for the same: the same run twice, or two runs for one change.
pub fn doubled(watch: &Watch, lines: &[Line]) -> Vec<String> {
    let (mut runs, mut changes) = (HashSet::new(), HashSet::new());
    let mut found = Vec::new();
    for start in starts(lines) {
        if !runs.insert(&start.run) {
            found.push(format!("{}: run {} was started twice", watch.name, start.run));
        }
        // A load is for the same state again. Servers that were wiped count from the beginning, with other data.
        let is_comparable = watch.node == Node::Data && !watch.payload;
        let change = is_comparable && matches!(&*start.event, "data" | "created") && start.attempt == 1;
        if change && !changes.insert((start.mzxid, &start.stdin)) {
            found.push(format!(
                "{}: two runs for transaction {}: {start:?}",
                watch.name, start.mzxid
            ));
        }
    }
    found
}

/// Runs for an older state after one for a newer, by the same daemon. `anew`: from when to when servers began to count from the beginning.
pub fn stale(watch: &Watch, lines: &[Line], anew: &[(u64, u64)]) -> Vec<String> {
    if watch.node != Node::Data || watch.payload || watch.mode == Mode::Parallel {
        return Vec::new();
    }
    let starts: Vec<&Start> = starts(lines).collect();
    // The watch may have been out of the configuration for as long as that took.
    let began_anew = |pair: &[&Start]| anew.iter().any(|(from, to)| *from <= pair[1].at && pair[0].at <= *to);
    let older =
        |pair: &&[&Start]| pair[0].parent == pair[1].parent && pair[0].mzxid > pair[1].mzxid && !began_anew(pair);
    let say = |pair: &[&Start]| format!("{}: {:?} after {:?}", watch.name, pair[1], pair[0]);
    starts.windows(2).filter(older).map(say).collect()
}

/// (f) Whether no more ran than was written and loaded.
pub fn counts(watch: &Watch, lines: &[Line], writes: u64, loads: u64) -> Result<(), String> {
    let retried = starts(lines).filter(|start| start.event == "retry").count() as u64;
    let loaded = starts(lines).filter(|start| start.event == "load").count() as u64;
    let all = starts(lines).count() as u64 - retried;
    if retried > watch.retries.saturating_mul(all) {
        return Err(format!("{}: {retried} retries of {all} runs", watch.name));
    }
    if all - loaded > writes {
        return Err(format!("{}: {} runs for {writes} writes", watch.name, all - loaded));
    }
    if loaded > loads && watch.kind != Kind::Component {
        return Err(format!("{}: {loaded} loads where {loads} were due", watch.name));
    }
    Ok(())
}

/// Whether the log told of the last run of a watch: a reader that had stopped reads again, and what was dropped meanwhile is over. `told` is
/// the last line of the log about such a run.
pub fn logged(watch: &Watch, told: &str, lines: &[Line]) -> Result<(), String> {
    match starts(lines).next_back() {
        Some(last) if !told.contains(&last.run) => Err(format!(
            "{}: the log does not tell of run {}, but last {told:?}",
            watch.name, last.run
        )),
        _ => Ok(()),
    }
}

/// What a daemon holds while nothing happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Descriptors by what they are, of the daemon and of the launcher together.
    pub descriptors: BTreeMap<String, usize>,
    /// Those of its pool left out, which grows to what was needed at once and has a bound of its own.
    pub threads: u64,
    pub daemon_kib: u64,
    pub launcher_kib: u64,
    /// Processes besides the daemon and its launcher, zombies too, and besides those of components that may wait for their next run.
    pub processes: Vec<String>,
    /// How many of these there are.
    pub waiting: usize,
    pub temporary: Vec<String>,
    pub state_files: usize,
}

/// (c) What is left of runs that have ended.
pub fn leaks(base: &Held, now: &Held) -> Vec<String> {
    let mut found: Vec<String> = now.processes.iter().map(|it| format!("process {it} is left")).collect();
    found.extend(now.temporary.iter().map(|it| format!("temporary file {it} is left")));
    let memfds = now.descriptors.get("memfd").copied().unwrap_or(0);
    if memfds > base.descriptors.get("memfd").copied().unwrap_or(0) {
        found.push(format!("{memfds} memfds are left"));
    }
    let count = |held: &Held| held.descriptors.values().sum::<usize>();
    if count(now) > count(base) + 8 {
        found.push(format!(
            "descriptors {:?}, once {:?}",
            now.descriptors, base.descriptors
        ));
    }
    if now.threads > base.threads + 8 {
        found.push(format!("{} threads, once {}", now.threads, base.threads));
    }
    if now.state_files > base.state_files + 12 {
        found.push(format!("{} state files, once {}", now.state_files, base.state_files));
    }
    found
}

/// (d) Whether memory stays within bounds: half as much again and 24 MiB.
pub fn memory(base: &Held, now: &Held) -> Vec<String> {
    let check = |what: &str, base: u64, now: u64| {
        (now > base + base / 2 + 24 * 1024).then(|| format!("the {what} has grown from {base} to {now} KiB"))
    };
    let daemon = check("daemon", base.daemon_kib, now.daemon_kib);
    let launcher = check("launcher", base.launcher_kib, now.launcher_kib);
    daemon.into_iter().chain(launcher).collect()
}

/// What the servers hold for the daemons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    pub watches: usize,
    pub sessions: usize,
}

/// (c) What is left of former sessions.
pub fn served(base: Served, now: Served) -> Result<(), String> {
    match now.watches > base.watches + base.watches / 4 + 4 || now.sessions > base.sessions + 2 {
        true => Err(format!("the servers hold {now:?}, once {base:?}")),
        false => Ok(()),
    }
}

/// (e) Whether a healthy watch reacted in time, beside whatever others did: latencies in milliseconds.
pub fn unaffected(latencies: &[u64], bound: u64) -> Result<(), String> {
    match latencies.iter().max() {
        Some(longest) if *longest > bound => Err(format!("a healthy watch took {longest} ms")),
        _ => Ok(()),
    }
}
