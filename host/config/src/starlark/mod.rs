//! The language of `.twc` files: Starlark with Twitcher's own functions.
//!
//! A file is evaluated in two places: in the helper process when it is loaded, and again in the process of each action that is a
//! function of it. This module must not know which of the two it is in; a [`Host`] does. Nothing here is safe against hostile
//! files by itself: it is the process around it that has limits.

#![allow(
    unsafe_code,
    reason = "the derive macro of Starlark's ProvidesStaticType expands to an unsafe impl; nothing here is written unsafe"
)]

mod arguments;
mod builtins;
mod convert;
mod live;
mod migrating;
mod open_builtin;
pub(crate) mod unknown;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use starlark::codemap::FileSpan;
use starlark::environment::{FrozenModule, Globals, Module};
use starlark::eval::{Evaluator, FileLoader};
use starlark::syntax::{AstModule, Dialect, DialectTypes};
use starlark::values::{FrozenHeapName, Heap, ProvidesStaticType, Value};

use self::arguments::Places;
use super::error::{ConfigError, SourceText, TextPosition};
use super::files::{Kind, path_named_in};
use super::value::Registration;

/// Most functions that call one another. Each takes native stack, and the process of an action has 8 MiB of it by default.
const CALL_DEPTH_MAX: usize = 500;
/// Most files that load one another.
const LOAD_DEPTH_MAX: usize = 16;
/// Most files that one file loads in all.
const LOADS_MAX: usize = 256;

/// Where a file is evaluated.
pub(super) trait Host {
    /// The text of a file that is loaded; an error in words.
    fn text(&self, path: &Path) -> Result<Arc<str>, String>;
    /// The file that is evaluated has registered something.
    fn registered(&self, registration: Registration) -> Result<(), ScriptError>;
    /// `print` was called at a place of a file, if that is known.
    fn print(&self, at: Option<(&str, u32)>, text: &str) -> Result<(), ScriptError>;
}

/// What Twitcher's own functions refuse.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScriptError {
    #[error("{0} works only while an action runs, not while the file is loaded")]
    OnlyWhileActing(&'static str),
    #[error("{0} works only while the file is loaded, not while an action runs")]
    OnlyWhileLoading(&'static str),
    #[error("{function} takes at most {most} argument{} by position, not {given}", if *.most == 1 { "" } else { "s" })]
    TooManyPositional {
        function: &'static str,
        most: usize,
        given: usize,
    },
    #[error("{function} got {name} both by position and by name")]
    GivenTwice { function: &'static str, name: &'static str },
    #[error("the action is a function that takes arguments ({0}), and it is called without any")]
    NeedsArguments(String),
    #[error("a watch is too large")]
    TooLarge,
    #[error("more than {0} watches in one file")]
    TooManyWatches(usize),
    #[error("cannot load {file}: {reason}")]
    Load { file: String, reason: String },
    #[error("the helper process lost its connection: {0}")]
    Disconnected(std::io::Error),
    #[error("{what}: {error}")]
    Io { what: String, error: std::io::Error },
    #[error("{0} is not UTF-8 text, and functions handle text only")]
    NotText(String),
    #[error("{0} is larger than {1} MiB")]
    TooMuch(String, usize),
    #[error("stdin has no description of the change")]
    NoChange,
    #[error("the file is closed")]
    Closed,
    #[error("the file is not open for {0}")]
    WrongMode(&'static str),
    #[error("mode {0:?} is none of \"r\", \"w\" and \"a\"")]
    UnknownMode(String),
    #[error("{what} must be {expected}, not {given}")]
    Type {
        what: &'static str,
        expected: &'static str,
        given: String,
    },
    #[error("run: {program} ended with code {code}")]
    RunFailed { program: String, code: i32 },
    #[error("there is no environment variable {0:?}")]
    NoVariable(String),
    #[error("the file registers no such watch any more")]
    NoAction,
    #[error("Twitcher's functions are missing from this evaluation")]
    NoSession,
}

impl ScriptError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::OnlyWhileActing(_) => "put it into a function, and give the function as an action",
            Self::TooManyPositional { .. } => "give the others by name",
            Self::NoChange => "give the watch payload = JSON, and don't read stdin() before change()",
            Self::NotText(_) => "use Exec for binary data",
            Self::NoVariable(_) => "env.get(name, default) gives a default instead",
            Self::NeedsArguments(_) => {
                "give them defaults, or give `lambda: function(...)`; change() and stdin() tell what has changed"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<ScriptError> for starlark::Error {
    fn from(error: ScriptError) -> Self {
        starlark::Error::new_native(error)
    }
}

/// One evaluation of one file, for the functions that it calls.
#[derive(ProvidesStaticType)]
pub(super) struct Session<'a> {
    host: &'a dyn Host,
    /// The file that is evaluated, as opposed to those that it loads.
    main: &'a str,
    /// How many `load()`s deep the evaluation is.
    loading: Cell<usize>,
    /// Set when the file has been loaded and an action runs.
    acting: Arc<AtomicBool>,
    /// Number of `RegisterWatch` calls so far that count.
    calls: Cell<u32>,
    /// The call whose action is wanted.
    wanted: Option<u32>,
    /// Where the arguments of calls stand, by file and offset of the call: a loop makes the same call over and over.
    places: RefCell<HashMap<(String, u32), Arc<Places>>>,
    /// What `change()` has read.
    change: OnceCell<serde_json::Value>,
}

/// Limits that are looked at while Starlark code runs, so that going beyond them is an error with a place. They are the first
/// line: code of the library itself does not look at them, and only the process's own limits stop that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Time for the whole evaluation.
    pub(super) budget: Duration,
    /// Memory for the values of one file, in bytes.
    pub(super) heap: usize,
}

/// The limits of one evaluation.
struct Guard {
    limits: Option<Limits>,
    started: Instant,
    /// What has been exceeded, in words.
    exceeded: RefCell<Option<String>>,
}

impl Guard {
    /// Whether a limit has just been exceeded. Says so only once: Starlark asks once more when an evaluation has ended, and would
    /// put a second error, which has no place, before the first.
    fn stops(&self, heap: Heap<'_>) -> bool {
        let Some(Limits { budget, heap: most }) = self.limits else {
            return false;
        };
        if self.exceeded.borrow().is_some() {
            return false;
        }
        let what = if self.started.elapsed() >= budget {
            format!("evaluation took more than {} s", budget.as_secs_f64())
        } else if heap.allocated_bytes() > most {
            format!("evaluation used more than {} MiB of memory", most >> 20)
        } else {
            return false;
        };
        self.exceeded.replace(Some(what));
        true
    }
}

/// Evaluates a file. With `act`, then calls the function that is the action of that `RegisterWatch` call. There is more than one error
/// only if the file uses names that nothing defines, or is Python, which is told all at once. With such errors, what the file registers
/// apart from them has been registered, so that it can be looked at.
pub(super) fn evaluate(
    file: &Path,
    text: &str,
    host: &dyn Host,
    limits: Option<Limits>,
    act: Option<u32>,
) -> Result<(), Vec<ConfigError>> {
    let mut errors: Vec<ConfigError> = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    let started = Instant::now();
    // Most of the time is for the file itself.
    let has_time = || limits.is_none_or(|limits| started.elapsed() < limits.budget / 4);
    let is_worth_it = |names: usize| names < unknown::MOST && has_time();
    loop {
        match evaluate_once(file, text, host, (limits, started), act, &unknown) {
            Ok(()) if errors.is_empty() => return Ok(()),
            Ok(()) => break,
            Err((Some(name), told)) if act.is_none() && is_worth_it(unknown.len()) && !unknown.contains(&name) => {
                unknown.push(name);
                let is_known = |error: &ConfigError| errors.contains(error);
                let told: Vec<_> = told.into_iter().filter(|error| !is_known(error)).collect();
                errors.extend(told);
            }
            Err((_, told)) => {
                let is_news = |error: &ConfigError| !error.message.contains(unknown::TYPE) && !errors.contains(error);
                let told: Vec<_> = told.into_iter().filter(is_news).collect();
                errors.extend(told);
                break;
            }
        }
    }
    errors.sort_by_key(|error| (error.position.is_none(), error.position));
    Err(errors)
}

/// Evaluates a file that may use these names although nothing defines them. If it uses another one, gives that with the errors; nothing of
/// the file has run then.
fn evaluate_once(
    file: &Path,
    text: &str,
    host: &dyn Host,
    (limits, started): (Option<Limits>, Instant),
    act: Option<u32>,
    unknown: &[String],
) -> Result<(), (Option<String>, Vec<ConfigError>)> {
    let main = file.to_string_lossy();
    let acting = Arc::new(AtomicBool::new(false));
    let session = Session {
        host,
        main: &main,
        loading: Cell::new(0),
        acting: acting.clone(),
        calls: Cell::new(0),
        wanted: act,
        places: RefCell::default(),
        change: OnceCell::new(),
    };
    let engine = Engine {
        session: &session,
        globals: builtins::globals(acting, unknown),
        guard: Guard {
            limits,
            started,
            exceeded: RefCell::default(),
        },
        loaded: RefCell::default(),
    };
    engine.run_main(file, text).map_err(|error| {
        // One of a file that is loaded is found when what comes before the load() has run.
        let is_main = error.span().is_some_and(|span| span.filename() == main);
        let name = unknown::name(&error).filter(|_| is_main && engine.loaded.borrow().is_empty());
        (name, engine.explained(error, file))
    })
}

struct Engine<'a> {
    session: &'a Session<'a>,
    globals: Globals,
    guard: Guard,
    loaded: RefCell<HashMap<PathBuf, FrozenModule>>,
}

impl<'a> Engine<'a> {
    fn run_main(&self, file: &Path, text: &str) -> starlark::Result<()> {
        let loader = Loader {
            engine: self,
            chain: vec![file.to_owned()],
        };
        Module::with_temp_heap(|module| {
            let mut eval = Evaluator::new(&module);
            let ast = parse(file, text)?;
            self.prepare(&mut eval, &loader)?;
            eval.eval_module(ast, &self.globals)?;
            match module.extra_value() {
                Some(action) => self.act(&mut eval, action),
                None if self.session.wanted.is_some() => Err(ScriptError::NoAction.into()),
                None => Ok(()),
            }
        })
    }

    fn act<'v>(&self, eval: &mut Evaluator<'v, '_, '_>, action: Value<'v>) -> starlark::Result<()> {
        self.session.acting.store(true, Ordering::Relaxed);
        eval.eval_function(action, &[], &[])?;
        Ok(())
    }

    fn prepare<'v, 'x>(&'x self, eval: &mut Evaluator<'v, 'x, 'a>, loader: &'x Loader<'_, 'a>) -> starlark::Result<()> {
        eval.set_loader(loader);
        eval.extra = Some(self.session);
        eval.set_max_callstack_size(CALL_DEPTH_MAX)
            .map_err(starlark::Error::new_other)?;
        let heap = eval.heap();
        eval.set_check_cancelled(Box::new(move || self.guard.stops(heap)));
        Ok(())
    }

    /// A Starlark error as ours. If the file that it is about seems to be Python, with all that is to be written in another way.
    fn explained(&self, error: starlark::Error, main: &Path) -> Vec<ConfigError> {
        // Anything else is found by running the file, so it was understood.
        let is_other_language = matches!(
            error.kind(),
            starlark::ErrorKind::Parser(_) | starlark::ErrorKind::Scope(_)
        ) && !self.session.acting.load(Ordering::Relaxed);
        let mut all = match error.span() {
            Some(span) if is_other_language => {
                let text = Arc::from(span.file.source());
                migrating::findings(&SourceText::new(Path::new(span.filename()).into(), text))
            }
            _ => Vec::new(),
        };
        let own = self.located(error, main);
        let line = |error: &ConfigError| error.position.map(|position| position.line);
        // Where there is advice, the parser's words say nothing more.
        if !all.iter().any(|finding| line(finding) == line(&own)) {
            let later = |finding: &ConfigError| finding.position.is_none() || finding.position > own.position;
            let at = all.iter().position(later).unwrap_or(all.len());
            all.insert(at, own);
        }
        all
    }

    /// A Starlark error as ours.
    fn located(&self, error: starlark::Error, main: &Path) -> ConfigError {
        let own = match error.kind() {
            starlark::ErrorKind::Native(inner) | starlark::ErrorKind::Other(inner) => {
                inner.downcast_ref::<ScriptError>()
            }
            _ => None,
        };
        let message = match (own, self.guard.exceeded.take()) {
            (Some(own), _) => own.to_string(),
            (None, Some(exceeded)) => exceeded,
            (None, None) => plain_words(&error.without_diagnostic().to_string()),
        };
        let found = match error.span() {
            None => ConfigError::of_file(main, message),
            Some(span) => {
                let (file, position) = place(span);
                ConfigError::at(&file, span.file.source(), position, message)
            }
        };
        let frames = error.call_stack().frames.iter().rev();
        let calls = frames.filter_map(|frame| frame.location.as_ref()).map(place);
        let calls: Vec<_> = calls
            .filter(|(file, position)| found.position != Some(*position) || found.file != *file)
            .collect();
        let told = |(file, TextPosition { line, column }): &(PathBuf, TextPosition)| {
            format!("{}:{line}:{column}", file.display())
        };
        let mut hints: Vec<String> = own.and_then(ScriptError::hint).into_iter().collect();
        if found.message.contains("reserved keyword") {
            hints.push(
                "Starlark is a dialect of Python without modules, classes, exceptions, while and with".to_owned(),
            );
        }
        if !calls.is_empty() {
            hints.push(format!(
                "called from {}",
                calls
                    .iter()
                    .take(TRACE_SHOWN)
                    .map(told)
                    .collect::<Vec<_>>()
                    .join(", from ")
            ));
        }
        if found.file != main && !calls.iter().take(TRACE_SHOWN).any(|(file, _)| file == main) {
            hints.push(format!("loaded for {}", main.display()));
        }
        found.with_hint((!hints.is_empty()).then(|| hints.join("; ")))
    }
}

fn parse(file: &Path, text: &str) -> starlark::Result<AstModule> {
    let dialect = Dialect {
        enable_def: true,
        enable_lambda: true,
        enable_load: true,
        enable_keyword_only_arguments: true,
        enable_positional_only_arguments: true,
        enable_types: DialectTypes::Enable,
        enable_load_reexport: false,
        enable_top_level_stmt: true,
        enable_f_strings: true,
        ..Dialect::Standard
    };
    AstModule::parse(&file.to_string_lossy(), text.to_owned(), &dialect)
}

/// Finds the files that one file loads.
struct Loader<'x, 'a> {
    engine: &'x Engine<'a>,
    /// The file whose `load()`s these are, after those that it was loaded by.
    chain: Vec<PathBuf>,
}

impl FileLoader for Loader<'_, '_> {
    fn load(&self, name: &str) -> starlark::Result<FrozenModule> {
        let from = self.chain.last().map_or(Path::new("/"), PathBuf::as_path);
        let path = path_named_in(from, name);
        let refused = |reason: String| {
            let file = path.display().to_string();
            Err(ScriptError::Load { file, reason }.into())
        };
        if let Some(start) = self.chain.iter().position(|file| *file == path) {
            let names: Vec<_> = self.chain[start..]
                .iter()
                .chain([&path])
                .map(|file| file.display().to_string())
                .collect();
            return refused(format!("it is still being loaded: {}", names.join(" loads ")));
        }
        if Kind::of(&path) != Some(Kind::Twc) {
            return refused("its name does not end in .twc".to_owned());
        }
        if let Some(loaded) = self.engine.loaded.borrow().get(&path) {
            return Ok(loaded.clone());
        }
        if self.chain.len() > LOAD_DEPTH_MAX {
            return refused(format!("more than {LOAD_DEPTH_MAX} files load one another"));
        }
        if self.engine.loaded.borrow().len() >= LOADS_MAX {
            return refused(format!("more than {LOADS_MAX} files are loaded"));
        }
        let text = match self.engine.session.host.text(&path) {
            Ok(text) => text,
            Err(reason) => return refused(reason),
        };
        let loaded = self.evaluate(&path, &text)?;
        self.engine.loaded.borrow_mut().insert(path, loaded.clone());
        Ok(loaded)
    }
}

impl Loader<'_, '_> {
    fn evaluate(&self, path: &Path, text: &str) -> starlark::Result<FrozenModule> {
        let session = self.engine.session;
        let below = Loader {
            engine: self.engine,
            chain: self.chain.iter().cloned().chain([path.to_owned()]).collect(),
        };
        let ast = parse(path, text)?;
        session.loading.set(session.loading.get() + 1);
        let module = Module::with_temp_heap(|module| {
            {
                let mut eval = Evaluator::new(&module);
                self.engine.prepare(&mut eval, &below)?;
                eval.eval_module(ast, &self.engine.globals)?;
            }
            let name = FrozenHeapName::User(Box::new(path.to_string_lossy().into_owned()));
            module.freeze_named(name).map_err(starlark::Error::from)
        });
        session.loading.set(session.loading.get() - 1);
        module
    }
}

fn place(span: &FileSpan) -> (PathBuf, TextPosition) {
    let begin = span.resolve_span().begin;
    let count = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
    let position = TextPosition {
        line: count(begin.line),
        column: count(begin.column),
    };
    (PathBuf::from(span.filename()), position)
}

/// Most calls that an error lists.
const TRACE_SHOWN: usize = 3;

/// The library's messages, less the parts that speak of its own API, and with a small letter like ours.
fn plain_words(message: &str) -> String {
    if message.contains("Starlark call stack overflow") {
        return format!("more than {CALL_DEPTH_MAX} functions call one another");
    }
    let mut chars = message.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => message.to_owned(),
    }
}
