//! `make chaos-fleet`: a dozen daemons, one change after the other in a rollout, faults and verbs at any moment, judged by what the actions
//! themselves have written down.
//!
//! - `plan.rs` makes an episode from the seed alone.
//! - `member.rs` is a daemon of the fleet, what is done to it, and how it reaches the servers: by proxies, or in a network of its own.
//! - `judge.rs` says what is wrong, from the journal that all actions share and from what verbs were answered.
//! - In the end the oracle says what is wrong by the servers' own transaction logs.
//!
//! An action is `turn` of `act.rs`: of as many places as the rollout has slots it takes one that is free, which the kernel gives back however
//! it ends. Who finds none writes that down: more hosts act than may.

pub mod judge;
mod member;
mod plan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::ensemble::Ensemble;
use crate::support::rollout_oracle::Oracle;
use crate::support::{txnlog, until};

use super::act::now;
use super::journal::{Journal, Line};
use judge::Stop;
use member::{Member, Verb};
use plan::{Episode, Fault, Scope, Step, Trouble};

/// How many daemons there are.
pub const MEMBERS: usize = 12;
/// How many of them, the last ones, have a network of their own, where that can be had.
const IN_NETWORKS: usize = 4;
/// How many hosts may act at once.
const AT_ONCE: u32 = 3;
/// How many may fail before the rollout halts.
const MAX_FAILURES: u32 = 2;
const ROLLOUT: &str = "repo";
const ZNODE: &str = "/chaos-fleet";
const ROOT: &str = "/twitcher";
/// How long after the last fault everything that is promised may take, on a machine that does something else besides: sessions that expire,
/// holders that are taken for lost, a change that goes out from the first wave on.
const SETTLE: Duration = Duration::from_secs(180);

/// Faults and verbs for so many minutes; whether nothing was violated.
pub fn fleet(root: &Path, minutes: f64, seed: u64) -> bool {
    println!("fleet of {MEMBERS}, seed {seed} for {minutes} minutes");
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut stage = Stage::new(root);
    stage.settle("the beginning");
    assert!(stage.violations.is_empty(), "without a fault: {:?}", stage.violations);
    let mut number = 0;
    while Instant::now() < end && stage.violations.len() < 10 {
        let episode = Episode::new(seed, number);
        let before = stage.violations.len();
        stage.play(&episode);
        if stage.violations.len() > before {
            println!("the plan of episode {number}:\n{episode}");
        }
        number += 1;
        if number % 5 == 0 {
            let runs = stage.runs();
            println!(
                "{number} episodes, {} changes, {runs} runs in the last of them",
                stage.changes
            );
        }
    }
    stage.report(seed, number)
}

struct Stage {
    ensemble: Ensemble,
    members: Vec<Member>,
    journal: Journal,
    out: PathBuf,
    /// What was answered to verbs that stop a rollout, and until when that was in force.
    stops: Vec<Stop>,
    changes: u64,
    faults: BTreeMap<String, u64>,
    verbs: BTreeMap<String, u64>,
    settled: Vec<Duration>,
    violations: Vec<String>,
    rng: Rng,
}

impl Stage {
    fn new(root: &Path) -> Self {
        let out = root.join("out");
        for name in ["journal", "locks", "behaviour"] {
            std::fs::create_dir_all(out.join(name)).unwrap();
        }
        let ensemble = Ensemble::start();
        let mut stage = Self {
            journal: Journal::new(out.join("journal").join(ROLLOUT)),
            members: Vec::new(),
            stops: Vec::new(),
            changes: 0,
            faults: BTreeMap::new(),
            verbs: BTreeMap::new(),
            settled: Vec::new(),
            violations: Vec::new(),
            rng: Rng::with_seed(1),
            ensemble,
            out,
        };
        stage.change("first");
        let members =
            (0..MEMBERS).map(|index| Member::start(root, index, index + IN_NETWORKS >= MEMBERS, &stage.ensemble));
        stage.members = members.collect();
        println!(
            "{} of them in networks of their own",
            stage.members.iter().filter(|member| member.is_in_network()).count()
        );
        stage
    }

    fn runs(&mut self) -> usize {
        self.journal.refresh();
        self.journal.starts().count()
    }

    fn play(&mut self, episode: &Episode) {
        self.rng = Rng::with_seed(episode.seed);
        let mut begun = BTreeMap::new();
        for (index, step) in episode.steps.iter().enumerate() {
            match step {
                Step::Change { bad } => {
                    let kind = if *bad { "bad" } else { "good" };
                    self.change(&format!("{kind}-{}-{index}", episode.number));
                }
                Step::Verb { member, verb } => self.verb(*member, *verb),
                Step::Begin(at) => {
                    let fault = &episode.faults[*at];
                    *self.faults.entry(format!("{:?}", fault.kind)).or_default() += 1;
                    self.begin(fault);
                    begun.insert(*at, Instant::now());
                }
                Step::End(at) => {
                    let fault = &episode.faults[*at];
                    std::thread::sleep(Duration::from_millis(fault.hold).saturating_sub(begun[at].elapsed()));
                    self.end(fault);
                }
                Step::Pass(millis) => std::thread::sleep(Duration::from_millis(*millis)),
            }
        }
        self.ensemble.heal();
        let when = format!("episode {}", episode.number);
        self.change(&format!("last-{}", episode.number));
        let took = self.settle(&when);
        self.settled.push(took);
        self.judge(&when);
    }

    fn begin(&mut self, fault: &Trouble) {
        match fault.kind {
            Fault::ServerKill => self.ensemble.server_mut(fault.server).kill(),
            Fault::ServerPause => self.ensemble.server(fault.server).pause(true),
            Fault::QuorumLoss => {
                for index in [fault.server, (fault.server + 1) % 3] {
                    self.ensemble.server_mut(index).kill();
                }
            }
            kind => self.members[fault.member].begin(kind, &self.out),
        }
    }

    fn end(&mut self, fault: &Trouble) {
        match fault.kind.scope() {
            Scope::Servers => self.ensemble.heal(),
            Scope::Member | Scope::Network | Scope::Action => self.members[fault.member].end(fault.kind, &self.out),
        }
    }

    /// Another state of the znode, by way of the program itself. Nobody knows whether it came about if the servers are away.
    fn change(&mut self, data: &str) {
        self.over();
        self.changes += 1;
        let set = member::znode(&[
            "set",
            "-p",
            ZNODE,
            data,
            "--zk",
            &self.ensemble.addresses(),
            "--timeout",
            "5",
        ]);
        if data.starts_with("last") || data == "first" {
            assert!(set, "the servers are there, and do not take {data}");
        }
    }

    /// Whatever is told to a rollout ends what was in force before, whether or not it is answered.
    fn over(&mut self) {
        let now = now();
        for stop in self.stops.iter_mut().filter(|stop| stop.to.is_none()) {
            stop.to = Some(now);
        }
    }

    fn verb(&mut self, member: usize, verb: Verb) {
        // A pause outlives a newer change; it is over all the same, as far as this is concerned.
        self.over();
        let answered = self.members[member].verb(verb);
        *self.verbs.entry(format!("{verb:?}")).or_default() += u64::from(answered);
        if answered && matches!(verb, Verb::Pause | Verb::Abort) {
            self.stops.push(Stop {
                verb: format!("{verb:?}"),
                from: now(),
                to: None,
            });
        }
    }

    /// Waits until every host has handled the last state; whoever operates lets the rollout go on meanwhile.
    fn settle(&mut self, when: &str) -> Duration {
        let start = Instant::now();
        let mut data = String::new();
        until("the znode is read", || {
            match member::read(ZNODE, &self.ensemble.addresses()) {
                Some(read) => {
                    data = read;
                    true
                }
                None => false,
            }
        });
        let mut nudged = Instant::now();
        loop {
            self.journal.refresh();
            let lacking = judge::lacking(&self.journal.lines, &data);
            if lacking.is_empty() && self.members[0].is_done() {
                return start.elapsed();
            }
            if start.elapsed() > SETTLE {
                let status = self.members[0].status();
                self.violations.push(format!(
                    "{when}, after {SETTLE:?}: {} have not handled {data}: {status}",
                    lacking.join(", ")
                ));
                return start.elapsed();
            }
            if nudged.elapsed() > Duration::from_secs(3) {
                for verb in [Verb::Resume, Verb::Retry] {
                    let member = self.rng.usize(..MEMBERS);
                    self.members[member].verb(verb);
                }
                nudged = Instant::now();
            }
            for member in &mut self.members {
                if let Some(status) = member.revive() {
                    self.violations
                        .push(format!("{when}: {} ended by itself: {status}", member.name()));
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn judge(&mut self, when: &str) {
        self.over();
        let lines = std::mem::take(&mut self.journal.lines);
        let stops = std::mem::take(&mut self.stops);
        let mut found = judge::crowds(&lines);
        found.extend(judge::backwards(&lines));
        found.extend(judge::after_stops(&lines, &stops));
        self.violations
            .extend(found.into_iter().map(|it| format!("{when}: {it}")));
        // What was judged is kept by nobody but the file; the last start of each host is what comes next is compared with.
        self.journal.lines = judge::last_starts(lines);
    }

    /// What the logs of the servers say of all that there was.
    fn judge_logs(&mut self) {
        match txnlog::read_ensemble(&self.ensemble.data()) {
            Ok(log) => {
                let oracle = Oracle::judge(ROOT, &log);
                println!("\nby the servers' logs: {:?}", oracle.figures());
                let found = oracle.violations().iter();
                self.violations
                    .extend(found.map(|it| format!("by the servers' logs: {it}")));
            }
            Err(why) => self
                .violations
                .push(format!("the servers' logs cannot be judged: {why}")),
        }
    }

    fn report(&mut self, seed: u64, episodes: u64) -> bool {
        self.judge_logs();
        println!("\nfleet, seed {seed}: {episodes} episodes, {} changes\n", self.changes);
        for (title, counts) in [("fault", &self.faults), ("verb that was answered", &self.verbs)] {
            println!("| {title} | times |\n| --- | ---: |");
            counts.iter().for_each(|(name, times)| println!("| {name} | {times} |"));
            println!();
        }
        let text = std::fs::read_to_string(self.out.join("journal").join(ROLLOUT)).unwrap_or_default();
        let starts = text
            .lines()
            .map(Line::parse)
            .filter(|line| matches!(line, Line::Start(_)))
            .count();
        self.settled.sort();
        let median = self.settled.get(self.settled.len() / 2).copied().unwrap_or_default();
        let longest = self.settled.last().copied().unwrap_or_default();
        println!(
            "{starts} runs; every host had the last change after each episode: median {median:.2?}, longest {longest:.2?}"
        );
        println!("\n{} violations", self.violations.len());
        self.violations.iter().for_each(|violation| println!("- {violation}"));
        self.violations.is_empty()
    }
}
