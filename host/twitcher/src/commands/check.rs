//! `twitcher check`: what a configuration means, or every mistake in it.

use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::{Uid, geteuid};
use twitcher_components::ComponentFinder;
use twitcher_config::{Config, ConfigError, Evaluator, TextPosition, report};
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
    let mut reload = Config::new(arguments.paths.clone(), Evaluator::new(THIS_PROGRAM.into()))
        .with_components(supply.resolver())
        .reload();
    drop(spinner);
    let doubts: Vec<ConfigError> = reload.watches.iter().flat_map(|watch| doubtful_dirs(watch)).collect();
    reload.notes.extend(doubts);
    let failed = reload.errors().next().is_some();
    // A reload would keep what the daemon has of a file with errors: those first.
    let compared = match &arguments.against {
        Some(socket) if !failed => match operate::compare(socket, &reload.watches) {
            Ok(plan) => Some(plan),
            Err(error) => return Ok(operate::complain(&error)),
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
        let mut note = ConfigError::of_file(&*watch.origin.file, format!("dirs {guest:?}: {said}")).with_hint(hint);
        note.position = Some(TextPosition {
            line: watch.origin.line,
            column: watch.origin.column,
        });
        Some(note)
    };
    let dirs = action.grants.dirs.iter().map(|dir| (&*dir.guest, &*dir.host));
    dirs.filter_map(doubt).collect()
}
