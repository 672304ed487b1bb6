//! `twitcher check --against`: what a reload of a running daemon would make of other definitions. Asks, and changes nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::Uid;
use serde::Serialize;
use twitcher_config::WatchNames;
use twitcher_control::api::{Definitions, Status, WatchState, WatchSummary, Watches};
use twitcher_control::definition;
use twitcher_model::{RunOnLoad, Watch, sanitize};

use super::client::Client;
use super::error::OperateError;

/// What a reload would come to.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The watches that are new.
    added: Vec<Planned>,
    /// Those that are defined otherwise.
    changed: Vec<Planned>,
    /// Those that are not there any more.
    removed: Vec<Planned>,
    /// Those that are as they were, and parked: a reload brings them back.
    resumed: Vec<Planned>,
    /// How many stay as they are.
    unchanged: usize,
}

/// What a reload would do with a watch.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Planned {
    name: String,
    znode: String,
    /// When its action runs then.
    runs: Runs,
}

/// When an action runs after a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Runs {
    /// At once.
    Now,
    /// If its znode exists.
    IfExists,
    /// If its znode is another than that of its last success.
    IfChanged,
    /// At the next change: `run_on_load` is False, or the znode is absent.
    AtNextChange,
    /// When it is resumed.
    WhenResumed,
    /// Not any more.
    Never,
}

impl Runs {
    fn words(self, znode: &str) -> String {
        match self {
            Self::Now => "runs now".to_owned(),
            Self::IfExists => format!("runs if {znode} exists"),
            Self::IfChanged => format!("runs if {znode} has changed since the last success"),
            Self::AtNextChange => "runs at the next change".to_owned(),
            Self::WhenResumed => "is paused, and runs when it is resumed".to_owned(),
            Self::Never => "runs no more".to_owned(),
        }
    }
}

/// The names that the daemon has, by the files that it has them from: of two files that use one name, it is that file's.
pub fn names(socket: &Path) -> Result<BTreeMap<PathBuf, WatchNames>, OperateError> {
    let known: Watches = Client::new(socket)?.get("/v1/watches")?.parse()?;
    let mut files: BTreeMap<PathBuf, Vec<Arc<str>>> = BTreeMap::new();
    for watch in known.watches {
        if let Some((file, _)) = watch.origin.rsplit_once(':') {
            files.entry(file.into()).or_default().push(watch.name.into());
        }
    }
    Ok(files.into_iter().map(|(file, names)| (file, names.into())).collect())
}

/// Compares with the daemon that listens there.
pub fn compare(socket: &Path, watches: &[Arc<Watch>]) -> Result<Plan, OperateError> {
    let client = Client::new(socket)?;
    let status: Status = client.get("/v1/status")?.parse()?;
    let definitions: Definitions = client.get("/v1/definitions")?.parse()?;
    let own = env!("CARGO_PKG_VERSION");
    if definitions.version != own {
        let theirs = sanitize::line(&definitions.version);
        return Err(OperateError::Incomparable(format!(
            "the daemon's version is {theirs}, and this is {own}: they read definitions differently"
        )));
    }
    // Who a watch runs as where it does not say is whoever loads it.
    let owner = std::fs::metadata(format!("/proc/{}", status.pid)).map(|process| Uid::from_raw(process.uid()));
    if let Ok(owner) = owner
        && owner != Uid::effective()
    {
        return Err(OperateError::Incomparable(format!(
            "the daemon runs as uid {owner} and this as uid {}: what users and files mean differs",
            Uid::effective()
        )));
    }
    let known: Watches = client.get("/v1/watches")?.parse()?;
    Ok(plan(&definitions, known.watches, watches))
}

fn plan(definitions: &Definitions, known: Vec<WatchSummary>, watches: &[Arc<Watch>]) -> Plan {
    let digests: BTreeMap<&str, &str> = definitions
        .watches
        .iter()
        .map(|watch| (watch.name.as_str(), watch.digest.as_str()))
        .collect();
    let mut known: BTreeMap<String, WatchSummary> = known
        .into_iter()
        .filter(|watch| watch.state != WatchState::Retired)
        .map(|watch| (watch.name.clone(), watch))
        .collect();
    let mut plan = Plan::default();
    for watch in watches {
        let planned = |runs| Planned {
            name: watch.name.to_string(),
            znode: watch.znode.to_string(),
            runs,
        };
        match known.remove(&*watch.name) {
            None => plan.added.push(planned(load(watch, None))),
            Some(now) if digests.get(&*watch.name) != Some(&definition(watch).as_str()) => {
                plan.changed.push(planned(load(watch, Some(&now))));
            }
            Some(now) if now.state == WatchState::Parked => {
                let runs = if now.behind_since.is_some() {
                    Runs::Now
                } else {
                    Runs::AtNextChange
                };
                plan.resumed.push(planned(runs));
            }
            Some(_) => plan.unchanged += 1,
        }
    }
    plan.removed.extend(known.into_values().map(|watch| Planned {
        name: watch.name,
        znode: watch.znode,
        runs: Runs::Never,
    }));
    plan
}

/// Whether what the daemon knows of a watch is of the same znodes.
fn looks_at_same(now: &WatchSummary, watch: &Watch) -> bool {
    let known = now.znodes.iter().map(|one| one.znode.as_str());
    match watch.is_of_several() {
        false => now.znodes.is_empty() && now.znode == watch.znode.as_str(),
        true => known.eq(watch.znodes().map(|znode| znode.as_str())),
    }
}

/// When a watch's action runs after it was loaded anew; `now` is what the daemon knows of it.
fn load(watch: &Watch, now: Option<&WatchSummary>) -> Runs {
    let seen = now
        .filter(|now| looks_at_same(now, watch) && now.state != WatchState::Unreadable)
        .and_then(|now| now.seen.as_ref());
    match (watch.policy.run_on_load, seen.map(|seen| seen.exists)) {
        (RunOnLoad::Never, _) => Runs::AtNextChange,
        (_, Some(false)) => Runs::AtNextChange,
        _ if now.is_some_and(|now| now.paused.is_some()) => Runs::WhenResumed,
        (RunOnLoad::IfChanged, _) => Runs::IfChanged,
        (RunOnLoad::Always, Some(true)) => Runs::Now,
        (RunOnLoad::Always, None) => Runs::IfExists,
    }
}

/// The plan as a text, a line a watch.
pub fn text(plan: &Plan) -> String {
    let parts = [
        ("add", &plan.added),
        ("change", &plan.changed),
        ("remove", &plan.removed),
        ("resume", &plan.resumed),
    ];
    let rows: Vec<(&str, String, String)> = parts
        .iter()
        .flat_map(|(verb, planned)| planned.iter().map(|one| (*verb, one)))
        .map(|(verb, one)| {
            let znode = sanitize::line(&one.znode);
            (verb, sanitize::line(&one.name), one.runs.words(&znode))
        })
        .collect();
    if rows.is_empty() {
        return format!(
            "a reload would change nothing: {} watches stay as they are\n",
            plan.unchanged
        );
    }
    let width = rows
        .iter()
        .map(|(_, name, _)| name.chars().count())
        .max()
        .unwrap_or_default();
    let lines: String = rows
        .iter()
        .map(|(verb, name, runs)| format!("  {verb:6}  {name:width$}  {runs}\n"))
        .collect();
    format!(
        "a reload would\n{lines}and leave {} watches as they are\n",
        plan.unchanged
    )
}
