//! The judge of a fleet: what is wrong, from the journal that all actions share. Pure, and it knows nothing of how rollouts work: only what is
//! promised of them.

use std::collections::{BTreeMap, HashSet};

use super::super::journal::{Line, Start, starts};
use super::{AT_ONCE, MEMBERS};

/// How long after an answer the action of a host may still write its first line that had started before it, in milliseconds: a process has to
/// be made and to execute this program, on a machine with more to do than it can.
const ON_ITS_WAY: u64 = 3_000;

/// A verb that was answered after which no further host starts.
#[derive(Debug, Clone)]
pub struct Stop {
    pub verb: String,
    pub from: u64,
    /// When something was told next.
    pub to: Option<u64>,
}

/// Whose the start is: runs are written `HOST/RUN`.
fn host(start: &Start) -> &str {
    start.run.split('/').next().unwrap_or_default()
}

/// Hosts whose last run was not for this data, or that has not ended.
pub fn lacking(lines: &[Line], data: &str) -> Vec<String> {
    let ended: HashSet<&str> = lines
        .iter()
        .filter_map(|line| match line {
            Line::End { run, .. } => Some(&**run),
            _ => None,
        })
        .collect();
    let mut last = BTreeMap::new();
    for start in starts(lines) {
        last.insert(host(start), start);
    }
    let has = |name: &String| {
        last.get(&**name)
            .is_some_and(|start| start.stdin == data && ended.contains(&*start.run))
    };
    (0..MEMBERS)
        .map(super::member::name)
        .filter(|name| !has(name))
        .collect()
}

/// (1) More hosts at work than may be.
pub fn crowds(lines: &[Line]) -> Vec<String> {
    let crowd = |line: &Line| match line {
        Line::Crowd { at, run, others } => Some(format!("{run} at {at} was one more than {AT_ONCE}: {others}")),
        Line::Garbage(text) => Some(format!("a line that is none: {text:?}")),
        _ => None,
    };
    lines.iter().filter_map(crowd).collect()
}

/// (4) A host that runs for something older than it has run for.
pub fn backwards(lines: &[Line]) -> Vec<String> {
    let mut last: BTreeMap<&str, &Start> = BTreeMap::new();
    let mut found = Vec::new();
    for start in starts(lines) {
        if let Some(before) = last.insert(host(start), start)
            && start.mzxid < before.mzxid
        {
            found.push(format!("{start:?} after {before:?}"));
        }
    }
    found
}

/// (3) A host that starts, for what it has not started for before, while a rollout was stopped.
pub fn after_stops(lines: &[Line], stops: &[Stop]) -> Vec<String> {
    let mut known = HashSet::new();
    let mut found = Vec::new();
    for start in starts(lines) {
        let is_new = known.insert((host(start), start.mzxid));
        let stopped = stops
            .iter()
            .find(|stop| start.at > stop.from + ON_ITS_WAY && stop.to.is_none_or(|to| start.at < to));
        if let (true, Some(stop)) = (is_new, stopped) {
            let Stop { verb, from, .. } = stop;
            found.push(format!("{start:?} although {verb} was answered at {from}"));
        }
    }
    found
}

/// The last start of each host, to be compared with what comes.
pub fn last_starts(lines: Vec<Line>) -> Vec<Line> {
    let mut last = BTreeMap::new();
    for line in lines {
        match &line {
            Line::Start(start) => drop(last.insert((host(start).to_owned(), 0), line)),
            Line::End { run, .. } => drop(last.insert((run.split('/').next().unwrap_or_default().to_owned(), 1), line)),
            _ => {}
        }
    }
    last.into_values().collect()
}

/// Feeds each of the above with what it must find, and with what it must not.
pub fn check() {
    let start = |host: &str, at, mzxid, stdin: &str| {
        Line::Start(Start {
            at,
            run: format!("{host}/{at}"),
            mzxid,
            stdin: stdin.to_owned(),
            ..Start::default()
        })
    };
    let end = |host: &str, of: u64| Line::End {
        at: of + 1,
        run: format!("{host}/{of}"),
    };
    let all: Vec<Line> = (0..MEMBERS)
        .map(super::member::name)
        .flat_map(|name| [start(&name, 1, 5, "x"), end(&name, 1)])
        .collect();
    assert!(lacking(&all, "x").is_empty());
    assert_eq!(lacking(&all, "y").len(), MEMBERS);
    assert_eq!(lacking(&all[..all.len() - 1], "x").len(), 1);
    assert_eq!(lacking(&last_starts(all.clone()), "x").len(), 0);
    let crowd = Line::Crowd {
        at: 1,
        run: "a/1".to_owned(),
        others: String::new(),
    };
    assert!(crowds(&all).is_empty() && crowds(&[crowd]).len() == 1);
    let (older, newer) = (start("a", 2, 4, "x"), start("a", 1, 5, "x"));
    assert_eq!(backwards(&[newer.clone(), older.clone()]).len(), 1);
    assert!(backwards(&[older, newer, start("b", 3, 1, "x")]).is_empty());
    let stop = |to| {
        [Stop {
            verb: "Pause".to_owned(),
            from: 1_000,
            to,
        }]
    };
    let late = start("a", 1_001 + ON_ITS_WAY, 7, "x");
    assert_eq!(after_stops(std::slice::from_ref(&late), &stop(None)).len(), 1);
    assert!(after_stops(std::slice::from_ref(&late), &stop(Some(1_500))).is_empty());
    assert!(
        after_stops(&[start("a", 900, 7, "x"), late], &stop(None)).is_empty(),
        "once more for the same"
    );
}
