//! When a state has so much less than the last one that was handled that it is more likely a mistake than a change.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::WatchType;

/// The share that a state may lose, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Share(pub u16);

impl Share {
    /// Whether what is left is so little that more than this share was lost.
    pub fn is_exceeded(self, before: u32, now: u32) -> bool {
        let lost = u64::from(before.saturating_sub(now));
        lost * 1000 > u64::from(before) * u64::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f64::from(self.0) / 1000.0).fmt(f)
    }
}

/// What a state has lost since the last success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shrinkage {
    /// What of a node is counted.
    pub counted: WatchType,
    /// How much there was.
    pub before: u32,
    /// How much there is.
    pub now: u32,
    /// More than this share is too much.
    pub most: Share,
}

impl fmt::Display for Shrinkage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            counted,
            before,
            now,
            most,
        } = self;
        let unit = match counted {
            WatchType::Data => "bytes",
            WatchType::Children => "children",
            WatchType::Tree => "znodes",
        };
        write!(
            f,
            "the node shrank from {before} to {now} {unit} since the last success and refuse_shrink is {most}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_the_share_is_too_much() {
        for (share, before, now, refused) in [
            (500, 100, 50, false),
            (500, 100, 49, true),
            (500, 3, 1, true),
            (500, 1, 0, true),
            (500, 0, 0, false),
            (500, 10, 20, false),
            (0, 10, 10, false),
            (0, 10, 9, true),
            (999, 1000, 1, false),
            (999, 1000, 0, true),
            (500, u32::MAX, 1, true),
        ] {
            assert_eq!(Share(share).is_exceeded(before, now), refused, "{share} {before} {now}");
        }
    }

    #[test]
    fn it_is_told_with_both_sizes() {
        let shrinkage = Shrinkage {
            counted: WatchType::Children,
            before: 200,
            now: 3,
            most: Share(250),
        };
        assert_eq!(
            shrinkage.to_string(),
            "the node shrank from 200 to 3 children since the last success and refuse_shrink is 0.25"
        );
    }
}
