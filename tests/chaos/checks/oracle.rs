//! Of the oracle: for each invariant a journal that keeps it, and one that breaks it.

use std::collections::BTreeMap;
use std::path::Path;

use super::Check;
use crate::journal::{Line, Start, flat};
use crate::oracle::{self, Below, Final, Held, Served};
use crate::snapshot::is_of;
use crate::watches::{Watch, watch};

pub const CHECKS: &[Check] = &[
    ("a line of a journal is read as it was written", lines_survive),
    ("half a line, or a foreign one, is garbage", garbage),
    ("a state that nobody ran for is found", data_lost),
    ("an older state run for last is found", data_stale),
    ("in PARALLEL the newest need not be the last to say so", data_parallel),
    ("DISCARD and absent znodes promise nothing", nothing_promised),
    ("children that were not told are found", children_lost),
    (
        "a path of a subtree that was not told after it changed is found",
        tree_lost,
    ),
    ("an action of a former revision is found", stale_revision),
    ("an overlap told by an action is found", crowd),
    ("an overlap in the order of lines is found", interleaved),
    ("runs that overlap in PARALLEL are none", parallel_interleaved),
    (
        "what left its session and environment and outlives its run is found",
        outlived,
    ),
    (
        "a process is known by its arguments, also without an environment",
        belonging,
    ),
    ("a killed action is none", killed),
    ("a run that starts twice is found", twice_the_run),
    (
        "two runs for one change are found, two loads are none",
        twice_the_change,
    ),
    ("a run for an older state after a newer is found", older),
    (
        "older transactions of servers that were wiped are none, and their other data is wanted",
        anew,
    ),
    ("a log that does not tell of the last run is found", unlogged),
    ("more runs than changes are found", too_many),
    ("more loads than reasons for them are found", too_many_loads),
    ("more retries than are allowed are found", too_many_retries),
    ("everything that can leak is found", leaks),
    ("memory that grows is found", memory),
    ("watches and sessions left at the servers are found", served),
    ("a healthy watch that was late is found", late),
];

fn start(run: &str, event: &str, mzxid: i64, stdin: &str) -> Line {
    Line::Start(Start {
        at: 1000 + mzxid as u64,
        run: run.to_owned(),
        pid: 7,
        parent: 6,
        event: event.to_owned(),
        attempt: 1,
        mzxid,
        revision: "1".to_owned(),
        stdin: flat(stdin),
    })
}

fn end(run: &str) -> Line {
    Line::End {
        at: 2000,
        run: run.to_owned(),
    }
}

fn still(run: &str) -> Line {
    Line::Still {
        at: 2000,
        run: run.to_owned(),
    }
}

fn data(mzxid: i64, data: &str) -> Final {
    Final::Data {
        mzxid,
        data: data.to_owned(),
    }
}

fn queue() -> &'static Watch {
    watch("data-queue")
}

fn lines_survive() {
    let crowd = Line::Crowd {
        at: 3,
        run: "a".into(),
        others: "b 7, c 8".into(),
    };
    for line in [start("a", "data", 5, "x\ty\nz\n"), end("a"), still("a"), crowd] {
        let text = line.text();
        assert_eq!(Line::parse(text.strip_suffix('\n').unwrap()), line);
    }
}

fn garbage() {
    for text in ["", "start", "start\t12\tr", "end\tx\tr", "begin\t1\tr"] {
        assert_eq!(Line::parse(text), Line::Garbage(text.to_owned()));
        assert!(!oracle::overlaps(queue(), &[Line::parse(text)]).is_empty());
    }
}

fn data_lost() {
    let lines = [start("a", "load", 1, "one")];
    assert!(oracle::acted(queue(), &data(1, "one"), &lines, false).is_ok());
    assert!(oracle::acted(queue(), &data(2, "two"), &lines, false).is_err());
    // The same data by another transaction is another state.
    assert!(oracle::acted(queue(), &data(2, "one"), &lines, false).is_err());
    assert!(oracle::acted(queue(), &data(1, "other"), &lines, false).is_err());
    assert!(oracle::acted(queue(), &data(1, "one"), &[], false).is_err());
}

fn data_stale() {
    let lines = [start("a", "data", 2, "two"), start("b", "data", 1, "one")];
    assert!(oracle::acted(queue(), &data(2, "two"), &lines, false).is_err());
    assert!(oracle::acted(watch("data-restart"), &data(2, "two"), &lines, false).is_err());
}

fn data_parallel() {
    let lines = [start("a", "data", 2, "two"), start("b", "data", 1, "one")];
    assert!(oracle::acted(watch("data-parallel"), &data(2, "two"), &lines, false).is_ok());
    assert!(oracle::acted(watch("data-parallel"), &data(3, "three"), &lines, false).is_err());
}

fn nothing_promised() {
    assert!(oracle::acted(watch("data-discard"), &data(2, "two"), &[], false).is_ok());
    assert!(
        oracle::acted(watch("data-discard"), &data(2, "two"), &[], true).is_err(),
        "but to an idle one"
    );
    assert!(oracle::acted(queue(), &Final::Absent, &[], false).is_ok());
}

fn children_lost() {
    let watch = watch("children-queue");
    let state = Final::Children(vec!["a".into(), "b".into()]);
    assert!(oracle::acted(watch, &state, &[start("r", "children", 1, "a\nb\n")], false).is_ok());
    assert!(oracle::acted(watch, &state, &[start("r", "children", 1, "a\n")], false).is_err());
    assert!(oracle::acted(watch, &Final::Children(vec![]), &[start("r", "children", 1, "")], false).is_ok());
}

fn below(path: &str, since: u64) -> Below {
    Below {
        path: path.to_owned(),
        since,
        mzxid: 1,
        data: String::new(),
    }
}

fn tree_lost() {
    let watch = watch("tree-queue");
    let lines = [start("r", "load", 1, "/t\n/t/a\n"), start("s", "tree", 9, "/t/b\n")];
    let state = |path: &str, since| Final::Tree(vec![below("/t", 900), below(path, since)]);
    // The first was at 1001, the second at 1009.
    assert!(oracle::acted(watch, &state("/t/a", 1001), &lines, false).is_ok());
    assert!(oracle::acted(watch, &state("/t/b", 1005), &lines, false).is_ok());
    assert!(
        oracle::acted(watch, &state("/t/a", 1002), &lines, false).is_err(),
        "told only before it changed"
    );
    assert!(
        oracle::acted(watch, &state("/t/c", 900), &lines, false).is_err(),
        "never told"
    );
    let discard = crate::watches::watch("tree-discard");
    let (told, untold) = (start("s", "tree", 9, "/t\n/t/c\n"), start("s", "tree", 9, "/t\n"));
    assert!(oracle::acted(discard, &state("/t/c", 1005), &[told], true).is_ok());
    assert!(oracle::acted(discard, &state("/t/c", 1005), &[untold], true).is_err());
    // Of an older change it is not known whether the action was running.
    assert!(oracle::acted(discard, &state("/t/c", 800), &[start("s", "tree", 9, "/t\n")], true).is_ok());
}

fn stale_revision() {
    let lines = [start("a", "load", 1, "one")];
    let watch = watch("churn-queue");
    assert!(oracle::of_revision(watch, "1", &data(1, "one"), &lines).is_ok());
    assert!(oracle::of_revision(watch, "2", &data(1, "one"), &lines).is_err());
    assert!(oracle::of_revision(watch, "2", &Final::Absent, &lines).is_ok());
}

fn crowd() {
    let line = Line::Crowd {
        at: 3,
        run: "b".into(),
        others: "a 7".into(),
    };
    assert_eq!(oracle::overlaps(queue(), &[line]).len(), 1);
}

fn interleaved() {
    let (a, b) = (start("a", "data", 1, ""), start("b", "data", 2, ""));
    let apart = [a.clone(), end("a"), b.clone(), end("b")];
    assert!(oracle::overlaps(queue(), &apart).is_empty());
    assert_eq!(oracle::overlaps(queue(), &[a, b, end("a"), end("b")]).len(), 1);
}

fn parallel_interleaved() {
    let lines = [start("a", "data", 1, ""), start("b", "data", 2, ""), end("a"), end("b")];
    assert!(oracle::overlaps(watch("data-parallel"), &lines).is_empty());
}

fn outlived() {
    let (a, b) = (start("a", "data", 1, ""), start("b", "data", 2, ""));
    let ended = [a.clone(), still("a"), still("a"), b.clone(), still("b"), end("b")];
    assert!(oracle::overlaps(queue(), &ended).is_empty());
    let outlives = [a, still("a"), b, still("a"), still("a"), end("b")];
    for name in ["data-queue", "data-restart", "data-discard"] {
        assert_eq!(oracle::overlaps(watch(name), &outlives).len(), 1);
    }
    assert!(oracle::overlaps(watch("data-parallel"), &outlives).is_empty());
}

fn belonging() {
    let out = Path::new("/host1/out");
    assert!(is_of(b"A=b\0CHAOS_OUT=/host1/out\0", b"cat\0", out));
    assert!(is_of(b"", b"chaos\0escaped\0/host1/out\0w\0r\0", out));
    assert!(!is_of(
        b"CHAOS_OUT=/host2/out\0",
        b"twitcher\0--config\0/host1/conf\0",
        out
    ));
    assert!(!is_of(b"", b"cat\0/host1/out/log\0", out));
}

fn killed() {
    let lines = [start("a", "data", 1, ""), start("b", "data", 2, ""), end("b")];
    assert!(oracle::overlaps(queue(), &lines).is_empty());
}

fn twice_the_run() {
    let lines = [start("a", "load", 1, ""), end("a"), start("a", "load", 1, "")];
    assert_eq!(oracle::doubled(queue(), &lines).len(), 1);
}

fn twice_the_change() {
    let twice = |event| [start("a", event, 1, ""), start("b", event, 1, "")];
    assert_eq!(oracle::doubled(queue(), &twice("data")).len(), 1);
    assert_eq!(oracle::doubled(queue(), &twice("created")).len(), 1);
    let other = [start("a", "data", 1, "one"), start("b", "data", 1, "two")];
    assert!(oracle::doubled(queue(), &other).is_empty(), "servers were wiped");
    assert!(oracle::doubled(queue(), &twice("load")).is_empty());
    // Children do not say which transaction changed them.
    assert!(oracle::doubled(watch("children-queue"), &twice("data")).is_empty());
}

fn older() {
    let lines = [
        start("a", "data", 1, ""),
        start("b", "data", 2, ""),
        start("c", "data", 2, ""),
    ];
    assert!(oracle::stale(queue(), &lines, &[]).is_empty());
    let back = [start("a", "data", 2, ""), start("b", "data", 1, "")];
    assert_eq!(oracle::stale(queue(), &back, &[]).len(), 1);
    assert!(oracle::stale(watch("data-parallel"), &back, &[]).is_empty());
}

fn anew() {
    let at = |at, line| match line {
        Line::Start(start) => Line::Start(Start { at, ..start }),
        other => other,
    };
    let back = [
        at(1000, start("a", "data", 9, "old")),
        at(1010, start("b", "data", 2, "new")),
    ];
    for wiped in [(990, 1000), (1002, 1008), (1005, 1020), (1010, 1020), (990, 1020)] {
        assert!(oracle::stale(queue(), &back, &[wiped]).is_empty(), "{wiped:?}");
    }
    assert_eq!(oracle::stale(queue(), &back, &[(990, 999), (1011, 1020)]).len(), 1);
    let lines = [start("a", "data", 2, "one")];
    assert!(oracle::acted(queue(), &data(2, "two"), &lines, false).is_err());
}

fn unlogged() {
    let lines = [start("r1", "data", 1, ""), end("r1"), start("r2", "data", 2, "")];
    assert!(oracle::logged(queue(), "", &[]).is_ok());
    assert!(oracle::logged(queue(), r#"{"run_id":"r2"}"#, &lines).is_ok());
    assert!(oracle::logged(queue(), r#"{"run_id":"r1"}"#, &lines).is_err());
    assert!(oracle::logged(queue(), "", &lines).is_err());
}

fn too_many() {
    let lines = [start("a", "data", 1, ""), start("b", "data", 2, "")];
    assert!(oracle::counts(watch("data-discard"), &lines, 2, 0).is_ok());
    assert!(oracle::counts(watch("data-discard"), &lines, 1, 5).is_err());
}

fn too_many_loads() {
    let lines = [start("a", "load", 1, ""), start("b", "load", 1, "")];
    assert!(oracle::counts(queue(), &lines, 0, 2).is_ok());
    assert!(oracle::counts(queue(), &lines, 9, 1).is_err());
}

fn too_many_retries() {
    let lines = [
        start("a", "data", 1, ""),
        start("b", "retry", 1, ""),
        start("c", "retry", 1, ""),
    ];
    assert!(oracle::counts(watch("retry-queue"), &lines, 1, 0).is_ok());
    let more = [&lines[..], &[start("d", "retry", 1, "")]].concat();
    assert!(oracle::counts(watch("retry-queue"), &more, 1, 0).is_err());
    assert!(oracle::counts(queue(), &lines, 1, 0).is_err());
}

fn held() -> Held {
    Held {
        descriptors: BTreeMap::from([("pipe".to_owned(), 4), ("socket".to_owned(), 6)]),
        threads: 5,
        daemon_kib: 50_000,
        launcher_kib: 9_000,
        processes: Vec::new(),
        waiting: 2,
        temporary: Vec::new(),
        state_files: 3,
    }
}

fn leaks() {
    let base = held();
    assert!(oracle::leaks(&base, &held()).is_empty());
    let wrong = |change: fn(&mut Held)| {
        let mut now = held();
        change(&mut now);
        assert_eq!(oracle::leaks(&base, &now).len(), 1, "{now:?}");
    };
    wrong(|now| now.processes.push("12 (sleep, Z)".into()));
    wrong(|now| now.temporary.push("x".into()));
    wrong(|now| *now.descriptors.entry("memfd".into()).or_default() += 1);
    wrong(|now| *now.descriptors.entry("pipe".into()).or_default() += 40);
    wrong(|now| now.threads = 50);
    wrong(|now| now.state_files = 100);
}

fn memory() {
    assert!(oracle::memory(&held(), &held()).is_empty());
    for grow in [
        |held: &mut Held| held.daemon_kib = 200_000,
        |held: &mut Held| held.launcher_kib = 60_000,
    ] {
        let mut now = held();
        grow(&mut now);
        assert_eq!(oracle::memory(&held(), &now).len(), 1);
    }
}

fn served() {
    let base = Served {
        watches: 60,
        sessions: 7,
    };
    assert!(oracle::served(base, base).is_ok());
    assert!(oracle::served(base, Served { watches: 120, ..base }).is_err());
    assert!(oracle::served(base, Served { sessions: 10, ..base }).is_err());
}

fn late() {
    assert!(oracle::unaffected(&[], 100).is_ok());
    assert!(oracle::unaffected(&[3, 100], 100).is_ok());
    assert!(oracle::unaffected(&[3, 101, 4], 100).is_err());
}
