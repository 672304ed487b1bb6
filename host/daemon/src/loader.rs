//! Loading the configuration without holding up anything: on a thread of its own, one load at a time.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{debug, error, info, warn};

use twitcher_components::ComponentFinder;
use twitcher_config::change_watcher::ComponentWatch;
use twitcher_config::{Config, ConfigError, Evaluator, FileOutcome, Print, Reload, WatchNames};
use twitcher_model::Watch;

/// Most files of a load that are told of one by one.
const FILES_TOLD: usize = 20;

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
        }
    }

    /// Asks for a load. Requests while one is under way become one load after it. Gives the number of that which will be it.
    pub fn request(&mut self) -> u64 {
        if self.loading.is_some() {
            self.again = true;
            return self.begun + 1;
        }
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

    /// The next load that has ended, or the number of one that a defect has ended. Never, unless one was asked for. Cancel safe.
    pub async fn loaded(&mut self) -> Result<LoadedConfig, u64> {
        loop {
            let Some(loading) = &mut self.loading else {
                return std::future::pending().await;
            };
            if let Some(reload) = &mut loading.reload {
                let result = reload.await;
                loading.reload = None;
                match result {
                    Ok(reload) => return Ok(report(reload, self.begun)),
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

fn report(reload: Reload, number: u64) -> LoadedConfig {
    for Print { file, line, text } in &reload.prints {
        info!(file = %file.display(), line = line.unwrap_or_default(), "printed: {text}");
    }
    for note in &reload.notes {
        warn!(file = %note.file.display(), "{}", one_line(note));
    }
    let errors = reload.errors().map(one_line).collect();
    let notes = reload.notes.iter().map(one_line).collect();
    let mut failed_files = 0;
    let changed = |outcome: &FileOutcome| matches!(outcome, FileOutcome::Loaded { .. } | FileOutcome::Removed);
    let changed_files = reload.files.iter().filter(|file| changed(&file.outcome)).count();
    let few = changed_files <= FILES_TOLD;
    for file in &reload.files {
        let path = file.file.display();
        match &file.outcome {
            FileOutcome::Loaded { watches } if few => info!(file = %path, watches, "file loaded"),
            FileOutcome::Loaded { watches } => debug!(file = %path, watches, "file loaded"),
            FileOutcome::Unchanged => {}
            FileOutcome::Removed if few => info!(file = %path, "file gone, its watches are removed"),
            FileOutcome::Removed => debug!(file = %path, "file gone, its watches are removed"),
            FileOutcome::Failed { errors, kept } => {
                failed_files += 1;
                for problem in errors {
                    error!(file = %path, "{}", one_line(problem));
                }
                error!(file = %path, errors = errors.len(), kept, "file refused; its previous watches stay in force");
            }
        }
    }
    LoadedConfig {
        watches: reload.watches,
        groups: reload.groups,
        changed_files,
        failed_files,
        errors,
        notes,
        names: reload.names,
        number,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use twitcher_config::Resolver;
    use twitcher_config::change_watcher::Watcher;

    #[tokio::test]
    async fn a_load_that_a_defect_ends_is_told_and_the_next_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        let paths = [dir.path().to_owned()];
        let watch = |action| format!(r#"[{{"znode": "/n", "action": {action}}}]"#);
        std::fs::write(&file, watch(r#"{"wasm": {"component": "/c.wasm"}}"#)).unwrap();
        let resolver = Resolver::of_files(|_, _| panic!("a defect"));
        let evaluator = Evaluator::new(PathBuf::from("/nonexistent"));
        let config = Config::new(paths.to_vec(), evaluator).with_components(resolver);
        let watcher = Watcher::new(&paths, Duration::ZERO).unwrap();
        let mut loader = Loader {
            config: Arc::new(Mutex::new(config)),
            components: watcher.components(),
            loading: None,
            again: false,
            begun: 0,
        };
        assert_eq!(loader.request(), 1);
        assert_eq!(loader.loaded().await.err(), Some(1));
        std::fs::write(&file, watch(r#"{"exec": ["/bin/true"]}"#)).unwrap();
        assert_eq!(loader.request(), 2);
        let loaded = loader.loaded().await.ok().unwrap();
        assert_eq!((loaded.number, loaded.watches.len()), (2, 1), "{:?}", loaded.errors);
    }
}
