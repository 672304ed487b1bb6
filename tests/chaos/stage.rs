//! The stage: an ensemble, several daemons, and the one who writes. Plays an episode of the plan, heals everything, waits until what is
//! promised has come true, and has the oracle judge.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::support::ensemble::Ensemble;
use crate::support::until;

use super::act::now;
use super::host::{Host, Means};
use super::keeper::Keeper;
use super::lives;
use super::oracle::{self, Final, Served};
use super::payload;
use super::plan::{Episode, Fault, HOSTS, SERVERS, Step, Trouble, Write};
use super::services::{self, Instance};
use super::snapshot;
use super::watches::{COMPONENTS, File, HEALTHY, Kind, Mode, Node, WATCHES, Watch, watch};

/// How long after the last fault everything that is promised may take. It has to cover the longest of: an action that must be killed
/// (3 s), a session that must expire and be made anew (some 10 s), all of it on a machine with more to do than it can.
const SETTLE: Duration = Duration::from_secs(60);
/// How long a healthy watch may take beside misbehaving ones, in milliseconds. Machines that build something else at the same time are
/// slow.
const CANARY: u64 = 5_000;
/// How long it is waited for daemons to see what a wiped ensemble has, before it is wiped once more.
const GLANCE: Duration = Duration::from_secs(5);
/// How often it is looked whether something has come true.
const LOOK: Duration = Duration::from_millis(40);

/// What happened so far.
#[derive(Debug, Default)]
pub struct Tally {
    pub episodes: u64,
    pub steps: u64,
    pub writes: u64,
    /// Writes of which nobody knows whether they happened.
    pub unknown: u64,
    pub faults: BTreeMap<Fault, u64>,
    /// Wipes of the ensemble after which the transactions of other data had the same numbers as before.
    pub same_transactions: u64,
    /// Programs that stay and whose daemon was killed, the last time in an episode; and those of them that were there at its end.
    pub orphans: u64,
    pub kept: u64,
    /// How long healthy watches took, in milliseconds.
    pub canaries: Vec<u64>,
    /// How long after each episode everything was as promised.
    pub settled: Vec<Duration>,
    pub violations: Vec<String>,
}

/// See the module's documentation.
pub struct Stage {
    ensemble: Ensemble,
    hosts: Vec<Host>,
    keeper: Keeper,
    /// How many changes each znode can have seen at most.
    changes: BTreeMap<&'static str, u64>,
    served: Served,
    /// The watch whose znode nobody has permission for, and the last tag.
    taken: Option<(&'static Watch, String)>,
    /// From when to when the servers began to count from the beginning, in milliseconds since 1970.
    anew: Vec<(u64, u64)>,
    pub tally: Tally,
}

impl Stage {
    /// Sets everything up below `root` and waits until it has settled.
    pub fn new(root: &Path, means: &Means) -> Self {
        let ensemble = Ensemble::start();
        let keeper = Keeper::start(ensemble.addresses());
        let hosts = (0..HOSTS).map(|index| Host::start(root, index, &ensemble, means));
        let mut stage = Self {
            hosts: hosts.collect(),
            ensemble,
            keeper,
            changes: WATCHES.iter().map(|watch| (watch.name, 1)).collect(),
            served: Served::default(),
            taken: None,
            anew: Vec::new(),
            tally: Tally::default(),
        };
        stage.settle("the beginning", true);
        for host in &mut stage.hosts {
            host.base = host.held();
        }
        stage.served = snapshot::served(&stage.ensemble);
        stage
    }

    /// Plays an episode and judges; adds to the tally.
    pub fn play(&mut self, episode: &Episode) {
        let mut begun: BTreeMap<usize, Instant> = BTreeMap::new();
        for (index, step) in episode.steps.iter().enumerate() {
            let tag = format!("e{}s{index}", episode.number);
            match step {
                Step::Write { watch: name, write } => self.write(watch(name), *write, &tag),
                Step::Begin(trouble) => {
                    self.begin(&episode.troubles[*trouble], &tag);
                    begun.insert(*trouble, Instant::now());
                }
                Step::End(trouble) => {
                    let which = &episode.troubles[*trouble];
                    let hold = Duration::from_millis(which.hold);
                    // The fault lasts so long; nothing is waited for.
                    std::thread::sleep(hold.saturating_sub(begun[trouble].elapsed()));
                    self.end(which, &tag);
                }
                Step::Canary => self.canary(&tag),
            }
            self.tally.steps += 1;
        }
        let when = format!("episode {}", episode.number);
        self.ensemble.heal();
        until("permission can be given back", || self.give_back());
        let settled = self.settle(&when, false);
        self.count_kept();
        self.anew.iter_mut().for_each(|(_, to)| *to = (*to).min(now()));
        self.tally.settled.push(settled);
        self.wake(episode.number);
        self.settle(&format!("{when}, at rest"), true);
        self.judge(&when);
        self.tally.episodes += 1;
    }

    /// Counts the programs that stayed over a kill of their daemon.
    fn count_kept(&mut self) {
        for host in &mut self.hosts {
            let living = host.instances();
            let orphans = std::mem::take(&mut host.orphans);
            self.tally.orphans += orphans.len() as u64;
            self.tally.kept += orphans.iter().filter(|orphan| living.contains(orphan)).count() as u64;
        }
    }

    /// Now that all is quiet, changes each znode once: every watch, also one that ignored things before, must be awake.
    fn wake(&mut self, episode: u64) {
        let tag = format!("e{episode}");
        let all = |node| WATCHES.iter().filter(move |watch| watch.node == node);
        // A child of a znode that is not there would be two changes, and the second may meet an action that runs for the first.
        all(Node::Children).for_each(|watch| self.write(watch, Write::Set, &tag));
        self.settle(&tag, false);
        all(Node::Children).for_each(|watch| self.write(watch, Write::AddChild, &tag));
        let others = all(Node::Data).chain(all(Node::Tree));
        others.for_each(|watch| self.write(watch, Write::Set, &tag));
    }

    fn write(&mut self, watch: &'static Watch, write: Write, tag: &str) {
        *self.changes.entry(watch.name).or_default() += match write {
            Write::Burst(count) => u64::from(count) + 2,
            Write::Set => 3,
            // With the deletion of the child, whenever that is.
            Write::AddChild | Write::Recreate => 4,
            Write::Delete => 1,
            Write::RemoveChild => 0,
        };
        self.tally.writes += 1;
        if !self.keeper.write(watch, write, tag) {
            self.tally.unknown += 1;
        }
    }

    fn begin(&mut self, trouble: &Trouble, tag: &str) {
        *self.tally.faults.entry(trouble.fault).or_default() += 1;
        let (first, second) = (trouble.server, (trouble.server + 1) % SERVERS);
        match trouble.fault {
            Fault::ServerKill => self.ensemble.server_mut(first).kill(),
            Fault::ServerPause => self.ensemble.server(first).pause(true),
            Fault::QuorumLoss => {
                self.ensemble.server_mut(first).kill();
                self.ensemble.server_mut(second).kill();
            }
            Fault::EnsembleWipe => self.wipe(tag),
            Fault::PermissionTaken => {
                // Not that of the healthy one, which is the first.
                let watch = &WATCHES[1 + trouble.choice as usize % (WATCHES.len() - 1)];
                self.taken = Some((watch, tag.to_owned()));
                self.permission(watch, false, tag);
            }
            Fault::CacheDamage => {
                self.hosts[trouble.host].begin(trouble);
                // So that it is needed.
                let components = WATCHES.iter().filter(|watch| watch.kind == Kind::Component);
                components.for_each(|watch| self.write(watch, Write::Set, tag));
            }
            _ => self.hosts[trouble.host].begin(trouble),
        }
    }

    fn end(&mut self, trouble: &Trouble, tag: &str) {
        match trouble.fault {
            Fault::ServerKill | Fault::ServerPause | Fault::QuorumLoss | Fault::EnsembleWipe => self.ensemble.heal(),
            Fault::PermissionTaken => {
                if let Some((_, last)) = &mut self.taken {
                    *last = tag.to_owned();
                }
                self.give_back();
            }
            _ => self.hosts[trouble.host].end(trouble),
        }
    }

    /// Takes permission, or gives it back, and changes what it is for.
    fn permission(&mut self, watch: &'static Watch, give: bool, tag: &str) -> bool {
        // Created, set, with a child that is deleted one day.
        *self.changes.entry(watch.name).or_default() += 4;
        self.tally.writes += 1;
        let done = self.keeper.permission(watch, give, tag);
        self.tally.unknown += u64::from(!done);
        done
    }

    /// Gives back what was taken; says whether nothing is taken any more.
    fn give_back(&mut self) -> bool {
        let Some((watch, tag)) = self.taken.clone() else {
            return true;
        };
        let given = self.permission(watch, true, &tag);
        if given {
            self.taken = None;
        }
        given
    }

    /// The servers lose everything and are set up anew, by the same steps twice: what the second time makes has the transactions of what the
    /// first time made.
    fn wipe(&mut self, tag: &str) {
        self.anew.push((now(), u64::MAX));
        let transactions = ["a", "b"].map(|time| {
            let tag = format!("{tag}{time}");
            let rules: Vec<_> = self.hosts.iter().map(Host::cut_off).collect();
            self.keeper.leave();
            self.ensemble.wipe();
            let transactions = self.keeper.set_up(&tag);
            // As for writes, with what a repeated attempt would do.
            self.changes.values_mut().for_each(|changes| *changes += 4);
            self.tally.writes += WATCHES.len() as u64;
            self.tally.unknown += u64::from(transactions.is_none());
            for (host, rules) in self.hosts.iter().zip(rules) {
                host.reconnect(rules);
            }
            if time == "a" {
                self.reactions(&tag, GLANCE);
            }
            transactions
        });
        let [first, second] = transactions;
        self.tally.same_transactions += u64::from(first.is_some() && first == second);
    }

    /// Times the reactions of every daemon's healthy watch.
    fn canary(&mut self, tag: &str) {
        let from = now();
        self.write(watch(HEALTHY), Write::Set, tag);
        let seen = self.reactions(tag, Duration::from_millis(CANARY * 2));
        let latency = |seen: Option<u64>| seen.map_or(CANARY * 2, |at| at.saturating_sub(from));
        let latencies = seen.map(latency);
        if let Err(violation) = oracle::unaffected(&latencies, CANARY) {
            self.violation(&format!("{violation} ({tag})"));
        }
        self.tally.canaries.extend(latencies);
    }

    /// When every daemon's healthy watch reacted to this data, of those that do so in time.
    fn reactions(&mut self, data: &str, patience: Duration) -> [Option<u64>; HOSTS] {
        let end = Instant::now() + patience;
        let mut seen = [None; HOSTS];
        while seen.iter().any(Option::is_none) && Instant::now() < end {
            for (host, seen) in self.hosts.iter_mut().zip(&mut seen) {
                let journal = host.journals.get_mut(HEALTHY).unwrap();
                journal.refresh();
                let start = journal.starts().rev().find(|start| start.stdin == data);
                *seen = start.map(|start| start.at);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        seen
    }

    /// Waits until everything that is to come true has; says how long that took. `idle`: whether nothing ran before.
    fn settle(&mut self, when: &str, idle: bool) -> Duration {
        let start = Instant::now();
        loop {
            let lacking = self.lacking(idle);
            if lacking.is_empty() {
                return start.elapsed();
            }
            if start.elapsed() > SETTLE {
                for lack in lacking {
                    self.violation(&format!("{when}, after {SETTLE:?}: {lack}"));
                }
                self.hosts.iter_mut().for_each(Host::revive);
                return start.elapsed();
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What has not come true yet.
    fn lacking(&mut self, idle: bool) -> Vec<String> {
        let known: Vec<Pid> = self.hosts.iter().filter_map(Host::pid).collect();
        let stay: Vec<_> = self.hosts.iter().flat_map(Host::instances).collect();
        let mut lacking = snapshot::adopted(&known, &stay);
        let Some(states) = self.keeper.read() else {
            return vec!["the ensemble does not answer".to_owned()];
        };
        for (index, host) in self.hosts.iter_mut().enumerate() {
            let mut lacks = Vec::new();
            lacks.extend(host.alive().err());
            let instances = host.instances();
            for (watch, state) in WATCHES.iter().zip(&states) {
                lacks.extend(lack(host, watch, state, idle, &instances));
            }
            if idle {
                lacks.extend(host.logged().err());
            }
            match (&host.base, host.held()) {
                (Some(base), Some(held)) => lacks.extend(oracle::leaks(base, &held)),
                (None, Some(held)) => {
                    lacks.extend(held.processes);
                    // So that what comes is compared with all that there may be.
                    if held.waiting < COMPONENTS {
                        lacks.push(format!("{} of {COMPONENTS} components wait", held.waiting));
                    }
                }
                (_, None) => {}
            }
            lacking.extend(lacks.into_iter().map(|lack| format!("host {index}: {lack}")));
        }
        if self.served != Served::default() {
            lacking.extend(oracle::served(self.served, snapshot::served(&self.ensemble)).err());
        }
        lacking
    }

    /// Looks for what must never have happened.
    fn judge(&mut self, when: &str) {
        let mut found = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let mut wrong = Vec::new();
            for watch in WATCHES {
                let lines = &host.journals[watch.name].lines;
                wrong.extend(oracle::overlaps(watch, lines));
                wrong.extend(oracle::doubled(watch, lines));
                wrong.extend(oracle::stale(watch, lines, &self.anew));
                if watch.payload && watch.kind != Kind::Service {
                    wrong.extend(payload::adds_up(watch, lines));
                    wrong.extend(payload::out_of_order(watch, lines, &self.anew));
                }
                if watch.payload && watch.kind == Kind::Service {
                    wrong.extend(payload::told_adds_up(watch, lines));
                }
                wrong.extend(lives::reran(watch, lines, &host.lives, &host.disturbed));
                if watch.kind == Kind::Service {
                    wrong.extend(lives::replaced(watch, lines, &host.lives));
                }
                wrong.extend(oracle::counts(watch, lines, self.changes[watch.name], host.loads[watch.name]).err());
            }
            wrong.extend(host.found.iter().cloned());
            if let (Some(base), Some(held)) = (&host.base, host.held()) {
                wrong.extend(oracle::memory(base, &held));
            }
            found.extend(wrong.into_iter().map(|it| format!("host {index}: {it}")));
        }
        for it in found {
            // The journals are read from the beginning each time.
            if !self.tally.violations.iter().any(|known| known.ends_with(&it)) {
                self.violation(&format!("{when}: {it}"));
            }
        }
    }

    fn violation(&mut self, text: &str) {
        eprintln!("VIOLATION: {text}");
        self.tally.violations.push(text.to_owned());
    }

    /// Runs so far by kind of watch, and how many of them were loads.
    pub fn runs(&self) -> BTreeMap<&'static str, (u64, u64)> {
        let mut runs: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        for (name, journal) in self.hosts.iter().flat_map(|host| &host.journals) {
            let count = runs.entry(name).or_default();
            for start in journal.starts() {
                count.0 += 1;
                count.1 += u64::from(start.event == "load");
            }
        }
        runs
    }
}

/// What a watch has not done yet.
fn lack(host: &mut Host, watch: &Watch, state: &Final, idle: bool, instances: &[Instance]) -> Vec<String> {
    let revision = host.revision(watch);
    let file = host.data_file(watch);
    let journal = host.journals.get_mut(watch.name).unwrap();
    journal.refresh();
    let mut lacking = match watch.kind {
        Kind::Service => services::lacking(watch, state, &journal.lines, file.as_deref(), instances),
        _ => Vec::from_iter(oracle::acted(watch, state, &journal.lines, idle).err()),
    };
    // A DISCARD ignores what it is told while it runs, but never a load; a change may have come while its znode was gone.
    let versioned = watch.file == File::Churn || watch.kind == Kind::Component;
    if versioned && watch.mode != Mode::Discard && watch.node != Node::Tree {
        lacking.extend(oracle::of_revision(watch, &revision, state, &journal.lines).err());
    }
    lacking
}
