//! Loading the configuration without holding up anything: on a thread of its own, one load at a time.
//!
//! A file that was refused is tried again after a while, ever later: a full disk, a directory server that is down, or a bundle that is still to come
//! are no mistakes of the file, and nothing that is watched changes when they are over.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use twitcher_components::ComponentFinder;
use twitcher_config::change_watcher::ComponentWatch;
use twitcher_config::{Config, ConfigError, Evaluator, FileOutcome, Print, Reload, WatchNames};
use twitcher_model::Watch;

/// Most files of a load that are told of one by one.
const FILES_TOLD: usize = 20;

/// How long after a load that refused files these are tried again. Each time doubles it, up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(10);

/// Longest time until files that were refused are tried again.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// Loads the configuration when asked.
pub struct Loader {
    config: Arc<Mutex<Config>>,
    components: ComponentWatch,
    /// The load under way.
    loading: Option<Loading>,
    /// Asked while one load was under way, which may have read a file before it changed.
    again: bool,
    /// Loads that were begun.
    begun: u64,
    /// What the last load refused.
    refused: Vec<String>,
    /// When that is tried again.
    retry: Option<Instant>,
    /// The time from the next load to its retry; none if nothing is tried again.
    pause: Option<Duration>,
}

struct Loading {
    /// What it came to; none once that was told.
    reload: Option<oneshot::Receiver<Reload>>,
    /// It came to nothing.
    failed: bool,
    /// Ends later, when changes of all that was loaded will be seen; with whether something has changed until then.
    watched: JoinHandle<bool>,
}

/// A configuration that was loaded.
pub struct LoadedConfig {
    /// All watches now in force.
    pub watches: Vec<Arc<Watch>>,
    /// The limits of groups.
    pub groups: HashMap<Arc<str>, usize>,
    /// How many files were loaded because they are new or changed, or are gone.
    pub changed_files: usize,
    /// How many files were refused; their previous watches are in force.
    pub failed_files: usize,
    /// What was refused, each on one line.
    pub errors: Vec<String>,
    /// What was merely noted.
    pub notes: Vec<String>,
    /// The names that files have now and did not have before; none of a file that is gone.
    pub names: Vec<(PathBuf, Option<WatchNames>)>,
    /// Which load it was, from 1.
    pub number: u64,
    /// Nobody asked for it, and what was refused before was refused again.
    pub repeated: bool,
}

impl Loader {
    /// Loads files at or below `paths`, whose components come from `supply`, and tells `components` what shows changes of those.
    /// Runs can be limited by these cgroup `controllers`. The last daemon had these `names` of watches from these files.
    pub fn new(
        paths: &[PathBuf],
        program: &Path,
        supply: ComponentFinder,
        components: ComponentWatch,
        controllers: &[&'static str],
        names: BTreeMap<PathBuf, WatchNames>,
    ) -> Self {
        let config = Config::new(paths.to_vec(), Evaluator::new(program.to_owned()))
            .with_components(supply.resolver())
            .with_controllers(controllers)
            .with_names(names);
        Self {
            config: Arc::new(Mutex::new(config)),
            components,
            loading: None,
            again: false,
            begun: 0,
            refused: Vec::new(),
            retry: None,
            pause: Some(RETRY_FIRST),
        }
    }

    /// The same for who loads once: what is refused then is refused.
    pub fn without_retries(self) -> Self {
        Self { pause: None, ..self }
    }

    /// Asks for a load. Requests while one is under way become one load after it. Gives the number of that which will be it.
    pub fn request(&mut self) -> u64 {
        self.pause = self.pause.map(|_| RETRY_FIRST);
        // What is found now is told, also if it is what was found before.
        self.refused.clear();
        self.begin()
    }

    fn begin(&mut self) -> u64 {
        if self.loading.is_some() {
            self.again = true;
            return self.begun + 1;
        }
        self.retry = None;
        self.begun += 1;
        let config = Arc::clone(&self.config);
        let components = self.components.clone();
        let (tell, reload) = oneshot::channel();
        let watched = spawn_blocking(move || {
            let mut config = config.lock().unwrap_or_else(PoisonError::into_inner);
            components.look_again();
            // Whoever waits for it may be gone.
            let _ = tell.send(config.reload());
            // One that was not watched before may have changed between being read and being watched.
            components.watch(config.components()) && config.components_changed()
        });
        let reload = Some(reload);
        self.loading = Some(Loading {
            reload,
            failed: false,
            watched,
        });
        self.begun
    }

    /// The next load that has ended, or the number of one that a defect has ended. Never, unless one was asked for, or the last one has
    /// refused something. Cancel safe.
    pub async fn loaded(&mut self) -> Result<LoadedConfig, u64> {
        loop {
            let Some(loading) = &mut self.loading else {
                match self.retry {
                    Some(retry) => sleep_until(retry).await,
                    None => return std::future::pending().await,
                }
                self.begin();
                continue;
            };
            if let Some(reload) = &mut loading.reload {
                let result = reload.await;
                loading.reload = None;
                match result {
                    Ok(reload) => return Ok(self.report(reload)),
                    // The thread has ended without.
                    Err(_) => loading.failed = true,
                }
            }
            let (number, failed) = (self.begun, loading.failed);
            let outdated = (&mut loading.watched).await;
            self.loading = None;
            if std::mem::take(&mut self.again) || matches!(outdated, Ok(true)) {
                self.request();
            }
            if let Err(defect) = outdated {
                error!(%defect, "loading the configuration failed; what was loaded stays in force");
            }
            if failed {
                return Err(number);
            }
        }
    }

    fn report(&mut self, reload: Reload) -> LoadedConfig {
        let errors: Vec<_> = reload.errors().map(one_line).collect();
        let changed = |outcome: &FileOutcome| matches!(outcome, FileOutcome::Loaded { .. } | FileOutcome::Removed);
        let changed_files = reload.files.iter().filter(|file| changed(&file.outcome)).count();
        let failed = |outcome: &FileOutcome| matches!(outcome, FileOutcome::Failed { .. });
        let failed_files = reload.files.iter().filter(|file| failed(&file.outcome)).count();
        let repeated = changed_files == 0 && failed_files > 0 && errors == self.refused;
        if failed_files > 0
            && let Some(pause) = self.pause
        {
            self.retry = Some(Instant::now() + pause);
            self.pause = Some(RETRY_MAX.min(pause * 2));
        }
        self.refused.clone_from(&errors);
        let notes = reload.notes.iter().map(one_line).collect();
        if repeated {
            debug!(failed_files, "files are refused for the same reasons as before");
        } else {
            tell(&reload, changed_files <= FILES_TOLD);
        }
        LoadedConfig {
            watches: reload.watches,
            groups: reload.groups,
            changed_files,
            failed_files,
            errors,
            notes,
            names: reload.names,
            number: self.begun,
            repeated,
        }
    }
}

/// An error as one line of the log.
fn one_line(error: &ConfigError) -> String {
    let place = error
        .position
        .map(|at| format!(":{}:{}", at.line, at.column))
        .unwrap_or_default();
    let hint = error
        .hint
        .as_ref()
        .map(|hint| format!(" (hint: {hint})"))
        .unwrap_or_default();
    format!("{}{place}: {}{hint}", error.file.display(), error.message)
}

/// Logs what a load came to, each file that was loaded by its name if there are `few`.
fn tell(reload: &Reload, few: bool) {
    for Print { file, line, text } in &reload.prints {
        info!(file = %file.display(), line = line.unwrap_or_default(), "printed: {text}");
    }
    for note in &reload.notes {
        warn!(file = %note.file.display(), "{}", one_line(note));
    }
    for file in &reload.files {
        let path = file.file.display();
        match &file.outcome {
            FileOutcome::Loaded { watches } if few => info!(file = %path, watches, "file loaded"),
            FileOutcome::Loaded { watches } => debug!(file = %path, watches, "file loaded"),
            FileOutcome::Unchanged => {}
            FileOutcome::Removed if few => info!(file = %path, "file gone, its watches are removed"),
            FileOutcome::Removed => debug!(file = %path, "file gone, its watches are removed"),
            FileOutcome::Failed { errors, kept } => {
                for problem in errors {
                    error!(file = %path, "{}", one_line(problem));
                }
                error!(file = %path, errors = errors.len(), kept, "file refused; its previous watches stay in force");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use twitcher_config::Resolver;
    use twitcher_config::change_watcher::Watcher;
    use twitcher_model::{Component, Digest, EntryPoint, Keep};

    /// A loader of one file, whose only watch runs a component that `resolve` says yes or no to.
    fn loader(dir: &Path, resolve: impl Fn() -> Result<Component, Vec<String>> + Send + Sync + 'static) -> Loader {
        let paths = [dir.to_owned()];
        let component = r#"[{"znode": "/n", "action": {"wasm": {"component": "/c.wasm"}}}]"#;
        std::fs::write(dir.join("a.json"), component).unwrap();
        let config = Config::new(paths.to_vec(), Evaluator::new(PathBuf::from("/nonexistent")))
            .with_components(Resolver::of_files(move |_, _| resolve()));
        let watcher = Watcher::new(&paths, Duration::ZERO).unwrap();
        Loader {
            config: Arc::new(Mutex::new(config)),
            components: watcher.components(),
            loading: None,
            again: false,
            begun: 0,
            refused: Vec::new(),
            retry: None,
            pause: Some(RETRY_FIRST),
        }
    }

    #[tokio::test]
    async fn a_load_that_a_defect_ends_is_told_and_the_next_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let mut loader = loader(dir.path(), || panic!("a defect"));
        assert_eq!(loader.request(), 1);
        assert_eq!(loader.loaded().await.err(), Some(1));
        let exec = r#"[{"znode": "/n", "action": {"exec": ["/bin/true"]}}]"#;
        std::fs::write(dir.path().join("a.json"), exec).unwrap();
        assert_eq!(loader.request(), 2);
        let loaded = loader.loaded().await.ok().unwrap();
        assert_eq!((loaded.number, loaded.watches.len()), (2, 1), "{:?}", loaded.errors);
    }

    #[tokio::test]
    async fn what_was_refused_is_tried_again_ever_later_and_told_only_if_it_differs() {
        let dir = tempfile::tempdir().unwrap();
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        let mut loader = loader(dir.path(), move || match counted.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Err(vec!["no space left on the device".to_owned()]),
            2 => Err(vec!["no such bundle".to_owned()]),
            _ => Ok(Component {
                file: Path::new("/c.wasm").into(),
                bundle: None,
                digest: Digest([0; 32]),
                entry: EntryPoint::Handler,
                native: Path::new("/native").into(),
                keep: Keep::default(),
            }),
        });
        loader.request();
        assert_eq!(loader.pause, Some(RETRY_FIRST));
        loader.pause = Some(Duration::from_millis(1));
        let mut seen = Vec::new();
        for _ in 0..4 {
            let loaded = loader.loaded().await.ok().unwrap();
            seen.push((loaded.failed_files, loaded.repeated, loader.pause.unwrap().as_millis()));
        }
        assert_eq!(seen, [(1, false, 2), (1, true, 4), (1, false, 8), (0, false, 8)]);
        assert_eq!(loader.retry, None, "all is well");
        assert_eq!(tries.load(Ordering::Relaxed), 4);
    }
    #[tokio::test]
    async fn who_loads_once_tries_nothing_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut loader = loader(dir.path(), || Err(vec!["no such bundle".to_owned()])).without_retries();
        loader.request();
        let loaded = loader.loaded().await.ok().unwrap();
        assert_eq!((loaded.failed_files, loader.retry), (1, None));
    }
}
