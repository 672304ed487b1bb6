//! The state on real files: what survives, what is bounded, and what is done about a database that cannot be used.

mod damage;
mod kept;
mod migration;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use twitcher_model::Trigger;
use twitcher_model::{Action, Origin, Payload, Policy, ProcessSettings, Stamp, Version};

fn watch(name: &str) -> Watch {
    Watch {
        name: name.into(),
        description: name.into(),
        znode: ZnodePath::new(format!("/{name}")).unwrap(),
        more: Arc::default(),
        watch_type: WatchType::Data,
        payload: Payload::Data,
        action: Action::Shell("true".into()),
        policy: Arc::new(Policy::default()),
        process: Arc::new(ProcessSettings::default()),
        publish: true,
        rollout: None,
        origin: Origin {
            file: Path::new("a.twc").into(),
            line: 1,
            column: 1,
        },
    }
}

fn open(dir: &Path) -> (StateStore, Option<RunId>) {
    StateStore::open(dir, HistoryLimits::default(), Vec::new())
}

fn handled(mzxid: i64) -> Handled {
    Handled {
        position: Position {
            version: Version::Data {
                czxid: 1,
                mzxid,
                stamp: Stamp {
                    stat: u32::MAX,
                    contents: 7,
                },
            },
            digest: u64::MAX - 1,
        },
        stat: Some(Stat {
            czxid: 1,
            mzxid,
            version: -3,
        }),
        size: Some(12),
        run: RunId(5),
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
    }
}

fn ended(run: u64, watch: &str) -> EndedRun {
    EndedRun {
        run: RunId(run),
        watch: watch.into(),
        event: Some(Trigger::Data.into()),
        attempt: 2,
        outcome: Some(Outcome::Exited(3)),
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000),
        ended: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_001_000),
        elapsed: Duration::from_micros(1_000_001),
        max_rss_kib: 2000,
        output_bytes: 70_000,
        log_ended: true,
        output_tail: format!("output of {run}").into(),
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the database in `dir` has of a watch.
fn stored(dir: &Path, name: &str) -> Option<Handled> {
    let (state, _) = open(dir);
    state.known(&watch(name))?.handled
}
