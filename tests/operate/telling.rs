//! run-now, pause, resume, reload, drain.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::fake::{Answer, Fake, event, run as a_run, status, watch, watches};
use super::{printed, refused, run, told};

const ID: &str = "1m82xp1t00001";

#[test]
fn a_run_on_request_can_be_waited_for() {
    let fake = Fake::new(|request| match request {
        "POST /v1/watches/web-1/run" => Answer::Json(json!({"run": null, "watch": watch("web-1", "queued")})),
        "GET /v1/events?watch=web-1" => {
            let run = |id, outcome| a_run(id, outcome, "2026-07-01T03:00:00Z");
            Answer::Events(vec![
                event(1, "ended", run("1m82xp1t00000", Some("success"))),
                event(2, "started", run(ID, None)),
                event(3, "ended", run(ID, Some("exited"))),
            ])
        }
        "GET /v1/runs/1m82xp1t00001" => Answer::Json(a_run(ID, Some("exited"), "2026-07-01T03:00:00Z")),
        _ => Answer::Missing("no"),
    });
    let text = printed(&fake.socket(), &["run-now", "web-1"]);
    assert_eq!(text, "web-1: nothing started yet, it is queued\n");
    let (code, text, said) = told(&run(&fake.socket(), &["run-now", "web-1", "--wait"]));
    assert_eq!((code, &*said), (1, ""));
    assert!(
        text.starts_with("1m82xp1t00001 of web-1: exited after 500 ms") && text.ends_with("\nabc\n"),
        "{text}"
    );
    // Events first: the run might have ended before anybody listened.
    let expected = [
        "GET /v1/events?watch=web-1",
        "POST /v1/watches/web-1/run",
        "GET /v1/runs/1m82xp1t00001",
    ];
    assert_eq!(fake.asked()[1..], expected);
}

#[test]
fn several_watches_are_held_and_let_go() {
    let fake = Fake::new(|request| match request {
        "GET /v1/watches" => Answer::Json(watches()),
        "POST /v1/watches/web-1/pause" => Answer::Json(watch("web-1", "paused")),
        "POST /v1/watches/pull%20the%20repo/resume" => Answer::Json(watch("pull the repo", "running")),
        _ => Answer::Missing("no such watch"),
    });
    // The second is held although the first does not exist.
    let (code, text, said) = told(&run(&fake.socket(), &["pause", "web-9", "web-1"]));
    let socket = fake.socket().display().to_string();
    assert_eq!(
        text,
        format!("web-1: paused; `twitcher resume web-1 --control {socket}` lets it go on\n")
    );
    assert_eq!(
        (code, &*said),
        (1, "twitcher: no such watch\n  hint: did you mean \"web-1\"?\n")
    );
    assert_eq!(
        printed(&fake.socket(), &["resume", "--all"]),
        "pull the repo: running\n"
    );
}

#[test]
fn a_reload_tells_what_came_of_it() {
    let errors: [&[&str]; 2] = [&[], &["/etc/a.twc:1:1: no\u{1b}[2J\n  | x"]];
    for errors in errors {
        let body = json!({"watches": 2, "added": 1, "changed": 0, "removed": 0, "errors": errors});
        let fake = Fake::new(move |request| match request {
            "POST /v1/reload" => Answer::Json(body.clone()),
            _ => Answer::Missing("no"),
        });
        let (code, text, said) = told(&run(&fake.socket(), &["reload"]));
        assert_eq!(code, i32::from(!errors.is_empty()));
        assert!(
            text.starts_with("2 watches in force: 1 added, 0 changed, 0 removed\n"),
            "{text}"
        );
        assert_eq!(
            said,
            if errors.is_empty() {
                ""
            } else {
                "/etc/a.twc:1:1: no\\u{1b}[2J\n  | x\n"
            }
        );
    }
}

#[test]
fn a_drain_is_waited_for() {
    let polls = AtomicU32::new(0);
    let fake = Fake::new(move |request| match request {
        "POST /v1/drain" => Answer::Json(draining(2, false)),
        "GET /v1/status" => match polls.fetch_add(1, Ordering::Relaxed) {
            3 => Answer::Gone,
            2 => Answer::Json(draining(1, true)),
            _ => Answer::Json(draining(1, false)),
        },
        _ => Answer::Json(json!({"runs": [a_run(ID, None, "2026-07-01T03:00:00Z")], "before": null})),
    });
    // What runs is named, and when it is terminated, also where nobody sees the spinner.
    assert_eq!(
        printed(&fake.socket(), &["drain", "--time", "utc"]),
        "draining: 2 runs go on: web-1 (1m82xp1t00001); what still runs at 2026-07-01 03:00:30Z is terminated\n\
         the daemon has ended; its drain timeout passed, and it terminated web-1 (1m82xp1t00001)\n"
    );

    let polls = AtomicU32::new(0);
    let restarted = Fake::new(move |request| match request {
        "POST /v1/drain" => Answer::Json(status(0)),
        "GET /v1/status" if polls.fetch_add(1, Ordering::Relaxed) <= 1 => Answer::Json(status(0)),
        _ => {
            let mut next: Value = status(0);
            next["pid"] = json!(2);
            Answer::Json(next)
        }
    });
    let text = printed(&restarted.socket(), &["drain"]);
    assert_eq!(
        text,
        "the daemon has ended; another one, pid 2, has been started since\n"
    );

    let endless = Fake::new(|request| match request {
        "POST /v1/drain" | "GET /v1/status" => Answer::Json(draining(1, false)),
        _ => Answer::Json(json!({"runs": [a_run(ID, None, "2026-07-01T03:00:00Z")], "before": null})),
    });
    let (code, _, said) = told(&run(&endless.socket(), &["drain", "--timeout", "0.1", "--time", "utc"]));
    assert_eq!(
        (code, &*said),
        (
            1,
            "twitcher: draining: 1 run goes on: web-1 (1m82xp1t00001); what still runs at 2026-07-01 03:00:30Z is terminated; it goes \
             on draining\n"
        )
    );
}

fn draining(running: u64, terminating: bool) -> Value {
    let mut now = status(running);
    now["phase"] = json!("draining");
    now["drain"] = json!({"deadline": "2026-07-01T03:00:30Z", "terminating": terminating});
    now
}

#[test]
fn a_pause_says_why_and_stopping_a_watch_is_not_stopping_the_daemon() {
    let fake = Fake::new(|request| match request {
        "POST /v1/watches/web-1/pause?reason=it%27s%20broken" => Answer::Json(watch("web-1", "paused")),
        _ => Answer::Missing("no such watch"),
    });
    printed(&fake.socket(), &["pause", "web-1", "--reason", "it's broken"]);
    let socket = fake.socket().display().to_string();
    for command in ["drain", "stop"] {
        let (code, said) = refused(&fake.socket(), &[command, "web-1"]);
        assert_eq!(
            (code, said),
            (
                2,
                format!(
                    "twitcher: this stops the whole daemon, not a single watch\n  hint: `twitcher pause web-1 --control {socket}` \
                     holds that watch\n  hint: `twitcher drain --control {socket}` stops the daemon\n"
                )
            )
        );
    }
    assert_eq!(fake.asked(), ["POST /v1/watches/web-1/pause?reason=it%27s%20broken"]);
}
