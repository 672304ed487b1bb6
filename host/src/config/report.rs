//! What `twitcher check` shows: a table of watches, the errors, or both as JSON.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::json;

use super::set::Reload;
use crate::model::{Action, Watch, WatchType};

/// Most characters of an action in a table.
const ACTION_SHOWN: usize = 40;

/// A table with a line for each watch, below a line of headings.
pub fn render_table(watches: &[Arc<Watch>]) -> String {
    let headings = ["NAME", "ZNODE", "TYPE", "ACTION", "MODE", "USER", "TIMEOUT", "WHERE"].map(str::to_owned);
    let rows: Vec<[String; 8]> = std::iter::once(headings)
        .chain(watches.iter().map(|watch| row(watch)))
        .collect();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

fn row(watch: &Watch) -> [String; 8] {
    let process = &watch.process;
    [
        watch.name.to_string(),
        watch.znode.to_string(),
        type_name(watch.watch_type).to_owned(),
        shortened(&action(&watch.action)),
        watch.policy.run_mode.to_string(),
        process.identity.user.clone(),
        process
            .timeout
            .map_or_else(|| "-".to_owned(), |timeout| format!("{} s", timeout.as_secs_f64())),
        format!("{}:{}", watch.origin.file.display(), watch.origin.line),
    ]
}

fn type_name(watch_type: WatchType) -> &'static str {
    match watch_type {
        WatchType::Data => "data",
        WatchType::Children => "children",
        WatchType::Tree => "tree",
    }
}

/// An action as a reader would type it.
fn action(action: &Action) -> String {
    match action {
        Action::Shell(line) => line.to_string(),
        Action::Argv(argv) => argv.join(" "),
        Action::Function(_) => "(function)".to_owned(),
        Action::Wasm(action) => format!("(component) {}", action.component.file.display()),
    }
}

fn shortened(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    match text.char_indices().nth(ACTION_SHOWN) {
        None => text.chars().map(printable).collect(),
        Some((at, _)) => text[..at].chars().map(printable).chain(['…']).collect(),
    }
}

/// Every error, each with the line that it is about and a hint, with a blank line between.
pub fn render_errors(reload: &Reload) -> String {
    let errors: Vec<String> = reload.errors().map(|error| format!("{error}\n")).collect();
    errors.join("\n")
}

/// The watches and errors as one JSON object, for programs.
pub fn to_json(reload: &Reload) -> serde_json::Value {
    let watch = |watch: &Arc<Watch>| {
        json!({
            "name": watch.name,
            "description": watch.description,
            "znode": watch.znode,
            "watch_type": watch.watch_type,
            "action": match &watch.action {
                Action::Shell(line) => json!({"exec": line}),
                Action::Argv(argv) => json!({"exec": argv}),
                Action::Function(_) => json!("function"),
                Action::Wasm(action) => json!({"wasm": action.component.file}),
            },
            "run_mode": watch.policy.run_mode,
            "user": watch.process.identity.user,
            "timeout": watch.process.timeout.map(|timeout| timeout.as_secs_f64()),
            "file": watch.origin.file,
            "line": watch.origin.line,
            "column": watch.origin.column,
        })
    };
    json!({
        "watches": reload.watches.iter().map(watch).collect::<Vec<_>>(),
        "errors": reload.errors().collect::<Vec<_>>(),
    })
}
