//! How it looks. The widths are those of a split, a plain and a wide terminal.

use jiff::{Timestamp, ToSpan};

use super::*;
use twitcher_control::api::*;
use twitcher_model::{RunMode, WatchType};

fn now() -> Timestamp {
    "2026-07-01T03:00:00Z".parse().unwrap()
}

fn before(seconds: i64) -> Timestamp {
    now() - seconds.seconds()
}

fn look(width: u16) -> Theme {
    Theme {
        width: Some(width),
        colour: false,
        now: now(),
        zone: None,
    }
}

fn node(version: i32, ago: i64) -> Option<NodeState> {
    Some(NodeState {
        exists: true,
        version: Some(version),
        zxid: Some(0x5_0000_0000 + i64::from(version)),
        digest: None,
        at: before(ago),
    })
}

/// A watch that has nothing to do.
fn armed(name: &str, znode: &str) -> WatchSummary {
    WatchSummary {
        name: name.to_owned(),
        znode: znode.to_owned(),
        znodes: Vec::new(),
        watch_type: WatchType::Data,
        run_mode: RunMode::Queue,
        action: "shell".to_owned(),
        origin: "/etc/twitcher/repo.twc:1".to_owned(),
        state: WatchState::Armed,
        why: None,
        seen: node(3, 7300),
        handled: node(3, 7290),
        behind_since: None,
        up_since: None,
        next_attempt: None,
        running: Vec::new(),
        last_run: Some(LastRun {
            success: true,
            ended: before(7290),
            run: Some("1m82xp1tf0006".to_owned()),
            words: None,
        }),
        paused: None,
        unreadable: None,
        as_of: None,
    }
}

fn failed(ago: i64, words: &str) -> Option<LastRun> {
    Some(LastRun {
        success: false,
        ended: before(ago),
        run: Some("1m82xp1tf0007".to_owned()),
        words: Some(words.to_owned()),
    })
}

fn watches() -> Vec<WatchSummary> {
    vec![
        armed("app port", "/app/port"),
        WatchSummary {
            state: WatchState::Running,
            running: vec!["1m82xp1tf0009".to_owned()],
            seen: node(4, 12),
            behind_since: Some(before(12)),
            ..armed("certificates", "/tls/internal/certificates")
        },
        WatchSummary {
            state: WatchState::BackingOff,
            why: Some("exit code 75 (run 1m82xp1tf0008); it is tried again, 12.0 s more".to_owned()),
            seen: node(4, 95),
            behind_since: Some(before(95)),
            next_attempt: Some(now() + 12.seconds()),
            last_run: failed(20, "exit code 75"),
            ..armed("dns zone", "/dns/zones/example.org")
        },
        WatchSummary {
            state: WatchState::Absent,
            seen: None,
            handled: None,
            last_run: None,
            ..armed("feature flags for the shop \u{1b}[31m", "/shop/flags")
        },
        WatchSummary {
            state: WatchState::Parked,
            why: Some("exit code 1 (run 1m82xp1tf0004); on_failure is STOP".to_owned()),
            seen: node(4, 200_000),
            behind_since: Some(before(200_000)),
            last_run: failed(199_990, "exit code 1"),
            ..armed("pull the repo", "/git/head")
        },
        WatchSummary {
            behind_since: Some(before(400)),
            seen: node(4, 400),
            last_run: failed(390, "killed by SIGKILL"),
            state: WatchState::Failed,
            why: Some("killed by SIGKILL (run 1m82xp1tf0007)".to_owned()),
            ..armed("render", "/app/config")
        },
        WatchSummary {
            state: WatchState::Paused,
            paused: Some(Pause {
                since: before(600),
                by: Some("alice as root".to_owned()),
                reason: Some("until the release is out\u{1b}[2J".to_owned()),
            }),
            ..armed("web-1", "/web/1")
        },
        WatchSummary {
            state: WatchState::Unreadable,
            why: Some("no permission to read it (NoAuth)".to_owned()),
            unreadable: Some(UnreadableNode {
                why: "no permission to read it (NoAuth)".to_owned(),
                remedy: "`zkCli.sh getAcl /web/2` shows who may: let this daemon's user, app read it (r)".to_owned(),
                parts: None,
                since: before(185),
                next_attempt: now() + 12.seconds(),
            }),
            ..armed("web-2", "/web/2")
        },
    ]
}

fn daemon() -> Status {
    let count = |state, count| StateCount { state, count };
    Status {
        version: "2.0.0".to_owned(),
        host: "web-7".to_owned(),
        drain: None,
        pid: 4711,
        started: before(280_000),
        phase: Phase::Ready,
        unready: None,
        source: SourceStatus {
            kind: "zookeeper".to_owned(),
            target: "zk1:2181,zk2:2181,zk3:2181/fleet".to_owned(),
            connected: true,
            since: Some(before(9000)),
            problem: None,
        },
        config: ConfigStatus {
            paths: vec!["/etc/twitcher".to_owned()],
            loaded: Some(before(700)),
            errors: vec![
                "/etc/twitcher/a.twc:7:43: variable `QEUE` not found, did you mean `QUEUE`?\n  | RegisterWatch\n"
                    .to_owned(),
            ],
            notes: Vec::new(),
        },
        watches: vec![
            count(WatchState::Armed, 1),
            count(WatchState::Failed, 1),
            count(WatchState::Unreadable, 1),
            count(WatchState::Absent, 1),
            count(WatchState::Running, 1),
            count(WatchState::BackingOff, 1),
            count(WatchState::Paused, 1),
            count(WatchState::Parked, 1),
        ],
        state_problem: None,
        running: 1,
        waiting: 0,
        max_running: 64,
        warm: WarmStatus {
            most: 64 << 20,
            ..WarmStatus::default()
        },
        launcher_restarts: 0,
        fleet: None,
        withheld: false,
    }
}

fn run(id: &str, watch: &str, outcome: Option<(&str, &str)>, ago: i64, duration: f64) -> Run {
    Run {
        run: id.to_owned(),
        watch: watch.to_owned(),
        event: Some("data".to_owned()),
        attempt: 1,
        outcome: outcome.map(|(outcome, _)| outcome.to_owned()),
        words: outcome.map(|(_, words)| words.to_owned()),
        exit_code: None,
        signal: None,
        pid: None,
        overdue: None,
        started: before(ago),
        ended: outcome.map(|_| before(ago)),
        duration: outcome.map(|_| duration),
        max_rss_kib: Some(4452),
        output_bytes: Some(2048),
        log_ended: false,
    }
}

fn some_runs() -> Vec<Run> {
    vec![
        run("1m82xp1tf0009", "certificates", None, 12, 0.0),
        Run {
            attempt: 3,
            event: Some("retry".to_owned()),
            ..run("1m82xp1tf0008", "dns zone", Some(("exited", "exit code 75")), 21, 0.734)
        },
        run(
            "1m82xp1tf0007",
            "render",
            Some(("signaled", "killed by SIGKILL (core dumped)")),
            395,
            4.2,
        ),
        run("1m82xp1tf0006", "app port", Some(("success", "success")), 7290, 0.0131),
        Run {
            event: None,
            duration: None,
            max_rss_kib: None,
            output_bytes: None,
            ..run(
                "1m82xp1tf0005",
                "pull the repo",
                Some(("unknown", "its daemon was killed")),
                300_000,
                0.0,
            )
        },
    ]
}

#[test]
fn the_daemon_at_80_columns() {
    insta::assert_snapshot!(status(&daemon(), watches(), Shown::Some, &look(80)));
}

#[test]
fn the_daemon_at_60_columns() {
    insta::assert_snapshot!(status(&daemon(), watches(), Shown::Some, &look(60)));
}

#[test]
fn the_daemon_at_120_columns() {
    insta::assert_snapshot!(status(&daemon(), watches(), Shown::Some, &look(120)));
}

#[test]
fn elsewhere_than_on_a_terminal_nothing_is_cut() {
    let plain = Theme {
        width: None,
        zone: Some(jiff::tz::TimeZone::UTC),
        ..look(80)
    };
    insta::assert_snapshot!(status(&daemon(), watches(), Shown::All, &plain));
}

#[test]
fn a_daemon_in_trouble_says_so() {
    let mut daemon = daemon();
    daemon.phase = Phase::Starting;
    daemon.unready = Some("not connected to zk1:2181: no server answers".to_owned());
    daemon.source.connected = false;
    daemon.source.problem = Some("no server answers: connection refused".to_owned());
    daemon.config.errors = (1..=5).map(|n| format!("/etc/twitcher/{n}.twc: broken")).collect();
    daemon.config.notes = vec!["x".to_owned()];
    daemon.watches.clear();
    daemon.state_problem = Some("cannot write /var/lib/twitcher/state.db: no space left on device".to_owned());
    daemon.waiting = 2;
    daemon.launcher_restarts = 1;
    insta::assert_snapshot!(status(&daemon, Vec::new(), Shown::Some, &look(80)));
}

#[test]
fn colours_do_not_move_columns() {
    let coloured = Theme {
        colour: true,
        ..look(80)
    };
    let text = status(&daemon(), watches(), Shown::Some, &coloured);
    assert!(
        text.contains("\u{1b}[1m") && text.contains("parked\u{1b}[0m"),
        "{text:?}"
    );
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
    let expected = status(&daemon(), watches(), Shown::Some, &look(80));
    assert_eq!(trimmed, expected.lines().collect::<Vec<_>>());
}

#[test]
fn of_thousands_of_watches_only_those_in_trouble_and_a_few_are_listed() {
    let many: Vec<WatchSummary> = (0..10_000)
        .map(|n| WatchSummary {
            state: if n % 1000 == 7 {
                WatchState::Parked
            } else {
                WatchState::Armed
            },
            ..armed(&format!("watch-{n:05}"), "/x")
        })
        .collect();
    let text = status(&daemon(), many.clone(), Shown::Some, &look(80));
    let table: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("WATCH")).collect();
    let words: Vec<&str> = [1, 11]
        .iter()
        .flat_map(|at| table[*at].split_whitespace().take(2))
        .collect();
    assert_eq!(words, ["watch-00007", "parked", "watch-00000", "armed"], "{text}");
    assert_eq!(table.len(), 1 + 10 + 20 + 2);
    assert_eq!(
        table[32],
        "9970 more watches: see all with --all, or some with --state STATE"
    );
    let all = status(&daemon(), many.clone(), Shown::All, &look(80));
    assert_eq!(all.lines().filter(|line| line.starts_with("watch-")).count(), 10_000);
    let none = status(&daemon(), many, Shown::In(&[WatchState::Paused]), &look(80));
    assert!(none.ends_with("\nno watch is in such a state\n"), "{none}");
}

fn detail(watch: WatchSummary) -> WatchDetail {
    let setting = |key: &str, value: &str| Setting {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    WatchDetail {
        watch,
        command: "cd /srv/repo && git pull --quiet --ff-only".to_owned(),
        settings: vec![
            setting("uid", "\"deploy\""),
            setting("timeout", "60"),
            setting("on_failure", "STOP"),
        ],
        runs: some_runs(),
        withheld: false,
    }
}

#[test]
fn a_watch_at_80_columns() {
    insta::assert_snapshot!(watch(&detail(watches().swap_remove(4)), &look(80)));
}

#[test]
fn a_watch_at_60_columns() {
    insta::assert_snapshot!(watch(&detail(watches().swap_remove(2)), &look(60)));
}

#[test]
fn a_watch_at_120_columns() {
    insta::assert_snapshot!(watch(&detail(watches().swap_remove(5)), &look(120)));
}

#[test]
fn what_cannot_be_read_is_told_with_what_helps() {
    insta::assert_snapshot!(watch(&detail(watches().swap_remove(7)), &look(80)));
}

#[test]
fn a_daemon_without_connection_is_not_ready_and_shows_what_was() {
    let mut daemon = daemon();
    daemon.unready = Some("not connected to zk1:2181".to_owned());
    daemon.source.connected = false;
    let text = status(&daemon, watches(), Shown::Some, &look(80));
    let head = text.lines().next().unwrap();
    assert!(head.ends_with(": not ready: not connected"), "{head}");
    assert!(text.contains("2 h ago, when the connection was lost"), "{text}");
    let armed = WatchSummary {
        as_of: Some(before(9000)),
        ..armed("a", "/a")
    };
    let text = watch(&detail(armed), &look(80));
    assert!(text.contains("  as of  "), "{text}");
}

#[test]
fn a_subtree_in_another_state_is_not_the_same_though_its_root_is() {
    let tree = |digest: &str| {
        node(3, 5).map(|node| NodeState {
            version: None,
            zxid: None,
            digest: Some(digest.to_owned()),
            ..node
        })
    };
    let failed = WatchSummary {
        watch_type: WatchType::Tree,
        state: WatchState::Failed,
        behind_since: Some(before(5)),
        seen: tree("00000000000000aa"),
        handled: tree("00000000000000bb"),
        ..armed("tree", "/t")
    };
    let text = watch(&detail(failed), &look(80));
    assert!(text.starts_with("tree: failed, behind for 5.0 s\n"), "{text}");
    assert!(
        text.contains("digest 00000000000000aa") && !text.contains("the same"),
        "{text}"
    );
}

#[test]
fn a_run_past_its_timeout_says_so() {
    let overdue = Run {
        overdue: Some("past its timeout of 15.0 s and is being ended; SIGKILL follows in 4.0 s".to_owned()),
        ..some_runs().swap_remove(0)
    };
    let text = runs(&[overdue], false, &look(120));
    assert!(text.contains("running, past its timeout of 15.0 s"), "{text}");
}

#[test]
fn every_state_is_explained() {
    let timed = [
        WatchState::BackingOff,
        WatchState::Settling,
        WatchState::Splaying,
        WatchState::Spaced,
    ];
    let mut text = String::new();
    for info in STATES {
        let watch = WatchSummary {
            state: info.state,
            next_attempt: timed.contains(&info.state).then(|| now() + 12.seconds()),
            ..armed("it's", "/x")
        };
        let shown = super::watch(&detail(watch), &look(0).wide());
        let lines: Vec<&str> = shown.lines().take(3).map(str::trim).collect();
        text.push_str(&lines.join("\n  "));
        text.push('\n');
    }
    let at_rest = [
        (
            "deleted since",
            node(3, 5),
            Some(NodeState {
                exists: false,
                ..node(3, 5).unwrap()
            }),
            RunMode::Queue,
        ),
        ("never run for", node(3, 5), None, RunMode::Queue),
        ("ignored", node(4, 5), node(3, 9), RunMode::Discard),
    ];
    for (name, seen, handled, run_mode) in at_rest {
        let watch = WatchSummary {
            seen,
            handled,
            run_mode,
            ..armed(name, "/x")
        };
        let shown = super::watch(&detail(watch), &look(0).wide());
        let lines: Vec<&str> = shown.lines().take(2).map(str::trim).collect();
        text.push_str(&lines.join("\n  "));
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

impl Theme {
    fn wide(self) -> Self {
        Self { width: None, ..self }
    }
}

#[test]
fn who_holds_a_watch_since_when_and_why() {
    let shown = super::watch(&detail(watches().swap_remove(6)), &look(0).wide());
    assert!(
        shown.contains("  paused    by alice as root, 10 min ago: until the release is out\\u{1b}[2J\n"),
        "{shown}"
    );
}

#[test]
fn history_at_80_columns() {
    insta::assert_snapshot!(runs(&some_runs(), true, &look(80)));
}

#[test]
fn history_at_60_columns() {
    insta::assert_snapshot!(runs(&some_runs(), false, &look(60)));
}

#[test]
fn history_at_120_columns() {
    insta::assert_snapshot!(runs(&some_runs(), false, &look(120)));
}

#[test]
fn what_a_run_wrote() {
    let detail = |output: &str, truncated| RunDetail {
        run: some_runs().swap_remove(1),
        output: output.to_owned(),
        truncated,
        withheld: false,
    };
    let texts = [
        detail("one\r\n\ttwo\u{1b}]0;owned\u{7}\nthree", false),
        detail("the end\n", true),
        RunDetail {
            run: Run {
                log_ended: true,
                ..some_runs().swap_remove(1)
            },
            ..detail("the end\n", true)
        },
        detail("", false),
    ];
    let shown = texts.map(|detail| output(&detail, &look(80))).join("\n");
    insta::assert_snapshot!(shown);
}

#[test]
fn what_was_done_is_told() {
    let look = look(80);
    let all = watches();
    let [parked, paused] = [4, 6].map(|at| all[at].clone());
    let mut text = started(
        &Started {
            run: Some("1m82xp1tf000a".to_owned()),
            watch: all[0].clone(),
        },
        &look,
    );
    text += &started(
        &Started {
            run: None,
            watch: all[2].clone(),
        },
        &look,
    );
    text += &held(&paused, &look);
    text += &held(
        &WatchSummary {
            running: vec!["x".to_owned()],
            ..paused
        },
        &look,
    );
    for state in [WatchState::Running, WatchState::Failed] {
        text += &held(
            &WatchSummary {
                state,
                why: None,
                ..parked.clone()
            },
            &look,
        );
    }
    let counts = |errors| Reloaded {
        watches: 12,
        added: 1,
        changed: 2,
        removed: 0,
        errors,
    };
    text += &reloaded(&counts(Vec::new()), &look);
    text += &reloaded(&counts(vec!["a".to_owned(), "b".to_owned()]), &look);
    let runs = some_runs();
    for (terminating, running) in [(false, 5), (false, 1), (true, 1)] {
        let drain = Drain {
            deadline: now() + 24.seconds(),
            terminating,
        };
        let status = Status {
            running,
            drain: Some(drain),
            ..daemon()
        };
        text += &draining(&status, &runs[..running as usize], &look);
        text += "\n";
    }
    text += &draining(&Status { running: 0, ..daemon() }, &[], &look);
    text += "\n";
    text += &drained(&runs[..1]);
    insta::assert_snapshot!(text);
}

#[test]
fn events_are_lines() {
    let utc = Theme {
        zone: Some(jiff::tz::TimeZone::UTC),
        ..look(80)
    };
    let mut all = watches();
    let runs = some_runs();
    let event = |kind, message: &str, watch: Option<WatchSummary>, run: Option<Run>| Event {
        seq: 1,
        at: before(3),
        kind,
        message: message.to_owned(),
        watch,
        run,
    };
    let events = [
        event(
            EventKind::Changed,
            "version 4 of /git/head\u{1b}[2J",
            Some(all.swap_remove(4)),
            None,
        ),
        event(
            EventKind::Ended,
            "render ended: killed by SIGKILL",
            None,
            Some(runs[2].clone()),
        ),
        event(EventKind::Loaded, "12 watches", None, None),
    ];
    let text: String = events.iter().map(|one| super::event(one, &utc)).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn names_are_quoted_as_a_shell_takes_them() {
    let names = ["web-1", "pull the repo", "it's", "-n", "", "a\u{1b}b", "$(x)"];
    assert_eq!(
        names.map(quoted).join(" "),
        r"web-1 'pull the repo' 'it'\''s' '-n' '' 'a\u{1b}b' '$(x)'"
    );
}

/// README shows this daemon.
#[test]
fn readme_shows_what_status_prints() {
    let parked = WatchSummary {
        state: WatchState::Parked,
        why: Some("exit code 3 (run 1m83w1vm50002); on_failure is STOP".to_owned()),
        behind_since: Some(before(260)),
        last_run: failed(258, "exit code 3"),
        ..armed("migrate", "/db/schema")
    };
    let backing_off = WatchSummary {
        state: WatchState::BackingOff,
        why: Some("exit code 75 (run 1m83w1vm50004); it is tried again, 27.0 s more".to_owned()),
        behind_since: Some(before(41)),
        next_attempt: Some(now() + 27.seconds()),
        last_run: failed(33, "exit code 75"),
        ..armed("reload app", "/app/port")
    };
    let absent = WatchSummary {
        state: WatchState::Absent,
        seen: None,
        handled: None,
        last_run: None,
        ..armed("flags", "/app/flags")
    };
    let watches = vec![absent, parked, armed("pull the repo", "/git/head"), backing_off];
    let count = |state| StateCount { state, count: 1 };
    let mut daemon = daemon();
    daemon.source.target = "zk1:2181,zk2:2181,zk3:2181".to_owned();
    daemon.config.errors.clear();
    daemon.running = 0;
    daemon.watches = [
        WatchState::Parked,
        WatchState::BackingOff,
        WatchState::Absent,
        WatchState::Armed,
    ]
    .map(count)
    .to_vec();
    let text = status(&daemon, watches, Shown::All, &look(140));
    let readme = include_str!("../../../../../../README.md");
    assert!(
        readme.contains(&format!("$ twitcher status\n{text}```\n")),
        "README does not have\n{text}"
    );
}
