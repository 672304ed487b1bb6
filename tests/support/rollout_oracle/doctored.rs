//! A log in which all is well, and what the oracle says once it was doctored: that it can find what it looks for.

use serde_json::json;

use super::super::txnlog::{Op, Transaction};
use super::{Oracle, Rule};

const ROOT: &str = "/twitcher";
const GATE: &str = "/twitcher/rollouts/repo";

/// Writes logs, one transaction after the other.
#[derive(Debug, Clone, Default)]
struct Log {
    all: Vec<Transaction>,
    granted: u64,
    serial: u64,
    goal: i64,
}

fn create(path: String, data: String, ephemeral: bool) -> Op {
    let data = data.into_bytes();
    Op::Create { path, data, ephemeral }
}

fn set(path: String, data: String) -> Op {
    let (data, version) = (data.into_bytes(), 1);
    Op::Set { path, data, version }
}

fn check(path: String) -> Op {
    Op::Check { path }
}

fn grant_path(host: i64) -> String {
    format!("{GATE}/grants/h{host}")
}

impl Log {
    fn add(&mut self, session: i64, ops: Vec<Op>) -> i64 {
        let zxid = self.all.len() as i64 + 1;
        self.all.push(Transaction {
            zxid,
            session,
            time: zxid,
            ops,
        });
        zxid
    }

    fn gate_text(&self, state: &str, before: Option<&str>) -> String {
        let goal =
            (self.goal > 0).then(|| json!({"znode": "/head", "kind": "data", "state": format!("{:#x}", self.goal)}));
        let gate = json!({"epoch": 7, "serial": self.serial, "goal": goal, "state": state, "before": before,
            "at_once": 2, "max_failures": 1, "forgiven": 0});
        gate.to_string()
    }

    /// Hosts 1 to 5, whose sessions have their numbers, a rollout of which 1 is the steward, and a first change.
    fn begin() -> Self {
        let mut log = Self::default();
        for host in 1..=5 {
            log.add(host, vec![Op::BeginSession { timeout: 4000 }]);
            log.add(
                host,
                vec![create(format!("{ROOT}/hosts/h{host}"), "{}".to_owned(), false)],
            );
            log.add(
                host,
                vec![create(format!("{ROOT}/hosts/h{host}/live"), "{}".to_owned(), true)],
            );
        }
        let gate = log.gate_text("done", None);
        let counter = create(format!("{GATE}/grants"), json!({"granted": 0}).to_string(), false);
        log.add(1, vec![create(GATE.to_owned(), gate, false), counter]);
        log.add(1, vec![create(format!("{GATE}/steward"), "{}".to_owned(), true)]);
        for host in 1..=5 {
            log.result(host, "none", None);
        }
        log.change();
        log
    }

    /// The znode is set, and that goes out.
    fn change(&mut self) {
        self.goal = self.add(99, vec![set("/head".to_owned(), String::new())]);
        self.serial += 1;
        self.gate("rolling", None);
    }

    fn gate(&mut self, state: &str, before: Option<&str>) {
        let gate = self.gate_text(state, before);
        self.add(1, vec![set(GATE.to_owned(), gate)]);
    }

    fn grant_text(&self, number: u64, taken_back: Option<&str>) -> String {
        let state = format!("{:#x}", self.goal);
        let slot = format!("0000000000000007-{number}");
        json!({"slot": slot, "serial": self.serial, "state": state, "taken_back": taken_back}).to_string()
    }

    fn of_slots(&self) -> Vec<Op> {
        let counter = json!({"granted": self.granted}).to_string();
        vec![check(GATE.to_owned()), set(format!("{GATE}/grants"), counter)]
    }

    /// Grants a slot, and says which.
    fn grant(&mut self, host: i64) -> u64 {
        self.granted += 1;
        let mut ops = self.of_slots();
        ops.push(set(grant_path(host), self.grant_text(self.granted, None)));
        self.add(1, ops);
        self.granted
    }

    fn result_op(&self, host: i64, state: &str, slot: Option<u64>) -> Op {
        let slot = slot.map(|slot| format!("0000000000000007-{slot}"));
        let good = (state == "succeeded").then(|| format!("{:#x}", self.goal));
        let part = json!({"serial": self.serial, "slot": slot, "state": state});
        set(
            format!("{ROOT}/hosts/h{host}/r.repo"),
            json!({"good": good, "part": part}).to_string(),
        )
    }

    fn result(&mut self, host: i64, state: &str, slot: Option<u64>) {
        let ops = vec![self.result_op(host, state, slot)];
        self.add(host, ops);
    }

    fn start(&mut self, host: i64, slot: u64) {
        let ops = vec![
            check(GATE.to_owned()),
            check(grant_path(host)),
            self.result_op(host, "acting", Some(slot)),
        ];
        self.add(host, ops);
    }

    /// A turn from its grant to its end.
    fn turn(&mut self, host: i64, end: &str) {
        let slot = self.grant(host);
        self.start(host, slot);
        self.result(host, end, Some(slot));
    }

    fn last(&mut self) -> &mut Vec<Op> {
        &mut self.all.last_mut().unwrap().ops
    }

    fn broken(&self) -> Vec<Rule> {
        let oracle = Oracle::judge(ROOT, &self.all);
        oracle.violations().iter().map(|violation| violation.rule).collect()
    }
}

/// What is broken by a log that goes on so after its beginning.
fn broken(go_on: impl FnOnce(&mut Log)) -> Vec<Rule> {
    let mut log = Log::begin();
    go_on(&mut log);
    log.broken()
}

#[test]
fn a_rollout_as_it_should_be_breaks_nothing() {
    let mut log = Log::begin();
    let (first, second) = (log.grant(1), log.grant(2));
    log.start(1, first);
    log.gate("paused", Some("rolling"));
    log.result(1, "failed", Some(first));
    log.gate("rolling", None);
    log.start(2, second);
    // Its daemon was restarted.
    log.start(2, second);
    let third = log.grant(3);
    log.change();
    // Its slot is for the newer change now.
    let again = log.grant(2);
    log.start(2, again);
    log.result(2, "verifying", Some(again));
    log.result(2, "unwell", Some(again));
    log.result(3, "declined", Some(third));
    log.turn(4, "succeeded");
    let lost = log.grant(5);
    log.add(5, vec![Op::EndSession]);
    let mut ops = log.of_slots();
    ops.push(set(grant_path(5), log.grant_text(lost, Some("ann"))));
    log.add(2, ops);
    // It is forgotten by another one.
    log.add(3, vec![create(format!("{ROOT}/hosts/h5/live"), "{}".to_owned(), true)]);
    let forgotten = |path: &str| Op::Delete {
        path: format!("{ROOT}/hosts/h5{path}"),
    };
    log.add(3, vec![forgotten("/r.repo")]);
    log.add(3, vec![forgotten("/live"), forgotten("")]);
    log.gate("done", None);
    let oracle = Oracle::judge(ROOT, &log.all);
    assert_eq!(oracle.violations(), []);
    let figures = oracle.figures();
    assert_eq!((figures.granted, figures.started, figures.failed), (6, 5, 2));
    assert_eq!((figures.most_held, figures.taken_back, figures.serials), (2, 1, 2));
    assert_eq!((figures.stewards.len(), figures.late_grants), (1, 0));
    assert_eq!(oracle.lacking("repo"), ["h1", "h2", "h3"]);
    assert!(oracle.znodes().any(|(path, _)| path == GATE));
    assert!(!oracle.znodes().any(|(path, _)| path.contains("h5/")));
}

#[test]
fn more_slots_than_there_are() {
    let rules = broken(|log| {
        for host in 1..=3 {
            log.grant(host);
        }
    });
    assert_eq!(rules, [Rule::Bound]);
    let rules = broken(|log| {
        let slot = log.grant(1);
        log.start(1, slot);
        log.grant(2);
        // A lost session frees nothing.
        log.add(1, vec![Op::EndSession]);
        log.grant(3);
    });
    assert_eq!(rules, [Rule::Bound]);
}

#[test]
fn slots_that_nobody_has_given_back() {
    let rules = broken(|log| {
        log.grant(1);
        let mut ops = log.of_slots();
        ops.push(Op::Delete { path: grant_path(1) });
        log.add(1, ops);
    });
    assert_eq!(rules, [Rule::Exit]);
    let rules = broken(|log| {
        log.grant(1);
        log.grant(1);
    });
    assert_eq!(rules, [Rule::Exit]);
    let rules = broken(|log| {
        log.turn(1, "succeeded");
        log.start(1, 1);
    });
    assert_eq!(rules, [Rule::Exit]);
}

#[test]
fn grants_and_starts_while_it_is_held() {
    for state in ["halted", "paused", "aborted"] {
        let rules = broken(|log| {
            let slot = log.grant(1);
            log.gate(state, Some("rolling").filter(|_| state == "paused"));
            log.start(1, slot);
            log.grant(2);
        });
        assert_eq!(rules, [Rule::Held, Rule::Held], "{state}");
    }
}

#[test]
fn starts_that_are_nobodys_turn() {
    assert_eq!(broken(|log| log.start(1, 1)), [Rule::Turn]);
    let rules = broken(|log| {
        let slot = log.grant(1);
        let mut ops = log.of_slots();
        ops.push(set(grant_path(1), log.grant_text(slot, Some("ann"))));
        log.add(2, ops);
        log.start(1, slot);
    });
    assert_eq!(rules, [Rule::Turn]);
    let rules = broken(|log| {
        let slot = log.grant(1);
        log.change();
        log.start(1, slot);
    });
    assert_eq!(rules, [Rule::Turn]);
}

#[test]
fn hosts_and_rollouts_that_go_back() {
    let rules = broken(|log| {
        let first = log.goal;
        log.change();
        log.turn(1, "succeeded");
        log.serial += 1;
        log.goal = first;
        log.gate("rolling", None);
        log.turn(1, "succeeded");
    });
    assert_eq!(rules, [Rule::Older, Rule::Older]);
    let rules = broken(|log| {
        log.goal = log.add(99, vec![set("/other".to_owned(), String::new())]);
        log.serial += 1;
        log.gate("rolling", None);
    });
    assert_eq!(rules, [Rule::Opening], "the znode never was that");
    assert_eq!(broken(|log| log.serial += 1), []);
    let rules = broken(|log| {
        log.serial += 1;
        log.gate("rolling", None);
    });
    assert_eq!(rules, [Rule::Opening]);
}

#[test]
fn what_an_operator_said_is_overwritten() {
    for (from, before, to) in [
        ("paused", Some("rolling"), "baking"),
        ("paused", Some("baking"), "rolling"),
        ("aborted", None, "rolling"),
        ("halted", None, "baking"),
    ] {
        let rules = broken(|log| {
            log.gate(from, before);
            log.gate(to, None);
        });
        assert_eq!(rules, [Rule::Opening], "{from} {to}");
    }
    let rules = broken(|log| {
        log.gate("paused", Some("rolling"));
        log.change();
    });
    assert_eq!(rules, [Rule::Opening]);
}

#[test]
fn writes_in_the_place_of_others() {
    assert_eq!(broken(|log| log.turn(1, "succeeded")), []);
    let rules = broken(|log| {
        let ops = vec![log.result_op(1, "none", None)];
        log.add(2, ops);
    });
    assert_eq!(rules, [Rule::Own], "another host");
    let rules = broken(|log| {
        let slot = log.grant(1);
        log.start(1, slot);
        log.add(1, vec![Op::EndSession]);
        let ops = vec![log.result_op(1, "failed", Some(slot))];
        log.add(2, ops);
    });
    assert_eq!(rules, [Rule::Own], "another host, while it is away");
    let rules = broken(|log| {
        log.add(
            77,
            vec![Op::Delete {
                path: format!("{ROOT}/hosts/h1/r.repo"),
            }],
        );
    });
    assert_eq!(rules, [Rule::Own], "who is no host");
}

#[test]
fn transactions_that_do_not_fail_when_they_should() {
    for left_out in 0..2 {
        let rules = broken(|log| {
            let slot = log.grant(1);
            log.last().remove(left_out);
            if left_out == 1 {
                // Nor is it counted.
                log.granted -= 1;
            }
            log.start(1, slot);
        });
        assert_eq!(rules.first(), Some(&Rule::Fence), "grant, {left_out}");
        let rules = broken(|log| {
            let slot = log.grant(1);
            log.start(1, slot);
            log.last().remove(left_out);
        });
        assert_eq!(rules, [Rule::Fence], "start, {left_out}");
    }
    let rules = broken(|log| {
        log.grant(1);
        // Two stewards who know nothing of each other.
        log.granted -= 1;
        log.grant(2);
    });
    assert!(
        !rules.is_empty() && rules.iter().all(|rule| *rule == Rule::Fence),
        "{rules:?}"
    );
}

#[test]
fn more_failures_than_may_be() {
    let rules = broken(|log| {
        for host in 1..=3 {
            log.turn(host, "failed");
        }
    });
    assert_eq!(rules, []);
    let rules = broken(|log| {
        for host in 1..=4 {
            log.turn(host, "failed");
        }
    });
    assert_eq!(rules, [Rule::Failures]);
}

#[test]
fn garbage() {
    let rules = broken(|log| {
        log.add(1, vec![set(GATE.to_owned(), "{".to_owned())]);
    });
    assert_eq!(rules, [Rule::Record]);
}
