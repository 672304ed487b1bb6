//! Watches and facts for tests.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::facts::{LastRunFacts, WatchFacts};
use super::states::WatchState;
use twitcher_model::{
    Action, Moment, Origin, Payload, Policy, ProcessSettings, RunId, Seen, Share, Shrinkage, Stamp, Unreadable,
    Version, Watch, WatchId, WatchType, ZnodePath,
};
use twitcher_scheduler::{Full, Machine, MachineState, Standing, Wait};

/// A watch of `/NAME` that runs `true`.
pub fn watch(name: &str) -> Watch {
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
        znodes: Vec::new(),
        handled: None,
        refused: None,
        verify: None,
        up: None,
        running: Vec::new(),
        last_run: None,
        parked: None,
        paused: None,
        unreadable: None,
        overdue: None,
        as_of: None,
    }
}

/// A watch in a state, with what the daemon knows of one: its name is that of the state.
pub fn watched_in(state: WatchState) -> WatchFacts {
    let mut facts = watched(state.name());
    let (now, wall) = (facts.clock.now, facts.clock.wall);
    let second = Duration::from_secs(1);
    let version = Version::Data {
        czxid: 1,
        mzxid: 2,
        stamp: Stamp::default(),
    };
    facts.seen = Some(Seen::new(version, None, wall));
    let failed = LastRunFacts {
        run: RunId(7 << 20),
        ended: wall,
        outcome: "exited",
        failure: Some("exit code 3".into()),
    };
    let idle = Standing {
        state: MachineState::Idle,
        wait: None,
        next: None,
        behind: None,
        loading: false,
        asked: false,
        empty: false,
        shrunk: None,
        up: false,
    };
    let held = |wait| Standing {
        state: MachineState::Held,
        wait: Some(wait),
        next: Some(now + second),
        behind: Some(now),
        ..idle
    };
    let busy = |state, wait| Standing {
        state,
        wait,
        behind: Some(now),
        ..idle
    };
    facts.standing = match state {
        WatchState::Unread => Standing { loading: true, ..idle },
        WatchState::Unreadable | WatchState::Armed | WatchState::Absent => idle,
        WatchState::Failed => busy(MachineState::Idle, None),
        WatchState::RefusedEmpty => Standing { empty: true, ..idle },
        WatchState::RefusedShrink => Standing {
            shrunk: Some(Shrinkage {
                counted: WatchType::Data,
                before: 1000,
                now: 10,
                most: Share(500),
            }),
            ..idle
        },
        WatchState::Running => busy(MachineState::Running, None),
        WatchState::Up => Standing {
            state: MachineState::Running,
            up: true,
            ..idle
        },
        WatchState::Queued => busy(MachineState::Queued, Some(Wait::Running)),
        WatchState::Settling => held(Wait::Settle(second)),
        WatchState::Splaying => held(Wait::Splay(second)),
        WatchState::Spaced => held(Wait::MinInterval(second)),
        WatchState::Waiting => busy(MachineState::Waiting, Some(Wait::Turn(Full::All))),
        WatchState::BackingOff => Standing {
            state: MachineState::BackingOff,
            ..held(Wait::Settle(second))
        },
        WatchState::Paused => Standing {
            state: MachineState::Paused,
            ..idle
        },
        WatchState::Parked => busy(MachineState::Parked, None),
        WatchState::Retired => Standing {
            state: MachineState::Retired,
            ..idle
        },
    };
    match state {
        WatchState::Unread => facts.seen = None,
        // It was absent when it was last seen, and then somebody made one that is hidden.
        WatchState::Unreadable => {
            facts.seen = Some(Seen::new(Version::Absent, None, wall));
            facts.unreadable = Some(Arc::new(Unreadable {
                why: "no permission to read it (NoAuth)".to_owned(),
                remedy: "let it be read".to_owned(),
                parts: None,
                since: wall,
                next_attempt: wall + second,
            }));
        }
        WatchState::Absent => facts.seen = Some(Seen::new(Version::Absent, None, wall)),
        WatchState::Up => facts.up = Some(wall - 200 * second),
        WatchState::RefusedShrink => facts.refused = Some(wall - second),
        WatchState::Failed | WatchState::BackingOff => facts.last_run = Some(failed),
        WatchState::Parked => facts.parked = Some("exit code 3 (run 1); on_failure is STOP".to_owned()),
        _ => {}
    }
    facts
}
