//! What authors of plugins use: making one, looking at a component, trying it, measuring it.
//!
//! It must not know the daemon: a trial goes through the same configuration, launcher and sandbox, without watching anything.

mod bench;
mod inspect;
mod new;
mod trial;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use twitcher_launch::Launcher;
use twitcher_model::{Payload, Stat, Trigger, Watch, WatchType};
use twitcher_observe::{Log, LogDestination, LogFormat, Verbosity};

use self::bench::bench;
use self::inspect::inspect;
use self::new::create;
use self::trial::{Trial, TrialError, TriedChange, run, shown};
use super::{THIS_PROGRAM, print};
use crate::args::{self, exit};
use crate::spinner::Spinner;

/// Carries out a command.
pub fn plugin(command: args::PluginCommand) -> Result<u8> {
    match command {
        args::PluginCommand::New { name } => {
            let dir = create(Path::new(""), &name)?;
            print(&format!(
                "created {}; its README.md says how it is tested, built and tried\n",
                dir.display()
            ))
        }
        args::PluginCommand::Inspect { file } => print(&inspect(&file)?),
        args::PluginCommand::Run(arguments) => {
            let trial = trial(*arguments)?;
            let (watch, launcher) = prepare(&trial)?;
            // Held until the end: what is still on its way to the terminal is written then.
            let log = Log::start(&LogDestination::Stderr, LogFormat::Text, Verbosity::Verbose)?;
            let report = locally(run(&trial, &watch, launcher))?;
            drop(log);
            print(&format!(
                "{}\n{} in its process, {} KiB, {} page faults{}\n",
                report.outcome,
                shown(report.elapsed),
                report.max_rss_kib,
                report.minor_faults,
                report.timing.map_or_else(String::new, |timing| format!(
                    "; called after {}, for {}",
                    shown(timing.instantiate),
                    shown(timing.call)
                )),
            ))?;
            Ok(if report.outcome.is_success() {
                exit::SUCCESS
            } else {
                exit::FAILURE
            })
        }
        args::PluginCommand::Bench { rounds, run } => {
            let trial = trial(*run)?;
            let (watch, launcher) = prepare(&trial)?;
            let table = locally(bench(&trial, &watch, launcher, rounds as usize))?;
            print(&format!("{table}\n"))
        }
    }
}

fn trial(arguments: args::PluginRunArguments) -> Result<Trial> {
    let change = match &arguments.payload {
        Some(file) => described(file)?,
        None => plain(&arguments)?,
    };
    Ok(Trial {
        file: arguments.file,
        change,
        config: arguments.config,
        args: arguments.arg,
        env: arguments.env,
        dirs: absolute(arguments.dir)?,
        net: arguments.net,
        http: arguments.http,
        commands: arguments.command,
        znodes: arguments.znode,
        memory: arguments.memory,
        timeout: Some(arguments.timeout),
        uid: arguments.uid,
        tree: arguments.tree.map(std::path::absolute).transpose()?,
    })
}

/// The change that the arguments describe one by one.
fn plain(arguments: &args::PluginRunArguments) -> Result<TriedChange> {
    let event: Trigger = serde_json::from_value(serde_json::Value::String(arguments.event.clone()))?;
    let watch_type = watch_type(event, !arguments.children.is_empty(), !arguments.changed.is_empty())?;
    let lines = |lines: &[String]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
            .into_bytes()
    };
    let is_gone = event == Trigger::Deleted;
    let data = match (&arguments.data_file, watch_type) {
        _ if is_gone => vec![],
        (_, WatchType::Children) => lines(&arguments.children),
        (_, WatchType::Tree) => lines(&arguments.changed),
        (Some(file), WatchType::Data) => read(file)?,
        (None, WatchType::Data) => arguments.data.clone().into_bytes(),
    };
    let (czxid, mzxid, version) = (1, 1, 0);
    Ok(TriedChange {
        path: arguments.path.clone(),
        data,
        watch_type,
        payload: Payload::Data,
        event,
        stat: (!is_gone).then_some(Stat { czxid, mzxid, version }),
    })
}

/// The change that a document describes.
fn described(file: &Path) -> Result<TriedChange> {
    #[derive(serde::Deserialize)]
    struct Document {
        znode: String,
        watch_type: WatchType,
        event: Trigger,
        stat: Option<Stat>,
    }
    let data = read(file)?;
    let document: Document = serde_json::from_slice(&data).with_context(|| {
        let file = file.display();
        format!("{file} is no description of a change (`twitcher schema --payload` says how one is written)")
    })?;
    Ok(TriedChange {
        path: document.znode,
        data,
        watch_type: document.watch_type,
        payload: Payload::Json,
        event: document.event,
        stat: document.stat,
    })
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// What is watched when there is this event, and children or changed paths are given.
fn watch_type(event: Trigger, children: bool, changed: bool) -> Result<WatchType> {
    Ok(match (event, children, changed) {
        (Trigger::Data, false, false) => WatchType::Data,
        (Trigger::Data, ..) => bail!("--event data is of a watch of data: it has --data, not --children or --changed"),
        (Trigger::Children, _, false) => WatchType::Children,
        (Trigger::Children, ..) => bail!("--event children has --children, not --changed"),
        (Trigger::Tree, false, _) => WatchType::Tree,
        (Trigger::Tree, ..) => bail!("--event tree has --changed, not --children"),
        (_, true, _) => WatchType::Children,
        (_, _, true) => WatchType::Tree,
        _ => WatchType::Data,
    })
}

/// On a command line a directory may be relative to the current one; in a configuration it may not.
fn absolute(dirs: Vec<(String, String)>) -> Result<Vec<(String, String)>> {
    let absolute = |(guest, host): (String, String)| {
        let path = std::path::absolute(&host)?.into_os_string().into_string();
        Ok((guest, path.map_err(|path| TrialError::NotUtf8(path.into()))?))
    };
    dirs.into_iter().map(absolute).collect()
}

/// The launcher comes first: it is made before there are threads.
fn prepare(trial: &Trial) -> Result<(Arc<Watch>, Launcher)> {
    let launcher = Launcher::spawn(Path::new(THIS_PROGRAM), &["launcher"])?;
    let spinner = Spinner::new(format!("compiling {}", trial.file.display()));
    let watch = trial.watch(Path::new(THIS_PROGRAM))?;
    drop(spinner);
    Ok((watch, launcher))
}

/// Runs a future as the daemon's are run.
fn locally<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(tokio::task::LocalSet::new().run_until(work))?)
}
