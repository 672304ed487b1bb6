//! All configuration files together: what is watched now, and what a reload changes.
//!
//! Each file is a transaction: it counts as a whole or, when anything is wrong with it, not at all, and then its previous watches
//! stay. This module must not know what happens to watches that come or go.

mod taken_names;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::accounts::{AccountProblem, Accounts};
use super::component_resolver::{self, Changes, Components, Resolver, Used, Watched};
use super::error::{ConfigError, SourceText, TextPosition};
use super::evaluator::{Evaluator, Print};
use super::fields::group::GroupLimit;
use super::files::{FileReader, Kind};
use super::interner::Interner;
use super::json;
use super::validate::actions::set_users;
use super::validate::{Built, Entry, Parsed, Surroundings, watches};
use twitcher_model::{Action, ProcessSettings, WasmAction, Watch};

pub use taken_names::WatchNames;

/// The configuration: which files there are, and the watches of those that loaded.
#[derive(Debug)]
pub struct Config {
    paths: Vec<PathBuf>,
    reader: FileReader,
    evaluator: Evaluator,
    /// This host's name, for `splay`.
    host: String,
    interner: Interner,
    components: Components,
    controllers: Option<Vec<&'static str>>,
    files: BTreeMap<PathBuf, Loaded>,
    /// What each file used when it was last read, also if it failed: what was wrong may be mended in the component.
    used: BTreeMap<PathBuf, Used>,
    /// The names of the watches of each file that loaded, in this process or in one before.
    names: BTreeMap<PathBuf, WatchNames>,
}

/// A file that has loaded at least once.
#[derive(Debug)]
struct Loaded {
    /// The texts that the watches come from.
    source: SourceText,
    loads: Vec<SourceText>,
    entries: Vec<Entry>,
    groups: Vec<GroupLimit>,
    /// Whether a later text of the file failed.
    stale: bool,
}

/// What a reload came to.
#[derive(Debug, Default)]
pub struct Reload {
    /// Every watch that is in force now, in the order of their files' paths.
    pub watches: Vec<Arc<Watch>>,
    /// The groups that were given a limit.
    pub groups: HashMap<Arc<str>, usize>,
    /// What became of each file, and of each path or directory that could not be read.
    pub files: Vec<FileReport>,
    /// What files printed while they were loaded.
    pub prints: Vec<Print>,
    /// What is not wrong, but should be known: a plugin that asks for what it is not granted, for example.
    pub notes: Vec<ConfigError>,
    /// The names that files have now and did not have before; none of a file that is gone. Whoever keeps them for
    /// [`Config::with_names`] keeps two files from exchanging a name over a restart.
    pub names: Vec<(PathBuf, Option<WatchNames>)>,
}

/// What became of one file.
#[derive(Debug)]
pub struct FileReport {
    /// The file, or a path or directory that could not be read.
    pub file: PathBuf,
    /// What became of it.
    pub outcome: FileOutcome,
}

/// What became of one file.
#[derive(Debug)]
pub enum FileOutcome {
    /// It was read and is in force.
    Loaded {
        /// Number of its watches.
        watches: usize,
    },
    /// Neither it nor a file that it loads has changed.
    Unchanged,
    /// It is gone, and its watches with it.
    Removed,
    /// Something is wrong with it.
    Failed {
        /// All that is.
        errors: Vec<ConfigError>,
        /// Number of watches from before that stay in force.
        kept: usize,
    },
}

impl Reload {
    /// Everything that is wrong.
    pub fn errors(&self) -> impl Iterator<Item = &ConfigError> {
        self.files.iter().flat_map(|report| match &report.outcome {
            FileOutcome::Failed { errors, .. } => errors.as_slice(),
            FileOutcome::Loaded { .. } | FileOutcome::Unchanged | FileOutcome::Removed => &[],
        })
    }
}

/// What reading one file came to, before its names are compared with those of others.
enum Candidate {
    /// As before; the entries are new ones if users changed.
    Unchanged(Vec<Entry>),
    Changed(Loaded),
    Failed(Vec<ConfigError>),
}

impl Config {
    /// A configuration of the files at or below `paths`, none of them read yet.
    pub fn new(paths: Vec<PathBuf>, evaluator: Evaluator) -> Self {
        Self {
            // Relative paths would be looked up elsewhere once the daemon has changed its directory.
            paths: paths
                .into_iter()
                .map(|path| std::path::absolute(&path).unwrap_or(path))
                .collect(),
            reader: FileReader::new(),
            evaluator,
            host: host_name(),
            interner: Interner::default(),
            components: Components::new(Resolver::of_files(|_, _| {
                Err(vec!["components are not supported in this build".to_owned()])
            })),
            controllers: None,
            files: BTreeMap::new(),
            used: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// The same configuration with somebody who knows components. Without, every component is an error.
    pub fn with_components(mut self, resolver: Resolver) -> Self {
        self.components = Components::new(resolver);
        self
    }

    /// The same configuration for a daemon that can limit whole runs by these cgroup controllers, and by no others. Without, every limit is
    /// taken for one that can be had.
    pub fn with_controllers(mut self, controllers: &[&'static str]) -> Self {
        self.controllers = Some(controllers.to_vec());
        self
    }

    /// What shows changes of all components and bundles that the configuration uses, or tried to use: should one of these paths
    /// change, come or go, the configuration is to be loaded again.
    pub fn components(&self) -> BTreeSet<Watched> {
        self.used.values().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Whether one of [`Config::components`] is another file than when it was last looked at. Whoever begins to watch them asks
    /// this afterwards: one may have changed before it was watched.
    pub fn components_changed(&self) -> bool {
        self.used
            .values()
            .any(|used| component_resolver::changed(used).next().is_some())
    }

    /// Reads all files again. Blocks for as long as that takes: up to the evaluator's budget for each `.twc` file.
    ///
    /// A file that fails keeps its previous watches, and so do the files below a directory or path that cannot be read. Files that
    /// have not changed are not evaluated again, but their users are looked up again. A file has changed when what it loads or a
    /// component that it uses has.
    pub fn reload(&mut self) -> Reload {
        let mut reload = Reload::default();
        let (found, unreadable) = self.find();
        let gone: Vec<PathBuf> = self
            .files
            .keys()
            .filter(|file| !found.contains(*file))
            .cloned()
            .collect();
        for error in unreadable {
            let kept = gone
                .iter()
                .filter(|file| file.starts_with(&error.file))
                .map(|file| self.files[file].entries.len())
                .sum();
            reload.files.push(FileReport {
                file: error.file.clone(),
                outcome: FileOutcome::Failed {
                    errors: vec![error],
                    kept,
                },
            });
        }
        let hidden: Vec<PathBuf> = reload.files.iter().map(|report| report.file.clone()).collect();
        let is_hidden = |file: &Path| hidden.iter().any(|path| file.starts_with(path));
        self.forget_names(|file| found.contains(file) || is_hidden(file), &mut reload);
        for file in gone {
            if !is_hidden(&file) {
                self.files.remove(&file);
                self.used.remove(&file);
                reload.files.push(FileReport {
                    file,
                    outcome: FileOutcome::Removed,
                });
            }
        }

        let mut accounts = Accounts::default();
        let mut candidates = BTreeMap::new();
        for file in found {
            let candidate = self.candidate(&file, &mut accounts, &mut reload);
            candidates.insert(file, candidate);
        }
        self.evaluator.rest();
        self.refuse_taken_names(&mut candidates);
        for (file, candidate) in candidates {
            let outcome = self.settle(&file, candidate, &mut reload);
            reload.files.push(FileReport { file, outcome });
        }
        self.interner.trim();
        self.components.end_load();
        let entries = self.files.values().flat_map(|loaded| &loaded.entries);
        reload.watches = entries.map(|entry| entry.watch.clone()).collect();
        let groups = self.files.values().flat_map(|loaded| &loaded.groups);
        let pair = |group: &GroupLimit| (group.name.clone(), usize::try_from(group.limit).unwrap_or(usize::MAX));
        reload.groups = groups.map(pair).collect();
        reload
    }

    /// The files that there are, and what could not be looked into.
    fn find(&self) -> (BTreeSet<PathBuf>, Vec<ConfigError>) {
        let mut files = BTreeSet::new();
        let mut errors: Vec<ConfigError> = Vec::new();
        for path in &self.paths {
            let found = self.reader.find(path);
            files.extend(found.files);
            for error in found.errors {
                // Two paths may overlap.
                if !errors.contains(&error) {
                    errors.push(error);
                }
            }
        }
        (files, errors)
    }

    fn candidate(&mut self, file: &Path, accounts: &mut Accounts, reload: &mut Reload) -> Candidate {
        let source = match self.reader.read(file) {
            Ok(source) => source,
            Err(error) => return Candidate::Failed(vec![error]),
        };
        if let Some(loaded) = self.files.get(file)
            && !loaded.stale
            && loaded.source.text == source.text
            && self.loads_unchanged(&loaded.loads)
        {
            let changed: Vec<&Watched> = self
                .used
                .get(file)
                .into_iter()
                .flat_map(component_resolver::changed)
                .collect();
            let entries = &loaded.entries;
            if changed.is_empty() {
                return match with_present_users(entries, accounts, &mut self.interner, &loaded.source) {
                    Ok(entries) => Candidate::Unchanged(entries),
                    Err(errors) => Candidate::Failed(errors),
                };
            }
            // What the file means has not changed, only what it refers to: it need not be evaluated for that.
            if changed.iter().all(|watched| watched.changes == Changes::Exchanged) {
                let entries = with_present_bundles(entries, &mut self.components, &loaded.source, &mut reload.notes);
                let entries = entries
                    .and_then(|entries| with_present_users(&entries, accounts, &mut self.interner, &loaded.source));
                self.used
                    .entry(file.to_owned())
                    .or_default()
                    .extend(self.components.take_used());
                return match entries {
                    Ok(entries) => Candidate::Unchanged(entries),
                    Err(errors) => Candidate::Failed(errors),
                };
            }
        }
        let parsed = match Kind::of(file) {
            Some(Kind::Json) => json::parse(&source)
                .map_err(|error| vec![error])
                .map(|(registrations, errors)| Parsed {
                    source,
                    loads: Vec::new(),
                    registrations,
                    errors,
                }),
            Some(Kind::Twc) | None => self.evaluate(&source, &mut reload.prints),
        };
        let mut around = Surroundings {
            accounts,
            interner: &mut self.interner,
            components: &mut self.components,
            host: &self.host,
            controllers: self.controllers.as_deref(),
            notes: &mut reload.notes,
        };
        let built = parsed.and_then(|mut parsed| watches(&mut parsed, &mut around).map(|entries| (parsed, entries)));
        self.used.insert(file.to_owned(), self.components.take_used());
        match built {
            Ok((Parsed { source, loads, .. }, Built { entries, groups })) => Candidate::Changed(Loaded {
                source,
                loads,
                entries,
                groups,
                stale: false,
            }),
            Err(errors) => Candidate::Failed(errors),
        }
    }

    fn evaluate(&mut self, source: &SourceText, prints: &mut Vec<Print>) -> Result<Parsed, Vec<ConfigError>> {
        if source.file.to_str().is_none() {
            return Err(vec![ConfigError::of_file(
                &*source.file,
                "the file's name is not UTF-8",
            )]);
        }
        let (reader, roots) = (self.reader, self.roots());
        let evaluation = self
            .evaluator
            .evaluate(source, &mut |path| reader.read_load(&roots, path));
        prints.extend(evaluation.prints);
        evaluation.parsed
    }

    /// The directories that loaded files must lie in. A path that is a file stands for the directory it is in.
    fn roots(&self) -> Vec<PathBuf> {
        let root = |path: &PathBuf| match (path.is_dir(), path.parent()) {
            (false, Some(parent)) => parent.to_owned(),
            _ => path.clone(),
        };
        self.paths.iter().map(root).collect()
    }

    fn loads_unchanged(&self, loads: &[SourceText]) -> bool {
        let roots = self.roots();
        let same = |load: &SourceText| {
            self.reader
                .read_load(&roots, &load.file)
                .is_ok_and(|now| now.text == load.text)
        };
        loads.iter().all(same)
    }

    /// Puts what was read in force.
    fn settle(&mut self, file: &Path, candidate: Candidate, reload: &mut Reload) -> FileOutcome {
        match candidate {
            Candidate::Unchanged(entries) => {
                if let Some(loaded) = self.files.get_mut(file) {
                    loaded.entries = entries;
                }
                FileOutcome::Unchanged
            }
            Candidate::Changed(loaded) => {
                let watches = loaded.entries.len();
                self.note_names(file, Some(&loaded.entries), reload);
                self.files.insert(file.to_owned(), loaded);
                FileOutcome::Loaded { watches }
            }
            Candidate::Failed(errors) => {
                let loaded = self.files.get_mut(file);
                let kept = loaded.map_or(0, |loaded| {
                    loaded.stale = true;
                    loaded.entries.len()
                });
                FileOutcome::Failed { errors, kept }
            }
        }
    }
}

/// Notes the limits of a file's groups, where no file before it has.
fn note_limits(limited: &mut HashMap<Arc<str>, GroupLimit>, loaded: &Loaded) {
    for group in &loaded.groups {
        limited.entry(group.name.clone()).or_insert_with(|| group.clone());
    }
}

/// The same watches with their users as the user database has them now.
fn with_present_users(
    entries: &[Entry],
    accounts: &mut Accounts,
    interner: &mut Interner,
    source: &SourceText,
) -> Result<Vec<Entry>, Vec<ConfigError>> {
    let mut errors: Vec<ConfigError> = Vec::new();
    let mut present = Vec::with_capacity(entries.len());
    for entry in entries {
        match with_present_user(entry, accounts, interner) {
            Ok(entry) => present.push(entry),
            Err(problem) => {
                let error = ConfigError::at(&source.file, &source.text, position(&entry.watch), problem.message)
                    .with_hint(problem.hint);
                if errors.len() < super::validate::ERRORS_MAX && !errors.contains(&error) {
                    errors.push(error);
                }
            }
        }
    }
    if errors.is_empty() { Ok(present) } else { Err(errors) }
}

/// The same watch with its user, and those of its commands, as the user database has them now.
fn with_present_user(entry: &Entry, accounts: &mut Accounts, interner: &mut Interner) -> Result<Entry, AccountProblem> {
    let identity = accounts.resolve(&entry.who)?;
    let mut watch = Cow::Borrowed(&*entry.watch);
    if identity != watch.process.identity {
        let process = interner.process(ProcessSettings {
            identity,
            ..ProcessSettings::clone(&watch.process)
        });
        watch.to_mut().process = process;
    }
    if let Action::Wasm(action) = &entry.watch.action
        && !entry.command_users.is_empty()
    {
        let mut grants = action.grants.clone();
        let is_new = set_users(&mut grants, &entry.command_users, accounts).map_err(|(_, problem)| problem)?;
        if is_new {
            let component = action.component.clone();
            watch.to_mut().action = Action::Wasm(Arc::new(WasmAction { component, grants }));
        }
    }
    Ok(match watch {
        Cow::Borrowed(_) => entry.clone(),
        Cow::Owned(watch) => Entry {
            watch: Arc::new(watch),
            ..entry.clone()
        },
    })
}

/// The same watches with the versions of their bundles that are installed now. All bundles are asked for, since what is used is what was
/// asked for.
fn with_present_bundles(
    entries: &[Entry],
    components: &mut Components,
    source: &SourceText,
    notes: &mut Vec<ConfigError>,
) -> Result<Vec<Entry>, Vec<ConfigError>> {
    let mut errors: Vec<ConfigError> = Vec::new();
    let mut present = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(ask) = &entry.bundle else {
            present.push(entry.clone());
            continue;
        };
        let at = |line: &String| {
            let position = position(&entry.watch);
            ConfigError::at(&source.file, &source.text, position, format!("{}: {line}", ask.wanted))
        };
        match components.resolve(&ask.wanted, &ask.grants) {
            Ok((action, said)) => {
                notes.extend(said.iter().map(at));
                let watch = Watch {
                    action: Action::Wasm(action),
                    ..Watch::clone(&entry.watch)
                };
                present.push(Entry {
                    watch: Arc::new(watch),
                    ..entry.clone()
                });
            }
            Err(lines) => errors.extend(lines.iter().map(at)),
        }
    }
    errors.truncate(super::validate::ERRORS_MAX);
    if errors.is_empty() { Ok(present) } else { Err(errors) }
}

fn position(watch: &Watch) -> TextPosition {
    TextPosition {
        line: watch.origin.line,
        column: watch.origin.column,
    }
}

/// This host's name. Only `splay` needs it, so a host without one is not an error.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| String::new(), |name| name.trim().to_owned())
}
