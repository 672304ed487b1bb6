//! Long random schedules in worlds that are too large to be searched.

use proptest::prelude::*;

use super::{Budget, Defect, Kind, Search};

/// Most steps of a schedule.
const STEPS: usize = 600;

fn worlds() -> impl Strategy<Value = (usize, u32, Kind)> {
    let kind = any::<[bool; 3]>().prop_map(|[verifies, checks, restarts]| Kind {
        verifies,
        checks,
        restarts,
    });
    (2..=8_usize, 1..=4_u32, kind)
}

fn budgets() -> impl Strategy<Value = Budget> {
    any::<[u8; 7]>().prop_map(|[newer, failures, pauses, leaves, losses, crashes, retries]| Budget {
        newer: newer % 6,
        failures: failures % 6,
        pauses: pauses % 2,
        leaves: leaves % 3,
        losses: losses % 4,
        crashes: crashes % 8,
        retries: retries % 4,
    })
}

/// Plays a schedule; what happens next is chosen by these numbers. An error is how a state breaks what is promised.
fn play(world: &Search, choices: &[u16]) -> Result<(), String> {
    let mut state = world.first();
    for choice in choices {
        let mut steps = world.steps(&state);
        world.judge(&state, &steps)?;
        if steps.is_empty() {
            return Ok(());
        }
        state = steps.swap_remove(usize::from(*choice) % steps.len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_promised_holds_on_any_schedule(
        (hosts, slots, kind) in worlds(),
        budget in budgets(),
        choices in prop::collection::vec(any::<u16>(), STEPS),
    ) {
        let world = Search::new(hosts, slots, budget, kind, Defect::None);
        prop_assert_eq!(play(&world, &choices), Ok(()));
    }
}

/// A few hundred schedules find a defect that only shows when several things come together.
#[test]
fn schedules_find_what_is_wrong() {
    let kind = Kind {
        verifies: true,
        ..Kind::default()
    };
    let budget = Budget {
        newer: 2,
        failures: 2,
        pauses: 0,
        leaves: 0,
        losses: 2,
        crashes: 2,
        retries: 2,
    };
    let mut random = fastrand::Rng::with_seed(7);
    for defect in [Defect::UnverifiedFrees, Defect::NoVersionCheck] {
        let world = Search::new(8, 2, budget, kind, defect);
        let finds = (0..300).any(|_| {
            let choices: Vec<u16> = (0..STEPS).map(|_| random.u16(..)).collect();
            play(&world, &choices).is_err()
        });
        assert!(finds, "{defect:?} is not found");
    }
}
