//! When a run starts, and what ends a watch: gates, failure, reload and removal, as scripts.

use super::super::MachineState;
use super::rules::{mode, parallel, s};
use super::script::Script;
use twitcher_model::{OnFailure, Policy, RunMode, RunOnLoad};

// ---- gates ----

#[test]
fn settle_waits_for_quiet_but_not_at_load() {
    let policy = Policy {
        settle: s(2),
        settle_max: s(3),
        ..Policy::default()
    };
    Script::new(policy).play(
        "0  data 1  => start #1 load 1
         1  exit #1
         10 data 2  => update queued (data): settle, at least 2s more; timer 12
         11 data 3  => update queued (data): settle, at least 2s more, replacing an older one; timer 13
         12 timer   => timer 13
         12 data 4  => update queued (data): settle, at least 1s more, replacing an older one
         13 timer   => start #2 data 4",
    );
}

#[test]
fn parallel_settles_too_but_replaces_nothing_that_has_settled() {
    let policy = Policy {
        settle: s(2),
        delay: s(5),
        run_on_load: RunOnLoad::Never,
        ..parallel(4)
    };
    Script::new(policy).play(
        "0  data 1 => update ignored: run_on_load is False
         10 data 2 => update queued (data): settle, at least 2s more; timer 17
         11 data 3 => update queued (data): settle, at least 2s more, replacing an older one; timer 18
         15 data 4 => update queued (data): settle, at least 2s more
         16 absent => update ignored: the node was deleted and on_delete is False; \
                      queued update dropped (data): the node was deleted and on_delete is False
         18 timer  => start #1 data 3",
    );
}

#[test]
fn splay_delays_every_change_and_the_load() {
    let policy = Policy {
        delay: s(5),
        ..Policy::default()
    };
    Script::new(policy).play(
        "0 data 1  => update queued (load): splay, 5s more; timer 5
         3 data 2  => update queued (load): splay, 2s more, replacing an older one
         5 timer   => start #1 load 2
         6 data 3  => update queued (data): splay, 5s more
         8 exit #1 => timer 11
         9 absent  => update ignored: the node was deleted and on_delete is False; \
                      queued update dropped (data): the node was deleted and on_delete is False; no timer",
    );
}

#[test]
fn min_interval_defers_and_never_drops() {
    let policy = |run_mode| Policy {
        min_interval: s(10),
        ..mode(run_mode)
    };
    for run_mode in [RunMode::Queue, RunMode::Discard, RunMode::Restart] {
        Script::new(policy(run_mode)).play(
            "0  data 1  => start #1 load 1
             1  exit #1
             2  data 2  => update queued (data): min_interval, 8s more; timer 10
             3  data 3  => update queued (data): min_interval, 7s more, replacing an older one
             10 timer   => start #2 data 3",
        );
    }
    Script::new(policy(RunMode::Parallel)).play(
        "0  data 1  => start #1 load 1
         2  data 2  => update queued (data): min_interval, 8s more; timer 10
         3  data 3  => update queued (data): min_interval, 7s more
         10 timer   => start #2 data 2; timer 20
         20 timer   => start #3 data 3",
    );
}

#[test]
fn restart_terminates_only_when_the_update_is_through_its_gates() {
    let policy = Policy {
        delay: s(5),
        min_interval: s(8),
        ..mode(RunMode::Restart)
    };
    Script::new(policy).play(
        "0  data 1  => update queued (load): splay, 5s more; timer 5
         5  timer   => start #1 load 1
         6  data 2  => update queued (data): splay, 5s more; timer 13
         13 timer   => terminate #1
         14 fail #1 => start #2 data 2",
    );
}

#[test]
fn a_late_timer_changes_nothing() {
    let policy = Policy {
        delay: s(5),
        ..Policy::default()
    };
    Script::new(policy).play(
        "0   data 1  => update queued (load): splay, 5s more; timer 5
         5.1 data 2  => start #1 load 1; update queued (data): splay, 5s more; no timer
         5.2 timer
         6   exit #1 => timer 10.1
         7   timer   => timer 10.1
         11  timer   => start #2 data 2",
    );
}

// ---- failure ----

#[test]
fn keep_waits_for_the_next_change() {
    Script::new(Policy::default()).play(
        "0 data 1  => start #1 load 1
         1 fail #1
         2 data 1
         3 data 2  => start #2 data 2",
    );
}

#[test]
fn stop_parks_until_resume() {
    let policy = Policy {
        on_failure: OnFailure::Stop,
        ..Policy::default()
    };
    let script = Script::new(policy.clone()).play(
        "0 data 1  => start #1 load 1
         1 data 2  => update queued (data): the action is running
         2 fail #1 => park #1
         3 data 3  => update queued (data): the watch is parked, replacing an older one",
    );
    assert_eq!(script.machine.state(), MachineState::Parked);
    script.play(
        "4 resume  => watch resumed; start #2 data 3
         5 resume
         6 fail #2 => park #2
         7 resume  => watch resumed; start #3 retry 3
         8 exit #3",
    );
    Script::new(policy).play(
        "0 data 1  => start #1 load 1
         2 fail #1 => park #1
         3 reload
         4 data 1  => pending retry dropped: there is a newer update; start #2 load 1",
    );
}

#[test]
fn a_terminated_run_is_no_failure() {
    let policy = Policy {
        on_failure: OnFailure::Stop,
        ..mode(RunMode::Restart)
    };
    Script::new(policy).play(
        "0 data 1  => start #1 load 1
         1 data 2  => terminate #1; update queued (data): the running action is being terminated
         2 fail #1 => start #2 data 2
         3 fail #2 => park #2",
    );
}

// ---- reload and removal ----

#[test]
fn a_reload_loads_again_and_owns_what_runs() {
    for run_mode in [RunMode::Queue, RunMode::Discard] {
        Script::new(mode(run_mode)).play(
            "0 data 1  => start #1 load 1
             1 reload
             2 data 1  => update queued (load): the action is running
             3 exit #1 => start #2 load 1",
        );
    }
    Script::new(mode(RunMode::Restart)).play(
        "0 data 1  => start #1 load 1
         1 reload
         2 data 1  => terminate #1; update queued (load): the running action is being terminated
         3 fail #1 => start #2 load 1",
    );
}

#[test]
fn a_change_in_the_gap_of_a_reload_is_an_update() {
    let policy = Policy {
        run_on_load: RunOnLoad::Never,
        ..Policy::default()
    };
    Script::new(policy.clone()).play(
        "0 data 1 => update ignored: run_on_load is False
         1 reload
         2 data 1
         3 reload
         4 data 2 => start #1 data 2
         5 data 3 => update queued (data): the action is running
         6 reload
         7 exit #1
         8 data 3 => start #2 data 3
         9 exit #2",
    );
    Script::new(policy).play(
        "0 data 1 => update ignored: run_on_load is False
         1 data 2 => start #1 data 2
         2 data 3 => update queued (data): the action is running
         3 reload other => queued update dropped (data): the watch looks at another node now
         4 data 9 => update ignored: run_on_load is False
         5 exit #1",
    );
}

#[test]
fn a_failure_from_before_a_reload_does_not_park() {
    let policy = Policy {
        on_failure: OnFailure::Stop,
        ..Policy::default()
    };
    Script::new(policy).play(
        "0 data 1  => start #1 load 1
         1 reload
         2 data 1  => update queued (load): the action is running
         3 fail #1 => start #2 load 1
         4 fail #2 => park #2",
    );
}

#[test]
fn a_reload_from_parallel_to_queue_waits_for_all() {
    Script::new(parallel(2))
        .play(
            "0 data 1 => start #1 load 1
             1 data 2 => start #2 data 2
             2 data 3 => update queued (data): max_parallel actions are running
             3 data 4 => update queued (data): max_parallel actions are running",
        )
        .policy(mode(RunMode::Queue))
        .play(
            "4 reload  => queued update dropped (data): newer ones wait and there is no room for it
             5 data 4  => update queued (load): the action is running, replacing an older one
             6 exit #1
             7 exit #2 => start #3 load 4",
        );
}

#[test]
fn retiring_lets_runs_end_and_starts_nothing() {
    let script = Script::new(Policy::default()).play(
        "0 data 1  => start #1 load 1
         1 data 2  => update queued (data): the action is running
         2 retire  => queued update dropped (data): the watch was removed, or the daemon stops
         3 data 3  => update ignored: the watch was removed, or the daemon stops",
    );
    assert_eq!(script.machine.state(), MachineState::Retired);
    assert!(!script.machine.is_finished());
    let script = script.play("4 exit #1");
    assert!(script.machine.is_finished());
}

#[test]
fn a_watch_that_comes_back_starts_afresh() {
    let script = Script::new(Policy::default()).play(
        "0 data 1  => start #1 load 1
         1 retire
         2 reload
         3 data 1  => update queued (load): the action is running
         4 exit #1 => start #2 load 1",
    );
    assert_eq!(script.machine.state(), MachineState::Running);
}

#[test]
fn an_exit_of_an_unknown_run_is_ignored() {
    Script::new(Policy::default()).play(
        "0 exit #9
         1 data 1  => start #1 load 1
         2 fail #9
         3 data 2  => update queued (data): the action is running
         4 exit #1 => start #2 data 2
         5 exit #1
         6 data 3  => update queued (data): the action is running",
    );
}
