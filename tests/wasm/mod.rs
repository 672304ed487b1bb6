//! Components as actions, on the real daemon: in everything that is not about the sandbox they behave as commands do.

mod advice;
mod deployed;
mod described;
mod granted;
mod hostile;
mod inherited;
mod languages;
mod loading;
mod namespaces;
mod net;
mod plugins;
mod preview1;
mod proposals;
mod rendering;
mod retries;
mod running;
mod warm;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::Pid;
use serde_json::Value;

use crate::support::daemon::{Daemon, Site, children};
pub use inherited::found as found_in_memory;

/// `Wasm(...)` of a component; `OUT` in the grants is the site's directory `out`.
fn wasm(file: &Path, grants: &str) -> String {
    format!("Wasm({:?}, {grants})", file.display().to_string())
}

/// A watch `w` of `/x` whose action is a component.
fn watch(site: &Site, file: &Path, grants: &str, fields: &str) {
    let action = wasm(file, grants);
    site.config(
        "w.twc",
        &format!("RegisterWatch(znode='/x', name='w', action={action}, {fields})\n"),
    );
}

/// The directory that guests write to, for everybody.
fn open_out(site: &Site) {
    for dir in ["", "out"] {
        fs::set_permissions(site.path(dir), Permissions::from_mode(0o777)).unwrap();
    }
}

/// The native code that the daemon's launcher has loaded, as /proc tells: mappings of files.
fn loaded(daemon: &Daemon) -> Vec<String> {
    let is_launcher =
        |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "twitcher-launch\n");
    let launcher = children(daemon.pid()).into_iter().find(is_launcher).unwrap();
    let maps = fs::read_to_string(format!("/proc/{launcher}/maps")).unwrap();
    let code = maps.lines().filter(|line| line.contains(".cwasm"));
    code.map(str::to_owned).collect()
}

fn outcome(run: &Value) -> &str {
    run["outcome"].as_str().unwrap()
}

/// Waits for a line that a guest wrote or logged, or ended with.
fn said(daemon: &Daemon, text: &str) -> Value {
    let outcome = |line: &Value| line["outcome"].as_str().unwrap_or_default().contains(text);
    daemon.wait(text, |line| {
        line["watch"] == "w" && (message(line).contains(text) || outcome(line))
    })
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}
