//! That all who tell of a watch's state call it the same: the interface, its filter, the counts, the metrics and the table.

use super::*;
use crate::states::{STATES, WatchState};
use crate::testing::watched_in;

/// A daemon with a watch in each state.
fn stage() -> Stage {
    let watches = STATES.iter().map(|info| watched_in(info.state)).collect();
    Stage::of(ServerLimits::default(), watches)
}

#[test]
fn every_state_is_called_the_same_by_all() {
    let stage = stage();
    let status = stage.operate("GET", "/v1/status").json();
    let metrics = stage.operate("GET", "/metrics").body;
    let table = stage.operate("GET", "/v1/states").json();
    let table = table["states"].as_array().unwrap();
    assert_eq!(table.len(), STATES.len());
    for (info, row) in STATES.iter().zip(table) {
        let name = info.state.name();
        assert_eq!((&row["state"], &row["words"]), (&name.into(), &info.words.into()));
        // Each watch is named after the state that it is in.
        let found = stage.operate("GET", &format!("/v1/watches?state={name}")).json();
        let found: Vec<_> = found["watches"].as_array().unwrap().iter().collect();
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!((&found[0]["name"], &found[0]["state"]), (&name.into(), &name.into()));
        assert_eq!(
            stage.operate("GET", &format!("/v1/watches/{name}")).json()["state"],
            name
        );
        let count = serde_json::json!({"state": name, "count": 1});
        assert!(
            status["watches"].as_array().unwrap().contains(&count),
            "{name}: {status}"
        );
        let line = format!("twitcher_watches{{state=\"{name}\"}} 1");
        assert!(metrics.lines().any(|has| has == line), "{line}\n{metrics}");
    }
}

#[test]
fn states_without_a_watch_are_counted_as_none() {
    let stage = Stage::new();
    let metrics = stage.operate("GET", "/metrics").body;
    for info in STATES.iter().filter(|info| info.state != WatchState::Unread) {
        let line = format!("twitcher_watches{{state=\"{}\"}} 0", info.state.name());
        assert!(metrics.lines().any(|has| has == line), "{line}\n{metrics}");
    }
}

#[test]
fn why_has_the_failure_and_what_cannot_be_read() {
    let stage = stage();
    let why = |state: &str| {
        let watch = stage.operate("GET", &format!("/v1/watches/{state}")).json();
        watch["why"].as_str().unwrap_or_default().to_owned()
    };
    for state in ["failed", "backing_off", "parked"] {
        assert!(why(state).starts_with("exit code 3 (run "), "{state}: {}", why(state));
    }
    // What was seen last is that there was no node; but nobody knows that any more.
    assert_eq!(why("unreadable"), "no permission to read it (NoAuth)");
    let hidden = stage.operate("GET", "/v1/watches/unreadable").json();
    assert_eq!(hidden["unreadable"]["remedy"], "let it be read");
    assert!(hidden["unreadable"]["since"].is_string() && hidden["unreadable"]["next_attempt"].is_string());
}

#[test]
fn what_cannot_be_read_is_told_beside_whatever_else_a_watch_does() {
    let mut running = watched_in(WatchState::Running);
    let mut unreadable = (**watched_in(WatchState::Unreadable).unreadable.as_ref().unwrap()).clone();
    unreadable.parts = Some(2);
    running.unreadable = Some(Arc::new(unreadable));
    let stage = Stage::of(ServerLimits::default(), vec![running]);
    let watch = stage.operate("GET", "/v1/watches/running").json();
    assert_eq!(
        (&watch["state"], &watch["unreadable"]["parts"]),
        (&"running".into(), &2.into())
    );
    assert!(
        watch["why"]
            .as_str()
            .unwrap()
            .starts_with("2 parts cannot be read, the rest is watched: ")
    );
}
