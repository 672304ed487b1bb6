//! Programs that stay.

use std::time::Duration;

use super::super::{Admission, FoundFor, MachineState};
use super::data;
use super::script::Script;
use twitcher_model::{OnFailure, Policy, Retry, RunId, RunMode, RunOnLoad, Stamp, Version};

/// One that is up after two seconds, and is tried again after 1, 2, 4 seconds.
fn restarted() -> Policy {
    Policy {
        service: Some(Duration::from_secs(2)),
        run_mode: RunMode::Restart,
        retry: Some(Retry {
            jitter: 0,
            times: 9,
            ..Retry::default()
        }),
        ..Policy::default()
    }
}

/// The same, told by SIGHUP.
fn told() -> Policy {
    Policy {
        run_mode: RunMode::Queue,
        notify_signal: Some(1),
        ..restarted()
    }
}

fn standing(script: &Script, seconds: u64) -> (MachineState, bool, bool) {
    let standing = script.machine.standing(Duration::from_secs(seconds));
    (standing.state, standing.up, standing.behind.is_some())
}

#[test]
fn a_run_that_has_stayed_has_handled_its_state() {
    let script = Script::new(restarted()).play(
        "0 data 1 => start #1 load 1
         5 started #1 => timer 7",
    );
    assert_eq!(standing(&script, 6), (MachineState::Running, false, true), "not yet");
    let script = script.play("7 timer => up #1");
    assert_eq!(standing(&script, 7), (MachineState::Running, true, false));
    assert_eq!(script.machine.up(), Some(RunId(1)));
    assert_eq!(script.admission.running(), 0, "others have its place");
}

#[test]
fn being_replaced_is_no_failure() {
    let script = Script::new(restarted()).play(
        "0 data 1 => start #1 load 1
         0 started #1 => timer 2
         2 timer => up #1
         9 data 2 => terminate #1; update queued (data): the running action is being terminated",
    );
    assert!(script.machine.is_replaced(RunId(1)));
    let script = script.play(
        "10 exit #1 => start #2 data 2
         10 started #2 => timer 12
         11 data 3 => terminate #2; update queued (data): the running action is being terminated; no timer
         11 fail #2 => start #3 data 3",
    );
    assert_eq!(standing(&script, 11), (MachineState::Running, false, true));
}

#[test]
fn its_end_is_a_failure_whatever_it_says() {
    let script = Script::new(restarted()).play(
        "0 data 1 => start #1 load 1
         0 started #1 => timer 2
         1 exit #1 => retry 1 of 9 in 1.0 s: the service has ended
         2 timer => start #2 retry 1 attempt 2
         2 started #2 => timer 4
         3 fail #2 7 => retry 2 of 9 in 2.0 s: exit code 7; timer 5
         5 timer => start #3 retry 1 attempt 3
         5 started #3 => timer 7
         7 timer => up #3",
    );
    assert_eq!(standing(&script, 7), (MachineState::Running, true, false));
    let script = script.play("60 exit #3 => retry 1 of 9 in 1.0 s: the service has ended; timer 61");
    assert_eq!(
        standing(&script, 60),
        (MachineState::BackingOff, false, true),
        "attempts count anew, and it is behind since its end"
    );
    assert_eq!(script.machine.behind(), Some(Duration::from_secs(60)));
    // A newer change does not wait for that.
    script.play("60.5 data 2 => pending retry dropped: there is a newer update; start #4 data 2; no timer");
}

#[test]
fn without_retries_its_end_leaves_it_failed_or_parked() {
    let policy = |on_failure| Policy {
        retry: None,
        on_failure,
        ..restarted()
    };
    let up = "0 data 1 => start #1 load 1
         0 started #1 => timer 2
         2 timer => up #1";
    let script = Script::new(policy(OnFailure::Keep)).play(up).play("3 exit #1");
    assert_eq!(standing(&script, 3), (MachineState::Idle, false, true));
    let script = Script::new(policy(OnFailure::Stop))
        .play(up)
        .play("3 exit #1 => park #1");
    script.play("4 resume => watch resumed; start #2 retry 1");
}

#[test]
fn by_a_signal_it_is_told_once_it_is_up_and_the_gates_are_open() {
    let policy = Policy {
        settle: Duration::from_secs(1),
        ..told()
    };
    let script = Script::new(policy).play(
        "0 data 1 => start #1 load 1
         0 started #1 => timer 2
         1 data 2 => update queued (data): settle, at least 1s more
         2 timer => up #1; signal #1 1
         2 told #1 => timer 4",
    );
    assert_eq!(standing(&script, 3), (MachineState::Running, false, true));
    let script = script.play(
        "4 timer => up #1
         5 data 3 => update queued (data): settle, at least 1s more; timer 6
         5.5 data 4 => update queued (data): settle, at least 1s more, replacing an older one; timer 6.5
         6.5 timer => signal #1 1
         7 told #1 => timer 9
         8 exit #1 => retry 1 of 9 in 1.0 s: the service has ended
         9 timer => start #2 retry 4 attempt 2",
    );
    assert_eq!(standing(&script, 9), (MachineState::Running, false, true));
}

#[test]
fn a_telling_that_fails_is_tried_again_while_the_program_goes_on() {
    let script = Script::new(told()).play(
        "0 data 1 => start #1 load 1
         0 started #1 => timer 2
         2 timer => up #1
         3 data 2 => signal #1 1
         3 untold #1 => retry 1 of 9 in 1.0 s: the service could not be told; timer 4",
    );
    assert_eq!(standing(&script, 3), (MachineState::BackingOff, false, true));
    script.play(
        "4 timer => signal #1 1
         4 told #1 => timer 6
         6 timer => up #1",
    );
}

#[test]
fn told_of_a_node_that_came_again_it_is_started_again_when_it_ends() {
    Script::new(told()).play(
        "0 data 1 => start #1 load 1
         0 started #1 => timer 2
         2 timer => up #1
         3 absent => update ignored: the node was deleted and on_delete is False
         4 data 2 => signal #1 1
         4 told #1 => timer 6
         6 timer => up #1
         7 exit #1 => retry 1 of 9 in 1.0 s: the service has ended; timer 8
         8 timer => start #2 retry 2 attempt 2",
    );
}

#[test]
fn what_is_not_wanted_any_more_is_terminated() {
    let up = "0 data 1 => start #1 load 1
         0 started #1 => timer 2
         2 timer => up #1";
    for policy in [restarted(), told()] {
        let script = Script::new(policy.clone()).play(up).play("3 retire => terminate #1");
        assert_eq!(script.machine.state(), MachineState::Retired);
        Script::new(policy.clone()).policy(policy.clone()).play(up).play(
            "3 reload other => terminate #1
             4 absent => update ignored: the node does not exist",
        );
        // Defined anew, it is another program, whose load waits for the end of the former.
        Script::new(policy.clone()).policy(policy).play(up).play(
            "3 reload
             4 data 1 => terminate #1; update queued (load): the running action is being terminated
             5 exit #1 => start #2 load 1",
        );
    }
}

#[test]
fn the_program_of_a_killed_daemon_is_taken_over_if_it_is_for_the_very_state() {
    let version = |mzxid| {
        Some(Version::Data {
            czxid: 1,
            mzxid,
            stamp: Stamp::default(),
        })
    };
    for policy in [restarted(), told()] {
        let found = |of| {
            let mut script = Script::new(policy.clone());
            let found_for = version(of).map(FoundFor::Version);
            script.machine.adopt(RunId(77), found_for, &mut script.admission);
            script
        };
        let script = found(1).play("0 data 1 => up #77 found; update ignored: the service runs for it already");
        assert_eq!(standing(&script, 0), (MachineState::Running, true, false));
        assert_eq!(script.admission.running(), 0);
        script.play("1 exit #77 => retry 1 of 9 in 1.0 s: the service has ended; timer 2");
        found(1).play(
            "0 data 2 => terminate #77; update queued (load): the running action is being terminated
             1 exit #77 => start #1 load 2",
        );
    }
}

#[test]
fn other_data_of_the_same_transactions_is_another_state() {
    let found = |of: &'static str| {
        let mut script = Script::new(told());
        let found_for = FoundFor::State(twitcher_model::Position::of(&data(1, 1, of)).fingerprint());
        script.machine.adopt(RunId(77), Some(found_for), &mut script.admission);
        script
    };
    found("1").play("0 data 1 => up #77 found; update ignored: the service runs for it already");
    found("other").play(
        "0 data 1 => terminate #77; update queued (load): the running action is being terminated
         1 exit #77 => start #1 load 1",
    );
    // So is one that was started as the watch was defined before.
    let mut script = Script::new(restarted());
    script.machine.adopt(RunId(77), None, &mut script.admission);
    script.play("0 data 1 => terminate #77; update queued (load): the running action is being terminated");
}

#[test]
fn if_changed_starts_it_all_the_same() {
    let policy = Policy {
        run_on_load: RunOnLoad::IfChanged,
        ..restarted()
    };
    let mut script = Script::new(policy);
    let done = twitcher_model::Position::of(&data(1, 1, "1")).fingerprint();
    script.machine.restore(Some(done), false);
    script.play("0 data 1 => start #1 load 1");
}

#[test]
fn others_of_its_group_run_once_it_is_up() {
    let policy = Policy {
        group: Some("g".into()),
        ..restarted()
    };
    let mut script = Script::new(policy);
    script.admission = Admission::new(1);
    let script = script.play(
        "0 data 1 => start #1 load 1
         0 started #1 => timer 2
         2 timer => up #1",
    );
    let mut admission = script.admission;
    assert_eq!(admission.ask(twitcher_model::WatchId(2), &Some("g".into())), Ok(()));
}
