//! Several znodes as what one watch looks at: their states together are one state.

use std::sync::Arc;

use bytes::Bytes;

use crate::position::short;
use crate::{Observation, Position, Stamp, Stat, Version, WatchType, ZnodePath};

/// The states of all znodes of a watch that looks at several, in the order of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeveralZnodes {
    /// What of each is watched.
    pub watch_type: WatchType,
    /// Each znode.
    pub states: Vec<ZnodeState>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZnodeState {
    /// Its path.
    pub znode: ZnodePath,
    /// Its state.
    pub observation: Observation,
}

impl SeveralZnodes {
    /// All of them as one state: it differs when that of any znode does, and exists as long as one of them does. `changed` are the paths of
    /// those that changed since the last one, one a line; of subtrees the paths in them.
    pub fn observation(self, changed: Bytes) -> Observation {
        let exists = self.states.iter().any(|state| state.observation.exists());
        let version = match exists {
            true => self.version(),
            false => Version::Absent,
        };
        Observation {
            version,
            // Of which znode it would be, is for those to say who know which changed.
            stat: exists.then(Stat::default),
            stdin: if exists { changed } else { Bytes::new() },
            nodes: None,
            znodes: 0,
            several: Some(Arc::new(self)),
        }
    }

    fn version(&self) -> Version {
        let (mut numbers, mut stats, mut contents) = (Vec::new(), Vec::new(), Vec::new());
        for ZnodeState { znode, observation } in &self.states {
            let (kind, a, b) = observation.version.parts();
            numbers.extend_from_slice(znode.as_str().as_bytes());
            numbers.extend_from_slice(&[0, kind]);
            numbers.extend_from_slice(&a.to_le_bytes());
            numbers.extend_from_slice(&b.to_le_bytes());
            let stamp = observation.version.stamp();
            stats.extend_from_slice(&stamp.stat.to_le_bytes());
            contents.extend_from_slice(&stamp.contents.to_le_bytes());
        }
        Version::Tree {
            digest: short(&[&numbers]),
            stamp: Stamp {
                stat: short(&[&stats]) as u32,
                contents: short(&[&contents]) as u32,
            },
        }
    }

    /// What all of them hold, in one number.
    pub(crate) fn digest(&self) -> u64 {
        let digests = self.states.iter().map(|state| Position::of(&state.observation).digest);
        let digests: Vec<u8> = digests.flat_map(u64::to_le_bytes).collect();
        short(&[&digests])
    }

    /// Those that a list of changed paths is about; all, if it names none.
    pub fn changed<'a>(&'a self, changed: &'a [u8]) -> impl Iterator<Item = &'a ZnodeState> {
        let is_below = |path: &[u8], top: &[u8]| {
            path == top || top == b"/" || path.strip_prefix(top).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        let names = move |state: &&ZnodeState| {
            let znode = state.znode.as_str().as_bytes();
            let mut lines = changed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            // A list that grew too long names what they have in common.
            lines.any(|line| is_below(line, znode) || is_below(znode, line))
        };
        let any = self.states.iter().any(|state| names(&state));
        self.states.iter().filter(move |state| !any || names(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(path: &str, mzxid: Option<i64>) -> ZnodeState {
        let version = mzxid.map_or(Version::Absent, |mzxid| Version::Data {
            czxid: 1,
            mzxid,
            stamp: Stamp::default(),
        });
        ZnodeState {
            znode: ZnodePath::new(path).unwrap(),
            observation: Observation {
                version,
                stdin: Bytes::from_static(b"x"),
                ..Observation::absent()
            },
        }
    }

    fn of(states: Vec<ZnodeState>) -> SeveralZnodes {
        SeveralZnodes {
            watch_type: WatchType::Data,
            states,
        }
    }

    #[test]
    fn the_state_of_any_is_that_of_all() {
        let version = |a, b| {
            of(vec![state("/a", a), state("/b", b)])
                .observation(Bytes::new())
                .version
        };
        assert_eq!(version(Some(1), Some(2)), version(Some(1), Some(2)));
        for other in [(Some(2), Some(1)), (Some(1), Some(3)), (Some(1), None)] {
            assert_ne!(version(Some(1), Some(2)), version(other.0, other.1));
        }
        assert_eq!(version(None, None), Version::Absent);
        let swapped = of(vec![state("/b", Some(1)), state("/a", Some(2))]);
        assert_ne!(version(Some(1), Some(2)), swapped.observation(Bytes::new()).version);
    }

    #[test]
    fn which_changed_is_told_by_the_paths() {
        let all = of(vec![state("/a", Some(1)), state("/a-b", Some(1)), state("/c", Some(1))]);
        let changed = |lines: &str| {
            let named: Vec<_> = all
                .changed(lines.as_bytes())
                .map(|state| state.znode.as_str().to_owned())
                .collect();
            named.join(" ")
        };
        assert_eq!(changed("/c\n"), "/c");
        assert_eq!(changed("/a/x\n/c\n"), "/a /c");
        assert_eq!(changed("/\n"), "/a /a-b /c");
        assert_eq!(changed(""), "/a /a-b /c");
    }
}
