//! status, history, logs, events.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::fake::{Answer, Fake, event, run as a_run, status, watch, watches};
use super::{command, printed, refused, run, told};

fn daemon() -> Fake {
    Fake::new(|request| match request {
        "GET /v1/overview" => Answer::Json(json!({"status": status(0), "watches": watches()["watches"]})),
        "GET /v1/watches" => Answer::Json(watches()),
        "GET /v1/watches/web-1" => Answer::Json(watch("web-1", "armed")),
        "GET /v1/runs?watch=web-1&limit=20" => Answer::Json(json!({"runs": [], "before": null})),
        "GET /v1/runs?watch=repo&limit=1" => Answer::Json(json!({"runs": [], "before": null})),
        _ => Answer::Missing("no such watch"),
    })
}

#[test]
fn status_shows_the_daemon_and_its_watches() {
    let fake = daemon();
    let text = printed(&fake.socket(), &["status", "--time", "utc"]);
    assert!(
        text.starts_with("twitcher 2.0.0, pid 1, started 2026-07-01 03:00:00Z: ready\n"),
        "{text}"
    );
    let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("WATCH")).collect();
    assert!(rows[1].starts_with("pull the repo  parked"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let coloured = printed(&fake.socket(), &["status", "--color", "always", "--state", "parked"]);
    assert!(
        coloured.contains("\u{1b}[") && !coloured.contains("web-1"),
        "{coloured:?}"
    );
    let one = printed(&fake.socket(), &["status", "web-1", "--time", "utc"]);
    assert!(
        one.contains("  seen     version 3, zxid 0x11, 2026-07-01 03:00:00Z\n"),
        "{one}"
    );
    let by_environment = command(Path::new("/nonexistent"), &[])
        .args(["status"])
        .output()
        .unwrap();
    assert_ne!(told(&by_environment).0, 0);
}

#[test]
fn a_znode_stands_for_its_watches_and_a_watch_for_its_newest_run() {
    let of = |name: &str, znode: &str, kind: &str| {
        let mut one = watch(name, "armed");
        one["znode"] = json!(znode);
        one["watch_type"] = json!(kind);
        one
    };
    let fake = Fake::new(move |request| match request {
        "GET /v1/watches" => Answer::Json(json!({"watches": [
            of("all", "/app", "tree"), of("one", "/app/one", "data"), of("other", "/apple", "tree"), of("lone", "/lone", "data"),
        ]})),
        "GET /v1/watches/lone" => Answer::Json(of("lone", "/lone", "data")),
        "GET /v1/watches/1234" => Answer::Json(of("1234", "/n", "data")),
        "GET /v1/runs?watch=1234&limit=1" => {
            let run = a_run("1m82xp1t00007", Some("success"), "2026-07-01T03:00:00Z");
            Answer::Json(json!({"runs": [run], "before": null}))
        }
        "GET /v1/runs/1m82xp1t00007" => Answer::Json(a_run("1m82xp1t00007", Some("success"), "2026-07-01T03:00:00Z")),
        _ => Answer::Missing("no such watch"),
    });
    let listed = |znode: &str| {
        let text = printed(&fake.socket(), &["status", znode]);
        let names = text
            .lines()
            .skip(1)
            .map(|line| line.split(' ').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(listed("/app/one"), ["all", "one"]);
    assert_eq!(listed("/app/one/"), ["all", "one"]);
    let text = printed(&fake.socket(), &["list", "/lone"]);
    assert!(text.starts_with("lone: armed\n"), "{text}");
    let (code, said) = refused(&fake.socket(), &["status", "/nothing"]);
    assert!(code == 1 && said.contains("none watches such a znode"), "{said}");
    let text = printed(&fake.socket(), &["logs", "1234"]);
    assert!(text.starts_with("1m82xp1t00007 of web-1: success"), "{text}");
}

#[test]
fn json_is_the_daemons_own() {
    let fake = daemon();
    let text = printed(&fake.socket(), &["status", "--json"]);
    // To the letter, also what this version does not know.
    assert!(text.contains(&status(0).to_string()), "{text}");
    assert_eq!(text.lines().count(), 1);
    let both: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(both["watches"], watches()["watches"]);
    let parked = printed(&fake.socket(), &["status", "--json", "--state", "parked"]);
    let parked: Value = serde_json::from_str(&parked).unwrap();
    assert_eq!(parked["watches"], json!([watch("pull the repo", "parked")]));
    let one = printed(&fake.socket(), &["status", "web-1", "--json"]);
    assert_eq!(one, format!("{}\n", watch("web-1", "armed")));
}

#[test]
fn who_errs_in_a_name_is_told_which_there_are() {
    let fake = daemon();
    let all = format!(
        "`twitcher status --all --control {}` shows all watches",
        fake.socket().display()
    );
    for (name, hint) in [
        ("repo", "did you mean \"pull the repo\"?"),
        ("web-2", "did you mean \"web-1\"?"),
        ("elephant", &all),
    ] {
        for arguments in [
            &["status", name][..],
            &["pause", name],
            &["run-now", name],
            &["events", name],
        ] {
            let (code, said) = refused(&fake.socket(), arguments);
            assert_eq!(
                (code, said),
                (1, format!("twitcher: no such watch\n  hint: {hint}\n")),
                "{arguments:?}"
            );
        }
    }
    let (code, said) = refused(&fake.socket(), &["logs", "--last", "repo"]);
    assert!(code == 1 && said.contains("did you mean \"pull the repo\"?"), "{said}");
    let text = printed(&fake.socket(), &["history", "web-1"]);
    assert_eq!(text, "no such run is remembered\n");
}

#[test]
fn without_a_daemon_there_is_advice() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none");
    for arguments in [
        &["status"][..],
        &["history"],
        &["drain"],
        &["reload"],
        &["events", "-f"],
        &["resume", "--all"],
    ] {
        let (code, said) = refused(&socket, arguments);
        assert_eq!(code, 5, "{arguments:?}");
        assert!(
            said.starts_with("twitcher: no daemon has a control socket at ") && said.contains("--control"),
            "{said}"
        );
    }
    let output = command(&socket, &[]).args(["status", "--json"]).output().unwrap();
    assert_eq!(told(&output).1, "");
}

/// 1500 runs in pages of at most 500, every third without success.
fn past() -> Fake {
    let id = |n: usize| format!("1m82xp1t{n:05}");
    Fake::new(move |request| {
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        let given = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        match path {
            "GET /v1/runs" => {
                let limit: usize = given("limit").unwrap().parse::<usize>().unwrap().min(500);
                let before = given("before").map_or(1500, |id| id[8..].parse().unwrap());
                let runs = (0..before).rev().take(limit).map(|n| {
                    let outcome = if n % 3 == 0 { "exited" } else { "success" };
                    a_run(
                        &id(n),
                        Some(outcome),
                        &format!("2026-07-01T{:02}:{:02}:00Z", n / 60 % 24, n % 60),
                    )
                });
                let runs: Vec<Value> = runs.collect();
                let oldest = before.saturating_sub(limit);
                Answer::Json(json!({"runs": runs, "before": (oldest > 0).then(|| id(oldest))}))
            }
            "GET /v1/runs/1m82xp1t01234" => Answer::Json(a_run(&id(1234), Some("exited"), "2026-07-01T03:00:00Z")),
            _ => Answer::Missing("no such run"),
        }
    })
}

#[test]
fn history_goes_back_as_far_as_is_wanted() {
    let fake = past();
    let count = |arguments: &[&str]| {
        let text = printed(&fake.socket(), &[&["history"], arguments].concat());
        text.lines().filter(|line| line.starts_with("1m82")).count()
    };
    assert_eq!(count(&[]), 20);
    assert_eq!(count(&["-n", "700"]), 700);
    assert_eq!(count(&["-n", "5000"]), 1500);
    assert_eq!(count(&["--failed", "-n", "5000"]), 500);
    assert_eq!(count(&["--failed", "-n", "30"]), 30);
    assert_eq!(count(&["--since", "2026-07-01T00:50Z", "-n", "5000"]), 10);
    let text = printed(&fake.socket(), &["history", "-n", "700", "--json"]);
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (all["runs"].as_array().unwrap().len(), &all["before"]),
        (700, &json!("1m82xp1t00800"))
    );
    assert_eq!(
        all["runs"][0],
        a_run("1m82xp1t01499", Some("success"), "2026-07-01T00:59:00Z")
    );
}

#[test]
fn a_run_is_found_by_a_part_of_its_id() {
    let fake = past();
    let text = printed(&fake.socket(), &["logs", "1234"]);
    assert!(
        text.starts_with("1m82xp1t01234 of web-1: exited after 500 ms, ") && text.ends_with("\nabc\n"),
        "{text}"
    );
    assert_eq!(printed(&fake.socket(), &["logs", "1m82xp1t01234", "--raw"]), "abc");
    let (code, said) = refused(&fake.socket(), &["logs", "99"]);
    assert!(
        code == 1 && said.contains("runs have ids that begin or end with \"99\""),
        "{said}"
    );
    let (code, said) = refused(&fake.socket(), &["logs", "zz"]);
    assert!(
        code == 1 && said.contains("`twitcher history --control /") && said.contains("` shows ids"),
        "{said}"
    );
}

#[test]
fn events_are_followed_until_the_reader_goes() {
    let fake = Fake::new(|request| match request {
        "GET /v1/events" => {
            let all = (1..=50_000).map(|seq| {
                event(
                    seq,
                    "ended",
                    a_run("1m82xp1t00001", Some("success"), "2026-07-01T03:00:00Z"),
                )
            });
            Answer::Events(all.collect())
        }
        _ => Answer::Missing("no"),
    });
    let mut follow = command(&fake.socket(), &["events", "-f", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["seq"], 1);
    // As `head` does.
    drop(lines);
    let output = follow.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));

    let few = Fake::new(|request| match request {
        "GET /v1/events" => Answer::Events(vec![event(1, "lost", Value::Null), event(2, "held", Value::Null)]),
        _ => Answer::Missing("no"),
    });
    let (code, text, said) = told(&run(&few.socket(), &["events", "--time", "utc"]));
    assert_eq!((code, &*said), (0, ""));
    assert_eq!(text, "2026-07-01 03:00:00.000  held      it \\u{1b}[2Jhappened\n");
}
