//! Watches and facts for tests.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::facts::WatchFacts;
use twitcher_model::{Action, Moment, Origin, Policy, ProcessSettings, Watch, WatchId, WatchType, ZnodePath};
use twitcher_scheduler::Machine;

/// A watch of `/NAME` that runs `true`.
pub fn watch(name: &str) -> Watch {
    Watch {
        name: name.into(),
        description: name.into(),
        znode: ZnodePath::new(format!("/{name}")).unwrap(),
        watch_type: WatchType::Data,
        action: Action::Shell("true".into()),
        policy: Arc::new(Policy::default()),
        process: Arc::new(ProcessSettings::default()),
        origin: Origin {
            file: Path::new("a.twc").into(),
            line: 1,
            column: 1,
        },
    }
}

/// The same, of which nothing has been heard yet.
pub fn watched(name: &str) -> WatchFacts {
    let watch = Arc::new(watch(name));
    let now = Duration::from_secs(100);
    WatchFacts {
        standing: Machine::new(WatchId(1), Arc::clone(&watch.policy)).standing(now),
        watch,
        clock: Moment {
            now,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        },
        seen: None,
        handled: None,
        running: Vec::new(),
        last_run: None,
        parked: None,
        paused: None,
        unreadable: None,
        overdue: None,
        as_of: None,
    }
}
