//! The host, as a component sees it: the generated bindings in terms of this crate's types. The one module that knows both.

use std::panic::{self, PanicHookInfo};

use crate::bindings::action::exports::twitcher::action::handler;
use crate::bindings::action::twitcher::action::{cancel, change, commands, config, context, files, log, types, znodes};
use crate::cancel::Reason;
use crate::commands::{ErrorKind as CommandError, Output};
use crate::log::Level;
use crate::znodes::{ErrorKind as ZnodeError, Node};
use crate::{Change, Difference, Event, Failure, Fate, Stat, TreeNode};

/// This crate's version, in every plugin: `twitcher plugin inspect` shows it.
#[allow(
    unsafe_code,
    reason = "that a section of this name means nothing else; on wasm32 it is no part of the program"
)]
#[unsafe(link_section = "twitcher-sdk")]
#[used]
static VERSION: [u8; env!("CARGO_PKG_VERSION").len()] = match env!("CARGO_PKG_VERSION").as_bytes().first_chunk() {
    Some(version) => *version,
    None => panic!(),
};

/// What the export `on-change` of a component calls.
pub fn on_change(handler: fn(Change) -> Result<(), Failure>, data: Vec<u8>) -> Result<(), handler::Failure> {
    panic::set_hook(Box::new(report));
    handler(Change::new(data)).map_err(|failure| match failure {
        Failure::Retry { message, after } => handler::Failure::Retry(types::RetryHint {
            message,
            after_ms: after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        }),
        Failure::Permanent { message } | Failure::Denied { message } => handler::Failure::Permanent(message),
        Failure::Superseded => handler::Failure::Superseded,
    })
}

/// What the export `validate` of a component calls.
pub fn validate(check: fn() -> Result<(), Vec<String>>) -> Result<(), Vec<String>> {
    panic::set_hook(Box::new(report));
    check()
}

/// One record, where the standard library's own hook prints four lines; the trap that follows carries the backtrace.
fn report(panic: &PanicHookInfo) {
    let message = panic.payload_as_str().unwrap_or("of no text");
    let at = panic.location().map(|location| ("at".to_owned(), location.to_string()));
    log(Level::Error, &format!("panic: {message}"), at.as_slice());
}

pub(crate) use change::{data as content, since};
pub(crate) use config::{all as config_all, get as config_get};
pub(crate) use context::{attempt, changed_paths, children, deadline_ms, path, run_id, watch_name};
pub(crate) use files::{mode as file_mode, set_mode as file_set_mode};

pub(crate) fn event() -> Event {
    match context::event() {
        context::EventKind::Load => Event::Load,
        context::EventKind::Created => Event::Created,
        context::EventKind::Data => Event::Data,
        context::EventKind::Children => Event::Children,
        context::EventKind::Tree => Event::Tree,
        context::EventKind::Deleted => Event::Deleted,
        context::EventKind::Manual => Event::Manual,
        context::EventKind::Retry => Event::Retry,
    }
}

pub(crate) fn stat() -> Option<Stat> {
    context::node_stat().map(from_stat)
}

fn from_stat(stat: types::Stat) -> Stat {
    let types::Stat { czxid, mzxid, version } = stat;
    Stat { czxid, mzxid, version }
}

pub(crate) fn difference() -> Option<Difference> {
    let change::Difference { added, removed } = change::children()?;
    Some(Difference { added, removed })
}

pub(crate) fn tree() -> Option<Vec<TreeNode>> {
    let node = |node: change::Node| TreeNode {
        path: node.path,
        stat: from_stat(node.stat),
        data: node.data,
    };
    Some(change::tree()?.into_iter().map(node).collect())
}

pub(crate) fn changed() -> Option<Vec<(String, Fate)>> {
    let one = |(path, fate)| match fate {
        change::Fate::Created => (path, Fate::Created),
        change::Fate::Set => (path, Fate::Set),
        change::Fate::Deleted => (path, Fate::Deleted),
    };
    Some(change::changed()?.into_iter().map(one).collect())
}

pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
    let level = match level {
        Level::Trace => log::Level::Trace,
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::log(level, message, fields);
}

pub(crate) fn cancel_requested() -> Option<Reason> {
    cancel::requested().map(|reason| match reason {
        cancel::Reason::Superseded => Reason::Superseded,
        cancel::Reason::Timeout => Reason::Timeout,
        cancel::Reason::Shutdown => Reason::Shutdown,
    })
}

pub(crate) fn run_command(name: &str, args: &[String], stdin: &[u8]) -> Result<Output, CommandError> {
    match commands::run(name, args, stdin) {
        Ok(output) => Ok(Output {
            code: output.code,
            signal: output.signal,
            stdout: output.stdout,
            stderr: output.stderr,
            truncated: output.truncated,
        }),
        Err(commands::Error::Denied(text)) => Err(CommandError::Denied(text)),
        Err(commands::Error::Failed(text)) => Err(CommandError::Failed(text)),
        Err(commands::Error::TimedOut) => Err(CommandError::TimedOut),
        Err(commands::Error::Cancelled) => Err(CommandError::Cancelled),
    }
}

pub(crate) fn znode_get(path: &str) -> Result<Node, ZnodeError> {
    let node = znodes::get(path).map_err(from_znode_error)?;
    Ok(Node {
        data: node.data,
        stat: from_stat(node.stat),
    })
}

pub(crate) fn znode_set(path: &str, data: &[u8], version: Option<i32>) -> Result<Stat, ZnodeError> {
    znodes::set(path, data, version)
        .map(from_stat)
        .map_err(from_znode_error)
}

pub(crate) fn znode_create(path: &str, data: &[u8]) -> Result<(), ZnodeError> {
    znodes::create(path, data).map_err(from_znode_error)
}

pub(crate) fn znode_children(path: &str) -> Result<Vec<String>, ZnodeError> {
    znodes::children(path).map_err(from_znode_error)
}

fn from_znode_error(error: znodes::Error) -> ZnodeError {
    match error {
        znodes::Error::NoNode => ZnodeError::NoNode,
        znodes::Error::NodeExists => ZnodeError::NodeExists,
        znodes::Error::BadVersion => ZnodeError::BadVersion,
        znodes::Error::Denied(text) => ZnodeError::Denied(text),
        znodes::Error::TooLarge => ZnodeError::TooLarge,
        znodes::Error::SessionLost => ZnodeError::SessionLost,
        znodes::Error::UnknownOutcome => ZnodeError::UnknownOutcome,
        znodes::Error::Failed(text) => ZnodeError::Failed(text),
    }
}
