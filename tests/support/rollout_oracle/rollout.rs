//! One rollout, replayed: which slots are held, who has started for what, and what of that must not be.

use std::collections::{BTreeMap, BTreeSet};

use super::records::{Changed, Gate, Grant, Part, number, zxid};
use super::{Figures, Op, Rule, Transaction, is_in_use};

#[derive(Debug, Default)]
pub struct Rollout {
    gate: Option<Gate>,
    /// How many slots the counter says were granted.
    granted: u64,
    grants: BTreeMap<String, Grant>,
    parts: BTreeMap<String, Part>,
    /// Slots that their hosts have given back.
    over: BTreeSet<(String, String)>,
    /// Hosts whose slot is in force.
    held: BTreeSet<String>,
    /// What each host has started for last: the change, and the state.
    started: BTreeMap<String, (u64, String)>,
    /// Hosts that count as failed for this change.
    failed: BTreeSet<String>,
}

/// A transaction that is judged, and what was found.
pub struct Judgement<'a> {
    /// The znode of the rollout.
    pub gate: String,
    pub transaction: &'a Transaction,
    /// When each znode outside the fleet was set.
    pub set: &'a BTreeMap<String, BTreeSet<i64>>,
    pub figures: &'a mut Figures,
    pub found: &'a mut Vec<(Rule, String)>,
}

impl Judgement<'_> {
    fn report(&mut self, rule: Rule, what: impl Into<String>) {
        self.found.push((rule, what.into()));
    }

    /// Whether it fails if the znode is not what was read.
    fn checks(&self, path: &str) -> bool {
        let ops = &self.transaction.ops;
        ops.iter()
            .any(|op| matches!(op, Op::Check { path: checked } if checked == path))
    }

    fn sets(&self, path: &str) -> bool {
        let ops = &self.transaction.ops;
        ops.iter()
            .any(|op| matches!(op, Op::Set { path: set, .. } if set == path))
    }
}

impl Rollout {
    /// The slot that a host was last granted.
    pub fn slot(&self, host: &str) -> Option<&str> {
        self.grants.get(host).map(|grant| &*grant.slot)
    }

    /// Hosts that take part and do not have what goes out.
    pub fn lacking(&self) -> impl Iterator<Item = &str> {
        let goal = self.gate.as_ref().and_then(|gate| gate.goal.as_ref());
        let has = move |part: &Part| goal.is_some_and(|goal| part.good.as_ref() == Some(&goal.state));
        let lacking = self.parts.iter().filter(move |(_, part)| !has(part));
        lacking.map(|(host, _)| &**host)
    }

    fn is_over(&self, host: &str, slot: &str) -> bool {
        self.over.contains(&(host.to_owned(), slot.to_owned()))
    }

    /// Takes what a transaction has changed, and judges it.
    pub fn change(&mut self, changed: Changed, judgement: &mut Judgement<'_>) {
        if let Some(gate) = changed.gate {
            self.change_gate(gate, judgement);
        }
        let (before, granted) = (self.granted, changed.granted);
        if let Some(granted) = granted {
            self.granted = granted;
        }
        for (host, part) in changed.parts {
            self.change_part(&host, part, judgement);
        }
        if !changed.grants.is_empty() {
            self.change_grants(changed.grants, before, judgement);
        }
    }

    fn change_gate(&mut self, gate: Option<Gate>, judgement: &mut Judgement<'_>) {
        let Some(now) = gate else {
            // Somebody has deleted it: nothing is left of it but what the hosts have seen.
            let started = std::mem::take(&mut self.started);
            *self = Self {
                started,
                ..Self::default()
            };
            return;
        };
        judgement.figures.states.insert(now.state.clone());
        let Some(before) = self.gate.replace(now.clone()) else {
            return;
        };
        if before.epoch != now.epoch {
            judgement.report(Rule::Opening, "the gate has another epoch, and was not deleted");
        }
        if before.goal == now.goal {
            if before.serial != now.serial {
                judgement.report(
                    Rule::Opening,
                    format!("change {} is what {} was", now.serial, before.serial),
                );
            }
            if !may_become(&before, &now) {
                let (from, to) = (&before.state, &now.state);
                judgement.report(Rule::Opening, format!("a rollout that is {from} has become {to}"));
            }
        } else {
            self.failed.clear();
            judgement.figures.serials += 1;
            self.judge_opening(&before, &now, judgement);
        }
        // Who is forgiven counts no more.
        let parts = &self.parts;
        let counts = |host: &String| {
            let slot = parts.get(host).and_then(|part| part.slot.as_deref());
            slot.is_some_and(|slot| number(slot) > now.forgiven)
        };
        self.failed.retain(counts);
    }

    fn judge_opening(&self, before: &Gate, now: &Gate, judgement: &mut Judgement<'_>) {
        if now.serial != before.serial + 1 {
            let (from, to) = (before.serial, now.serial);
            judgement.report(Rule::Opening, format!("change {to} comes after {from}"));
        }
        let expected = if before.state == "paused" { "paused" } else { "rolling" };
        if now.state != expected {
            let (from, to) = (&before.state, &now.state);
            judgement.report(Rule::Opening, format!("a newer change has made {to} of {from}"));
        }
        let Some(goal) = now.goal.as_ref().filter(|goal| goal.kind == "data") else {
            return;
        };
        let Some(set) = zxid(&goal.state) else { return };
        let older = before.goal.as_ref().filter(|before| before.znode == goal.znode);
        if older
            .and_then(|older| zxid(&older.state))
            .is_some_and(|older| older >= set)
        {
            judgement.report(
                Rule::Older,
                format!("what goes out is {} now, which is older", goal.state),
            );
        }
        if !judgement.set.get(&goal.znode).is_some_and(|all| all.contains(&set)) {
            judgement.report(Rule::Opening, format!("{} never was {}", goal.znode, goal.state));
        }
    }

    fn change_part(&mut self, host: &str, part: Option<Part>, judgement: &mut Judgement<'_>) {
        let Some(part) = part else {
            self.parts.remove(host);
            return;
        };
        let before = self.parts.insert(host.to_owned(), part.clone());
        let Some(slot) = part.slot.clone() else { return };
        if is_in_use(&part) && self.is_over(host, &slot) {
            judgement.report(Rule::Exit, format!("{host} uses slot {slot}, which it has given back"));
        }
        let is_same = before.is_some_and(|before| before.slot == part.slot && before.state == part.state);
        // Also the same once more, after a restart of the daemon.
        if part.state == "acting" && (!is_same || judgement.checks(&judgement.gate)) {
            self.judge_start(host, &part, &slot, judgement);
        }
        let has_failed = matches!(&*part.state, "failed" | "unwell");
        if !matches!(&*part.state, "succeeded" | "declined") && !has_failed {
            return;
        }
        if self.slot(host) == Some(&*slot) {
            self.held.remove(host);
        }
        if self.over.insert((host.to_owned(), slot.clone())) && has_failed {
            judgement.figures.failed += 1;
            self.judge_failure(host, &part, &slot, judgement);
        }
    }

    fn judge_failure(&mut self, host: &str, part: &Part, slot: &str, judgement: &mut Judgement<'_>) {
        let Some(gate) = self.gate.as_ref() else { return };
        if part.serial != gate.serial || number(slot) <= gate.forgiven {
            return;
        }
        self.failed.insert(host.to_owned());
        let (failed, most) = (self.failed.len(), gate.max_failures + gate.at_once);
        if failed > most {
            let what = format!(
                "{failed} hosts have failed for change {}, and {most} may at most",
                gate.serial
            );
            judgement.report(Rule::Failures, what);
        }
    }

    fn judge_start(&mut self, host: &str, part: &Part, slot: &str, judgement: &mut Judgement<'_>) {
        judgement.figures.started += 1;
        let path = format!("{}/grants/{host}", judgement.gate);
        if !judgement.checks(&judgement.gate) || !judgement.checks(&path) {
            judgement.report(
                Rule::Fence,
                format!("{host} starts whatever has become of the gate and its slot"),
            );
        }
        let Some(gate) = &self.gate else {
            judgement.report(Rule::Turn, format!("{host} starts without a rollout"));
            return;
        };
        if !gate.is_open() {
            judgement.report(Rule::Held, format!("{host} starts while the rollout is {}", gate.state));
        }
        let grant = self
            .grants
            .get(host)
            .filter(|grant| grant.slot == slot && grant.taken_back.is_none());
        let Some(grant) = grant else {
            judgement.report(
                Rule::Turn,
                format!("{host} starts with slot {slot}, which it does not have"),
            );
            return;
        };
        let goal = gate.goal.as_ref().map(|goal| &goal.state);
        if goal != Some(&grant.state) || gate.serial != grant.serial || part.serial != grant.serial {
            let (state, serial) = (&grant.state, grant.serial);
            judgement.report(
                Rule::Turn,
                format!("{host} starts for {state} of change {serial}, which does not go out"),
            );
        }
        let now = (grant.serial, grant.state.clone());
        if let Some(before) = self.started.insert(host.to_owned(), now.clone()) {
            let is_older = match (zxid(&before.1), zxid(&now.1)) {
                (Some(before), Some(now)) => now < before,
                _ => false,
            };
            if is_older || now.0 < before.0 {
                judgement.report(Rule::Older, format!("{host} starts for {now:?} after {before:?}"));
            }
        }
    }

    fn change_grants(
        &mut self,
        changed: BTreeMap<String, Option<Grant>>,
        granted_before: u64,
        judgement: &mut Judgement<'_>,
    ) {
        // All of it is deleted together.
        let Some(gate) = self.gate.clone() else { return };
        let counter = format!("{}/grants", judgement.gate);
        if !judgement.checks(&judgement.gate) || !judgement.sets(&counter) {
            let what = "slots change hands whatever has become of the gate and of others";
            judgement.report(Rule::Fence, what);
        }
        let (mut new, mut new_holders) = (0, false);
        for (host, grant) in changed {
            let was_held = self.held.remove(&host);
            let former = self.grants.remove(&host);
            let held = former.as_ref().filter(|_| was_held);
            let Some(grant) = grant else {
                if held.is_some() && self.parts.contains_key(&host) {
                    judgement.report(
                        Rule::Exit,
                        format!("the slot of {host} is gone, which it has not given back"),
                    );
                }
                continue;
            };
            match &former {
                Some(former) if former.slot == grant.slot => {
                    let taken_back = grant.taken_back.clone();
                    judgement.figures.taken_back += usize::from(taken_back.is_some() && former.taken_back.is_none());
                    if grant
                        != (Grant {
                            taken_back,
                            ..former.clone()
                        })
                    {
                        judgement.report(Rule::Fence, format!("slot {} is for something else now", grant.slot));
                    }
                }
                _ => {
                    if held.is_some_and(|held| held.serial >= grant.serial) {
                        judgement.report(
                            Rule::Exit,
                            format!("{host} has another slot, and has not given its own back"),
                        );
                    }
                    new += self.judge_grant(&host, &grant, &gate, granted_before, judgement);
                }
            }
            if grant.taken_back.is_none() && !self.is_over(&host, &grant.slot) {
                self.held.insert(host.clone());
                new_holders |= !was_held;
            }
            self.grants.insert(host, grant);
        }
        if self.granted != granted_before + new {
            let what = format!(
                "{new} slots are granted, and the counter goes from {granted_before} to {}",
                self.granted
            );
            judgement.report(Rule::Fence, what);
        }
        let held = self.held.len();
        judgement.figures.most_held = held.max(judgement.figures.most_held);
        // With a newer change there may be fewer slots than are held.
        if held > gate.at_once && new_holders {
            let what = format!("{held} slots are held, and there are {}: {:?}", gate.at_once, self.held);
            judgement.report(Rule::Bound, what);
        }
    }

    /// Judges a slot that was not there before; whether the counter has to count it.
    fn judge_grant(&self, host: &str, grant: &Grant, gate: &Gate, before: u64, judgement: &mut Judgement<'_>) -> u64 {
        let Grant {
            slot, serial, state, ..
        } = grant;
        let number = number(slot);
        // Somebody has deleted the slot of a host that uses it: that is put back, also while the rollout is held.
        let part = self.parts.get(host);
        if part.is_some_and(|part| is_in_use(part) && part.slot.as_ref() == Some(slot)) {
            return 0;
        }
        judgement.figures.granted += 1;
        if number <= before || number > self.granted {
            judgement.report(
                Rule::Fence,
                format!("{host} is granted slot {slot}, and {before} were granted before"),
            );
        }
        if !gate.is_open() {
            judgement.report(
                Rule::Held,
                format!("{host} is granted a slot while the rollout is {}", gate.state),
            );
        }
        if *serial != gate.serial || gate.goal.as_ref().is_none_or(|goal| goal.state != *state) {
            judgement.report(
                Rule::Turn,
                format!("{host} is granted a slot for {state}, which does not go out"),
            );
        }
        1
    }
}

/// Whether a rollout may go on so, with the same change.
fn may_become(before: &Gate, now: &Gate) -> bool {
    let (from, to) = (&*before.state, &*now.state);
    match from {
        _ if from == to => true,
        "rolling" | "baking" | "checking" | "promoting" => true,
        "done" => matches!(to, "rolling" | "paused" | "halted"),
        "paused" => to == "aborted" || to == before.before.as_deref().unwrap_or("rolling"),
        "halted" => matches!(to, "rolling" | "checking" | "promoting" | "done" | "aborted"),
        "aborted" => to == "paused",
        _ => false,
    }
}
