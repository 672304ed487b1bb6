//! The JSON document that describes a change, for watches with `payload = JSON`: what it says, its schema and its bound.
//!
//! Pure. It must not know how a state was read, nor which run is the one before.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ct_codecs::{Base64, Encoder as _};
use nix::errno::Errno;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;

use crate::environment::named;
use twitcher_model::{
    Observation, Outcome, PAYLOAD_MAX, Payload, RunId, Stat, TreeNode, TreeNodes, Trigger, Version, Watch, WatchType,
};
use twitcher_scheduler::Start;

/// The version of the document: another one means something else by a field that there was. Fields can be added to the same.
const VERSION: u32 = 1;

/// What an action with payload = JSON finds on stdin. In version 1 fields may be added.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TwitcherPayload")]
struct Document<'a> {
    /// Version of the document.
    #[schemars(schema_with = "version")]
    version: u32,
    /// Identifies the run, as TWITCHER_RUN_ID does.
    run: String,
    /// Name of the watch.
    watch: &'a str,
    /// Path of the watched znode.
    znode: &'a str,
    /// What of it is watched: tells which of the fields below there are.
    watch_type: WatchType,
    /// Why it runs, as TWITCHER_EVENT says.
    #[schemars(schema_with = "event")]
    event: Trigger,
    /// Counted from 1; a retry has the next number.
    attempt: u32,
    /// The znode's stat; null if it does not exist.
    stat: Option<StatDocument>,
    /// The run that `added`, `removed` and `changed` count from: the last that succeeded for this watch since the daemon started. Null if
    /// there is none, and then everything that is there was added.
    since: Option<String>,
    #[serde(flatten)]
    contents: Contents<'a>,
    /// A watch of several znodes: each of them, in the order of the configuration. "znode" and "stat" above are then those of the first that
    /// changed, and what it holds is said here alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    znodes: Option<Vec<Znode<'a>>>,
}

/// One of several znodes.
#[derive(Debug, Serialize, JsonSchema)]
struct Znode<'a> {
    /// Its path.
    znode: &'a str,
    /// Whether it, or what is below it with WATCH_TREE, is not what it was then.
    has_changed: bool,
    /// Its stat; null if it does not exist.
    stat: Option<StatDocument>,
    #[serde(flatten)]
    contents: Contents<'a>,
}

/// What there is of a znode, by what of it is watched.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Contents<'a> {
    /// WATCH_DATA: what the znode holds.
    #[serde(flatten)]
    data: Data<'a>,
    /// WATCH_CHILDREN: the children.
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<Children<'a>>,
    /// WATCH_TREE: the znode and every one below it, by their paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<BTreeMap<&'a str, Node<'a>>>,
    /// WATCH_TREE: what changed of them, by their paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<BTreeMap<&'a str, NodeChange>>,
}

/// Data as text or, where it is not UTF-8, in base64. There is neither if the znode does not exist or cannot be read.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Data<'a> {
    /// The data, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    /// The data in base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// The facts of a znode's stat. Of a local tree, czxid is 0 and the others tell states apart.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Stat")]
struct StatDocument {
    /// Transaction that created the znode.
    czxid: i64,
    /// Transaction that last set its data.
    mzxid: i64,
    /// Number of times the data was set since the znode was created.
    version: i32,
}

/// The names of children, each list sorted.
#[derive(Debug, Serialize, JsonSchema)]
struct Children<'a> {
    /// All that there are.
    names: Vec<&'a str>,
    /// Those that were not there before.
    added: Vec<&'a str>,
    /// Those that were.
    removed: Vec<&'a str>,
}

/// A znode of a subtree.
#[derive(Debug, Serialize, JsonSchema)]
struct Node<'a> {
    /// Its stat.
    stat: StatDocument,
    #[serde(flatten)]
    data: Data<'a>,
    /// There and true if its data cannot be read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unreadable: bool,
}

/// What happened to a znode of a subtree.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum NodeChange {
    /// It came into being, perhaps in place of another one.
    Created,
    /// Its data was set.
    Set,
    /// It went away.
    Deleted,
}

fn version(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"const": VERSION})
}

fn event(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    use Trigger::{Children, Created, Data, Deleted, Load, Manual, Retry, Tree};
    let events = [Load, Created, Data, Children, Tree, Deleted, Manual, Retry].map(Trigger::as_str);
    schemars::json_schema!({"enum": events})
}

/// The JSON Schema (draft 2020-12) of what is on stdin with `payload = JSON`.
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Document<'_>>()
        .to_value()
}

/// What a run was told to be there, as far as the next one needs it to tell what changed.
#[derive(Debug, Clone)]
pub struct Told {
    run: RunId,
    /// Of each znode.
    znodes: Vec<Marks>,
}

/// What tells one state of a znode from another.
#[derive(Debug, Clone)]
struct Marks {
    version: Version,
    /// By path, or by a child's name.
    marks: BTreeMap<Arc<str>, Mark>,
}

/// What tells one state of a node from another. Of a child that is only named there is none of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    czxid: i64,
    mzxid: i64,
    /// A hash of its data, if that could be read: servers that were wiped, and set up anew by the same steps, count to the same transactions.
    data: Option<u64>,
}

impl Mark {
    fn of(node: &TreeNode) -> Self {
        let hash = |data: &Bytes| {
            let mut hasher = DefaultHasher::new();
            hasher.write(data);
            hasher.finish()
        };
        Self {
            czxid: node.stat.czxid,
            mzxid: node.stat.mzxid,
            data: node.data.as_ref().map(hash),
        }
    }

    /// What has become of the node, if anything has. What could not be read before is news; what cannot be read any more is none.
    fn change(self, now: Mark) -> Option<NodeChange> {
        if self.czxid != now.czxid {
            Some(NodeChange::Created)
        } else if self.mzxid != now.mzxid || (now.data.is_some() && self.data != now.data) {
            Some(NodeChange::Set)
        } else {
            None
        }
    }
}

impl Told {
    /// Whether it is of an earlier run than the other. A program that stays is told more than once in the same.
    pub fn is_older_than(&self, other: &Told) -> bool {
        self.run < other.run
    }
}

/// The description of a change is larger than an action gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot {}: {}", Self::STEP, Self::ERRNO.desc())]
pub struct TooLarge;

impl TooLarge {
    const STEP: &'static str = "put the change on stdin as JSON, of which there may be 16 MiB (leave payload out)";
    const ERRNO: Errno = Errno::EMSGSIZE;

    /// How a run ends that is refused for it.
    pub fn outcome(self) -> Outcome {
        Outcome::LaunchFailed {
            step: Self::STEP.to_owned(),
            errno: Self::ERRNO as i32,
        }
    }
}

/// What the run finds on stdin; and, where the next one is to be told what changed since, what this one was told.
///
/// # Errors
/// If it would be more than [`PAYLOAD_MAX`].
pub fn stdin(watch: &Watch, start: &Start, before: Option<&Told>) -> Result<(Bytes, Option<Told>), TooLarge> {
    let observation = &start.observation;
    if watch.payload == Payload::Data {
        return Ok((observation.stdin.clone(), None));
    }
    let known = |at: usize| before.and_then(|told| told.znodes.get(at));
    let (znode, stat) = named(watch, observation);
    let mut document = Document {
        version: VERSION,
        run: start.run.to_string(),
        watch: &watch.name,
        znode: znode.as_str(),
        watch_type: watch.watch_type,
        event: start.event,
        attempt: start.attempt,
        stat: stat.map(StatDocument::from),
        since: before.map(|told| told.run.to_string()),
        contents: Contents::default(),
        znodes: None,
    };
    let znodes = match &observation.several {
        None => {
            let (contents, marks) = contents(watch.watch_type, observation, known(0));
            document.contents = contents;
            vec![marks]
        }
        Some(several) => {
            let described = several.states.iter().enumerate().map(|(at, state)| {
                let (contents, marks) = contents(watch.watch_type, &state.observation, known(at));
                let znode = Znode {
                    znode: state.znode.as_str(),
                    has_changed: known(at).is_none_or(|known| known.version != marks.version),
                    stat: state.observation.stat.map(StatDocument::from),
                    contents,
                };
                (znode, marks)
            });
            let (znodes, marks) = described.unzip();
            document.znodes = Some(znodes);
            marks
        }
    };
    let mut text = Bounded(Vec::new());
    // Nothing in it can fail but the writer.
    serde_json::to_writer(&mut text, &document).map_err(|_| TooLarge)?;
    let run = start.run;
    Ok((text.0.into(), Some(Told { run, znodes })))
}

/// What there is of a znode, and what tells this state from the next.
fn contents<'a>(
    watch_type: WatchType,
    observation: &'a Observation,
    known: Option<&'a Marks>,
) -> (Contents<'a>, Marks) {
    static NOTHING: (TreeNodes, BTreeMap<Arc<str>, Mark>) = (TreeNodes::new(), BTreeMap::new());
    let there = observation.nodes.as_deref().unwrap_or(&NOTHING.0);
    let known = known.map_or(&NOTHING.1, |known| &known.marks);
    let mut contents = Contents::default();
    let marks = match watch_type {
        WatchType::Data => {
            contents.data = Data::of(Some(&observation.stdin).filter(|_| observation.exists()));
            BTreeMap::new()
        }
        WatchType::Children => {
            let names = names(observation);
            let mark = |name: &&str| (Arc::from(*name), Mark::default());
            let marks: BTreeMap<Arc<str>, _> = names.iter().map(mark).collect();
            contents.children = Some(Children {
                added: names
                    .iter()
                    .copied()
                    .filter(|name| !known.contains_key(*name))
                    .collect(),
                removed: known
                    .keys()
                    .map(|name| &**name)
                    .filter(|name| !marks.contains_key(*name))
                    .collect(),
                names,
            });
            marks
        }
        WatchType::Tree => {
            let marks = there
                .iter()
                .map(|(path, node)| (path.clone(), Mark::of(node)))
                .collect();
            contents.changed = Some(changes(known, &marks, there));
            contents.nodes = Some(there.iter().map(|(path, node)| (&**path, Node::from(node))).collect());
            marks
        }
    };
    let version = observation.version;
    (contents, Marks { version, marks })
}

fn names(observation: &Observation) -> Vec<&str> {
    // The names of znodes are UTF-8.
    let text = std::str::from_utf8(&observation.stdin).unwrap_or_default();
    text.lines().collect()
}

fn changes<'a>(
    known: &'a BTreeMap<Arc<str>, Mark>,
    marks: &BTreeMap<Arc<str>, Mark>,
    there: &'a TreeNodes,
) -> BTreeMap<&'a str, NodeChange> {
    // Both are in the order of the paths.
    let now = there.keys().zip(marks.values()).filter_map(|(path, mark)| {
        let change = match known.get(path) {
            Some(before) => before.change(*mark)?,
            None => NodeChange::Created,
        };
        Some((&**path, change))
    });
    let gone = known.keys().filter(|path| !there.contains_key(*path));
    now.chain(gone.map(|path| (&**path, NodeChange::Deleted))).collect()
}

impl<'a> Data<'a> {
    fn of(data: Option<&'a Bytes>) -> Self {
        let Some(data) = data else { return Self::default() };
        match std::str::from_utf8(data) {
            Ok(text) => Self {
                data: Some(text),
                data_base64: None,
            },
            Err(_) => Self {
                data: None,
                // It fails only for lengths that no data has.
                data_base64: Base64::encode_to_string(data).ok(),
            },
        }
    }
}

impl From<Stat> for StatDocument {
    fn from(stat: Stat) -> Self {
        let Stat { czxid, mzxid, version } = stat;
        Self { czxid, mzxid, version }
    }
}

impl<'a> From<&'a TreeNode> for Node<'a> {
    fn from(node: &'a TreeNode) -> Self {
        Self {
            stat: node.stat.into(),
            data: Data::of(node.data.as_ref()),
            unreadable: node.data.is_none(),
        }
    }
}

/// Takes no more than a payload may have.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > PAYLOAD_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
