//! A host for tests: a plugin's logic runs under plain `cargo test`, without Twitcher and without WebAssembly.
//!
//! ```
//! use twitcher_sdk::commands::Output;
//! use twitcher_sdk::testing::Host;
//! # use twitcher_sdk::{commands, config, log, Change, Failure};
//! # fn on_change(change: Change) -> Result<(), Failure> {
//! #     log::info!("hello", who = config::require("who")?);
//! #     commands::run("reload")?;
//! #     Ok(())
//! # }
//!
//! # /*
//! #[test]
//! fn reloads() {
//! # */
//!     let host = Host::new()
//!         .config("who", "world")
//!         .command("reload", |_call| Ok(Output::exited(0, "")));
//!
//!     assert_eq!(host.run(on_change, r#"{"a": 1}"#), Ok(()));
//!     assert_eq!(host.logs()[0].field("who"), Some("world"));
//!     assert_eq!(host.commands().len(), 1);
//! # /*
//! }
//! # */
//! ```
//!
//! A host belongs to the thread that made it, so tests can run side by side. What a plugin does through WASI, it does here for real:
//! a test that writes files gives the plugin a temporary directory.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use crate::cancel::Reason;
use crate::commands::{ErrorKind as CommandError, Output};
use crate::log::Level;
use crate::znodes::{ErrorKind as ZnodeError, Node};
use crate::{Change, Difference, Event, Failure, Fate, Stat, TreeNode};

thread_local! {
    /// The host of the innermost [`Host::enter`] of this thread.
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// A host whose answers are scripted, and which remembers what it was asked.
///
/// It can be changed during a run: clones are the same host.
#[derive(Clone)]
pub struct Host(Rc<RefCell<State>>);

type Answer = Rc<dyn Fn(&Call) -> Result<Output, CommandError>>;

struct State {
    path: String,
    event: Event,
    stat: Option<Stat>,
    children: Option<Vec<String>>,
    changed_paths: Option<Vec<String>>,
    since: Option<String>,
    content: Option<Vec<u8>>,
    difference: Option<Difference>,
    tree: Option<BTreeMap<String, TreeNode>>,
    changed: BTreeMap<String, Fate>,
    attempt: u32,
    watch_name: String,
    time_left: Option<Duration>,
    config: BTreeMap<String, String>,
    cancelled: Option<Reason>,
    answers: HashMap<String, Answer>,
    calls: Vec<Call>,
    logs: Vec<Record>,
    znodes: BTreeMap<String, Node>,
    znode_errors: HashMap<String, ZnodeError>,
    zxid: i64,
}

/// A command that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The operator's name of the command.
    pub name: String,
    /// The arguments that the plugin added.
    pub args: Vec<String>,
    /// What was on its standard input.
    pub stdin: Vec<u8>,
}

/// A record that was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// Its fields, in order.
    pub fields: Vec<(String, String)>,
}

impl Record {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// Setting the scene.
impl Host {
    /// A host that runs for znode `/test`, event `data`, version 1, first attempt; that grants no command, and every znode: there
    /// are none yet.
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(State {
            path: "/test".to_owned(),
            event: Event::Data,
            stat: Some(Stat {
                czxid: 1,
                mzxid: 2,
                version: 1,
            }),
            children: None,
            changed_paths: None,
            since: None,
            content: None,
            difference: None,
            tree: None,
            changed: BTreeMap::new(),
            attempt: 1,
            watch_name: "test".to_owned(),
            time_left: None,
            config: BTreeMap::new(),
            cancelled: None,
            answers: HashMap::new(),
            calls: Vec::new(),
            logs: Vec::new(),
            znodes: BTreeMap::new(),
            znode_errors: HashMap::new(),
            zxid: 2,
        })))
    }

    fn with(self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.0.borrow_mut());
        self
    }

    /// The path of the watched znode.
    pub fn path(self, path: &str) -> Self {
        self.with(|state| state.path = path.to_owned())
    }

    /// Why the run happens. At [`Event::Deleted`] the znode has no stat.
    pub fn event(self, event: Event) -> Self {
        self.with(|state| {
            state.event = event;
            if event == Event::Deleted {
                state.stat = None;
            }
        })
    }

    /// The stat of the watched znode.
    pub fn stat(self, stat: Option<Stat>) -> Self {
        self.with(|state| state.stat = stat)
    }

    /// The watch is a `WATCH_CHILDREN`, with these children.
    pub fn children(self, names: &[&str]) -> Self {
        self.with(|state| state.children = Some(sorted(names)))
    }

    /// The watch is a `WATCH_TREE`, with these changed paths.
    pub fn changed_paths(self, paths: &[&str]) -> Self {
        self.with(|state| state.changed_paths = Some(sorted(paths)))
    }

    /// The watch is a `WATCH_DATA` with `payload = JSON`, and the znode holds this.
    pub fn content(self, data: impl Into<Vec<u8>>) -> Self {
        self.with(|state| state.content = Some(data.into()))
    }

    /// The watch is a `WATCH_CHILDREN` with `payload = JSON`, and these came and went.
    pub fn difference(self, added: &[&str], removed: &[&str]) -> Self {
        let (added, removed) = (sorted(added), sorted(removed));
        self.with(|state| state.difference = Some(Difference { added, removed }))
    }

    /// The watch is a `WATCH_TREE` with `payload = JSON`, and its subtree has this znode.
    pub fn tree_node(self, path: &str, data: impl Into<Vec<u8>>) -> Self {
        self.with(|state| state.plant(path, Some(data.into())))
    }

    /// As [`Host::tree_node`], and the znode cannot be read.
    pub fn unreadable_tree_node(self, path: &str) -> Self {
        self.with(|state| state.plant(path, None))
    }

    /// This became of a znode of the subtree since the last run that succeeded.
    pub fn changed(self, path: &str, fate: Fate) -> Self {
        self.with(|state| {
            state.tree.get_or_insert_default();
            state.changed.insert(path.to_owned(), fate);
            state.changed_paths = Some(state.changed.keys().cloned().collect());
        })
    }

    /// The run that changes are counted from.
    pub fn since(self, run: &str) -> Self {
        self.with(|state| state.since = Some(run.to_owned()))
    }

    /// Which attempt it is, from 1.
    pub fn attempt(self, attempt: u32) -> Self {
        self.with(|state| state.attempt = attempt)
    }

    /// The watch's name.
    pub fn watch_name(self, name: &str) -> Self {
        self.with(|state| state.watch_name = name.to_owned())
    }

    /// How much time is left; it does not grow less by itself.
    pub fn time_left(self, left: Duration) -> Self {
        self.with(|state| state.time_left = Some(left))
    }

    /// A value of the configuration.
    pub fn config(self, key: &str, value: impl Into<String>) -> Self {
        self.with(|state| _ = state.config.insert(key.to_owned(), value.into()))
    }

    /// The run is to end.
    pub fn cancelled(self, reason: Reason) -> Self {
        self.with(|state| state.cancelled = Some(reason))
    }

    /// Grants a command, which `answer` stands in for.
    pub fn command(self, name: &str, answer: impl Fn(&Call) -> Result<Output, CommandError> + 'static) -> Self {
        self.with(|state| _ = state.answers.insert(name.to_owned(), Rc::new(answer)))
    }

    /// A znode, with the parents it needs.
    pub fn znode(self, path: &str, data: impl Into<Vec<u8>>) -> Self {
        self.with(|state| {
            let parents = path.match_indices('/').skip(1).map(|(end, _)| &path[..end]);
            let missing: Vec<_> = parents.filter(|parent| !state.znodes.contains_key(*parent)).collect();
            missing.into_iter().for_each(|parent| state.put(parent, Vec::new()));
            state.put(path, data.into());
        })
    }

    /// The next call about this znode fails.
    pub fn znode_fails(self, path: &str, error: ZnodeError) -> Self {
        self.with(|state| _ = state.znode_errors.insert(path.to_owned(), error))
    }
}

/// Running the plugin, and looking at what it did.
impl Host {
    /// Runs an action for a change with this data.
    ///
    /// # Errors
    /// What the action returns.
    pub fn run(
        &self,
        action: impl FnOnce(Change) -> Result<(), Failure>,
        data: impl Into<Vec<u8>>,
    ) -> Result<(), Failure> {
        self.enter(|| action(Change::new(data.into())))
    }

    /// Runs any code that asks the host for something.
    pub fn enter<T>(&self, code: impl FnOnce() -> T) -> T {
        /// Puts the host before back, also after a failed assertion in `code`.
        struct Restore(Option<Host>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        code()
    }

    /// What was logged, in order.
    pub fn logs(&self) -> Vec<Record> {
        self.0.borrow().logs.clone()
    }

    /// The commands that were run, in order.
    pub fn commands(&self) -> Vec<Call> {
        self.0.borrow().calls.clone()
    }

    /// A znode's data as it is now; none if there is no such znode.
    pub fn znode_data(&self, path: &str) -> Option<Vec<u8>> {
        self.0.borrow().znodes.get(path).map(|node| node.data.clone())
    }
}

impl State {
    fn put(&mut self, path: &str, data: Vec<u8>) {
        self.zxid += 1;
        let stat = Stat {
            czxid: self.zxid,
            mzxid: self.zxid,
            version: 0,
        };
        self.znodes.insert(path.to_owned(), Node { data, stat });
    }

    fn plant(&mut self, path: &str, data: Option<Vec<u8>>) {
        self.zxid += 1;
        let stat = Stat {
            czxid: self.zxid,
            mzxid: self.zxid,
            version: 0,
        };
        let path = path.to_owned();
        let node = TreeNode {
            path: path.clone(),
            stat,
            data,
        };
        self.tree.get_or_insert_default().insert(path, node);
    }

    fn fault(&mut self, path: &str) -> Result<(), ZnodeError> {
        self.znode_errors.remove(path).map_or(Ok(()), Err)
    }
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

/// The functions that `component` has, answered by the current host.
pub(crate) mod double {
    use super::*;

    fn host() -> Host {
        CURRENT
            .with_borrow(Clone::clone)
            .expect("no host to ask: run this code inside twitcher_sdk::testing::Host::run or Host::enter")
    }

    fn ask<T>(question: impl FnOnce(RefMut<'_, State>) -> T) -> T {
        question(host().0.borrow_mut())
    }

    pub fn path() -> String {
        ask(|state| state.path.clone())
    }

    pub fn event() -> Event {
        ask(|state| state.event)
    }

    pub fn stat() -> Option<Stat> {
        ask(|state| state.stat)
    }

    pub fn children() -> Option<Vec<String>> {
        ask(|state| state.children.clone())
    }

    pub fn changed_paths() -> Option<Vec<String>> {
        ask(|state| state.changed_paths.clone())
    }

    pub fn since() -> Option<String> {
        ask(|state| state.since.clone())
    }

    pub fn content() -> Option<Vec<u8>> {
        ask(|state| state.content.clone())
    }

    pub fn difference() -> Option<Difference> {
        ask(|state| state.difference.clone())
    }

    pub fn tree() -> Option<Vec<TreeNode>> {
        ask(|state| Some(state.tree.clone()?.into_values().collect()))
    }

    pub fn changed() -> Option<Vec<(String, Fate)>> {
        ask(|state| {
            state.tree.as_ref()?;
            Some(state.changed.clone().into_iter().collect())
        })
    }

    pub fn attempt() -> u32 {
        ask(|state| state.attempt)
    }

    pub fn run_id() -> String {
        "1m82xp1tf0000".to_owned()
    }

    pub fn watch_name() -> String {
        ask(|state| state.watch_name.clone())
    }

    pub fn deadline_ms() -> Option<u64> {
        ask(|state| state.time_left).map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn config_get(key: &str) -> Option<String> {
        ask(|state| state.config.get(key).cloned())
    }

    pub fn config_all() -> Vec<(String, String)> {
        ask(|state| state.config.clone()).into_iter().collect()
    }

    pub fn log(level: Level, message: &str, fields: &[(String, String)]) {
        let record = Record {
            level,
            message: message.to_owned(),
            fields: fields.to_vec(),
        };
        ask(|mut state| state.logs.push(record));
    }

    pub fn cancel_requested() -> Option<Reason> {
        ask(|state| state.cancelled)
    }

    pub fn run_command(name: &str, args: &[String], stdin: &[u8]) -> Result<Output, CommandError> {
        let call = Call {
            name: name.to_owned(),
            args: args.to_vec(),
            stdin: stdin.to_vec(),
        };
        let Some(answer) = ask(|state| state.answers.get(name).cloned()) else {
            return Err(CommandError::Denied(format!("add commands = {{{name:?}: [...]}}")));
        };
        ask(|mut state| state.calls.push(call.clone()));
        // Not within `ask`: the answer may change the host.
        answer(&call)
    }

    #[cfg(unix)]
    pub fn file_mode(path: &str) -> Result<u32, String> {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::symlink_metadata(path).map_err(|error| error.to_string())?;
        Ok(metadata.permissions().mode() & 0o777)
    }

    #[cfg(unix)]
    pub fn file_set_mode(path: &str, mode: u32) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions).map_err(|error| error.to_string())
    }

    #[cfg(not(unix))]
    pub fn file_mode(_: &str) -> Result<u32, String> {
        Ok(0o644)
    }

    #[cfg(not(unix))]
    pub fn file_set_mode(_: &str, _: u32) -> Result<(), String> {
        Ok(())
    }

    pub fn znode_get(path: &str) -> Result<Node, ZnodeError> {
        ask(|mut state| {
            state.fault(path)?;
            state.znodes.get(path).cloned().ok_or(ZnodeError::NoNode)
        })
    }

    pub fn znode_set(path: &str, data: &[u8], version: Option<i32>) -> Result<Stat, ZnodeError> {
        ask(|mut state| {
            state.fault(path)?;
            let mzxid = state.zxid + 1;
            let node = state.znodes.get_mut(path).ok_or(ZnodeError::NoNode)?;
            if version.is_some_and(|version| version != node.stat.version) {
                return Err(ZnodeError::BadVersion);
            }
            node.data = data.to_vec();
            node.stat.mzxid = mzxid;
            node.stat.version += 1;
            let stat = node.stat;
            state.zxid = mzxid;
            Ok(stat)
        })
    }

    pub fn znode_create(path: &str, data: &[u8]) -> Result<(), ZnodeError> {
        ask(|mut state| {
            state.fault(path)?;
            if state.znodes.contains_key(path) {
                return Err(ZnodeError::NodeExists);
            }
            let (parent, name) = path.rsplit_once('/').unwrap_or_default();
            if name.is_empty() {
                return Err(ZnodeError::Failed(format!("{path:?} is no path of a znode")));
            }
            if !parent.is_empty() && !state.znodes.contains_key(parent) {
                return Err(ZnodeError::NoNode);
            }
            state.put(path, data.to_vec());
            Ok(())
        })
    }

    pub fn znode_children(path: &str) -> Result<Vec<String>, ZnodeError> {
        ask(|mut state| {
            state.fault(path)?;
            if path != "/" && !state.znodes.contains_key(path) {
                return Err(ZnodeError::NoNode);
            }
            let below = format!("{}/", path.trim_end_matches('/'));
            let names = state.znodes.keys().filter_map(|other| other.strip_prefix(&below));
            Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands, znodes};

    #[test]
    fn znodes_are_those_of_zookeeper() {
        let host = Host::new().znode("/a/b", "1").znode("/a/c", "");
        host.enter(|| {
            assert_eq!(znodes::children("/a").unwrap(), ["b", "c"]);
            assert_eq!(znodes::children("/").unwrap(), ["a"]);
            let node = znodes::get("/a/b").unwrap();
            let stat = znodes::set_if("/a/b", "2", node.stat.version).unwrap();
            assert_eq!((stat.version, stat.czxid), (node.stat.version + 1, node.stat.czxid));
            assert!(stat.mzxid > node.stat.mzxid);
            let kind = |result: Result<_, znodes::Error>| result.unwrap_err().kind().clone();
            assert_eq!(kind(znodes::set_if("/a/b", "3", 0).map(drop)), ZnodeError::BadVersion);
            assert_eq!(kind(znodes::set("/x", "").map(drop)), ZnodeError::NoNode);
            assert_eq!(kind(znodes::create("/a/b", "")), ZnodeError::NodeExists);
            assert_eq!(kind(znodes::create("/x/y", "")), ZnodeError::NoNode);
            znodes::create("/x", "new").unwrap();
        });
        assert_eq!(host.znode_data("/a/b").unwrap(), b"2");
        assert_eq!(host.znode_data("/x").unwrap(), b"new");
    }

    #[test]
    fn a_subtree_is_what_was_planted() {
        let host = Host::new()
            .path("/app")
            .tree_node("/app/port", "80")
            .tree_node("/app", "")
            .unreadable_tree_node("/app/key")
            .changed("/app/port", Fate::Set)
            .changed("/app/old", Fate::Deleted)
            .since("1m82xp1tf0000");
        let look = |change: Change| {
            let tree = change.tree()?;
            let paths: Vec<_> = tree.into_iter().map(|node| node.path.as_str()).collect();
            assert_eq!(paths, ["/app", "/app/key", "/app/port"]);
            assert_eq!(tree.text("port")?, Some("80"));
            assert_eq!(tree.get("key").unwrap().data, None);
            let changed: Vec<_> = tree.changed().collect();
            assert_eq!(changed, [("/app/old", Fate::Deleted), ("/app/port", Fate::Set)]);
            assert_eq!(change.changed_paths().unwrap(), ["/app/old", "/app/port"]);
            assert_eq!(change.since(), Some("1m82xp1tf0000"));
            Ok(())
        };
        assert_eq!(host.run(look, "{}"), Ok(()));
    }

    #[test]
    fn without_a_payload_in_json_the_watch_is_said_to_lack_it() {
        let look = |change: Change| {
            assert_eq!(
                (change.content(), change.difference(), change.since()),
                (None, None, None)
            );
            change.tree()?;
            Ok(())
        };
        let failed = Host::new().run(look, "").unwrap_err().to_string();
        assert!(failed.contains("payload = JSON"), "{failed}");
        let look = |change: Change| {
            assert_eq!(change.content(), Some(&b"x"[..]));
            assert_eq!(change.difference().unwrap().added, ["a", "b"]);
            Ok(())
        };
        let host = Host::new().content("x").difference(&["b", "a"], &[]);
        assert_eq!(host.run(look, "{}"), Ok(()));
    }

    #[test]
    fn an_answer_may_change_the_host() {
        let host = Host::new();
        let later = host.clone();
        let host = host.command("slow", move |_| {
            let _ = later.clone().cancelled(Reason::Timeout);
            Ok(Output::exited(0, ""))
        });
        host.enter(|| {
            assert_eq!(crate::cancel::requested(), None);
            commands::run("slow").unwrap();
            assert_eq!(crate::cancel::requested(), Some(Reason::Timeout));
        });
    }

    #[test]
    #[should_panic(expected = "no host to ask")]
    fn without_a_host_the_reason_is_told() {
        let _ = crate::config::get("x");
    }

    #[test]
    fn hosts_nest() {
        let (outer, inner) = (Host::new().config("k", "outer"), Host::new().config("k", "inner"));
        outer.enter(|| {
            inner.enter(|| assert_eq!(crate::config::get("k").as_deref(), Some("inner")));
            assert_eq!(crate::config::get("k").as_deref(), Some("outer"));
        });
    }
}
