//! Which state of a node an action has succeeded for, in a form that survives the daemon.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Observation, Stamp, Version};

/// A state of a watched node: which transactions made it, and what it was made of.
///
/// The numbers alone do not tell two states apart for ever: an ensemble whose data was lost and made again counts from the start,
/// and arrives at the same numbers with other contents. Nor do the contents alone: setting the same data again is a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The transactions.
    pub version: Version,
    /// The first eight bytes of the SHA-256 of the data, or of the children's names. Of several znodes, of what each holds. Zero for a
    /// subtree, of which an observation has only the paths that changed.
    pub digest: u64,
}

/// A [`Position`] in one number, for comparison only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(std::num::NonZeroU64);

impl Position {
    /// Of a state that was observed. Reads all of its data: about a millisecond for a full znode.
    pub fn of(observation: &Observation) -> Self {
        let digest = match observation.version {
            Version::Tree { .. } => observation.several.as_ref().map_or(0, |several| several.digest()),
            Version::Absent | Version::Data { .. } | Version::Children { .. } => short(&[&observation.stdin]),
        };
        Self {
            version: observation.version,
            digest,
        }
    }

    /// In one number, the same in every process.
    pub fn fingerprint(&self) -> Fingerprint {
        let (kind, a, b) = self.version.parts();
        let (digest, stamp) = (self.digest.to_le_bytes(), self.version.stamp());
        let (kind, a, b) = ([kind], a.to_le_bytes(), b.to_le_bytes());
        let bits = stamp.to_bits().to_le_bytes();
        // What was stored before there were stamps has none.
        let stamp: &[u8] = if stamp == Stamp::default() { &[] } else { &bits };
        let hash = short(&[&kind, &a, &b, &digest, stamp]);
        Fingerprint(std::num::NonZeroU64::new(hash).unwrap_or(std::num::NonZeroU64::MAX))
    }

    /// Whether a fingerprint is that of this state; also one that a daemon stored which did not know stamps.
    pub fn is(&self, known: Fingerprint) -> bool {
        let unstamped = Self {
            version: self.version.with_stamp(Stamp::default()),
            ..*self
        };
        known == self.fingerprint() || known == unstamped.fingerprint()
    }
}

impl Stamp {
    /// As one number, for storage.
    pub fn to_bits(self) -> u64 {
        u64::from(self.stat) << 32 | u64::from(self.contents)
    }

    /// From [`Stamp::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        Self {
            stat: (bits >> 32) as u32,
            contents: bits as u32,
        }
    }
}

impl Version {
    /// As three numbers, for storage; all but the stamp.
    pub fn parts(&self) -> (u8, i64, i64) {
        match *self {
            Version::Absent => (0, 0, 0),
            Version::Data { czxid, mzxid, .. } => (1, czxid, mzxid),
            Version::Children { czxid, pzxid, .. } => (2, czxid, pzxid),
            Version::Tree { digest, .. } => (3, digest.cast_signed(), 0),
        }
    }

    /// From [`Version::parts`], with nothing known of the stamp; none if they are not those of any version.
    pub fn from_parts(kind: u8, a: i64, b: i64) -> Option<Self> {
        let stamp = Stamp::default();
        match (kind, a, b) {
            (0, 0, 0) => Some(Version::Absent),
            (1, czxid, mzxid) => Some(Version::Data { czxid, mzxid, stamp }),
            (2, czxid, pzxid) => Some(Version::Children { czxid, pzxid, stamp }),
            (3, digest, 0) => Some(Version::Tree {
                digest: digest.cast_unsigned(),
                stamp,
            }),
            _ => None,
        }
    }

    /// What is known besides the transactions; nothing of a node that does not exist.
    pub fn stamp(&self) -> Stamp {
        match *self {
            Version::Absent => Stamp::default(),
            Version::Data { stamp, .. } | Version::Children { stamp, .. } | Version::Tree { stamp, .. } => stamp,
        }
    }

    /// The same with another stamp.
    pub fn with_stamp(mut self, new: Stamp) -> Self {
        match &mut self {
            Version::Absent => {}
            Version::Data { stamp, .. } | Version::Children { stamp, .. } | Version::Tree { stamp, .. } => *stamp = new,
        }
        self
    }

    /// The same as far as a stat alone tells it.
    pub fn by_stat(self) -> Self {
        let stamp = Stamp {
            contents: 0,
            ..self.stamp()
        };
        self.with_stamp(stamp)
    }
}

pub(crate) fn short(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(czxid: i64, mzxid: i64, stdin: &'static str) -> Observation {
        Observation {
            version: Version::Data {
                czxid,
                mzxid,
                stamp: Stamp::default(),
            },
            stat: None,
            stdin: stdin.into(),
            nodes: None,
            znodes: 0,
            several: None,
        }
    }

    #[test]
    fn both_numbers_and_contents_count() {
        let of = |observation: &Observation| Position::of(observation).fingerprint();
        let one = of(&data(1, 2, "x"));
        assert_eq!(one, of(&data(1, 2, "x")));
        for other in [
            data(1, 2, "y"),
            data(1, 3, "x"),
            data(2, 2, "x"),
            Observation::absent(),
            Observation {
                version: Version::Children {
                    czxid: 1,
                    pzxid: 2,
                    stamp: Stamp::default(),
                },
                ..data(1, 2, "x")
            },
        ] {
            assert_ne!(one, of(&other), "{other:?}");
        }
    }

    #[test]
    fn of_a_subtree_the_paths_that_happened_to_change_do_not_count() {
        let tree = |stdin: &'static str| Observation {
            version: Version::Tree {
                digest: 7,
                stamp: Stamp::default(),
            },
            ..data(1, 1, stdin)
        };
        assert_eq!(Position::of(&tree("/a\n")), Position::of(&tree("/b\n")));
    }

    /// What another version of the daemon has stored must still mean the same.
    #[test]
    fn a_fingerprint_is_for_ever() {
        let position = Position::of(&data(1, 2, "x"));
        assert_eq!(position.digest, 0x44b0_26b7_4216_712d);
        assert_eq!(position.fingerprint().0.get(), 0x562c_8009_7137_9b89);
    }

    #[test]
    fn a_stamp_counts_unless_the_other_has_none() {
        let stamped = |stat, contents| Position {
            version: data(1, 2, "x").version.with_stamp(Stamp { stat, contents }),
            ..Position::of(&data(1, 2, "x"))
        };
        let of = |position: Position| position.fingerprint();
        assert!(stamped(1, 2).is(of(stamped(1, 2))));
        assert!(!stamped(1, 2).is(of(stamped(1, 3))) && !stamped(1, 2).is(of(stamped(3, 2))));
        assert!(stamped(1, 2).is(of(stamped(0, 0))), "stored by a daemon without stamps");
        assert!(!stamped(0, 0).is(of(stamped(1, 2))));
        assert!(!stamped(1, 2).is(of(Position::of(&data(1, 2, "y")))));
        assert_eq!(stamped(1, 2).version.by_stat(), stamped(1, 0).version);
    }

    proptest! {
        #[test]
        fn versions_round_trip(kind in 0u8..5, a: i64, b: i64) {
            if let Some(version) = Version::from_parts(kind, a, b) {
                prop_assert_eq!(version.parts(), (kind, a, b));
            }
        }

        #[test]
        fn stamps_round_trip(bits: u64) {
            prop_assert_eq!(Stamp::from_bits(bits).to_bits(), bits);
        }
    }
}
