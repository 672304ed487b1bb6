//! Components that do their worst: each ends in words that say what it was, and nobody else on the daemon notices.

mod deaf;
mod escapes;
mod files;
mod floods;
mod limits;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::Value;

use super::{message, open_out, outcome, said, wasm};
use crate::support::daemon::{Daemon, Site, alive, children};
use crate::support::guests::{guest, text_guest};
use crate::support::until;

/// How soon a bystander has run after a change: generous, as hostile ones keep both cores of a small machine busy; what counts is
/// that it does not wait for them.
const PROMPTLY: Duration = Duration::from_secs(5);

/// A daemon with hostile components, and two bystanders: a command and a component that watch `/bystander`.
struct Scene {
    site: Site,
    daemon: Daemon,
    launcher: Pid,
    changes: Cell<usize>,
}

/// A site whose directory `out` is everybody's.
fn site() -> Site {
    let site = Site::new();
    open_out(&site);
    site
}

/// A watch of `/x` whose action is a hostile component.
fn hostile(site: &Site, name: &str, file: &Path, grants: &str, fields: &str) {
    let action = wasm(file, grants);
    site.config(
        &format!("{name}.twc"),
        &format!("RegisterWatch(znode='/x', name='{name}', action={action}, {fields})\n"),
    );
}

impl Scene {
    /// Starts the daemon; the hostile ones begin at once.
    fn start(site: Site) -> Self {
        let component = wasm(&text_guest("core_program"), "");
        site.config(
            "bystanders.twc",
            &format!(
                "RegisterWatch(znode='/bystander', name='command', action=Exec('true'))\n\
                 RegisterWatch(znode='/bystander', name='component', action={component})\n"
            ),
        );
        site.set("/bystander", "0");
        site.set("/x", "0");
        // Processes that wait would be among those that are left; tests/wasm/warm.rs has them.
        let tree = site.path("tree");
        let daemon = site.start_with(&["--tree", &tree.to_string_lossy(), "--warm-memory", "0"]);
        daemon.wait_runs("command", 1);
        daemon.wait_runs("component", 1);
        let launcher = launcher(&daemon);
        Self {
            site,
            daemon,
            launcher,
            changes: Cell::new(0),
        }
    }

    /// A scene with one hostile component, called `w`.
    fn of(name: &str, grants: &str, fields: &str) -> Self {
        let site = site();
        hostile(&site, "w", &guest(name), grants, fields);
        Self::start(site)
    }

    /// Has both bystanders react to a change.
    fn others_react(&self) {
        let changes = self.changes.get() + 1;
        self.changes.set(changes);
        let since = Instant::now();
        self.site.set("/bystander", &changes.to_string());
        for bystander in ["command", "component"] {
            for run in self.daemon.wait_runs(bystander, changes + 1) {
                assert_eq!(outcome(&run), "success");
            }
        }
        assert!(since.elapsed() < PROMPTLY, "it took {:?}", since.elapsed());
    }

    fn runs(&self, name: &str) -> Value {
        self.daemon.wait("it runs", |line| {
            line["message"] == "run started" && line["watch"] == name
        })
    }

    /// The end of the first run of a hostile one.
    fn end(&self, name: &str) -> Value {
        self.daemon.wait_runs(name, 1).remove(0)
    }

    /// After everything: the others react, and nothing is left over.
    fn is_unharmed(&self) {
        self.others_react();
        assert!(alive(self.launcher), "{}", self.daemon.text());
        until("nothing is left but the launcher", || {
            children(self.daemon.pid()) == [self.launcher]
        });
    }
}

/// The launcher: the first child of all, and the only one of those that look like it that is no copy.
fn launcher(daemon: &Daemon) -> Pid {
    let started = |pid: &Pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
        let ticks = after_name.and_then(|rest| rest.split(' ').nth(19)?.parse::<u64>().ok());
        (ticks.unwrap_or(u64::MAX), pid.as_raw())
    };
    let first = children(daemon.pid()).into_iter().min_by_key(started).unwrap();
    let command = fs::read_to_string(format!("/proc/{first}/cmdline")).unwrap();
    assert_eq!(command.split('\0').nth(1), Some("launcher"));
    first
}
