//! What the port shows: no text that a configuration, an action or an operator brought along, by whatever route.

use std::io::{BufRead as _, BufReader};
use std::time::Instant;

use super::*;
use crate::Occurrence;
use crate::api::EventKind;
use crate::facts::LastRunFacts;
use crate::testing::{watch, watched_in};
use crate::{Shown, api::WatchState};
use twitcher_model::{Action, Outcome, ProcessSettings, RunEnd, Unreadable};
use twitcher_state::Paused;

/// What must not be told.
const SECRET: &str = "hunter2";
const HERE: &str = "host: localhost\r\n";

/// Watches in every state, with the secret wherever somebody could have put it.
fn secretive() -> Vec<WatchFacts> {
    let states = crate::api::STATES.iter().map(|info| info.state);
    let told = |state: WatchState| {
        let mut facts = watched_in(state);
        let secret = || SECRET.to_owned();
        let mut process = ProcessSettings::default();
        process.env.push((secret(), secret()));
        facts.watch = Arc::new(twitcher_model::Watch {
            description: SECRET.into(),
            action: Action::Shell(format!("mysql -p{SECRET}").into()),
            process: Arc::new(process),
            ..watch(state.name())
        });
        facts.parked = facts.parked.map(|_| secret());
        facts.paused = Some(Box::new(Paused {
            at: SystemTime::UNIX_EPOCH,
            by: Some(secret()),
            reason: Some(secret()),
        }));
        facts.last_run = Some(LastRunFacts {
            run: RUNNING,
            ended: SystemTime::UNIX_EPOCH,
            outcome: "failed",
            failure: Some(SECRET.into()),
        });
        if let Some(unreadable) = &facts.unreadable {
            facts.unreadable = Some(Arc::new(Unreadable {
                remedy: secret(),
                ..Unreadable::clone(unreadable)
            }));
        }
        facts
    };
    states.map(told).collect()
}

fn events(stage: &Stage) {
    for (kind, state, outcome) in [
        (EventKind::Ended, WatchState::Failed, Some(SECRET)),
        (EventKind::Held, WatchState::Paused, None),
    ] {
        let outcome = outcome.map(|text| Outcome::LaunchFailed {
            step: format!("run {text}"),
            errno: 2,
        });
        stage.events.happened(Occurrence {
            kind,
            message: format!("it was {SECRET}"),
            watch: secretive().into_iter().find(|facts| &*facts.watch.name == state.name()),
            run: outcome.map(|outcome| RunFacts {
                end: Some(RunEnd {
                    outcome: Some(outcome),
                    at: SystemTime::UNIX_EPOCH,
                    elapsed: Duration::from_secs(1),
                    max_rss_kib: 1,
                    output_bytes: 1,
                    log_ended: false,
                }),
                ..running()
            }),
        });
    }
}

/// The data of the first two events.
fn told(stream: impl std::io::Read + std::io::Write) -> Vec<Value> {
    let mut stream = stream;
    write!(stream, "GET /v1/events HTTP/1.1\r\n{HERE}last-event-id: 0\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let data = lines.filter_map(|line| Some(serde_json::from_str(line.strip_prefix("data: ")?).unwrap()));
    data.take(2).collect()
}

#[test]
fn the_port_shows_no_text_of_others() {
    let stage = Stage::of(ServerLimits::default(), secretive());
    events(&stage);
    let names: Vec<String> = secretive().iter().map(|facts| facts.watch.name.to_string()).collect();
    let mut paths: Vec<String> = names.iter().map(|name| format!("/v1/watches/{name}")).collect();
    for path in [
        "/",
        "/metrics",
        "/readyz",
        "/v1/status",
        "/v1/overview",
        "/v1/states",
        "/v1/runs",
        "/v1/fleet",
        "/v1/fleet/laggards",
        "/v1/fleet/rollouts",
        "/v1/fleet/rollouts/repo",
        "/v1/openapi.json",
    ] {
        paths.push(path.to_owned());
    }
    paths.push("/v1/watches".to_owned());
    paths.push("/v1/watches?state=failed".to_owned());
    paths.push(format!("/v1/runs/{RUNNING}"));
    let mut secrets = 0;
    for path in &paths {
        let told = stage.browse("GET", path, HERE);
        assert!(
            !told.body.contains(SECRET) && !told.body.contains("so far"),
            "{path}: {}",
            told.body
        );
        secrets += usize::from(stage.operate("GET", path).body.contains(SECRET));
    }
    // The test would prove nothing if the socket did not show it.
    assert!(secrets > names.len(), "{secrets}");
    assert_eq!(
        stage
            .browse("GET", &format!("/v1/watches?search={SECRET}"), HERE)
            .json()["watches"],
        serde_json::json!([]),
        "nor can it be guessed"
    );

    let outline = told(stage.browser());
    assert!(
        !Value::from(outline.clone()).to_string().contains(SECRET),
        "{outline:?}"
    );
    assert_eq!(
        (&outline[0]["message"], &outline[1]["message"]),
        (&"run ended: could not be started".into(), &"watch paused".into())
    );
    assert_eq!(outline[0]["run"]["outcome"], "launch_failed");
    assert!(told(stage.operator())[0]["message"] == format!("it was {SECRET}"));
}

#[test]
fn the_port_shows_names_states_times_and_counts_and_says_what_is_missing() {
    let stage = Stage::of(ServerLimits::default(), secretive());
    let failed = stage.browse("GET", "/v1/watches/failed", HERE).json();
    assert_eq!(
        (&failed["name"], &failed["znode"], &failed["state"], &failed["action"]),
        (&"failed".into(), &"/failed".into(), &"failed".into(), &"shell".into())
    );
    assert_eq!(failed["why"], format!("failed (run {RUNNING})"));
    assert_eq!(
        (&failed["command"], &failed["settings"], &failed["withheld"]),
        (&"".into(), &serde_json::json!([]), &true.into())
    );
    let run = stage.browse("GET", &format!("/v1/runs/{RUNNING}"), HERE).json();
    assert_eq!((&run["output"], &run["withheld"]), (&"".into(), &true.into()));
    assert_eq!((&run["pid"], &run["attempt"]), (&77.into(), &2.into()));
    let status = stage.browse("GET", "/v1/status", HERE).json();
    assert_eq!(status["withheld"], true);
    assert_eq!(
        status["config"]["errors"].as_array().unwrap().len(),
        1,
        "how many there are is a count"
    );
    assert_eq!(
        (&status["fleet"]["host"], &status["fleet"]["unpublished"]),
        (&"web-1".into(), &2.into())
    );
    let fleet = stage.browse("GET", "/v1/fleet", HERE).json();
    assert_eq!(fleet["hosts"][0]["name"], "web-2");
    for problem in [&status["fleet"]["problem"], &fleet["hosts"][0]["problem"]] {
        assert!(problem.as_str().unwrap().contains("on the host") || problem.as_str().unwrap().contains("on a host"));
    }
    let paused = stage.browse("GET", "/v1/watches/paused", HERE).json();
    assert_eq!(paused["why"], "an operator paused it");
    assert!(paused["paused"]["since"].is_string(), "{paused}");
}

#[test]
fn with_details_the_port_shows_what_the_socket_does() {
    let stage = Stage::showing(ServerLimits::default(), secretive(), Shown::Everything);
    for path in [
        "/v1/watches/paused",
        "/v1/status",
        "/v1/overview",
        "/v1/fleet",
        "/v1/fleet/rollouts",
        "/v1/watches",
        &format!("/v1/runs/{RUNNING}"),
    ] {
        assert_eq!(
            stage.browse("GET", path, HERE).body,
            stage.operate("GET", path).body,
            "{path}"
        );
    }
}

#[test]
fn viewers_of_a_fleet_are_no_herd() {
    let stage = Stage::new();
    let begun = Instant::now();
    for _ in 0..50 {
        for path in [
            "/v1/fleet/rollouts",
            "/v1/fleet/rollouts/repo",
            "/v1/fleet?watches=false&max_age=2",
        ] {
            assert_eq!(stage.browse("GET", path, HERE).status, 200);
        }
    }
    // Of each kind one in two seconds.
    let periods = begun.elapsed().as_secs() / 2 + 1;
    let read = stage.surveys.load(Ordering::Relaxed);
    assert!(read <= 2 * periods, "{read} in {periods} periods");
    // Operators see what is so now, and may say that something older will do.
    stage.operate("GET", "/v1/fleet/rollouts");
    stage.operate("GET", "/v1/fleet/rollouts/repo");
    let with_operators = stage.surveys.load(Ordering::Relaxed);
    assert!(with_operators >= read + 2);
    for _ in 0..10 {
        stage.operate("GET", "/v1/fleet/rollouts?max_age=60");
        stage.operate("GET", "/v1/fleet/rollouts/repo?max_age=60");
    }
    assert_eq!(stage.surveys.load(Ordering::Relaxed), with_operators);
    let refused = stage.operate("GET", "/v1/fleet?max_age=61");
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (400, "max_age is from 0 to 60")
    );
    let halted = stage.browse("GET", "/v1/fleet/rollouts/repo", HERE).json();
    assert_eq!(halted["why"], "`twitcher fleet status` on a host says why");
}
