//! `twitcher check`: what a configuration means, or every mistake in it.

use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::{Uid, geteuid};
use twitcher_components::ComponentFinder;
use twitcher_config::{Config, ConfigError, Evaluator, Reload, TextPosition, report};
use twitcher_files::links::{self, PathError};
use twitcher_model::{Action, Watch};

use super::{THIS_PROGRAM, operate, print, sources};
use crate::args::{self, exit};
use crate::spinner::Spinner;

/// Checks what is named; 0 if nothing is wrong with it.
pub fn check(arguments: &args::CheckArguments) -> Result<u8> {
    for path in &arguments.paths {
        std::fs::metadata(path).with_context(|| format!("configuration path {}", path.display()))?;
    }
    // Whoever checks may not be allowed to write where the daemon keeps native code.
    let cache = tempfile::tempdir().context("cannot make a temporary directory for native code")?;
    let supply = ComponentFinder::new(THIS_PROGRAM.into(), cache.path(), sources(&arguments.bundles)?);
    let spinner = Spinner::new("evaluating files, compiling components");
    // That the daemon does not answer is said once the files are in order.
    let names = arguments.against.as_deref().map(operate::names);
    let mut reload = Config::new(arguments.paths.clone(), Evaluator::new(THIS_PROGRAM.into()))
        .with_components(supply.resolver())
        .with_names(names.and_then(Result::ok).unwrap_or_default())
        .reload();
    drop(spinner);
    let doubts = |watch| doubtful_dirs(watch).into_iter().chain(missing_dirs(watch));
    let doubts: Vec<ConfigError> = reload.watches.iter().flat_map(|watch| doubts(watch)).collect();
    let nothing: Vec<ConfigError> = arguments
        .paths
        .iter()
        .filter_map(|path| nothing_in(path, &reload))
        .collect();
    reload.notes.extend(doubts.into_iter().chain(nothing));
    let failed = reload.errors().next().is_some();
    // A reload would keep what the daemon has of a file with errors: those first.
    let compared = match &arguments.against {
        Some(socket) if !failed => match operate::compare(socket, &reload.watches) {
            Ok(plan) => Some(plan),
            Err(error) => return Ok(operate::complain(&error, socket)),
        },
        _ => None,
    };
    if arguments.json {
        let mut object = report::to_json(&reload);
        if let Some(plan) = &compared {
            object["against"] = serde_json::to_value(plan)?;
        }
        print(&format!("{object:#}\n"))?;
    } else if let Some(plan) = &compared {
        eprint!("{}", report::render_notes(&reload));
        print(&operate::plan_text(plan))?;
    } else {
        for printed in &reload.prints {
            eprintln!(
                "{}:{}: {}",
                printed.file.display(),
                printed.line.unwrap_or_default(),
                printed.text
            );
        }
        print(&report::render_table(&reload.watches))?;
        eprint!("{}{}", report::render_notes(&reload), report::render_errors(&reload));
    }
    Ok(if failed { exit::FAILURE } else { exit::SUCCESS })
}

/// That a directory has no configuration file, if so.
fn nothing_in(path: &Path, reload: &Reload) -> Option<ConfigError> {
    let path = std::path::absolute(path).ok()?;
    let has_none = path.is_dir() && !reload.files.iter().any(|report| report.file.starts_with(&path));
    has_none.then(|| {
        ConfigError::of_file(&*path, "has no configuration file")
            .with_hint("the name of one ends in .twc or .json, and does not begin with a dot".to_owned())
    })
}

/// Directories that a run needs and that are not there. No mistake: they can be made later.
fn missing_dirs(watch: &Watch) -> Vec<ConfigError> {
    let granted = match &watch.action {
        Action::Wasm(action) => &action.grants.dirs[..],
        _ => &[],
    };
    let granted = granted.iter().map(|dir| (format!("dirs {:?}", dir.guest), &*dir.host));
    let read_only = &watch.process.hardening.read_only;
    let read_only = read_only.iter().map(|dir| ("read_only".to_owned(), &**dir));
    let missing = |(what, dir): (String, &Path)| {
        let why = match std::fs::metadata(dir) {
            Ok(metadata) if metadata.is_dir() => return None,
            Ok(_) => "is not a directory".to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "does not exist".to_owned(),
            // Whoever checks may not be allowed to look.
            Err(_) => return None,
        };
        let said = format!("{what}: {} {why}", dir.display());
        Some(note(watch, said, "runs fail until it is made".to_owned()))
    };
    granted.chain(read_only).filter_map(missing).collect()
}

/// Something about a watch, at the place where it is registered.
fn note(watch: &Watch, said: String, hint: String) -> ConfigError {
    let mut note = ConfigError::of_file(&*watch.origin.file, said).with_hint(hint);
    note.position = Some(TextPosition {
        line: watch.origin.line,
        column: watch.origin.column,
    });
    note
}

/// What others decide about the directories that a watch grants: who owns a directory on the way says what is found behind it.
fn doubtful_dirs(watch: &Watch) -> Vec<ConfigError> {
    let Action::Wasm(action) = &watch.action else {
        return Vec::new();
    };
    let user = watch.process.identity.uid.map_or_else(geteuid, Uid::from_raw);
    let doubt = |(guest, host): (&str, &Path)| {
        let (said, hint) = match links::open_dir(host, user) {
            Err(error @ PathError::Link { .. }) => {
                (error.to_string(), "runs are refused as long as this is so".to_owned())
            }
            _ => {
                let (dir, by) = links::foreign_dir(host, user)?;
                let (dir, host) = (dir.display(), host.display());
                let said = match by {
                    Some(by) => format!("{dir} belongs to user {by}, who decides what {host} is"),
                    None => format!("others can write to {dir}, and decide what {host} is"),
                };
                (
                    said,
                    "no link of theirs is followed; grant a directory that root or the watch's user holds".to_owned(),
                )
            }
        };
        Some(note(watch, format!("dirs {guest:?}: {said}"), hint))
    };
    let dirs = action.grants.dirs.iter().map(|dir| (&*dir.guest, &*dir.host));
    dirs.filter_map(doubt).collect()
}
