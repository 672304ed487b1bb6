//! What a component says of a failure, and what the daemon makes of it.

use super::{message, said, watch};
use crate::support::daemon::{Daemon, Site};
use crate::support::guests::guest;

/// The guest that fails, as configured, under this `on_failure`.
fn failing(config: &str, on_failure: &str) -> (Site, Daemon) {
    let site = Site::new();
    let config = format!("config={{{config}}}");
    watch(&site, &guest("fails"), &config, &format!("on_failure={on_failure}"));
    site.set("/x", "1");
    let daemon = site.start();
    (site, daemon)
}

#[test]
fn a_component_that_asks_for_retries_gets_them_when_it_asks_for_them() {
    // Neither the hour nor the codes apply to what it asks for itself.
    let on_failure = "Retry(times=5, initial=3600, max_delay=3600, codes=[9])";
    let (_site, daemon) = failing("'failure': 'retry', 'after': '20', 'until': '3'", on_failure);
    let runs = daemon.wait_runs("w", 3);
    assert_eq!(runs[2]["outcome"], "success");
    for attempt in [
        "attempt 1, EventKind::Load",
        "attempt 2, EventKind::Retry",
        "attempt 3, EventKind::Retry",
    ] {
        said(&daemon, attempt);
    }
    said(&daemon, "retry 2 of 5 in 20 ms: the component asks for a retry");
    assert_eq!(daemon.count(|line| message(line).contains("in 20 ms")), 2);
}

#[test]
fn a_component_that_failed_for_good_is_not_retried() {
    let (_site, daemon) = failing("'failure': 'permanent'", "Retry(times=5, initial=0, then=STOP)");
    said(
        &daemon,
        "no retry, only another state can help: the component failed for good",
    );
    said(&daemon, "watch parked");
    assert_eq!(daemon.wait_runs("w", 1).len(), 1);
}

#[test]
fn without_retry_it_is_told_that_there_is_none() {
    let (site, daemon) = failing("'failure': 'retry', 'after': '1'", "KEEP");
    said(
        &daemon,
        "no retry, on_failure is not Retry: the component asks for a retry",
    );
    site.set("/x", "2");
    assert_eq!(daemon.wait_runs("w", 2).len(), 2, "one run for each state");
}

#[test]
fn giving_up_for_newer_state_that_there_is_not_is_a_failure() {
    let (_site, daemon) = failing("'failure': 'superseded', 'until': '2'", "Retry(initial=0)");
    assert_eq!(daemon.wait_runs("w", 2)[1]["outcome"], "success");
    said(&daemon, "there is none");
}
