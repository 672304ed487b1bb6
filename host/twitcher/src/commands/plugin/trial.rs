//! One run of a component, as the daemon would run it, for its author to see.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;

use twitcher_actions::Broker;
use twitcher_actions::environment::{self, Deployer};
use twitcher_config::{Config, ConfigError, Evaluator, Resolver};
use twitcher_launch::{
    Control, Invocation, LaunchError, Launcher, Launches, Purpose, RunEvent, RunReport, SecretValues, WarmSpec,
};
use twitcher_model::{Action, Grants, Observation, Payload, Stamp, Stat, Trigger, Version, Watch, WatchType};
use twitcher_sandbox::channel::Reason;
use twitcher_sandbox::code_cache::CodeCache;
use twitcher_scheduler::{RunIds, Start};
use twitcher_source::{Source, tree};

/// What is tried.
#[derive(Debug)]
pub struct Trial {
    /// The component.
    pub file: PathBuf,
    /// What it is told.
    pub change: TriedChange,
    /// `Wasm(...)`'s `config`.
    pub config: Vec<(String, String)>,
    /// Its `args`.
    pub args: Vec<String>,
    /// Its `env`.
    pub env: Vec<(String, String)>,
    /// Its `dirs`.
    pub dirs: Vec<(String, String)>,
    /// Its `net`.
    pub net: Vec<String>,
    /// Its `http`.
    pub http: Vec<String>,
    /// Its `commands`; each is split at spaces.
    pub commands: Vec<(String, String)>,
    /// Its `znodes`.
    pub znodes: Vec<(String, String)>,
    /// Its `memory`.
    pub memory: Option<String>,
    /// The watch's `timeout`, in seconds.
    pub timeout: Option<f64>,
    /// The watch's `uid`.
    pub uid: Option<String>,
    /// A directory that stands for the tree of znodes.
    pub tree: Option<PathBuf>,
}

/// The change that a component is told of.
#[derive(Debug)]
pub struct TriedChange {
    /// The znode.
    pub path: String,
    /// What is on stdin.
    pub data: Vec<u8>,
    /// What is watched of the znode; what changed of it is in the data.
    pub watch_type: WatchType,
    /// How the data says it.
    pub payload: Payload,
    /// Why it runs.
    pub event: Trigger,
    /// The znode's stat; none if it is gone.
    pub stat: Option<Stat>,
}

/// Why a trial cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A file or directory cannot be used.
    #[error("cannot {step}: {error}")]
    Io {
        /// What was attempted.
        step: &'static str,
        /// The error of the system call.
        error: std::io::Error,
    },
    /// The component or a grant is refused, as it would be in a configuration.
    #[error("{0}")]
    Refused(String),
    /// There is no place for native code.
    #[error("no place to keep native code: set HOME or XDG_CACHE_HOME to an absolute path")]
    NoCache,
    /// A path is in no text that a configuration could have.
    #[error("{}: a configuration is in UTF-8, and this path is not: give the file another name, or a link to it", .0.display())]
    NotUtf8(PathBuf),
    /// The launcher does not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The launcher ended.
    #[error("the launcher ended before the run did")]
    Lost,
}

impl Trial {
    /// The watch that would run it. Compiles the component with `program compile`.
    pub fn watch(&self, program: &Path) -> Result<Arc<Watch>, TrialError> {
        let at = |step| move |error| TrialError::Io { step, error };
        let dir = tempfile::tempdir().map_err(at("make a temporary directory"))?;
        let file = dir.path().join("trial.json");
        let text = serde_json::to_vec(&self.registration()?).unwrap_or_default();
        std::fs::write(&file, text).map_err(at("write a temporary file"))?;
        // The native code must outlive this: it is kept where it can be found again.
        let components = CodeCache::new(program.to_owned(), cache()?);
        let resolve = move |file: &Path, grants: &Grants| {
            let found = components.resolve(file, grants);
            components.tidy();
            found.map_err(|errors| errors.iter().map(ToString::to_string).collect())
        };
        let mut config =
            Config::new(vec![file], Evaluator::new(program.to_owned())).with_components(Resolver::of_files(resolve));
        let reload = config.reload();
        match reload.watches.first() {
            Some(watch) => Ok(Arc::clone(watch)),
            None => {
                let words = |error: &ConfigError| match &error.hint {
                    Some(hint) => format!("{} ({hint})", error.message),
                    None => error.message.clone(),
                };
                Err(TrialError::Refused(
                    reload.errors().map(words).collect::<Vec<_>>().join("\n"),
                ))
            }
        }
    }

    /// As it would stand in a `.json` file: so that everything is checked as there.
    fn registration(&self) -> Result<Value, TrialError> {
        let file = std::path::absolute(&self.file).map_err(|error| TrialError::Io {
            step: "find the component",
            error,
        })?;
        let file = file.into_os_string().into_string();
        let file = file.map_err(|file| TrialError::NotUtf8(file.into()))?;
        let pairs = |pairs: &[(String, String)]| -> Value {
            pairs
                .iter()
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect::<Map<_, _>>()
                .into()
        };
        let commands = self.commands.iter();
        let commands: Map<_, _> = commands
            .map(|(name, line)| (name.clone(), json!(line.split_whitespace().collect::<Vec<_>>())))
            .collect();
        let mut wasm = json!({
            "component": file,
            "config": pairs(&self.config),
            "args": self.args,
            "env": pairs(&self.env),
            "dirs": pairs(&self.dirs),
            "net": self.net,
            "http": self.http,
            "commands": commands,
            "znodes": pairs(&self.znodes),
        });
        let watch_type = match self.change.watch_type {
            WatchType::Data => "WATCH_DATA",
            WatchType::Children => "WATCH_CHILDREN",
            WatchType::Tree => "WATCH_TREE",
        };
        let payload = match self.change.payload {
            Payload::Data => "DATA",
            Payload::Json => "JSON",
        };
        let mut watch =
            json!({"name": "trial", "znode": self.change.path, "watch_type": watch_type, "payload": payload});
        if let (Some(memory), Some(wasm)) = (&self.memory, wasm.as_object_mut()) {
            wasm.insert("memory".to_owned(), json!(memory));
        }
        if let Some(fields) = watch.as_object_mut() {
            fields.insert("action".to_owned(), json!({"wasm": wasm}));
            if let Some(timeout) = self.timeout {
                fields.insert("timeout".to_owned(), json!(timeout));
            }
            if let Some(uid) = &self.uid {
                fields.insert("uid".to_owned(), json!(uid));
            }
        }
        Ok(json!([watch]))
    }

    /// The state that it runs for.
    pub fn observation(&self) -> Observation {
        let change = &self.change;
        let stamp = Stamp::default();
        let version = match (change.stat, change.watch_type) {
            (None, _) => Version::Absent,
            (Some(Stat { czxid, mzxid, .. }), WatchType::Data) => Version::Data { czxid, mzxid, stamp },
            (Some(Stat { czxid, mzxid, .. }), WatchType::Children) => Version::Children {
                czxid,
                pzxid: mzxid,
                stamp,
            },
            (Some(_), WatchType::Tree) => Version::Tree { digest: 1, stamp },
        };
        Observation {
            version,
            stat: change.stat,
            stdin: Bytes::from(change.data.clone()),
            nodes: None,
            znodes: 0,
            several: None,
        }
    }
}

/// Where an author's native code is kept: it makes the second trial fast.
fn cache() -> Result<PathBuf, TrialError> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    match base.filter(|base| base.is_absolute()) {
        Some(base) => Ok(base.join("twitcher/components")),
        // Not below /tmp: whoever is first could leave native code there.
        None => Err(TrialError::NoCache),
    }
}

/// The memory that processes may have which wait for a run, in bytes.
const WARM_MEMORY: u64 = 256 << 20;
/// How long one may take until it waits.
const WARM_PATIENCE: Duration = Duration::from_secs(20);

/// Runs that are made one after the other.
pub(super) struct Bench {
    launches: Launches,
    events: UnboundedReceiver<RunEvent>,
    broker: Broker,
    source: Source,
    ids: RunIds,
}

impl Bench {
    pub(super) fn new(launcher: Launcher, tree: Option<&Path>) -> Result<Self, TrialError> {
        let (launches, events) = Launches::start(launcher, 64, None)?;
        let source = match tree {
            Some(root) => tree::spawn(tree::TreeOptions::new(root.to_owned())).map_err(|error| TrialError::Io {
                step: "watch the tree",
                error,
            })?,
            None => Source::ended(),
        };
        Ok(Self {
            launches,
            events,
            broker: Broker::default(),
            source,
            ids: RunIds::new(0),
        })
    }

    /// Keeps processes of this watch's component, as many as it says. False if it is none of which there can be any.
    pub(super) fn keep_warm(&self, watch: &Watch) -> bool {
        let Action::Wasm(action) = &watch.action else {
            return false;
        };
        let spec = WarmSpec {
            watch: Arc::clone(&watch.name),
            action: Arc::clone(action),
            process: Arc::clone(&watch.process),
        };
        let can_wait = spec.can_wait();
        self.launches.keep_warm(WARM_MEMORY);
        self.launches.reloaded(vec![spec]);
        can_wait
    }

    /// Waits until one of them waits.
    pub(super) async fn wait_until_warm(&self) -> Result<(), TrialError> {
        let end = Instant::now() + WARM_PATIENCE;
        while self.launches.warm().waiting() == 0 {
            if Instant::now() > end {
                return Err(TrialError::Refused(
                    "no process of it gets ready to wait for a run".to_owned(),
                ));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Runs an action of a watch to its end.
    pub(super) async fn run(
        &mut self,
        watch: &Arc<Watch>,
        event: Trigger,
        observation: Observation,
    ) -> Result<RunReport, TrialError> {
        let start = Start {
            run: self.ids.allot(),
            event,
            attempt: if event == Trigger::Retry { 2 } else { 1 },
            observation,
        };
        let run = start.run;
        self.launches.launch(Invocation {
            run,
            watch: Arc::clone(&watch.name),
            task: environment::task(watch, &start, &Deployer::default()),
            env: environment::environment(watch, &start),
            process: Arc::clone(&watch.process),
            stdin: start.observation.stdin,
            purpose: Purpose::default(),
            secrets: SecretValues::default(),
            capture: false,
            aside: false,
        });
        let mut interrupted = false;
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event.ok_or(TrialError::Lost)?,
                _ = tokio::signal::ctrl_c(), if !interrupted => {
                    interrupted = true;
                    self.launches.control(run, Control::Terminate(Reason::Shutdown));
                    continue;
                }
            };
            match event {
                RunEvent::Asked {
                    asker,
                    question,
                    answer,
                } => {
                    let command = self.ids.allot();
                    self.broker
                        .asked(asker, question, answer, command, &self.launches, &self.source.znodes);
                }
                RunEvent::Ended { run: ended, mut report } => {
                    let command = self.broker.ended(ended, &mut report);
                    self.broker.parent_ended(ended, &self.launches);
                    if !command && ended == run {
                        return Ok(report);
                    }
                }
                RunEvent::Started { .. }
                | RunEvent::Told { .. }
                | RunEvent::Overdue { .. }
                | RunEvent::LauncherReplaced { .. } => {}
            }
        }
    }
}

/// Runs a component once. Must be called in a `LocalSet` on a current-thread runtime; what it writes and logs goes to the log.
pub async fn run(trial: &Trial, watch: &Arc<Watch>, launcher: Launcher) -> Result<RunReport, TrialError> {
    let mut bench = Bench::new(launcher, trial.tree.as_deref())?;
    bench.run(watch, trial.change.event, trial.observation()).await
}

/// A time as people read it.
pub fn shown(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros:.0} us"),
        ..1e6 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}
