//! `twitcher check`: what a configuration means, or every mistake in it.

use anyhow::{Context, Result};
use twitcher_components::ComponentFinder;
use twitcher_config::{Config, Evaluator, report};

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
    let reload = Config::new(arguments.paths.clone(), Evaluator::new(THIS_PROGRAM.into()))
        .with_components(supply.resolver())
        .reload();
    drop(spinner);
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
