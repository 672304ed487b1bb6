//! Running an action that is a function of a `.twc` file.
//!
//! This is called in the action's own process, after it has changed to the action's user and limits: whatever the function does
//! is bounded by those. It must not know how the process came to be.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::starlark::{self, Host, ScriptError};
use super::value::Registration;
use twitcher_model::{FunctionAction, Program};

/// Runs the function, and returns the exit code of the process: 0, or 1 with the error on stderr. What the function returns does
/// not matter.
///
/// The file is evaluated again, from the text that was loaded, not as it is now. Starlark is deterministic, so the same
/// `RegisterWatch` call has the same function again.
pub fn run(action: &FunctionAction) -> i32 {
    let Program { file, source, .. } = &*action.program;
    match starlark::evaluate(file, source, &Memory(&action.program), None, Some(action.call)) {
        Ok(()) => 0,
        Err(errors) => {
            for error in errors {
                // Nobody listens if this fails, and eprintln! would panic.
                let _ = writeln!(io::stderr(), "{error}");
            }
            1
        }
    }
}

/// A program that is complete in memory.
struct Memory<'a>(&'a Program);

impl Host for Memory<'_> {
    fn text(&self, path: &Path) -> Result<Arc<str>, String> {
        let load = self.0.loads.iter().find(|(file, _)| **file == *path);
        load.map(|(_, text)| text.clone())
            .ok_or_else(|| "it was not loaded before".to_owned())
    }

    fn registered(&self, _: Registration) -> Result<(), ScriptError> {
        Ok(())
    }

    /// What a file prints while it is loaded went to the log when it was.
    fn print(&self, _: Option<(&str, u32)>, _: &str) -> Result<(), ScriptError> {
        Ok(())
    }
}
