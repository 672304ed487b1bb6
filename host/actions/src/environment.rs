//! What is executed for an action, and what it finds in its environment. Pure but for the daemon's own environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use twitcher_files::system::DEFAULT_PATH;
use twitcher_launch::protocol::{Task, WasmTask};
use twitcher_model::{Action, ChangeFacts, Deployment, Identity, Observation, Seen, Stat, Watch, ZnodePath};
use twitcher_sandbox::Reach;
use twitcher_scheduler::Start;

/// Of the daemon's environment, what every action gets.
const PASSED_ON: [&str; 3] = ["PATH", "LANG", "TZ"];
/// Belongs to the daemon alone, even with `inherit_env`: an action must not speak to systemd or ZooKeeper in its name.
const KEPT_BACK: [&str; 8] = [
    "KRB5CCNAME",
    "KRB5_CLIENT_KTNAME",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "INVOCATION_ID",
];

/// What installs bundles for the daemon: its own program, in a process of its own as for any command.
#[derive(Debug, Clone, Default)]
pub struct Deployer {
    /// The program.
    pub program: PathBuf,
    /// The store of installed bundles.
    pub store: PathBuf,
    /// The directory of trusted keys.
    pub keys: PathBuf,
}

impl Deployer {
    /// The command of a deployment, which reads on stdin what the znode says.
    fn command(&self, deployment: &Deployment) -> Vec<String> {
        // A path that is not UTF-8 would become another one; an empty one is refused.
        let path = |path: &Path| path.to_str().unwrap_or_default().to_owned();
        let options = [
            ("--name", deployment.name.to_string()),
            ("--bundles", path(&self.store)),
            ("--keys", path(&self.keys)),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        [path(&self.program), "bundle".to_owned(), "deploy".to_owned()]
            .into_iter()
            .chain(options)
            .chain(["--".to_owned(), deployment.source.to_string()])
            .collect()
    }
}

/// What the launcher is asked to do for an action.
pub fn task(watch: &Watch, start: &Start, deployer: &Deployer) -> Task {
    match &watch.action {
        Action::Shell(script) => Task::Exec(vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_string()]),
        Action::Argv(words) => Task::Exec(words.iter().map(|word| word.to_string()).collect()),
        Action::Function(function) => Task::Function(function.clone()),
        Action::Deploy(deployment) => Task::Exec(deployer.command(deployment)),
        Action::Wasm(action) => Task::Wasm(Box::new(WasmTask {
            action: Arc::clone(action),
            change: ChangeFacts {
                run: start.run,
                watch: Arc::clone(&watch.name),
                path: named(watch, &start.observation).0.clone(),
                watch_type: watch.watch_type,
                payload: watch.payload,
                event: start.event,
                stat: named(watch, &start.observation).1,
                attempt: start.attempt,
                timeout: watch.process.timeout,
            },
            reach: Reach::of(&action.grants),
        })),
    }
}

/// The znode that is named to the action, with its stat: of several the first that changed.
pub(crate) fn named<'a>(watch: &'a Watch, observation: &'a Observation) -> (&'a ZnodePath, Option<Stat>) {
    match observation.named() {
        Some(named) => (&named.znode, named.observation.stat),
        None => (&watch.znode, observation.stat),
    }
}

/// The environment of a run, each name once. What the configuration says wins over the rest; `TWITCHER_*` over everything.
pub fn environment(watch: &Watch, start: &Start) -> Vec<(String, String)> {
    let mut env = of_watch(watch);
    let (znode, stat) = named(watch, &start.observation);
    let stat = stat.unwrap_or_default();
    env.set("TWITCHER_ZNODE", znode.as_str());
    env.set("TWITCHER_EVENT", start.event.as_str());
    env.set("TWITCHER_VERSION", stat.version.to_string());
    env.set("TWITCHER_MZXID", stat.mzxid.to_string());
    env.set("TWITCHER_ATTEMPT", start.attempt.to_string());
    env.0
}

/// The environment of what a rollout runs beside the action: the same, but for the event.
pub fn of_probe(watch: &Watch, event: &str, seen: Option<&Seen>) -> Vec<(String, String)> {
    let mut env = of_watch(watch);
    let version = seen.and_then(Seen::version).unwrap_or_default();
    let zxid = seen.and_then(Seen::zxid).unwrap_or_default();
    env.set("TWITCHER_ZNODE", watch.znode.as_str());
    env.set("TWITCHER_EVENT", event);
    env.set("TWITCHER_VERSION", version.to_string());
    env.set("TWITCHER_MZXID", zxid.to_string());
    env.set("TWITCHER_ATTEMPT", "1");
    env.0
}

/// What all runs of a watch have.
fn of_watch(watch: &Watch) -> Env {
    let settings = &watch.process;
    let identity = &settings.identity;
    let mut env = Env::default();
    env.set("PATH", DEFAULT_PATH);
    env.set("LANG", "C.UTF-8");
    // Names and values that are not UTF-8 are left out: they could not be told from forged ones in the log either.
    if settings.inherit_env {
        let all = std::env::vars_os();
        for (name, value) in all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        {
            if !KEPT_BACK.contains(&name.as_str()) {
                env.set(&name, value);
            }
        }
    } else {
        for name in PASSED_ON {
            if let Ok(value) = std::env::var(name) {
                env.set(name, value);
            }
        }
    }
    env.set_user(identity);
    for (name, value) in &settings.env {
        env.set(name, value.as_str());
    }
    env.set("TWITCHER_NAME", &*watch.name);
    env
}

/// The environment of a run for one of its commands that runs as another user.
pub fn of_user(env: Vec<(String, String)>, identity: &Identity) -> Vec<(String, String)> {
    let mut env = Env(env);
    env.set_user(identity);
    env.0
}

#[derive(Default)]
struct Env(Vec<(String, String)>);

impl Env {
    fn set_user(&mut self, identity: &Identity) {
        self.set("HOME", identity.home.as_str());
        self.set("USER", identity.user.as_str());
        self.set("LOGNAME", identity.user.as_str());
        self.set("SHELL", identity.shell.as_str());
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}
