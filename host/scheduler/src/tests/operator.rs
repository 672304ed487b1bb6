//! What operators do: pausing, resuming, running at will; and what they are told.

use std::time::Duration;

use super::script::Script;
use crate::{MachineState, Wait};
use twitcher_model::{OnFailure, Policy, RunMode, RunOnLoad};

fn mode(run_mode: RunMode) -> Policy {
    Policy {
        run_mode,
        ..Policy::default()
    }
}

#[test]
fn updates_wait_and_coalesce_while_paused() {
    Script::new(mode(RunMode::Queue)).play(
        "0 data 1   => start #1 load 1
         1 pause    => watch paused
         1 pause    =>
         2 data 2   => update queued (data): the watch is paused
         3 exit #1  =>
         4 data 3   => update queued (data): the watch is paused, replacing an older one
         5 unpark   =>
         6 resume   => watch resumed; start #2 data 3
         6 resume   =>",
    );
}

#[test]
fn a_paused_watch_stays_so_over_a_reload_but_not_over_its_removal() {
    let script = Script::new(mode(RunMode::Queue)).play(
        "0 pause    => watch paused
         1 data 1   => update queued (load): the watch is paused
         2 reload   =>
         3 data 1   => update queued (load): the watch is paused, replacing an older one",
    );
    assert_eq!(script.machine.state(), MachineState::Paused);
    let script = script.play(
        "4 retire   => queued update dropped (load): the watch was removed, or the daemon stops
         5 pause    =>
         6 reload   =>
         7 data 1   => start #1 load 1",
    );
    assert_eq!(script.machine.state(), MachineState::Running);
}

#[test]
fn restart_terminates_nothing_while_paused() {
    Script::new(mode(RunMode::Restart)).play(
        "0 data 1   => start #1 load 1
         1 pause    => watch paused
         2 data 2   => update queued (data): the watch is paused
         3 resume   => watch resumed; terminate #1
         4 exit #1  => start #2 data 2",
    );
}

#[test]
fn a_retry_waits_while_paused() {
    let policy = Policy {
        retry: Some(twitcher_model::Retry {
            jitter: 0,
            ..Default::default()
        }),
        ..Policy::default()
    };
    Script::new(policy).play(
        "0 data 1   => start #1 load 1
         1 pause    => watch paused
         2 fail #1  => retry 1 of 3 in 1.0 s: exit code 1
         9 resume   => watch resumed; start #2 retry 1 attempt 2",
    );
}

#[test]
fn resume_ends_parking_and_pausing_at_once_and_unpark_only_parking() {
    let policy = Policy {
        on_failure: OnFailure::Stop,
        ..Policy::default()
    };
    let script = Script::new(policy).play(
        "0 data 1   => start #1 load 1
         1 pause    => watch paused
         2 fail #1  => park #1
         3 data 2   => pending retry dropped: there is a newer update; update queued (data): the watch is parked
         4 unpark   => watch resumed
         5 resume   => watch resumed; start #2 data 2
         6 fail #2  => park #2
         7 pause    => watch paused
         8 data 3   => pending retry dropped: there is a newer update; update queued (data): the watch is parked
         9 resume   => watch resumed; start #3 data 3",
    );
    assert_eq!(script.machine.state(), MachineState::Running);
}

#[test]
fn a_run_on_request_that_is_taken_back_does_not_happen() {
    Script::new(mode(RunMode::Queue)).play(
        "0 data 1    => start #1 load 1
         1 exit #1   =>
         2 run-now   =>
         3 forgo-run =>
         4 data 1    =>
         5 data 2    => start #2 data 2",
    );
}

#[test]
fn a_parked_watch_that_goes_on_runs_for_what_failed_unless_that_is_withdrawn() {
    let policy = |run_mode| Policy {
        run_mode,
        max_parallel: 2,
        run_on_load: RunOnLoad::Never,
        on_failure: OnFailure::Stop,
        ..Policy::default()
    };
    for run_mode in [RunMode::Queue, RunMode::Discard, RunMode::Restart, RunMode::Parallel] {
        Script::new(policy(run_mode)).play(
            "0 data 1   => update ignored: run_on_load is False
             1 data 2   => start #1 data 2
             2 fail #1  => park #1
             3 resume   => watch resumed; start #2 retry 2
             4 fail #2  => park #2
             5 unpark   => watch resumed; start #3 retry 2
             6 fail #3  => park #3
             7 absent   => update ignored: the node was deleted and on_delete is False; pending retry dropped: the node was deleted
             8 resume   => watch resumed",
        );
    }
    // In PARALLEL each has a run of its own; what has had none goes first where there is no room for all.
    Script::new(policy(RunMode::Parallel)).play(
        "0 absent   => update ignored: the node does not exist
         1 data 1   => start #1 created 1
         2 data 2   => start #2 data 2
         3 fail #1  => park #1
         4 fail #2  =>
         5 data 3   => pending retry dropped: newer ones wait and there is no room for it; update queued (data): the watch is parked
         6 resume   => watch resumed; start #3 retry 2; start #4 data 3",
    );
}

#[test]
fn a_run_on_request_is_for_what_the_node_is_now_and_follows_the_run_mode() {
    Script::new(mode(RunMode::Queue)).play(
        "0 data 1   => start #1 load 1
         1 exit #1  =>
         2 run-now  =>
         3 data 1   => start #2 manual 1
         4 run-now  =>
         5 data 1   => update queued (manual): the action is running
         6 data 2   => update queued (data): the action is running, replacing an older one
         7 exit #2  => start #3 data 2
         8 data 2   =>",
    );
    Script::new(mode(RunMode::Discard)).play(
        "0 data 1   => start #1 load 1
         1 run-now  =>
         2 data 1   => update ignored: the action is running and run_mode is DISCARD
         3 exit #1  =>
         4 run-now  =>
         5 data 1   => start #2 manual 1",
    );
    Script::new(mode(RunMode::Restart)).play(
        "0 data 1   => start #1 load 1
         1 run-now  =>
         2 data 1   => terminate #1; update queued (manual): the running action is being terminated
         3 exit #1  => start #2 manual 1",
    );
    Script::new(mode(RunMode::Parallel)).play(
        "0 data 1   => start #1 load 1
         1 run-now  =>
         2 data 1   => start #2 manual 1",
    );
}

#[test]
fn a_run_on_request_needs_a_node() {
    let script = Script::new(mode(RunMode::Queue)).play(
        "0 absent   => update ignored: the node does not exist
         1 run-now  =>
         2 absent   => update ignored: the node does not exist
         3 data 1   => start #1 created 1
         4 exit #1  =>
         5 run-now  =>
         6 absent   => update ignored: the node was deleted and on_delete is False",
    );
    assert_eq!(script.machine.state(), MachineState::Idle);
    let on_delete = Policy {
        on_delete: true,
        ..Policy::default()
    };
    Script::new(on_delete).play(
        "0 absent   => update ignored: the node does not exist
         1 run-now  =>
         2 absent   => start #1 manual
         3 exit #1  =>
         4 absent   =>
         5 data 1   => start #2 created 1
         6 exit #2  =>
         7 run-now  =>
         8 absent   => start #3 deleted",
    );
    let refusing = Policy {
        refuse_empty: true,
        ..Policy::default()
    };
    let script = Script::new(refusing).play(
        "0 empty 1  => update ignored: the node is empty and refuse_empty is True
         1 run-now  =>
         2 empty 1  => update ignored: the node is empty and refuse_empty is True",
    );
    assert!(script.machine.standing(Duration::from_secs(3)).empty);
    let script = script.play("3 data 2   => start #1 load 2");
    assert!(!script.machine.standing(Duration::from_secs(3)).empty);
}

#[test]
fn a_run_on_request_passes_settle_and_splay_by_but_not_min_interval() {
    let policy = Policy {
        settle: Duration::from_secs(5),
        delay: Duration::from_secs(7),
        min_interval: Duration::from_secs(10),
        run_on_load: twitcher_model::RunOnLoad::Never,
        ..Policy::default()
    };
    let script = Script::new(policy).play(
        "0 data 1   => update ignored: run_on_load is False
         1 data 2   => update queued (data): settle, at least 5s more; timer 13
         2 run-now  =>
         2 data 2   => start #1 manual 2; no timer
         3 exit #1  =>
         4 run-now  =>
         4 data 2   => update queued (manual): min_interval, 8s more; timer 12",
    );
    let standing = script.machine.standing(Duration::from_secs(5));
    assert_eq!(standing.wait, Some(Wait::MinInterval(Duration::from_secs(7))));
    assert_eq!(standing.next, Some(Duration::from_secs(12)));
}

#[test]
fn a_load_that_is_due_is_the_run_asked_for() {
    Script::new(mode(RunMode::Queue)).play(
        "0 run-now  =>
         1 data 1   => start #1 load 1
         2 exit #1  =>
         3 data 1   =>",
    );
}

#[test]
fn how_far_behind() {
    let behind = |script: &Script| script.machine.behind().map(|since| since.as_secs());
    let script = Script::new(mode(RunMode::Queue)).play("1 data 1   => start #1 load 1");
    assert_eq!(behind(&script), Some(1));
    let script = script.play("2 data 2   => update queued (data): the action is running");
    let script = script.play("3 data 3   => update queued (data): the action is running, replacing an older one");
    let script = script.play("4 exit #1  => start #2 data 3");
    assert_eq!(behind(&script), Some(2), "since the first that has not been run for");
    let script = script.play("5 fail #2  =>");
    assert_eq!(behind(&script), Some(2), "a failure is no success");
    let script = script.play("6 absent   => update ignored: the node was deleted and on_delete is False");
    assert_eq!(behind(&script), None, "nothing is to be run for");
    let script = script.play("7 data 4   => start #3 created 4");
    let script = script.play("8 exit #3  =>");
    assert_eq!(behind(&script), None);
    let script = script.play("9 run-now  =>").play("9 data 4   => start #4 manual 4");
    assert_eq!(behind(&script), None, "nothing has changed");
    let script = script
        .play("10 fail #4  =>")
        .play("11 run-now  =>")
        .play("12 data 5   => start #5 manual 5");
    assert_eq!(behind(&script), Some(12), "a change that is found this way is one");
}
