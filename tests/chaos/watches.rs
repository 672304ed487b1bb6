//! The watches that every daemon has, and their configuration files. A new kind of watch is a new row of [`WATCHES`].

use std::fmt::Write as _;
use std::path::Path;

/// What a watch looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Data,
    Children,
    Tree,
}

/// How updates meet a running action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Queue,
    Discard,
    Parallel,
    Restart,
}

/// What the action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Exec,
    Function,
    Component,
    /// A program that stays.
    Service,
}

/// A configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// Never touched.
    Steady,
    /// Rewritten, broken, deleted.
    Churn,
}

/// A watch.
#[derive(Debug)]
pub struct Watch {
    pub name: &'static str,
    /// How many znodes it looks at.
    pub znodes: usize,
    /// What of each.
    pub node: Node,
    /// Whether its action is told the whole of a change (`payload=JSON`).
    pub payload: bool,
    pub mode: Mode,
    pub kind: Kind,
    pub file: File,
    /// Further fields.
    pub fields: &'static str,
    /// How often a failed run may be run again.
    pub retries: u64,
    /// Misbehaviour is for others.
    pub healthy: bool,
}

/// The watch whose reactions are timed.
pub const HEALTHY: &str = "canary";

/// In the group that [`config`] gives two places.
const GROUPED: &str = "group='few', ";

/// A component dies whose native code is cut short under it, or that gets no thread; and what is damaged is not made again while the disk
/// is full.
const RESTORED: &str = "on_failure=Retry(times=20, initial=0.1, max_delay=1), ";

/// What is started again for as long as it takes, and soon.
const SERVICE: &str = "service=True, ready_after=0.3, on_failure=Retry(times=1000000, initial=0.1, max_delay=0.5), ";
const TOLD_SERVICE: &str = "service=True, ready_after=0.3, on_failure=Retry(times=1000000, initial=0.1, max_delay=0.5), notify_signal=SIGHUP, ";

/// At most so many runs of a PARALLEL watch at once.
pub const MAX_PARALLEL: u32 = 4;

const fn exec(name: &'static str, node: Node, mode: Mode) -> Watch {
    Watch {
        name,
        znodes: 1,
        node,
        payload: false,
        mode,
        kind: Kind::Exec,
        file: File::Steady,
        fields: "",
        retries: 0,
        healthy: false,
    }
}

const fn several(name: &'static str, node: Node, mode: Mode) -> Watch {
    Watch {
        znodes: 3,
        payload: true,
        ..exec(name, node, mode)
    }
}

const fn service(name: &'static str, mode: Mode) -> Watch {
    let fields = match mode {
        Mode::Queue => TOLD_SERVICE,
        _ => SERVICE,
    };
    Watch {
        kind: Kind::Service,
        fields,
        retries: u64::MAX,
        ..exec(name, Node::Data, mode)
    }
}

/// Every watch has znodes of its own, named like it.
pub const WATCHES: &[Watch] = &[
    Watch {
        healthy: true,
        ..exec(HEALTHY, Node::Data, Mode::Queue)
    },
    exec("data-queue", Node::Data, Mode::Queue),
    exec("data-discard", Node::Data, Mode::Discard),
    exec("data-parallel", Node::Data, Mode::Parallel),
    exec("data-restart", Node::Data, Mode::Restart),
    exec("children-queue", Node::Children, Mode::Queue),
    exec("children-discard", Node::Children, Mode::Discard),
    exec("children-parallel", Node::Children, Mode::Parallel),
    exec("children-restart", Node::Children, Mode::Restart),
    exec("tree-queue", Node::Tree, Mode::Queue),
    exec("tree-discard", Node::Tree, Mode::Discard),
    exec("tree-parallel", Node::Tree, Mode::Parallel),
    exec("tree-restart", Node::Tree, Mode::Restart),
    Watch {
        fields: "settle=0.3, settle_max=2, ",
        ..exec("settle-queue", Node::Data, Mode::Queue)
    },
    Watch {
        fields: "min_interval=0.5, ",
        ..exec("interval-restart", Node::Data, Mode::Restart)
    },
    Watch {
        fields: "notify_signal=SIGWINCH, ",
        ..exec("notified-queue", Node::Data, Mode::Queue)
    },
    Watch {
        fields: "run_on_load=IF_CHANGED, ",
        ..exec("changed-queue", Node::Data, Mode::Queue)
    },
    Watch {
        fields: "run_on_load=IF_CHANGED, ",
        ..exec("changed-tree", Node::Tree, Mode::Restart)
    },
    Watch {
        fields: "on_failure=Retry(times=2, initial=0.05, max_delay=0.2), ",
        retries: 2,
        ..exec("retry-queue", Node::Data, Mode::Queue)
    },
    Watch {
        fields: "on_failure=Retry(times=2, initial=0.05, max_delay=0.2), ",
        retries: 2,
        ..exec("retry-restart", Node::Children, Mode::Restart)
    },
    Watch {
        fields: GROUPED,
        ..exec("group-queue", Node::Data, Mode::Queue)
    },
    Watch {
        fields: GROUPED,
        ..exec("group-restart", Node::Data, Mode::Restart)
    },
    Watch {
        fields: GROUPED,
        ..exec("group-children", Node::Children, Mode::Queue)
    },
    Watch {
        kind: Kind::Function,
        // A function that finds no process left for what it runs has failed; what it runs gives another code.
        fields: "on_failure=Retry(times=20, initial=0.1, max_delay=1, codes=[1]), ",
        retries: 20,
        ..exec("function-queue", Node::Data, Mode::Queue)
    },
    Watch {
        kind: Kind::Component,
        fields: RESTORED,
        retries: 20,
        healthy: true,
        ..exec("component-queue", Node::Data, Mode::Queue)
    },
    Watch {
        kind: Kind::Component,
        fields: RESTORED,
        retries: 20,
        healthy: true,
        ..exec("component-restart", Node::Data, Mode::Restart)
    },
    Watch {
        file: File::Churn,
        ..exec("churn-queue", Node::Data, Mode::Queue)
    },
    Watch {
        file: File::Churn,
        ..exec("churn-restart", Node::Children, Mode::Restart)
    },
    Watch {
        file: File::Churn,
        ..exec("churn-tree", Node::Tree, Mode::Queue)
    },
    several("several-queue", Node::Data, Mode::Queue),
    Watch {
        fields: "settle=0.2, settle_max=1, ",
        ..several("several-settle", Node::Data, Mode::Restart)
    },
    several("several-tree", Node::Tree, Mode::Restart),
    Watch {
        fields: "run_on_load=IF_CHANGED, ",
        ..several("several-changed", Node::Data, Mode::Queue)
    },
    Watch {
        file: File::Churn,
        ..several("several-churn", Node::Tree, Mode::Queue)
    },
    Watch {
        payload: true,
        ..exec("payload-queue", Node::Tree, Mode::Queue)
    },
    Watch {
        payload: true,
        ..exec("payload-restart", Node::Tree, Mode::Restart)
    },
    Watch {
        payload: true,
        fields: "run_on_load=IF_CHANGED, on_failure=Retry(times=2, initial=0.05, max_delay=0.2), ",
        retries: 2,
        ..exec("payload-retry", Node::Tree, Mode::Queue)
    },
    service("service-restart", Mode::Restart),
    service("service-told", Mode::Queue),
    Watch {
        znodes: 2,
        payload: true,
        ..service("service-several", Mode::Queue)
    },
    Watch {
        file: File::Churn,
        ..service("service-churn", Mode::Restart)
    },
];

/// How many watches have a component, of each of which one process waits for its next run.
pub const COMPONENTS: usize = {
    let (mut count, mut at) = (0, 0);
    while at < WATCHES.len() {
        count += matches!(WATCHES[at].kind, Kind::Component) as usize;
        at += 1;
    }
    count
};

impl Watch {
    /// How many may run at once.
    pub fn slots(&self) -> u32 {
        if self.mode == Mode::Parallel { MAX_PARALLEL } else { 1 }
    }

    /// Its znode, or the first of several.
    pub fn znode(&self) -> String {
        format!("{ROOT}/{}", self.name)
    }

    /// Its znodes, in the order of its configuration.
    pub fn znodes(&self) -> Vec<String> {
        let first = std::iter::once(self.znode());
        let more = (2..=self.znodes).map(|number| format!("{ROOT}/{}.{number}", self.name));
        first.chain(more).collect()
    }

    /// The one of them that is written to with this tag: always the same.
    pub fn written(&self, tag: &str) -> String {
        let sum: usize = tag.bytes().map(usize::from).sum();
        self.znodes().swap_remove(sum % self.znodes)
    }

    /// Whether its action can be told how to behave.
    pub fn misbehaves(&self) -> bool {
        !self.healthy
    }
}

/// The znode that all others are below.
pub const ROOT: &str = "/chaos";

/// In the environment of every action that has one: the directory `out` of its daemon.
pub const MARK: &str = "CHAOS_OUT";

/// By its name.
pub fn watch(name: &str) -> &'static Watch {
    WATCHES.iter().find(|watch| watch.name == name).unwrap()
}

/// Where a daemon's actions find things.
#[derive(Debug)]
pub struct Places<'a> {
    /// This program.
    pub program: &'a Path,
    pub out: &'a Path,
    pub component: &'a Path,
}

/// The text of a configuration file. `without` is left out of it.
pub fn config(file: File, places: &Places<'_>, revision: u32, without: Option<&str>) -> String {
    let mut text = match file {
        File::Steady => "RegisterGroup('few', limit=2)\n".to_owned(),
        File::Churn => String::new(),
    };
    for watch in WATCHES {
        if watch.file == file && Some(watch.name) != without {
            register(&mut text, watch, places, revision);
        }
    }
    text
}

/// What nobody can load.
pub const BROKEN: &str = "RegisterWatch(znode='/chaos/never', name='never',\n";

fn register(text: &mut String, watch: &Watch, places: &Places<'_>, revision: u32) {
    let data_file = format!("{}/data/{}", places.out.display(), watch.name);
    let (word, last) = match watch.kind {
        Kind::Service => (super::serve::SERVE, data_file.clone()),
        _ => (super::act::ACT, watch.slots().to_string()),
    };
    let words = [
        &*places.program.to_string_lossy(),
        word,
        &*places.out.to_string_lossy(),
        watch.name,
        &last,
    ]
    .map(|word| format!("{word:?}"))
    .join(", ");
    let action = match watch.kind {
        Kind::Exec | Kind::Service => format!("Exec([{words}])"),
        Kind::Function => {
            let function = watch.name.replace('-', "_");
            let _ = writeln!(text, "def {function}():\n    run([{words}], stdin())\n");
            function
        }
        Kind::Component => format!(
            "Wasm({:?}, dirs={{'/out': {:?}}})",
            places.component.to_string_lossy(),
            format!("{}/journal:rw", places.out.display())
        ),
    };
    let env = match watch.kind {
        Kind::Component => String::new(),
        _ => format!(
            "env={{'CHAOS_REVISION': '{revision}', '{MARK}': {:?}}}",
            places.out.to_string_lossy()
        ),
    };
    // What stays has no time that is up.
    let mut fields = match watch.kind {
        Kind::Service => format!("data_file={data_file:?}, {}", watch.fields),
        _ => format!("timeout=2, {}", watch.fields),
    };
    if watch.payload {
        fields += "payload=JSON, ";
    }
    let znodes = match &watch.znodes()[..] {
        [znode] => format!("{znode:?}"),
        several => format!("{several:?}"),
    };
    let mode = format!("{:?}", watch.mode).to_uppercase();
    let node = format!("WATCH_{:?}", watch.node).to_uppercase();
    let _ = writeln!(
        text,
        "RegisterWatch(znode={znodes}, name={:?}, action={action}, run_mode={mode}, watch_type={node}, kill_after=1, \
         max_parallel={MAX_PARALLEL}, {fields}{env})",
        watch.name,
    );
}
