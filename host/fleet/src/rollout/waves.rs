//! Which host is in which wave, for people. It must not be used to decide: who waits is chosen anew whenever hosts come and go.

use std::collections::BTreeMap;

use super::world::{HostState, World};

impl World {
    /// The wave of each host, counted from 0; nothing of hosts that no wave counts: they are absent, declined, or have another znode.
    /// Those that had a slot for this change are in the wave in which they got it, as far as its share and the order of slots say.
    pub fn waves<'a>(&self, states: &'a [(String, HostState)]) -> BTreeMap<&'a str, usize> {
        let counts = |state: &HostState| !matches!(state, HostState::Absent | HostState::Declined | HostState::Other);
        let mut hosts: Vec<_> = states
            .iter()
            .filter(|(_, state)| counts(state))
            .map(|(host, state)| {
                let waits = *state == HostState::Waiting;
                let turn = waits.then(|| self.turn(host));
                (waits, self.slot(host), turn, host.as_str())
            })
            .collect();
        hosts.sort_unstable();
        let mut waves = BTreeMap::new();
        for (number, wave) in self.gate.plan.waves.iter().enumerate() {
            let takes = |host: &str| self.hosts.get(host).is_some_and(|view| wave.takes(&view.labels));
            let in_wave: Vec<_> = hosts
                .iter()
                .map(|(.., host)| *host)
                .filter(|host| takes(host))
                .collect();
            for host in in_wave.iter().take(wave.quota(in_wave.len())) {
                waves.entry(*host).or_insert(number);
            }
        }
        waves
    }

    /// The number of the slot that a host has, or has had for this change. Those that needed none come before all others.
    fn slot(&self, host: &str) -> Option<u64> {
        let part = self.hosts.get(host).and_then(|view| view.part.as_ref());
        let of_part = part.filter(|(part, _)| part.serial == self.gate.serial);
        let held = self.held(host).map(|grant| grant.slot);
        let slot = held.or_else(|| of_part.and_then(|(part, _)| part.slot));
        slot.map(|slot| slot.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FormatVersion, ResultState};
    use crate::rollout::model::gate;
    use crate::rollout::records::{Part, PartState, Plan, PlanWave, SlotId};
    use crate::rollout::world::{HostView, Standing};
    use twitcher_model::{WatchType, Wave};

    /// A host that has had the slot of this number, or waits for one.
    fn host(canary: bool, slot: Option<u64>) -> HostView {
        let slot = slot.map(|number| SlotId { epoch: 1, number });
        let part = Part {
            rollout: "repo".parse().unwrap(),
            serial: u64::from(slot.is_some()),
            slot,
            state: slot.map_or(PartState::None, |_| PartState::Succeeded),
            policy: String::new(),
            host: String::new(),
        };
        let standing = Standing {
            state: ResultState::Behind,
            good: None,
            znode: "/git/head".to_owned(),
            kind: WatchType::Data,
            last: None,
        };
        HostView {
            live: true,
            labels: canary
                .then(|| ("canary".to_owned(), "yes".to_owned()))
                .into_iter()
                .collect(),
            part: Some((part, standing)),
            garbled: false,
        }
    }

    #[test]
    fn each_host_is_in_the_wave_that_it_had_its_turn_in() {
        let mut gate = gate();
        assert_eq!(gate.v, FormatVersion);
        gate.serial = 1;
        let wave = |canary: bool, percent| {
            PlanWave::from(&Wave {
                labels: host(canary, None).labels,
                percent,
                ..Wave::default()
            })
        };
        gate.plan = Plan {
            waves: vec![wave(true, 100), wave(false, 50), wave(false, 100)],
            ..gate.plan
        };
        let hosts = [
            ("a", host(false, Some(3)), HostState::Current),
            ("b", host(true, Some(1)), HostState::Current),
            ("c", host(false, Some(2)), HostState::Failed),
            ("d", host(false, None), HostState::Waiting),
            ("e", host(false, None), HostState::Waiting),
            ("f", host(false, None), HostState::Absent),
            ("g", host(true, None), HostState::Declined),
        ];
        let states: Vec<_> = hosts
            .iter()
            .map(|(name, _, state)| ((*name).to_owned(), *state))
            .collect();
        let world = World {
            gate,
            granted: 3,
            grants: BTreeMap::new(),
            hosts: hosts
                .into_iter()
                .map(|(name, view, _)| (name.to_owned(), view))
                .collect(),
        };
        let waves = world.waves(&states);
        // Of five that count, three are half: the canary among them.
        assert_eq!(
            waves,
            BTreeMap::from([("b", 0), ("c", 1), ("a", 1), ("d", 2), ("e", 2)])
        );
    }
}
