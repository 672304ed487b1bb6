//! The oracle of rollouts: what is wrong with a fleet, judged from the servers' own transaction log, whose order is the truth for everybody.
//!
//! It reads the znodes by itself and knows only what is promised: not how a steward decides, nor what hosts know. What it cannot see is
//! whether an action has run at all; for that there are the actions' journals.

#[cfg(test)]
mod doctored;
mod records;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::txnlog::{Op, Transaction};
use records::{Changed, Part, Place};
use rollout::Rollout;

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Never more slots are held than there may be.
    Bound,
    /// A slot is given back by its host's own result, or taken back by an operator: nothing else frees it.
    Exit,
    /// After a halt, a pause or an abort no slot is granted and no host starts.
    Held,
    /// A host starts only for what it has a slot for, and what goes out.
    Turn,
    /// No host starts for something older than what it has started for.
    Older,
    /// What is below a host's znode only that host's daemon writes.
    Own,
    /// Slots change hands only in transactions that fail if somebody else was faster, and so do starts.
    Fence,
    /// What goes out is what the znode was set to, and goes on only as it may.
    Opening,
    /// No more hosts fail than may fail and have slots.
    Failures,
    /// What is written makes sense.
    Record,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    /// The transaction with which it came about.
    pub zxid: i64,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:#x}: {}", self.rule, self.zxid, self.what)
    }
}

/// What there was, so that a test can say that something has happened at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    pub transactions: usize,
    /// Slots that were granted.
    pub granted: usize,
    /// Slots that operators, or stewards for lost hosts, have taken back.
    pub taken_back: usize,
    pub started: usize,
    /// Results that say that a host has failed.
    pub failed: usize,
    /// Most slots that were held at once.
    pub most_held: usize,
    /// Changes that went out.
    pub serials: u64,
    /// Sessions that have granted slots.
    pub stewards: BTreeSet<i64>,
    /// Slots that were granted by who was not the steward any more; that is no fault, since the transaction was fenced.
    pub late_grants: usize,
    /// States in which rollouts have been.
    pub states: BTreeSet<String>,
    /// Sessions that have ended.
    pub ended_sessions: usize,
}

#[derive(Debug, Default)]
struct Znode {
    data: Vec<u8>,
    /// The session with which it goes; 0 if it stays.
    owner: i64,
}

/// Replays a log.
#[derive(Debug)]
pub struct Oracle {
    root: String,
    /// What is below the root.
    znodes: BTreeMap<String, Znode>,
    /// When each of the others was set.
    set: BTreeMap<String, BTreeSet<i64>>,
    ephemerals: BTreeMap<i64, BTreeSet<String>>,
    /// As which host a session is there.
    present: BTreeMap<i64, String>,
    rollouts: BTreeMap<String, Rollout>,
    violations: Vec<Violation>,
    figures: Figures,
}

impl Oracle {
    /// Judges a fleet with this root.
    pub fn judge(root: &str, log: &[Transaction]) -> Self {
        let mut oracle = Self {
            root: root.to_owned(),
            znodes: BTreeMap::new(),
            set: BTreeMap::new(),
            ephemerals: BTreeMap::new(),
            present: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            violations: Vec::new(),
            figures: Figures::default(),
        };
        for transaction in log {
            oracle.replay(transaction);
        }
        oracle
    }

    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The znodes below the root as they are at the end, with their data.
    pub fn znodes(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.znodes.iter().map(|(path, znode)| (&**path, &*znode.data))
    }

    /// The sessions of the hosts that are there at the end.
    pub fn sessions(&self) -> impl Iterator<Item = i64> {
        self.present.keys().copied()
    }

    /// Hosts that are there and take part at the end, but do not have what goes out.
    pub fn lacking(&self, rollout: &str) -> Vec<&str> {
        self.rollouts.get(rollout).map_or_else(Vec::new, |rollout| {
            let there: BTreeSet<&str> = self.present.values().map(String::as_str).collect();
            rollout.lacking().filter(|host| there.contains(host)).collect()
        })
    }

    fn replay(&mut self, transaction: &Transaction) {
        self.figures.transactions += 1;
        let mut before = BTreeMap::new();
        // By who is there before it: a host and its presence are forgotten together.
        for op in &transaction.ops {
            if let Op::Create { path, .. } | Op::Set { path, .. } | Op::Delete { path } = op
                && let Some(place) = Place::of(&self.root, path)
            {
                self.check_writer(&place, op, transaction);
            }
        }
        for op in &transaction.ops {
            if let Op::EndSession = op {
                self.figures.ended_sessions += 1;
                self.present.remove(&transaction.session);
                for path in self.ephemerals.remove(&transaction.session).unwrap_or_default() {
                    self.znodes.remove(&path);
                }
            }
            let (path, data) = match op {
                Op::Create { path, data, .. } | Op::Set { path, data, .. } => (path, Some(data)),
                Op::Delete { path } => (path, None),
                Op::Check { .. } | Op::SetAcl { .. } | Op::BeginSession { .. } | Op::EndSession => continue,
            };
            let Some(place) = Place::of(&self.root, path) else {
                self.set.entry(path.clone()).or_default().insert(transaction.zxid);
                continue;
            };
            let known = self.znodes.get(path).map(|znode| znode.data.clone());
            before.entry(path.clone()).or_insert((place, known));
            match (self.znodes.get_mut(path), data) {
                (Some(znode), Some(data)) => znode.data.clone_from(data),
                (None, Some(data)) => {
                    let is_ephemeral = matches!(op, Op::Create { ephemeral: true, .. });
                    let owner = if is_ephemeral { transaction.session } else { 0 };
                    if is_ephemeral {
                        self.ephemerals.entry(owner).or_default().insert(path.clone());
                    }
                    let data = data.clone();
                    self.znodes.insert(path.clone(), Znode { data, owner });
                }
                (_, None) => {
                    let owner = self.znodes.remove(path).map_or(0, |znode| znode.owner);
                    self.ephemerals.entry(owner).or_default().remove(path);
                }
            }
        }
        self.judge_changes(before, transaction);
    }

    /// Who may write there.
    fn check_writer(&mut self, place: &Place, op: &Op, transaction: &Transaction) {
        let (Place::Host(host) | Place::Live(host) | Place::Result(host, _) | Place::Below(host)) = place else {
            return;
        };
        let session = transaction.session;
        let presence = self.znodes.get(&format!("{}/hosts/{host}/live", self.root));
        let presence = presence.map(|znode| znode.owner);
        let other = self.present.get(&session).filter(|present| *present != host).cloned();
        let (is_delete, is_presence) = (matches!(op, Op::Delete { .. }), matches!(place, Place::Live(_)));
        let may = match (presence, &other) {
            (Some(owner), None) => owner == session,
            // It is forgotten by another host, which is there in its stead meanwhile.
            (Some(owner), Some(_)) => owner == session && is_delete,
            (None, Some(_)) => is_presence,
            (None, None) => true,
        };
        if !may {
            let who = other.as_ref();
            let who = who.map_or_else(|| format!("session {session:#x}"), |other| format!("host {other}"));
            self.report(
                Rule::Own,
                transaction.zxid,
                format!("{who} writes below host {host}: {transaction}"),
            );
        }
        if is_presence && other.is_none() {
            match op {
                Op::Create { ephemeral: true, .. } => drop(self.present.insert(session, host.clone())),
                Op::Delete { .. } => drop(self.present.remove(&session)),
                _ => {}
            }
        }
    }

    /// What has changed of rollouts.
    fn judge_changes(&mut self, before: BTreeMap<String, (Place, Option<Vec<u8>>)>, transaction: &Transaction) {
        let mut found = Vec::new();
        let mut rollouts: BTreeMap<String, Changed> = BTreeMap::new();
        for (path, (place, before)) in before {
            let now = self.znodes.get(&path).map(|znode| &*znode.data);
            let changed = place.rollout().map(|name| rollouts.entry(name.to_owned()).or_default());
            let Some(changed) = changed else { continue };
            if let Err(why) = changed.note(&place, before.as_deref(), now) {
                found.push((Rule::Record, format!("{path} {why}")));
            }
        }
        for (name, changed) in rollouts {
            let gate = format!("{}/rollouts/{name}", self.root);
            let office = self.znodes.get(&format!("{gate}/steward")).map(|znode| znode.owner);
            let rollout = self.rollouts.entry(name).or_default();
            let grants = changed.new_slots(rollout);
            if grants > 0 {
                self.figures.stewards.insert(transaction.session);
                self.figures.late_grants += if office == Some(transaction.session) { 0 } else { grants };
            }
            let mut judgement = rollout::Judgement {
                gate,
                transaction,
                set: &self.set,
                figures: &mut self.figures,
                found: &mut found,
            };
            rollout.change(changed, &mut judgement);
        }
        for (rule, what) in found {
            self.report(rule, transaction.zxid, what);
        }
    }

    fn report(&mut self, rule: Rule, zxid: i64, what: String) {
        self.violations.push(Violation { rule, zxid, what });
    }
}

/// Whether a result says that the slot is in use.
fn is_in_use(part: &Part) -> bool {
    matches!(&*part.state, "acting" | "verifying")
}
