//! All states that can come about in a small world.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::{Budget, Defect, Kind, NOTHING, Search, State};

impl Search {
    /// Looks at all states that can come about. An error is how one of them breaks what is promised.
    fn run(&self) -> Result<usize, String> {
        let digest = |state: &State| {
            let (mut one, mut two) = (DefaultHasher::new(), DefaultHasher::new());
            state.hash(&mut one);
            (state, 1).hash(&mut two);
            (one.finish(), two.finish())
        };
        let first = self.first();
        let mut known = HashSet::from([digest(&first)]);
        let mut open = vec![first];
        while let Some(state) = open.pop() {
            let steps = self.steps(&state);
            self.judge(&state, &steps)?;
            open.extend(steps.into_iter().filter(|next| known.insert(digest(next))));
        }
        Ok(known.len())
    }
}

const PLAIN: Kind = Kind {
    verifies: false,
    checks: false,
    restarts: false,
};
const VERIFIES: Kind = Kind {
    verifies: true,
    ..PLAIN
};
const CHECKS: Kind = Kind { checks: true, ..PLAIN };

#[rustfmt::skip]
const WORLDS: [(usize, u32, Kind, Budget); 20] = [
    (4, 2, PLAIN, NOTHING),
    (4, 2, PLAIN, Budget { failures: 1, ..NOTHING }),
    (4, 2, PLAIN, Budget { pauses: 1, ..NOTHING }),
    (3, 2, PLAIN, Budget { leaves: 1, losses: 1, ..NOTHING }),
    (3, 2, PLAIN, Budget { failures: 1, crashes: 2, ..NOTHING }),
    (2, 1, PLAIN, Budget { newer: 1, failures: 1, ..NOTHING }),
    (2, 1, PLAIN, Budget { newer: 1, pauses: 1, ..NOTHING }),
    (2, 1, PLAIN, Budget { newer: 1, crashes: 1, ..NOTHING }),
    (2, 1, PLAIN, Budget { newer: 1, leaves: 1, ..NOTHING }),
    (3, 2, PLAIN, Budget { newer: 1, ..NOTHING }),
    (3, 2, VERIFIES, NOTHING),
    (3, 1, VERIFIES, Budget { failures: 1, retries: 1, ..NOTHING }),
    (2, 1, VERIFIES, Budget { failures: 1, crashes: 1, losses: 1, ..NOTHING }),
    (2, 1, VERIFIES, Budget { newer: 1, crashes: 1, ..NOTHING }),
    (2, 1, VERIFIES, Budget { newer: 1, pauses: 1, ..NOTHING }),
    (2, 1, VERIFIES, Budget { newer: 1, failures: 1, ..NOTHING }),
    (2, 1, VERIFIES, Budget { failures: 1, leaves: 2, ..NOTHING }),
    (2, 1, CHECKS, Budget { failures: 1, retries: 1, crashes: 1, ..NOTHING }),
    (2, 1, CHECKS, Budget { newer: 1, failures: 1, ..NOTHING }),
    (2, 1, Kind { verifies: true, checks: true, restarts: true }, Budget { newer: 1, ..NOTHING }),
];

#[test]
fn whatever_happens_no_more_act_than_may_and_none_starts_when_it_is_closed() {
    for (hosts, slots, kind, budget) in WORLDS {
        let begun = std::time::Instant::now();
        let states = Search::new(hosts, slots, budget, kind, Defect::None).run();
        let states = states.unwrap_or_else(|error| panic!("{kind:?} {budget:?}: {error}"));
        println!(
            "{hosts} hosts, {slots} slots, {kind:?}, {budget:?}: {states} states in {:?}",
            begun.elapsed()
        );
        assert!(states > 500, "{states} states are no search");
    }
}

#[test]
fn the_search_finds_what_is_wrong() {
    let newer = Budget { newer: 1, ..NOTHING };
    for (defect, kind, budget) in [
        (Defect::NoVersionCheck, PLAIN, newer),
        (Defect::LostFrees, PLAIN, Budget { losses: 1, ..NOTHING }),
        (Defect::NoGateCheck, PLAIN, Budget { pauses: 1, ..NOTHING }),
        (Defect::OldSlotUsed, PLAIN, Budget { leaves: 1, ..newer }),
        (Defect::UnverifiedFrees, VERIFIES, NOTHING),
        (Defect::UnverifiedForgotten, VERIFIES, Budget { leaves: 1, ..NOTHING }),
        (Defect::CheckIgnored, CHECKS, NOTHING),
    ] {
        let found = Search::new(3, 1, budget, kind, defect).run();
        assert!(found.is_err(), "{defect:?} is not found");
    }
}
