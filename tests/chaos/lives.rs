//! The judge of daemons that follow each other on one host: what the next one must make of what the last one has handled, and of the programs
//! that it left behind. Pure, as the rest of the oracle.

use super::journal::{Line, Start};
use super::services;
use super::watches::{File, Mode, Watch};

/// How long after a run has succeeded, or has stayed with what it was told, this is on the disk for certain, in milliseconds.
const WRITTEN: u64 = 2_000;

/// A daemon that is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub pid: i32,
    /// When it ended, in milliseconds since 1970.
    pub ended: u64,
    /// It was killed, and could end nothing in order.
    pub killed: bool,
}

/// A run, and what is known of it by its journal.
struct Run<'a> {
    start: &'a Start,
    /// What it was told last.
    told: &'a str,
    /// When, if that was after it had begun.
    told_at: Option<u64>,
    ended: Option<u64>,
    failed: bool,
}

/// Runs that followed each other.
fn runs(lines: &[Line]) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for line in lines {
        if let Line::Start(start) = line {
            runs.push(Run {
                start,
                told: &start.stdin,
                told_at: None,
                ended: None,
                failed: false,
            });
            continue;
        }
        let (Line::Told { run, .. } | Line::End { run, .. } | Line::Failed { run, .. }) = line else {
            continue;
        };
        let Some(known) = runs.iter_mut().rev().take(4).find(|known| known.start.run == *run) else {
            continue;
        };
        match line {
            Line::Told { at, data, .. } => (known.told, known.told_at) = (data, Some(*at)),
            Line::End { at, .. } => known.ended = Some(*at),
            _ => known.failed = true,
        }
    }
    runs
}

/// (i) Runs at the start of a daemon that IF_CHANGED was to leave out: a run for the same state had succeeded, and the daemon had had the time
/// to write that down. `disturbed`: from when to when it may have had none, or no room, and the next one could not read it.
pub fn reran(watch: &Watch, lines: &[Line], lives: &[Life], disturbed: &[(u64, u64)]) -> Vec<String> {
    // Elsewhere what has ended well may have been terminated all the same.
    if !watch.fields.contains("IF_CHANGED") || watch.mode != Mode::Queue || watch.file != File::Steady {
        return Vec::new();
    }
    let is_again = |pair: &&[Run<'_>]| {
        let [before, after] = pair else { return false };
        let life = lives.iter().find(|life| life.pid == before.start.parent);
        let (Some(ended), Some(life), false) = (before.ended, life, before.failed) else {
            return false;
        };
        // A database on a full disk cannot be opened either.
        let is_quiet = !disturbed
            .iter()
            .any(|(from, to)| *from <= after.start.at && ended <= *to);
        let same = services::same(watch, before.told, &after.start.stdin) && before.start.mzxid == after.start.mzxid;
        after.start.event == "load"
            && after.start.parent != before.start.parent
            && ended + WRITTEN < life.ended
            && is_quiet
            && same
    };
    let say = |pair: &[Run<'_>]| {
        format!(
            "{}: run again at the start for what run {} had handled: {:?}",
            watch.name, pair[0].start.run, pair[1].start
        )
    };
    runs(lines).windows(2).filter(is_again).map(say).collect()
}

/// (h) Programs that stay and were replaced at the start of a daemon although the last one, which was killed, left one that was for the same
/// state.
pub fn replaced(watch: &Watch, lines: &[Line], lives: &[Life]) -> Vec<String> {
    // What a file says is none of what the znode's state is.
    if watch.file != File::Steady {
        return Vec::new();
    }
    let at = |pid: i32| lives.iter().position(|life| life.pid == pid);
    let is_needless = |pair: &&[Run<'_>]| {
        let [before, after] = pair else { return false };
        let next = at(after.start.parent).unwrap_or(lives.len());
        // It may have gone through the hands of several.
        let between = at(before.start.parent).and_then(|first| lives.get(first..next));
        let all_killed = between.is_some_and(|between| !between.is_empty() && between.iter().all(|life| life.killed));
        // Until it has stayed with that for a while nobody but the daemon that told it knows.
        let is_known = before.told_at.is_none_or(|at| {
            let mut lives = between.into_iter().flatten();
            let by = lives.find(|life| life.ended >= at);
            by.is_some_and(|life| at + WRITTEN < life.ended)
        });
        all_killed
            && is_known
            && after.start.event == "load"
            && before.ended.is_none()
            && services::same(watch, before.told, &after.start.stdin)
    };
    let say = |pair: &[Run<'_>]| {
        format!(
            "{}: {:?} was replaced by {:?}",
            watch.name, pair[0].start, pair[1].start
        )
    };
    runs(lines).windows(2).filter(is_needless).map(say).collect()
}
