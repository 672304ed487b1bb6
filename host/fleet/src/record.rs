//! What the znodes of a fleet hold: JSON of a version, to which members may be added. Pure.
//!
//! What is read was written by another host, or by anybody: bounded before it is parsed, and what makes no sense is an error that says
//! so, never a guess.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rollout::Part;
use twitcher_model::{WatchType, sanitize};

/// The version of the format that is written here. A higher one is not read.
pub(crate) const VERSION: u32 = 1;
/// Most bytes of a znode that is looked at.
pub(crate) const RECORD_MAX: usize = 16 << 10;
/// Most bytes of an outcome: the rest is on the host.
const OUTCOME_MAX: usize = 80;

/// The version of a record that is written; of one that is read it has been looked at before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub struct FormatVersion;

impl From<u32> for FormatVersion {
    fn from(_: u32) -> Self {
        Self
    }
}

impl From<FormatVersion> for u32 {
    fn from(_: FormatVersion) -> Self {
        VERSION
    }
}

/// What is looked at first of any record.
#[derive(Debug, Deserialize)]
struct Versioned {
    v: u32,
}

/// Why a znode's data is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is more than any record has.
    #[error("it has {0} bytes, more than the {RECORD_MAX} that a record has at most")]
    TooLarge(usize),
    /// It is of a version that is not known.
    #[error("it is of version {0}, and this program knows {VERSION}: upgrade it")]
    Newer(u32),
    /// It is no JSON, or lacks something.
    #[error("it makes no sense: {0}")]
    Garbage(String),
}

/// The root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootRecord {
    pub v: FormatVersion,
}

/// A host: who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    pub v: FormatVersion,
    /// Tells it from another host that comes to have its name.
    pub id: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Version of its program.
    #[serde(default)]
    pub twitcher: String,
}

/// A host that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiveRecord {
    pub v: FormatVersion,
    pub id: String,
    /// The boot of its machine.
    #[serde(default)]
    pub boot: String,
    /// Since when its daemon is in the fleet.
    pub since: Timestamp,
    /// Rollouts that it takes part in.
    #[serde(default)]
    pub rollouts: Vec<String>,
}

/// The newest result of a watch: where a host stands with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchResult {
    /// The version of the format.
    pub v: FormatVersion,
    /// Name of the watch.
    pub watch: String,
    /// The znode that it watches.
    pub znode: String,
    /// What of the znode it watches.
    pub kind: WatchType,
    /// How it stands.
    pub state: ResultState,
    /// The state of the znode that the last run was for; none if there was no run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<StateId>,
    /// The newest state of the znode that nothing is left to be done for: a run has succeeded for it, or none was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<StateId>,
    /// The last run that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRun>,
    /// The host's part in the rollout, if the watch has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// The last run of a watch that ended on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    /// Its id, by which the host's own history knows it.
    pub run: String,
    /// How it ended, in words.
    pub outcome: String,
    /// Counted from 1.
    pub attempt: u32,
    /// When it started, by the host's clock.
    pub started: Timestamp,
    /// How long it ran.
    pub seconds: f64,
    /// Whether it had a rollout and did not wait for its turn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ungoverned: bool,
}

/// How a host stands with a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultState {
    /// It has handled all that it has seen.
    Current,
    /// It has seen what it has not handled yet, and something is under way: it runs, waits, or is tried again.
    Behind,
    /// Its last run failed, and nothing is under way.
    Failed,
    /// An operator holds it, or it is parked.
    Held,
    /// The host cannot read the znode.
    Unreadable,
    /// Something that a later version says.
    #[serde(other)]
    Unknown,
}

impl ResultState {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Unreadable => "unreadable",
            Self::Unknown => "unknown",
        }
    }
}

/// Tells a state of a znode from the states before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateId {
    /// It does not exist.
    Absent,
    /// The transaction that made it so: mzxid, or pzxid for the names of children.
    Zxid(i64),
    /// The digest of a subtree.
    Tree(u64),
}

impl fmt::Display for StateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Zxid(zxid) => write!(f, "{zxid:#x}"),
            Self::Tree(digest) => write!(f, "tree:{digest:016x}"),
        }
    }
}

impl FromStr for StateId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a state: absent, 0x and a zxid, or tree: and a digest";
        if text == "absent" {
            return Ok(Self::Absent);
        }
        if let Some(hex) = text.strip_prefix("tree:") {
            return u64::from_str_radix(hex, 16).map(Self::Tree).map_err(|_| EXPECTED);
        }
        let hex = text.strip_prefix("0x").ok_or(EXPECTED)?;
        let zxid = u64::from_str_radix(hex, 16).map_err(|_| EXPECTED)?;
        Ok(Self::Zxid(zxid.cast_signed()))
    }
}

impl Serialize for StateId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StateId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A record as a znode's data.
pub(crate) fn write<T: Serialize>(record: &T) -> Vec<u8> {
    // None of the types has a value that cannot be written as JSON.
    serde_json::to_vec(record).unwrap_or_default()
}

/// A record from a znode's data.
pub(crate) fn read<T: DeserializeOwned>(data: &[u8]) -> Result<T, RecordError> {
    if data.len() > RECORD_MAX {
        return Err(RecordError::TooLarge(data.len()));
    }
    let garbage = |error: serde_json::Error| RecordError::Garbage(sanitize::line(&error.to_string()));
    // First the version alone: what follows may mean something else in another.
    let Versioned { v } = serde_json::from_slice(data).map_err(garbage)?;
    if v > VERSION {
        return Err(RecordError::Newer(v));
    }
    serde_json::from_slice(data).map_err(garbage)
}

/// The words of an outcome, cut to what goes into a record.
pub fn outcome(words: &str) -> String {
    let mut words = sanitize::line(words);
    if words.len() > OUTCOME_MAX {
        let end = (0..=OUTCOME_MAX)
            .rev()
            .find(|at| words.is_char_boundary(*at))
            .unwrap_or(0);
        words.truncate(end);
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn result() -> WatchResult {
        WatchResult {
            v: FormatVersion,
            watch: "pull the repo".to_owned(),
            znode: "/git/head".to_owned(),
            kind: WatchType::Data,
            state: ResultState::Failed,
            at: Some(StateId::Zxid(0x7b_0000_1a2c)),
            good: Some(StateId::Zxid(0x7b_0000_18ff)),
            last: Some(LastRun {
                run: "1m83w1vm50002".to_owned(),
                outcome: outcome("exit code 1"),
                attempt: 3,
                started: "2026-07-01T03:00:00Z".parse().unwrap(),
                seconds: 2.1,
                ungoverned: false,
            }),
            part: None,
        }
    }

    /// What another version of the program has written must still mean the same.
    #[test]
    fn a_result_is_written_so() {
        let text = r#"{"v":1,"watch":"pull the repo","znode":"/git/head","kind":"data","state":"failed","at":"0x7b00001a2c","good":"0x7b000018ff","last":{"run":"1m83w1vm50002","outcome":"exit code 1","attempt":3,"started":"2026-07-01T03:00:00Z","seconds":2.1}}"#;
        assert_eq!(String::from_utf8(write(&result())).unwrap(), text);
        assert_eq!(read::<WatchResult>(text.as_bytes()).unwrap(), result());
        assert!(text.len() <= 512);
    }

    #[test]
    fn what_is_added_is_ignored_and_what_is_newer_is_refused() {
        let more = r#"{"v":1,"id":"x","since":"2026-07-01T03:00:00Z","later":[1]}"#;
        assert_eq!(read::<LiveRecord>(more.as_bytes()).unwrap().id, "x");
        assert_eq!(read::<HostRecord>(br#"{"v":99,"id":7}"#), Err(RecordError::Newer(99)));
        let later = r#"{"v":1,"watch":"w","znode":"/w","kind":"data","state":"verifying"}"#;
        let read = read::<WatchResult>(later.as_bytes()).unwrap();
        assert_eq!(read.state, ResultState::Unknown);
    }

    #[test]
    fn garbage_is_an_error() {
        for data in [&b""[..], b"{", b"[]", b"\xff\xfe", b"{\"v\":-1}", b"{\"v\":1}", b"null"] {
            assert!(
                matches!(read::<HostRecord>(data), Err(RecordError::Garbage(_))),
                "{data:?}"
            );
        }
        let large = vec![b' '; 2 << 20];
        assert_eq!(read::<HostRecord>(&large), Err(RecordError::TooLarge(2 << 20)));
    }

    #[test]
    fn outcomes_are_short_and_on_one_line() {
        assert!(outcome(&"ü\n".repeat(1000)).len() <= OUTCOME_MAX + 3);
    }

    proptest! {
        #[test]
        fn states_round_trip(zxid: i64, digest: u64) {
            for state in [StateId::Absent, StateId::Zxid(zxid), StateId::Tree(digest)] {
                prop_assert_eq!(state.to_string().parse(), Ok(state));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(data: Vec<u8>) {
            let _ = read::<WatchResult>(&data);
        }
    }
}
