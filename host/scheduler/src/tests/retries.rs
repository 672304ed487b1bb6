//! Retries, as scripts. See [`super::script`] for how to read them.

use std::time::Duration;

use super::super::MachineState;
use super::rules::{mode, parallel, s};
use super::script::Script;
use twitcher_model::{OnFailure, Policy, Retry, RunMode, RunOnLoad};

/// Three retries after 1, 2 and 4 seconds.
fn retrying(policy: Policy) -> Policy {
    Policy {
        retry: Some(Retry {
            jitter: 0,
            ..Retry::default()
        }),
        ..policy
    }
}

#[test]
fn a_failed_run_is_retried_ever_later_and_then_given_up() {
    let script = Script::new(retrying(Policy::default())).play(
        "0 data 1  => start #1 load 1
         1 fail #1 => retry 1 of 3 in 1.0 s: exit code 1; timer 2",
    );
    assert_eq!(script.machine.state(), MachineState::BackingOff);
    script.play(
        "2  timer   => start #2 retry 1 attempt 2
         3  fail #2 => retry 2 of 3 in 2.0 s: exit code 1; timer 5
         5  timer   => start #3 retry 1 attempt 3
         6  fail #3 => retry 3 of 3 in 4.0 s: exit code 1; timer 10
         10 timer   => start #4 retry 1 attempt 4
         11 fail #4 => no retry, 3 failed already: exit code 1
         12 data 1
         13 data 2  => start #5 data 2",
    );
}

#[test]
fn success_ends_it() {
    Script::new(retrying(Policy::default())).play(
        "0 data 1  => start #1 load 1
         1 fail #1 => retry 1 of 3 in 1.0 s: exit code 1; timer 2
         2 timer   => start #2 retry 1 attempt 2
         3 exit #2
         4 data 2  => start #3 data 2
         5 fail #3 => retry 1 of 3 in 1.0 s: exit code 1; timer 6",
    );
}

#[test]
fn what_follows_in_the_end_is_keep_or_stop() {
    let policy = Policy {
        retry: Some(Retry {
            times: 1,
            jitter: 0,
            ..Retry::default()
        }),
        on_failure: OnFailure::Stop,
        ..Policy::default()
    };
    Script::new(policy).play(
        "0 data 1  => start #1 load 1
         1 fail #1 => retry 1 of 1 in 1.0 s: exit code 1; timer 2
         2 timer   => start #2 retry 1 attempt 2
         3 fail #2 => no retry, 1 failed already: exit code 1; park #2
         4 data 2  => pending retry dropped: there is a newer update; update queued (data): the watch is parked
         5 resume  => watch resumed; start #3 data 2",
    );
}

#[test]
fn a_newer_update_supersedes_a_pending_retry_in_every_mode_but_parallel() {
    for run_mode in [RunMode::Queue, RunMode::Discard, RunMode::Restart] {
        Script::new(retrying(mode(run_mode))).play(
            "0 data 1  => start #1 load 1
             1 fail #1 => retry 1 of 3 in 1.0 s: exit code 1; timer 2
             1.5 data 2 => pending retry dropped: there is a newer update; start #2 data 2; no timer
             3 fail #2 => retry 1 of 3 in 1.0 s: exit code 1; timer 4",
        );
    }
}

#[test]
fn an_update_that_waits_makes_a_retry_pointless() {
    Script::new(retrying(mode(RunMode::Queue))).play(
        "0 data 1  => start #1 load 1
         1 data 2  => update queued (data): the action is running
         2 fail #1 => no retry, a newer update waits: exit code 1; start #2 data 2",
    );
    Script::new(retrying(mode(RunMode::Restart))).play(
        "0 data 1  => start #1 load 1
         1 data 2  => terminate #1; update queued (data): the running action is being terminated
         2 fail #1 => start #2 data 2",
    );
    // What DISCARD ignored is no reason, for it will never run.
    Script::new(retrying(mode(RunMode::Discard))).play(
        "0 data 1  => start #1 load 1
         1 data 2  => update ignored: the action is running and run_mode is DISCARD
         2 fail #1 => retry 1 of 3 in 1.0 s: exit code 1; timer 3
         3 timer   => start #2 retry 1 attempt 2",
    );
}

#[test]
fn in_parallel_each_update_is_retried_by_itself() {
    Script::new(retrying(parallel(2))).play(
        "0 data 1    => start #1 load 1
         0 data 2    => start #2 data 2
         1 fail #2   => retry 1 of 3 in 1.0 s: exit code 1; timer 2
         1.5 fail #1 => retry 1 of 3 in 1.0 s: exit code 1
         1.6 data 3  => start #3 data 3",
    );
    Script::new(retrying(parallel(3))).play(
        "0 data 1    => start #1 load 1
         0 data 2    => start #2 data 2
         0 fail #1   => retry 1 of 3 in 1.0 s: exit code 1; timer 1
         0.5 fail #2 => retry 1 of 3 in 1.0 s: exit code 1
         0.6 data 3  => start #3 data 3
         1 timer     => start #4 retry 1 attempt 2; timer 1.5
         1.1 fail #4 => retry 2 of 3 in 2.0 s: exit code 1
         1.5 timer   => start #5 retry 2 attempt 2; timer 3.1",
    );
}

#[test]
fn retries_wait_no_longer_in_parallel_than_updates_may() {
    Script::new(retrying(parallel(1))).play(
        "0 data 1  => start #1 load 1
         1 data 2  => update queued (data): max_parallel actions are running
         2 fail #1 => retry 1 of 3 in 1.0 s: exit code 1; \
                      pending retry dropped: newer ones wait and there is no room for it; start #2 data 2",
    );
}

#[test]
fn nothing_is_retried_of_a_node_that_went_away() {
    for policy in [mode(RunMode::Queue), parallel(4)] {
        Script::new(retrying(policy.clone())).play(
            "0 data 1  => start #1 load 1
             1 fail #1 => retry 1 of 3 in 1.0 s: exit code 1; timer 2
             1.5 absent => update ignored: the node was deleted and on_delete is False; \
                           pending retry dropped: the node was deleted; no timer
             2 data 3  => start #2 created 3
             3 absent  => update ignored: the node was deleted and on_delete is False
             4 fail #2 => no retry, the node was deleted: exit code 1",
        );
    }
    let policy = Policy {
        on_delete: true,
        ..Policy::default()
    };
    Script::new(retrying(policy)).play(
        "0 data 1  => start #1 load 1
         1 fail #1 => retry 1 of 3 in 1.0 s: exit code 1; timer 2
         1.5 absent => pending retry dropped: the node was deleted; start #2 deleted; no timer
         2 fail #2 => retry 1 of 3 in 1.0 s: exit code 1; timer 3
         3 timer   => start #3 retry attempt 2",
    );
}

#[test]
fn an_empty_node_leaves_the_retry_alone() {
    let policy = Policy {
        refuse_empty: true,
        ..Policy::default()
    };
    Script::new(retrying(policy)).play(
        "0 data 1  => start #1 load 1
         1 fail #1 => retry 1 of 3 in 1.0 s: exit code 1; timer 2
         1 empty 2 => update ignored: the node is empty and refuse_empty is True
         2 timer   => start #2 retry 1 attempt 2",
    );
}

#[test]
fn a_retry_keeps_min_interval_and_neither_settles_nor_splays() {
    let policy = Policy {
        min_interval: s(10),
        settle: s(2),
        delay: s(3),
        ..Policy::default()
    };
    Script::new(retrying(policy)).play(
        "0  data 1  => update queued (load): splay, 3s more; timer 3
         3  timer   => start #1 load 1
         4  fail #1 => retry 1 of 3 in 1.0 s: exit code 1; timer 13
         13 timer   => start #2 retry 1 attempt 2
         14 fail #2 => retry 2 of 3 in 2.0 s: exit code 1; timer 23
         22 data 2  => pending retry dropped: there is a newer update; \
                       update queued (data): settle, at least 2s more; timer 27
         27 timer   => start #3 data 2",
    );
}

#[test]
fn a_component_decides_when_and_whether() {
    let policy = Policy {
        retry: Some(Retry {
            jitter: 0,
            codes: vec![7],
            ..Retry::default()
        }),
        ..Policy::default()
    };
    Script::new(policy).play(
        "0   data 1       => start #1 load 1
         1   asks #1 90   => retry 1 of 3 in 90.0 s: the component asks for a retry; timer 91
         91  timer        => start #2 retry 1 attempt 2
         92  asks #2      => retry 2 of 3 in 2.0 s: the component asks for a retry; timer 94
         94  timer        => start #3 retry 1 attempt 3
         95  fail #3      => no retry, codes does not have it: exit code 1
         100 data 2       => start #4 data 2
         101 fail #4 7    => retry 1 of 3 in 1.0 s: exit code 7; timer 102
         102 timer        => start #5 retry 2 attempt 2
         103 permanent #5 => no retry, only another state can help: the component failed for good
         104 data 3       => start #6 data 3
         105 data 4       => update queued (data): the action is running
         106 superseded #6 => start #7 data 4
         107 superseded #7 => no retry, codes does not have it: \
                              the component gave up for newer state, but there is none",
    );
    // Without a policy it is told, but has no say.
    Script::new(Policy::default()).play(
        "0 data 1    => start #1 load 1
         1 asks #1 5 => no retry, on_failure is not Retry: the component asks for a retry
         2 data 2    => start #2 data 2
         3 permanent #2",
    );
}

#[test]
fn giving_up_for_newer_state_that_there_is_not_is_a_failure() {
    Script::new(retrying(Policy::default())).play(
        "0 data 1        => start #1 load 1
         1 superseded #1 => retry 1 of 3 in 1.0 s: the component gave up for newer state, but there is none; timer 2
         2 timer         => start #2 retry 1 attempt 2
         3 absent        => update ignored: the node was deleted and on_delete is False
         4 superseded #2",
    );
}

#[test]
fn a_reload_keeps_a_pending_retry_unless_the_load_or_the_new_policy_ends_it() {
    let later = Policy {
        run_on_load: RunOnLoad::Never,
        ..retrying(Policy::default())
    };
    let failed = "0 data 1  => update ignored: run_on_load is False
                  1 data 2  => start #1 data 2
                  2 fail #1 => retry 1 of 3 in 1.0 s: exit code 1; timer 3";
    Script::new(later.clone()).play(failed).play(
        "2.5 reload => no timer
         3.5 data 2 => start #2 retry 2 attempt 2",
    );
    Script::new(later.clone())
        .play(failed)
        .policy(retrying(Policy::default()))
        .play(
            "2.5 reload => no timer
             3 data 2   => pending retry dropped: there is a newer update; start #2 load 2",
        );
    Script::new(later.clone())
        .play(failed)
        .policy(Policy {
            run_on_load: RunOnLoad::Never,
            ..Policy::default()
        })
        .play(
            "2.5 reload => pending retry dropped: on_failure is not Retry any more; no timer
             3 data 2",
        );
    Script::new(later).play(failed).play(
        "2.5 reload other => pending retry dropped: the watch looks at another node now; no timer
         3 data 9 => update ignored: run_on_load is False",
    );
}

#[test]
fn neither_a_reload_nor_a_removal_leaves_anything_to_retry() {
    Script::new(retrying(Policy::default())).play(
        "0 data 1  => start #1 load 1
         1 reload
         2 data 1  => update queued (load): the action is running
         3 fail #1 => start #2 load 1
         4 fail #2 => retry 1 of 3 in 1.0 s: exit code 1; timer 5
         4 retire  => pending retry dropped: the watch was removed, or the daemon stops; no timer",
    );
    let script = Script::new(retrying(Policy::default())).play(
        "0 data 1  => start #1 load 1
         1 retire
         2 fail #1",
    );
    assert!(script.machine.is_finished());
}

#[test]
fn parking_holds_retries_of_other_updates_back() {
    let policy = Policy {
        retry: Some(Retry {
            jitter: 0,
            codes: vec![7],
            ..Retry::default()
        }),
        on_failure: OnFailure::Stop,
        ..parallel(4)
    };
    Script::new(policy).play(
        "0 data 1    => start #1 load 1
         0 data 2    => start #2 data 2
         1 fail #1 7 => retry 1 of 3 in 1.0 s: exit code 7; timer 2
         1 fail #2   => no retry, codes does not have it: exit code 1; park #2; no timer
         5 resume    => watch resumed; start #3 retry 2; start #4 retry 1 attempt 2",
    );
}

#[test]
fn jitter_differs_from_run_to_run() {
    let policy = Policy {
        retry: Some(Retry {
            initial: s(100),
            max_delay: s(100),
            jitter: 1000,
            ..Retry::default()
        }),
        ..Policy::default()
    };
    let mut ids = super::super::RunIds::new(0);
    let [first, second] = [(); 2].map(|()| {
        let run = ids.allot();
        policy.retry.as_ref().map(|retry| retry.delay(1, ids.chance(run)))
    });
    assert_ne!(first, second);
    assert!(first.is_some_and(|delay| delay < Duration::from_secs(100)));
}
