//! `twitcher znode watch`: what a watch of the daemon would see, one line a state.
//!
//! The source is the daemon's own, so lost connections, expired sessions and old servers are its business.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use twitcher_model::{Observation, Trigger, Version, WatchId, WatchType};
use twitcher_observe::{Log, LogDestination, LogFormat, Verbosity};
use twitcher_source::{Change, SourceReport, Subscription};

use super::error::ZnodeCommandError;
use super::view::{self, Event};
use super::{Done, print, runtime};
use crate::args::ChangesArguments;
use crate::commands::source_options;

/// How long the source is given at the end to close its session.
const GOODBYE: Duration = Duration::from_millis(100);

/// Follows a znode until SIGINT or SIGTERM, or for as many changes as are asked for.
pub(super) fn follow(arguments: &ChangesArguments) -> Done {
    let options =
        source_options::read(&arguments.common.source, "nothing to watch").map_err(ZnodeCommandError::Arguments)?;
    // What is wrong on the way: no server, no permission, too much data.
    let log =
        Log::start(&LogDestination::Stderr, LogFormat::Text, Verbosity::Warnings).map_err(ZnodeCommandError::Log)?;
    let followed = runtime()?.block_on(async {
        let mut source = options.spawn().map_err(ZnodeCommandError::Arguments)?;
        let (mut interrupt, mut terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
        let (watch, watch_type) = (WatchId(0), watch_type(arguments));
        let add = vec![Subscription {
            watch,
            name: "znode watch".into(),
            znode: arguments.path.clone(),
            watch_type,
            with_nodes: false,
        }];
        // A source that has ended says so below.
        let _ = source.changes.send(Change { remove: vec![], add });
        let mut told = Told::default();
        let followed = loop {
            let report = tokio::select! {
                report = source.reports.recv() => report,
                _ = interrupt.recv() => break Ok(()),
                _ = terminate.recv() => break Ok(()),
            };
            let seen = match report {
                Some(SourceReport::Observed(_, seen)) => seen,
                // It is in the log, too.
                Some(SourceReport::Armed | SourceReport::Unreadable(..) | SourceReport::Readable(_)) => continue,
                None => break Err(ZnodeCommandError::Ended),
            };
            let Some(event) = told.event(&seen) else { continue };
            let printed = print(&said(arguments, event, watch_type, &seen));
            if printed.is_err() || arguments.changes.is_some_and(|most| told.changes >= most) {
                break printed;
            }
        };
        drop(source);
        sleep(GOODBYE).await;
        followed
    });
    drop(log);
    followed
}

fn on(kind: SignalKind) -> Done<Signal> {
    signal(kind).map_err(ZnodeCommandError::Runtime)
}

fn watch_type(arguments: &ChangesArguments) -> WatchType {
    match (arguments.recursive, arguments.children) {
        (true, _) => WatchType::Tree,
        (false, true) => WatchType::Children,
        (false, false) => WatchType::Data,
    }
}

fn said(arguments: &ChangesArguments, event: Event, kind: WatchType, seen: &Observation) -> Vec<u8> {
    let (path, now) = (&arguments.path, Timestamp::now());
    match arguments.common.json {
        true => view::line(&view::change(now, event, path, kind, seen)),
        false => {
            let now = Zoned::new(now, TimeZone::system());
            view::change_text(&now.strftime("%H:%M:%S%.3f").to_string(), event, path, kind, seen).into_bytes()
        }
    }
}

/// What was told last, and how many changes were.
#[derive(Debug, Default)]
struct Told {
    last: Option<(Version, Option<i64>)>,
    changes: u64,
}

impl Told {
    /// What a state means after the last one; nothing if it is the same.
    fn event(&mut self, seen: &Observation) -> Option<Event> {
        let now = (seen.version, seen.stat.map(|stat| stat.czxid));
        let before = self.last.replace(now);
        let Some((version, czxid)) = before else {
            return Some(match seen.exists() {
                true => Event::Seen(Trigger::Load),
                false => Event::Absent,
            });
        };
        if version == seen.version {
            return None;
        }
        self.changes += 1;
        Some(Event::Seen(match seen.version {
            Version::Absent => Trigger::Deleted,
            _ if version == Version::Absent || czxid != now.1 => Trigger::Created,
            Version::Data { .. } => Trigger::Data,
            Version::Children { .. } => Trigger::Children,
            Version::Tree { .. } => Trigger::Tree,
        }))
    }
}
