//! Allotting run ids, and what is random about each run.

use twitcher_model::RunId;

/// Bits of an id below those of the time in milliseconds.
const MILLISECOND: u32 = 20;

/// Allots the ids of the runs of one daemon: see [`RunId`] for how they are made up.
#[derive(Debug)]
pub struct RunIds {
    next: u64,
    seed: u64,
}

impl RunIds {
    /// For a daemon that started at so many milliseconds since 1970.
    pub fn new(started_millis: u64) -> Self {
        Self {
            next: started_millis << MILLISECOND,
            seed: 0,
        }
    }

    /// With a seed for [`RunIds::chance`]: without one, daemons that started in the same millisecond would retry as one.
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Bits that look random but depend on the seed and the run alone, so that what is decided by them can be tested.
    pub fn chance(&self, run: RunId) -> u64 {
        // The finalizer of SplitMix64: ids differ in few bits.
        let mut bits = (self.seed ^ run.0).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// For a daemon that started then and knows of a run of a former one: its ids are later whatever the clock says. What the former
    /// allotted last it may not have written down when it was killed, so these begin with the next millisecond.
    pub fn after(newest: Option<RunId>, started_millis: u64) -> Self {
        let earliest = newest.map_or(0, |newest| (newest.0 >> MILLISECOND).saturating_add(1));
        Self::new(started_millis.max(earliest))
    }

    /// The next id. A daemon that makes more than a million runs counts on in the bits of the time: ids stay unique as long
    /// as there were fewer than a million runs in each millisecond of its life.
    pub fn allot(&mut self) -> RunId {
        let id = RunId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_daemons_have_later_ids() {
        let (mut a, mut b) = (RunIds::new(1_700_000_000_000), RunIds::new(1_700_000_000_001));
        let first = a.allot();
        assert!(first < a.allot());
        assert!(a.allot() < b.allot());
        assert_eq!(first.0 >> 20, 1_700_000_000_000);
        let (known, lost) = (b.allot(), b.allot());
        assert!(
            RunIds::after(Some(known), 1_600_000_000_000).allot() > lost,
            "the clock was set back, and the last runs were not written down"
        );
    }

    #[test]
    fn chances_differ_by_run_and_by_seed_and_are_spread_evenly() {
        let mut ids = RunIds::new(1_700_000_000_000);
        let mut tenths = [0; 10];
        for _ in 0..1000 {
            let run = ids.allot();
            assert_ne!(ids.chance(run), RunIds::new(0).seeded(1).chance(run));
            tenths[((u128::from(ids.chance(run)) * 10) >> 64) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (60..=140).contains(count)), "{tenths:?}");
    }
}
