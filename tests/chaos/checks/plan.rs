//! Of the plan.

use std::collections::BTreeMap;

use super::Check;
use crate::plan::{Episode, Fault, HOSTS, OWN_USER, Plan, SERVERS, Step, Write};
use crate::watches::{self, Node};

pub const CHECKS: &[Check] = &[
    ("the same seed gives the same plan", same),
    (
        "episodes are alike whether or not those before them were made",
        random_access,
    ),
    ("every kind of fault has its turn", rotation),
    (
        "what begins ends, once, and nothing of the same scope goes on meanwhile",
        well_formed,
    ),
    (
        "healthy watches are timed only beside what must not disturb them",
        canaries,
    ),
    ("processes are used up only where they are counted", processes),
    ("every watch is written to, in every way that fits it", writes),
];

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        faults: Fault::ALL.to_vec(),
    }
}

fn episodes(seed: u64, count: u64) -> Vec<Episode> {
    (0..count).map(|number| plan(seed).episode(number)).collect()
}

fn same() {
    assert_eq!(episodes(7, 20), episodes(7, 20));
    assert_ne!(episodes(7, 20), episodes(8, 20));
}

fn random_access() {
    assert_eq!(plan(7).episode(19), episodes(7, 20)[19]);
}

fn rotation() {
    for seed in 0..5 {
        let mut times: BTreeMap<Fault, u64> = BTreeMap::new();
        // Half an hour, on a slow machine.
        for episode in episodes(seed, 130) {
            for trouble in episode.troubles {
                *times.entry(trouble.fault).or_default() += 1;
            }
        }
        for fault in Fault::ALL {
            assert!(
                times.get(fault).is_some_and(|times| *times >= 20),
                "{fault:?}: {times:?}"
            );
        }
    }
}

fn well_formed() {
    for episode in episodes(3, 200) {
        let mut open: Vec<usize> = Vec::new();
        let mut done = Vec::new();
        for step in &episode.steps {
            match step {
                Step::Begin(index) => {
                    let new = &episode.troubles[*index];
                    assert!(new.host < HOSTS && new.server < SERVERS && new.hold < 10_000);
                    for other in open.iter().map(|other| &episode.troubles[*other]) {
                        let scope = other.fault.scope();
                        let elsewhere = !scope.is_shared() && other.host != new.host;
                        assert!(elsewhere || scope != new.fault.scope(), "{episode}");
                    }
                    open.push(*index);
                }
                Step::End(index) => {
                    assert!(open.contains(index), "{episode}");
                    open.retain(|other| other != index);
                    done.push(*index);
                }
                Step::Write { .. } | Step::Canary => {}
            }
        }
        done.sort();
        assert!(
            open.is_empty() && done == Vec::from_iter(0..episode.troubles.len()),
            "{episode}"
        );
    }
}

fn canaries() {
    for episode in episodes(3, 60) {
        let timed = episode.steps.contains(&Step::Canary);
        let tame = episode
            .troubles
            .iter()
            .all(|trouble| trouble.fault.spares_the_healthy());
        assert_eq!(timed, tame, "{episode}");
    }
}

fn processes() {
    let troubles = || episodes(3, 60).into_iter().flat_map(|episode| episode.troubles);
    let exhausting = troubles().filter(|trouble| trouble.fault == Fault::ActionExhaust);
    assert!(exhausting.clone().count() > 5);
    assert!(exhausting.map(|trouble| trouble.host).all(|host| host == OWN_USER));
}

fn writes() {
    let mut seen: BTreeMap<&str, Vec<Write>> = BTreeMap::new();
    for step in episodes(3, 100).into_iter().flat_map(|episode| episode.steps) {
        if let Step::Write { watch, write } = step {
            seen.entry(watch).or_default().push(write);
        }
    }
    for watch in watches::WATCHES.iter().filter(|watch| watch.name != "canary") {
        let has = |write: &Write| seen[watch.name].contains(write);
        match watch.node {
            Node::Data => assert!(has(&Write::Set) && has(&Write::Delete) && has(&Write::Recreate)),
            Node::Children => assert!(has(&Write::AddChild) && has(&Write::RemoveChild) && has(&Write::Recreate)),
            // The root of a subtree stays, so that what is told of it can be judged.
            Node::Tree => assert!(has(&Write::Set) && has(&Write::AddChild) && !has(&Write::Delete)),
        }
    }
}
