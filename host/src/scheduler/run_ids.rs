//! Allotting run ids.

use crate::model::RunId;

/// Allots the ids of the runs of one daemon: see [`RunId`] for how they are made up.
#[derive(Debug)]
pub struct RunIds {
    next: u64,
}

impl RunIds {
    /// For a daemon that started at so many milliseconds since 1970.
    pub fn new(started_millis: u64) -> Self {
        Self {
            next: started_millis << 20,
        }
    }

    /// For a daemon that started then and knows of a run of a former one: its ids are later whatever the clock says.
    pub fn after(newest: Option<RunId>, started_millis: u64) -> Self {
        let Self { next } = Self::new(started_millis);
        Self {
            next: newest.map_or(next, |newest| next.max(newest.0.saturating_add(1))),
        }
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
        let newest = b.allot();
        assert!(
            RunIds::after(Some(newest), 1_600_000_000_000).allot() > newest,
            "the clock was set back"
        );
    }
}
