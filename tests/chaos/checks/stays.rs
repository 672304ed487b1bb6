//! Of the judges of what actions are told as JSON, of programs that stay, and of daemons that follow each other: for each rule a journal that
//! keeps it, and one that breaks it.

use serde_json::{Value, json};

use super::Check;
use crate::journal::{Line, Start};
use crate::lives::{self, Life};
use crate::oracle::{self, Below, Final};
use crate::payload;
use crate::services::{self, Instance};
use crate::watches::{Watch, watch};

pub const CHECKS: &[Check] = &[
    (
        "a document that does not show all of a subtree is found",
        tree_not_shown,
    ),
    (
        "a document that does not show each of several znodes is found",
        several_not_shown,
    ),
    ("what is said wrongly to have changed is found", miscounted),
    ("a document that counts from the wrong run is found", wrong_since),
    (
        "what a program that stays is told to have changed adds up",
        told_miscounted,
    ),
    (
        "documents in the wrong order, or twice for one change, are found",
        out_of_order,
    ),
    ("a program that stays and does not run, or twice, is found", not_one),
    ("a program that stays and has older data is found", old_data),
    ("a program that was replaced needlessly after a kill is found", replaced),
    ("a run that IF_CHANGED was to leave out is found", reran),
];

/// A document with these nodes: path, czxid, mzxid, data.
fn document(since: Option<&str>, nodes: &[(&str, i64, i64, &str)], changed: Value) -> String {
    let node = |(path, czxid, mzxid, data): &(&str, i64, i64, &str)| {
        let stat = json!({"czxid": czxid, "mzxid": mzxid, "version": 0});
        ((*path).to_owned(), json!({"stat": stat, "data": data}))
    };
    let nodes: serde_json::Map<String, Value> = nodes.iter().map(node).collect();
    json!({"znode": "/chaos/payload-queue", "stat": null, "since": since, "nodes": nodes, "changed": changed})
        .to_string()
}

/// One of several znodes: path, mzxid and data if it exists, whether it has changed.
type Shown<'a> = (&'a str, Option<(i64, &'a str)>, bool);

/// A document of several znodes.
fn several(znodes: &[Shown<'_>]) -> String {
    let znode = |(path, state, has_changed): &Shown<'_>| {
        let stat = state.map(|(mzxid, _)| json!({"czxid": 1, "mzxid": mzxid, "version": 0}));
        json!({"znode": path, "stat": stat, "data": state.map(|(_, data)| data), "has_changed": has_changed})
    };
    let znodes: Vec<Value> = znodes.iter().map(znode).collect();
    json!({"znode": "/x", "stat": null, "since": null, "znodes": znodes}).to_string()
}

fn began(run: &str, parent: i32, event: &str, stdin: &str) -> Line {
    Line::Start(Start {
        at: 1000,
        run: run.to_owned(),
        pid: 7,
        parent,
        event: event.to_owned(),
        attempt: 1,
        mzxid: 1,
        revision: "1".to_owned(),
        stdin: stdin.to_owned(),
    })
}

fn ended(run: &str) -> Line {
    let run = run.to_owned();
    Line::End { at: 2000, run }
}

fn failed(run: &str) -> Line {
    let run = run.to_owned();
    Line::Failed { at: 2000, run }
}

fn told(run: &str, data: &str) -> Line {
    let (run, data) = (run.to_owned(), data.to_owned());
    Line::Told { at: 2000, run, data }
}

fn queue() -> &'static Watch {
    watch("payload-queue")
}

fn tree_not_shown() {
    let below = |path: &str, mzxid, data: &str| Below {
        path: path.to_owned(),
        since: 900,
        mzxid,
        data: data.to_owned(),
    };
    let state = Final::Tree(vec![below("/a", 2, "x"), below("/a/b", 3, "y")]);
    let acted = |nodes: &[(&str, i64, i64, &str)]| {
        let lines = [began("r", 6, "tree", &document(None, nodes, json!({})))];
        oracle::acted(queue(), &state, &lines, false)
    };
    // The znode's path is that of the watch.
    let shown = |nodes: &[(&str, i64, i64, &str)]| acted(nodes).is_ok();
    assert!(shown(&[("/a", 1, 2, "x"), ("/a/b", 1, 3, "y")]));
    assert!(!shown(&[("/a", 1, 2, "x")]), "one is missing");
    assert!(!shown(&[("/a", 1, 2, "x"), ("/a/b", 1, 3, "z")]), "other data");
    assert!(!shown(&[("/a", 1, 2, "x"), ("/a/b", 1, 2, "y")]), "an older one");
    assert!(
        !shown(&[("/a", 1, 2, "x"), ("/a/b", 1, 3, "y"), ("/a/c", 1, 3, "y")]),
        "one that is gone"
    );
    assert!(oracle::acted(queue(), &state, &[], false).is_err());
    assert!(oracle::acted(queue(), &Final::Absent, &[], false).is_ok());
    let last_is_old = [
        began(
            "r",
            6,
            "tree",
            &document(None, &[("/a", 1, 2, "x"), ("/a/b", 1, 3, "y")], json!({})),
        ),
        began("s", 6, "tree", &document(None, &[("/a", 1, 2, "x")], json!({}))),
    ];
    assert!(oracle::acted(queue(), &state, &last_is_old, false).is_err());
}

fn several_not_shown() {
    let watch = watch("several-queue");
    let data = |mzxid, data: &str| Final::Data {
        mzxid,
        data: data.to_owned(),
    };
    let state = Final::Several(vec![
        ("/a".to_owned(), data(2, "x")),
        ("/b".to_owned(), Final::Absent),
        ("/c".to_owned(), data(3, "y")),
    ]);
    let shown =
        |znodes: &[Shown<'_>]| oracle::acted(watch, &state, &[began("r", 6, "data", &several(znodes))], false).is_ok();
    let all = [
        ("/a", Some((2, "x")), true),
        ("/b", None, false),
        ("/c", Some((3, "y")), true),
    ];
    assert!(shown(&all));
    assert!(!shown(&all[..2]), "one is left out");
    assert!(
        !shown(&[all[0], ("/b", Some((1, "z")), true), all[2]]),
        "one that is gone"
    );
    assert!(!shown(&[all[0], all[1], ("/c", Some((2, "y")), true)]), "an older one");
    assert!(!shown(&[all[1], all[0], all[2]]), "in another order");
    let gone = Final::Several(vec![("/a".to_owned(), Final::Absent), ("/b".to_owned(), Final::Absent)]);
    assert!(oracle::acted(watch, &gone, &[], false).is_ok());
}

fn miscounted() {
    let first = document(
        None,
        &[("/a", 1, 2, "x"), ("/a/b", 1, 3, "y")],
        json!({"/a": "created", "/a/b": "created"}),
    );
    let wrong = |nodes: &[(&str, i64, i64, &str)], changed: Value| {
        let second = document(Some("r"), nodes, changed);
        let lines = [
            began("r", 6, "load", &first),
            ended("r"),
            began("s", 6, "tree", &second),
        ];
        payload::adds_up(queue(), &lines).len()
    };
    let nodes = [("/a", 1, 4, "z"), ("/a/c", 5, 5, "")];
    assert_eq!(
        wrong(&nodes, json!({"/a": "set", "/a/b": "deleted", "/a/c": "created"})),
        0
    );
    assert_eq!(
        wrong(&nodes, json!({"/a": "set", "/a/c": "created"})),
        1,
        "one is left out"
    );
    assert_eq!(wrong(&nodes, json!({"/a": "set", "/a/b": "set", "/a/c": "created"})), 1);
    assert_eq!(
        wrong(&[("/a", 1, 2, "x"), ("/a/b", 1, 3, "y")], json!({"/a": "set"})),
        1,
        "it has not"
    );
    // As after servers were wiped: the same transactions.
    assert_eq!(wrong(&[("/a", 1, 2, "other"), ("/a/b", 1, 3, "y")], json!({})), 1);
    let unsaid = document(None, &[("/a", 1, 2, "x")], json!({}));
    assert_eq!(
        payload::adds_up(queue(), &[began("r", 6, "load", &unsaid)]).len(),
        1,
        "all is new"
    );
    assert_eq!(payload::adds_up(queue(), &[began("r", 6, "load", "{")]).len(), 1);

    let watch = watch("several-queue");
    let twice = |has_changed| {
        let old = several(&[("/a", Some((2, "x")), true), ("/b", None, true)]);
        let new = several(&[("/a", Some((3, "y")), has_changed), ("/b", None, false)]);
        let new = new.replace("\"since\":null", "\"since\":\"r\"");
        payload::adds_up(
            watch,
            &[began("r", 6, "load", &old), ended("r"), began("s", 6, "data", &new)],
        )
        .len()
    };
    assert_eq!((twice(true), twice(false)), (0, 1));
}

fn wrong_since() {
    let all = json!({"/a": "created"});
    let from = |since: Option<&str>, changed: Value| document(since, &[("/a", 1, 2, "x")], changed);
    let wrong = |before: &[Line], since: Option<&str>, parent: i32| {
        let changed = if since.is_some() { json!({}) } else { all.clone() };
        let lines = [before, &[began("z", parent, "tree", &from(since, changed))]].concat();
        payload::adds_up(queue(), &lines).len()
    };
    let one = [began("r", 6, "load", &from(None, all.clone())), ended("r")];
    assert_eq!(wrong(&one, Some("r"), 6), 0);
    assert_eq!(wrong(&one, None, 8), 0, "another daemon");
    assert_eq!(wrong(&one, None, 6), 1, "one has succeeded");
    assert_eq!(wrong(&one, Some("r"), 8), 1, "of another daemon");
    assert_eq!(wrong(&one, Some("q"), 6), 1, "which never was");
    let lines = |run: &str| {
        let first = began("1m8cvsrcx0095", 6, "load", &from(None, all.clone()));
        let second = began(run, 1, "tree", &from(Some("1m8cvsrcx0095"), json!({})));
        [first, ended("1m8cvsrcx0095"), second]
    };
    assert_eq!(
        payload::adds_up(queue(), &lines("1m8cvsrcx00a3")).len(),
        0,
        "its daemon was killed"
    );
    assert_eq!(payload::adds_up(queue(), &lines("1m8cwwt8000a3")).len(), 1);
    let bad = [began("r", 6, "load", &from(None, all.clone())), failed("r"), ended("r")];
    assert_eq!((wrong(&bad, None, 6), wrong(&bad, Some("r"), 6)), (0, 1), "it failed");
    let killed = [began("r", 6, "load", &from(None, all.clone()))];
    assert_eq!(
        (wrong(&killed, None, 6), wrong(&killed, Some("r"), 6)),
        (0, 1),
        "it never ended"
    );
    let two = [
        &one[..],
        &[began("s", 6, "tree", &from(Some("r"), json!({}))), ended("s")],
    ]
    .concat();
    assert_eq!(
        (wrong(&two, Some("s"), 6), wrong(&two, Some("r"), 6)),
        (0, 1),
        "a later one succeeded"
    );
}

fn told_miscounted() {
    let watch = watch("service-several");
    let state = |since: Option<&str>, mzxid, has_changed| {
        let text = several(&[("/a", Some((mzxid, "x")), has_changed)]);
        let since = since.map_or("null".to_owned(), |run| format!("{run:?}"));
        text.replace("\"since\":null", &format!("\"since\":{since}"))
    };
    let first = began("r", 6, "load", &state(None, 1, true));
    let wrong = |lines: &[Line]| payload::told_adds_up(watch, &[std::slice::from_ref(&first), lines].concat()).len();
    assert_eq!(wrong(&[told("r", &state(Some("r"), 2, true))]), 0);
    assert_eq!(wrong(&[told("r", &state(Some("r"), 2, false))]), 1);
    let second = told("r", &state(Some("r"), 2, true));
    assert_eq!(wrong(&[second.clone(), told("r", &state(Some("r"), 2, false))]), 0);
    // It counts from what the program was told first.
    assert_eq!(wrong(&[second, told("r", &state(Some("r"), 2, true))]), 1);
    assert_eq!(
        wrong(&[told("r", &state(None, 2, true))]),
        0,
        "a daemon that has found it"
    );
}

fn out_of_order() {
    let line = |run: &str, parent, event: &str, mzxid, data: &str| {
        began(run, parent, event, &several(&[("/a", Some((mzxid, data)), true)]))
    };
    let watch = watch("several-queue");
    let wrong = |lines: &[Line], anew: &[(u64, u64)]| payload::out_of_order(watch, lines, anew).len();
    assert_eq!(
        wrong(&[line("a", 6, "data", 1, "x"), line("b", 6, "data", 2, "y")], &[]),
        0
    );
    let back = [line("a", 6, "data", 2, "y"), line("b", 6, "data", 1, "x")];
    assert_eq!((wrong(&back, &[]), wrong(&back, &[(1000, 1000)])), (1, 0));
    assert_eq!(
        wrong(&[line("a", 6, "data", 2, "y"), line("b", 8, "load", 1, "x")], &[]),
        0
    );
    assert_eq!(
        wrong(&[line("a", 6, "data", 2, "y"), line("b", 6, "data", 2, "y")], &[]),
        1,
        "twice"
    );
    assert_eq!(
        wrong(&[line("a", 6, "load", 2, "y"), line("b", 6, "load", 2, "y")], &[]),
        0
    );
}

fn lives(run: &str, pid: i32) -> Instance {
    Instance {
        watch: "service-restart".to_owned(),
        run: run.to_owned(),
        pid,
    }
}

fn one(data: &str) -> Final {
    Final::Data {
        mzxid: 1,
        data: data.to_owned(),
    }
}

fn not_one() {
    let watch = watch("service-restart");
    let lines = [began("r", 6, "load", "x")];
    let lacking =
        |state: &Final, instances: &[Instance]| services::lacking(watch, state, &lines, Some("x"), instances).len();
    assert_eq!(lacking(&one("x"), &[lives("r", 7)]), 0);
    assert_eq!(lacking(&one("x"), &[]), 1, "there is none");
    assert_eq!(lacking(&one("x"), &[lives("r", 7), lives("s", 8)]), 1, "there are two");
    assert_eq!(lacking(&one("x"), &[lives("q", 5)]), 1, "one that is not the last");
    assert_eq!(
        (lacking(&Final::Absent, &[]), lacking(&Final::Absent, &[lives("r", 7)])),
        (0, 0)
    );
    assert_eq!(lacking(&Final::Absent, &[lives("r", 7), lives("s", 8)]), 1);
}

fn old_data() {
    let watch = watch("service-restart");
    let lacking =
        |lines: &[Line], file: Option<&str>| services::lacking(watch, &one("y"), lines, file, &[lives("r", 7)]).len();
    assert_eq!(lacking(&[began("r", 6, "load", "y")], Some("y")), 0);
    assert_eq!(lacking(&[began("r", 6, "load", "x"), told("r", "y")], Some("y")), 0);
    assert_eq!(lacking(&[began("r", 6, "load", "x")], Some("y")), 1, "it was not told");
    assert_eq!(lacking(&[began("r", 6, "load", "y"), told("r", "x")], Some("y")), 1);
    assert_eq!(
        lacking(&[began("r", 6, "load", "y")], Some("x")),
        1,
        "what is in its file is old"
    );
    assert_eq!(lacking(&[began("r", 6, "load", "y")], None), 1, "it has no file");
}

fn life(pid: i32, ended: u64, killed: bool) -> Life {
    Life { pid, ended, killed }
}

fn replaced() {
    let found = |between: &[Life], lines: &[Line]| lives::replaced(watch("service-told"), lines, between).len();
    let again = [began("r", 1, "load", "x"), began("s", 2, "load", "x")];
    assert_eq!(found(&[life(1, 9000, true)], &again), 1);
    assert_eq!(found(&[life(1, 9000, false)], &again), 0, "the daemon had stopped");
    let of_third = [began("r", 1, "load", "x"), began("s", 3, "load", "x")];
    assert_eq!(found(&[life(1, 9000, true), life(2, 9500, true)], &of_third), 1);
    assert_eq!(found(&[life(1, 9000, true), life(2, 9500, false)], &of_third), 0);
    let newer = [began("r", 1, "load", "x"), began("s", 2, "load", "y")];
    assert_eq!(found(&[life(1, 9000, true)], &newer), 0);
    let since = [began("r", 1, "load", "x"), told("r", "y"), began("s", 2, "load", "y")];
    assert_eq!(found(&[life(1, 9000, true)], &since), 1, "it had been told of that");
    assert_eq!(
        found(&[life(1, 1500, true)], &since),
        0,
        "so late that nobody else knows"
    );
    let by_itself = [began("r", 1, "load", "x"), ended("r"), began("s", 2, "load", "x")];
    assert_eq!(found(&[life(1, 9000, true)], &by_itself), 0);
}

fn reran() {
    let watch = watch("several-changed");
    let state = |mzxid| several(&[("/a", Some((mzxid, "x")), true)]);
    let late = |stdin: &str| match began("s", 2, "load", stdin) {
        Line::Start(start) => Line::Start(Start { at: 9500, ..start }),
        other => other,
    };
    let found = |lines: &[Line], ended: u64, disturbed: &[(u64, u64)]| {
        lives::reran(watch, lines, &[life(1, ended, true)], disturbed).len()
    };
    let again = [began("r", 1, "data", &state(1)), ended("r"), late(&state(1))];
    assert_eq!(found(&again, 9000, &[]), 1);
    assert_eq!(found(&again, 3000, &[]), 0, "perhaps it was not written down yet");
    assert_eq!(found(&again, 9000, &[(1500, 2500)]), 0, "the disk was full");
    assert_eq!(found(&again, 9000, &[(500, 900)]), 1, "before that");
    let newer = [began("r", 1, "data", &state(1)), ended("r"), late(&state(2))];
    assert_eq!(found(&newer, 9000, &[]), 0);
    let bad = [
        began("r", 1, "data", &state(1)),
        failed("r"),
        ended("r"),
        late(&state(1)),
    ];
    assert_eq!(found(&bad, 9000, &[]), 0);
    let always = crate::watches::watch("several-queue");
    assert_eq!(lives::reran(always, &again, &[life(1, 9000, true)], &[]).len(), 0);
}
