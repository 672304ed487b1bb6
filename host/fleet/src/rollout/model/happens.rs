//! What can happen next in a world, each as the world that it leads to.

use std::time::Duration;

use super::{Budget, Defect, Search, State, name};
use crate::record::StateId;
use crate::rollout::after_wave::CheckAnswer;
use crate::rollout::context::Verification;
use crate::rollout::decide::{Decision, Slots};
use crate::rollout::holder::{Act, may_start, next};
use crate::rollout::records::{GateState, PartState};

impl Search {
    /// All that can happen next.
    pub(super) fn steps(&self, state: &State) -> Vec<State> {
        let mut after = Vec::new();
        let mut step = |change: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            change(&mut next);
            after.push(next);
        };
        for steward in 0..2 {
            match &state.stewards[steward] {
                None => {
                    let read = |decision| Some((decision, state.gate_version, state.counter_version));
                    match self.decided(state, None) {
                        Decision::Wait(_) => {}
                        Decision::Check((serial, _)) => {
                            let good = read(self.decided(state, Some(CheckAnswer::Good)));
                            step(&|next| {
                                next.stewards[steward] = good.clone();
                                next.checked = serial;
                            });
                            if state.left.failures > 0 {
                                let bad = read(self.decided(state, Some(CheckAnswer::Bad("no".to_owned()))));
                                step(&|next| {
                                    next.stewards[steward] = bad.clone();
                                    next.left.failures -= 1;
                                });
                            }
                        }
                        decision => {
                            let read = read(decision);
                            step(&|next| next.stewards[steward] = read.clone());
                        }
                    }
                }
                Some((decision, gate, counter)) => {
                    step(&|next| {
                        next.stewards[steward] = None;
                        self.commit(next, decision, *gate, *counter);
                    });
                    if state.left.crashes > 0 {
                        step(&|next| {
                            next.stewards[steward] = None;
                            next.left.crashes -= 1;
                        });
                    }
                }
            }
        }
        if state.left.newer > 0 {
            step(&|next| {
                next.znode += 1;
                next.left.newer -= 1;
            });
        }
        if state.left.pauses > 0 && state.gate.state.is_open() && state.gate.state != GateState::Done {
            step(&|next| {
                next.gate.state = GateState::Paused;
                next.gate_version += 1;
                next.left.pauses -= 1;
            });
        }
        if state.left.retries > 0 && state.gate.state == GateState::Halted {
            step(&|next| {
                next.left.retries -= 1;
                next.retry();
            });
        }
        for (at, host) in state.hosts.iter().enumerate() {
            if host.seen != state.znode && host.live {
                step(&|next| next.hosts[at].see(state.znode));
            }
            if let Some(running) = host.acting {
                step(&|next| next.hosts[at].end(running, true, self.kind));
                if state.left.failures > 0 {
                    step(&|next| {
                        next.hosts[at].end(running, false, self.kind);
                        next.left.failures -= 1;
                    });
                }
            }
            if let Some((slot, Verification::Running)) = host.verification {
                let mut ends = |how, budget: &dyn Fn(&mut Budget)| {
                    step(&|next| {
                        next.hosts[at].verification = Some((slot, how));
                        next.hosts[at].unproven = None;
                        if how == Verification::Well {
                            next.hosts[at].unverified = None;
                        }
                        budget(&mut next.left);
                    });
                };
                ends(Verification::Well, &|_| {});
                if state.left.failures > 0 {
                    ends(Verification::Unwell, &|left| left.failures -= 1);
                }
            }
            // The daemon is started anew.
            if state.left.crashes > 0 && host.verification.is_some() {
                step(&|next| {
                    next.hosts[at].verification = None;
                    next.left.crashes -= 1;
                });
            }
            let is_in_use = host.acting.is_some() || host.verification.is_some();
            if host.live && state.left.losses > 0 && is_in_use {
                step(&|next| {
                    next.hosts[at].live = false;
                    next.left.losses -= 1;
                });
            }
            if !host.live {
                step(&|next| next.hosts[at].live = true);
                continue;
            }
            if state.left.leaves > 0 && host.acting.is_none() && host.starting.is_none() && host.part.is_some() {
                step(&|next| {
                    (next.hosts[at].part, next.hosts[at].again) = (None, None);
                    (next.hosts[at].verification, next.hosts[at].unproven) = (None, None);
                    next.left.leaves -= 1;
                    next.hosts[at].remembers = self.defect != Defect::UnverifiedForgotten;
                });
            }
            if let Some((slot, running, gate, grant)) = host.starting {
                let is_as_read = (state.gate_version == gate || self.defect == Defect::NoGateCheck)
                    && host.grant.as_ref().is_some_and(|(_, version)| *version == grant);
                step(&|next| {
                    let serial = next.gate.serial;
                    let host = &mut next.hosts[at];
                    host.starting = None;
                    if is_as_read {
                        host.write(slot, serial, PartState::Acting, self.kind);
                        host.start(running);
                    }
                });
                if is_as_read && state.left.crashes > 0 {
                    step(&|next| {
                        let serial = next.gate.serial;
                        let host = &mut next.hosts[at];
                        host.starting = None;
                        host.write(slot, serial, PartState::Acting, self.kind);
                        next.left.crashes -= 1;
                    });
                }
                continue;
            }
            let part = host.part.as_ref().map(|(part, result, good)| (part, *result, *good));
            let mut act = next(
                Some(&state.gate),
                host.grant(),
                part,
                &host.local(self.kind),
                Duration::ZERO,
                host.again,
            );
            if self.defect == Defect::OldSlotUsed && part.is_none() {
                act = Act::Tell;
            }
            if let (Defect::UnverifiedFrees, Act::Verify(slot, _)) = (self.defect, act) {
                act = Act::GiveBack(slot, PartState::Succeeded);
            }
            match act {
                Act::Verify(slot, of) => {
                    let serial = host.grant().map_or(0, |grant| grant.serial);
                    step(&|next| {
                        let host = &mut next.hosts[at];
                        host.write(slot, serial, PartState::Verifying, self.kind);
                        if StateId::Zxid(host.seen) == of && host.acting.is_none() {
                            host.verification = Some((slot, Verification::Running));
                        }
                    });
                }
                Act::Start(slot) => {
                    let version = host.grant.as_ref().map_or(0, |(_, version)| *version);
                    if may_start(&state.gate, host.grant(), slot, StateId::Zxid(host.seen)).is_ok() {
                        let read = (slot, host.seen, state.gate_version, version);
                        step(&|next| next.hosts[at].starting = Some(read));
                    }
                }
                Act::Again(slot) => step(&|next| {
                    next.hosts[at].again = Some(slot);
                    next.hosts[at].given_up = None;
                    next.hosts[at].reruns = true;
                }),
                Act::GiveBack(slot, how) => {
                    let serial = host.grant().map_or(0, |grant| grant.serial);
                    step(&|next| next.hosts[at].write(slot, serial, how, self.kind));
                }
                Act::EndVerify => step(&|next| next.hosts[at].verification = None),
                Act::Tell => step(&|next| next.hosts[at].tell(self.kind)),
                Act::LookAgain | Act::Wait => {}
            }
        }
        after
    }

    fn commit(&self, state: &mut State, decision: &Decision, gate: u32, counter: u32) {
        let is_as_read = |now: u32, read: u32| now == read || self.defect == Defect::NoVersionCheck;
        match decision {
            Decision::Set(next) if is_as_read(state.gate_version, gate) => {
                state.gate = (**next).clone();
                state.gate_version += 1;
            }
            Decision::Slots(Slots {
                grants,
                deletes,
                granted,
            }) if is_as_read(state.gate_version, gate) && is_as_read(state.counter_version, counter) => {
                state.granted = *granted;
                state.counter_version += 1;
                for (at, host) in state.hosts.iter_mut().enumerate() {
                    if deletes.contains(&name(at)) {
                        host.grant = None;
                    }
                    if let Some((_, grant)) = grants.iter().find(|(host, _)| *host == name(at)) {
                        host.grant = Some((grant.clone(), state.counter_version));
                    }
                }
            }
            _ => {}
        }
    }
}
