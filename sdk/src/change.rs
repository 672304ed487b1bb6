//! What an action is told of the change it runs for.

use std::cell::OnceCell;
use std::fmt;
use std::str::Utf8Error;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::host;
use crate::tree::{NoTree, Tree};

/// The change a run is for.
///
/// The data comes with the call; everything else is asked of the host when it is first wanted.
///
/// ```
/// use twitcher_sdk::{Change, Failure};
///
/// fn on_change(change: Change) -> Result<(), Failure> {
///     let port: u16 = change.text()?.trim().parse()?;
///     twitcher_sdk::log::info!("port {port}", path = change.path(), version = change.version());
///     Ok(())
/// }
/// # twitcher_sdk::testing::Host::new().run(on_change, "8080").unwrap();
/// ```
#[derive(Debug)]
pub struct Change {
    data: Vec<u8>,
    path: OnceCell<String>,
    stat: OnceCell<Option<Stat>>,
    children: OnceCell<Option<Vec<String>>>,
    changed_paths: OnceCell<Option<Vec<String>>>,
    run_id: OnceCell<String>,
    watch_name: OnceCell<String>,
    since: OnceCell<Option<String>>,
    content: OnceCell<Option<Vec<u8>>>,
    difference: OnceCell<Option<Difference>>,
    tree: OnceCell<Option<Tree>>,
}

/// The names of children that came and went, each list sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Those that were not there before.
    pub added: Vec<String>,
    /// Those that were.
    pub removed: Vec<String>,
}

impl Change {
    pub(crate) fn new(data: Vec<u8>) -> Self {
        Self {
            data,
            path: OnceCell::new(),
            stat: OnceCell::new(),
            children: OnceCell::new(),
            changed_paths: OnceCell::new(),
            run_id: OnceCell::new(),
            watch_name: OnceCell::new(),
            since: OnceCell::new(),
            content: OnceCell::new(),
            difference: OnceCell::new(),
            tree: OnceCell::new(),
        }
    }

    /// The znode's data; in `WATCH_CHILDREN` the sorted names of its children, one a line; in `WATCH_TREE` the sorted paths that
    /// changed, one a line. Empty when the znode is gone, and with `pipe_stdin = False`. With `payload = JSON` it is the document that
    /// describes the change, always.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The data as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.data)
    }

    /// The data as JSON.
    ///
    /// # Errors
    /// When it is not JSON, or not of this shape; the error says where.
    ///
    /// ```
    /// # use twitcher_sdk::{Change, Failure};
    /// #[derive(serde::Deserialize)]
    /// struct Limits {
    ///     connections: u32,
    /// }
    ///
    /// fn on_change(change: Change) -> Result<(), Failure> {
    ///     let limits: Limits = change.json()?;
    ///     assert_eq!(limits.connections, 100);
    ///     Ok(())
    /// }
    /// # twitcher_sdk::testing::Host::new().run(on_change, r#"{"connections": 100}"#).unwrap();
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.data)
    }

    /// The znode's path, as the watch names it.
    pub fn path(&self) -> &str {
        self.path.get_or_init(host::path)
    }

    /// Why the run happens.
    pub fn event(&self) -> Event {
        host::event()
    }

    /// The znode's stat; none when it does not exist.
    pub fn stat(&self) -> Option<Stat> {
        *self.stat.get_or_init(host::stat)
    }

    /// Whether the znode exists. It need not when the watch has `on_delete = True`.
    pub fn exists(&self) -> bool {
        self.stat().is_some()
    }

    /// How often the znode's data was set since it was created; 0 when it does not exist.
    pub fn version(&self) -> i32 {
        self.stat().unwrap_or_default().version
    }

    /// The sorted names of the znode's children. None unless the watch is a `WATCH_CHILDREN`: not to be taken for "no children".
    pub fn children(&self) -> Option<&[String]> {
        self.children.get_or_init(host::children).as_deref()
    }

    /// The sorted paths in the znode's subtree that changed since the run before. None unless the watch is a `WATCH_TREE`.
    pub fn changed_paths(&self) -> Option<&[String]> {
        self.changed_paths.get_or_init(host::changed_paths).as_deref()
    }

    /// The znode's data in a `WATCH_DATA` with `payload = JSON`, where [`Change::data`] is the whole document. None when the znode does
    /// not exist, and in other watches.
    pub fn content(&self) -> Option<&[u8]> {
        self.content.get_or_init(host::content).as_deref()
    }

    /// Which children came and went since [`Change::since`]. None unless the watch is a `WATCH_CHILDREN` with `payload = JSON`.
    pub fn difference(&self) -> Option<&Difference> {
        self.difference.get_or_init(host::difference).as_ref()
    }

    /// The znode and every one below it, with their data, and what became of them since [`Change::since`].
    ///
    /// # Errors
    /// Unless the watch is a `WATCH_TREE` with `payload = JSON`.
    pub fn tree(&self) -> Result<&Tree, NoTree> {
        let ask = || {
            let (nodes, changed) = (host::tree()?, host::changed()?);
            Some(Tree::new(self.path().to_owned(), nodes, changed))
        };
        self.tree.get_or_init(ask).as_ref().ok_or(NoTree)
    }

    /// The run that what was added, removed or changed is counted from: the last that succeeded for the watch since the daemon started.
    /// None if there is none, and then everything is new; and without `payload = JSON`.
    pub fn since(&self) -> Option<&str> {
        self.since.get_or_init(host::since).as_deref()
    }

    /// 1 for the first run for a state of the znode, one more at each retry.
    pub fn attempt(&self) -> u32 {
        host::attempt()
    }

    /// The run's id, as in the daemon's log.
    pub fn run_id(&self) -> &str {
        self.run_id.get_or_init(host::run_id)
    }

    /// The watch's name, as in the daemon's log.
    pub fn watch_name(&self) -> &str {
        self.watch_name.get_or_init(host::watch_name)
    }

    /// Time left until the watch's `timeout` is over, as of now. None without a timeout.
    pub fn time_left(&self) -> Option<Duration> {
        host::deadline_ms().map(Duration::from_millis)
    }
}

/// Why a run happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The watch was loaded, and the znode exists.
    Load,
    /// The znode came into being.
    Created,
    /// The znode's data was set.
    Data,
    /// A child of the znode was added or removed.
    Children,
    /// Something in the znode's subtree changed.
    Tree,
    /// The znode went away.
    Deleted,
    /// An operator asked for the run.
    Manual,
    /// The run before this one failed.
    Retry,
}

impl Event {
    /// The word for it in the daemon's log, and in `TWITCHER_EVENT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Load => "load",
            Event::Created => "created",
            Event::Data => "data",
            Event::Children => "children",
            Event::Tree => "tree",
            Event::Deleted => "deleted",
            Event::Manual => "manual",
            Event::Retry => "retry",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The facts of a znode's stat. Compare transaction ids for equality only: a server that lost its data counts from the start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stat {
    /// The transaction that created the znode.
    pub czxid: i64,
    /// The transaction that last set its data.
    pub mzxid: i64,
    /// How often the data was set since the znode was created.
    pub version: i32,
}
