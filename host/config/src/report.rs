//! What `twitcher check` shows: a table of watches, the errors, or both as JSON.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::json;

use super::error::ConfigError;
use super::fields::{commands, hardening};
use super::reload::Reload;
use twitcher_model::sanitize;
use twitcher_model::{
    Action, BundleIdentity, Component, EntryPoint as ComponentEntry, SecretPlace, WasmAction, Watch, WatchType,
};

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
        sanitize::escaped(&watch.name),
        watch
            .znodes()
            .map(|znode| sanitize::escaped(znode.as_str()))
            .collect::<Vec<_>>()
            .join(", "),
        type_name(watch.watch_type).to_owned(),
        shortened(&action(&watch.action)),
        watch.policy.run_mode.to_string(),
        process.identity.user.clone(),
        process
            .timeout
            .map_or_else(|| "-".to_owned(), |timeout| format!("{} s", timeout.as_secs_f64())),
        format!(
            "{}:{}",
            sanitize::escaped(&watch.origin.file.to_string_lossy()),
            watch.origin.line
        ),
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
        Action::Deploy(deployment) => format!("(deploy) {deployment}"),
        // The directory is the same for most, and would leave no room for what tells them apart.
        Action::Wasm(action) => match &action.component.bundle {
            Some(_) => format!("(bundle) {}", action.component),
            None => {
                let file = action.component.file.file_name().unwrap_or_default();
                format!("(component) {}", file.to_string_lossy())
            }
        },
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ACTION_SHOWN) {
        None => sanitize::line(text),
        Some((at, _)) => sanitize::line(&text[..at]) + "…",
    }
}

/// Every error, each with the line that it is about and a hint, with a blank line between.
pub fn render_errors(reload: &Reload) -> String {
    joined(reload.errors())
}

/// Every note, in the same form.
pub fn render_notes(reload: &Reload) -> String {
    joined(&reload.notes)
}

fn joined<'a>(findings: impl IntoIterator<Item = &'a ConfigError>) -> String {
    let texts: Vec<String> = findings.into_iter().map(|finding| format!("{finding}\n")).collect();
    texts.join("\n")
}

/// A component and its grants, in the form that a `.json` configuration file has. What it is not granted is left out.
fn wasm(action: &WasmAction) -> serde_json::Value {
    let WasmAction { component, grants } = action;
    let pairs = |pairs: &[(String, String)], place| {
        let secrets = grants.secrets_in(place);
        let secrets = secrets.map(|secret| (secret.name.clone(), json!({"secret": secret.file})));
        let plain = pairs.iter().map(|(key, value)| (key.clone(), json!(value)));
        object(plain.chain(secrets))
    };
    let list = |texts: Vec<String>| (!texts.is_empty()).then(|| json!(texts));
    let dirs = object(grants.dirs.iter().map(|dir| (dir.guest.clone(), json!(dir.target()))));
    let granted = grants.commands.iter();
    let commands = object(granted.map(|command| (command.name.clone(), commands::written(command))));
    let znodes = grants.znodes.iter();
    let znodes = object(znodes.map(|znode| (znode.pattern(), json!(znode.access()))));
    let arguments = [
        (
            "component",
            Some(match &component.bundle {
                Some(bundle) => json!(bundle.reference),
                None => json!(component.file),
            }),
        ),
        ("config", pairs(&grants.config, SecretPlace::Config)),
        ("args", list(grants.args.clone())),
        ("env", pairs(&grants.env, SecretPlace::Env)),
        ("dirs", dirs),
        ("net", list(grants.net.iter().map(ToString::to_string).collect())),
        ("http", list(grants.http.iter().map(ToString::to_string).collect())),
        ("commands", commands),
        ("znodes", znodes),
        ("memory", Some(json!(grants.memory))),
    ];
    let given = arguments
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    serde_json::Value::Object(given.collect())
}

/// These members as an object; none if there are none.
fn object(members: impl Iterator<Item = (String, serde_json::Value)>) -> Option<serde_json::Value> {
    let members: serde_json::Map<_, _> = members.collect();
    (!members.is_empty()).then_some(serde_json::Value::Object(members))
}

/// What a component's file was found to be.
fn component(component: &Component) -> serde_json::Value {
    let entry = match component.entry {
        ComponentEntry::Handler => "handler",
        ComponentEntry::Command => "command",
        ComponentEntry::Preview1 => "preview1",
    };
    let mut facts = json!({"sha256": component.digest.to_string(), "entry": entry});
    if let Some(bundle) = &component.bundle {
        let BundleIdentity {
            name,
            version,
            digest,
            standing,
            ..
        } = &**bundle;
        facts["bundle"] =
            json!({"name": name, "version": version, "digest": digest.to_string(), "signature": standing});
    }
    facts
}

/// The watches and errors as one JSON object, for programs.
pub fn to_json(reload: &Reload) -> serde_json::Value {
    let watch = |watch: &Arc<Watch>| {
        json!({
            "name": watch.name,
            "description": watch.description,
            "znode": match watch.is_of_several() {
                false => json!(watch.znode),
                true => json!(watch.znodes().collect::<Vec<_>>()),
            },
            "watch_type": watch.watch_type,
            "action": match &watch.action {
                Action::Shell(line) => hardening::written(json!(line), &watch.process.hardening),
                Action::Argv(argv) => hardening::written(json!(argv), &watch.process.hardening),
                Action::Function(_) => json!("function"),
                Action::Wasm(action) => json!({"wasm": wasm(action)}),
                Action::Deploy(deployment) => {
                    json!({"deploy": {"source": deployment.source.to_string(), "name": deployment.name}})
                }
            },
            "component": match &watch.action {
                Action::Wasm(action) => Some(component(&action.component)),
                _ => None,
            },
            "run_mode": watch.policy.run_mode,
            "user": watch.process.identity.user,
            "timeout": watch.process.timeout.map(|timeout| timeout.as_secs_f64()),
            "rollout": watch.rollout.as_ref().map(|rollout| rollout.name.as_str()),
            "service": watch.policy.service.is_some(),
            "data_file": watch.process.data_file,
            "secrets": watch.process.secrets.iter().map(|secret| &secret.name).collect::<Vec<_>>(),
            "file": watch.origin.file,
            "line": watch.origin.line,
            "column": watch.origin.column,
        })
    };
    json!({
        "watches": reload.watches.iter().map(watch).collect::<Vec<_>>(),
        "errors": reload.errors().collect::<Vec<_>>(),
        "notes": reload.notes,
    })
}
