//! What the last daemon knew and left behind: states that were succeeded for, parked watches, runs that still go on.

use super::super::{Admission, FoundFor, Machine, MachineState};
use super::data;
use super::script::Script;
use twitcher_model::{Fingerprint, Observation, Policy, Position, RunId, RunMode, RunOnLoad, Stamp, Version};

fn of(observation: &Observation) -> Fingerprint {
    Position::of(observation).fingerprint()
}

/// The state that scripts call `data N`.
fn version(mzxid: i64) -> Option<Version> {
    Some(Version::Data {
        czxid: 1,
        mzxid,
        stamp: Stamp::default(),
    })
}

fn script(policy: Policy, restore: impl FnOnce(&mut Machine, &mut Admission)) -> Script {
    let mut script = Script::new(policy);
    restore(&mut script.machine, &mut script.admission);
    script
}

fn if_changed() -> Policy {
    Policy {
        run_on_load: RunOnLoad::IfChanged,
        ..Policy::default()
    }
}

#[test]
fn if_changed_runs_at_load_unless_that_very_state_was_succeeded_for() {
    script(if_changed(), |_, _| {}).play("0 data 1 => start #1 load 1");
    let done = of(&data(1, 1, "1"));
    script(if_changed(), |machine, _| machine.restore(Some(done), false)).play(
        "0 data 1 => update ignored: it has not changed since the last success and run_on_load is IF_CHANGED
         1 data 1
         2 data 2 => start #1 data 2",
    );
    script(if_changed(), |machine, _| machine.restore(Some(done), false)).play("0 data 2 => start #1 load 2");
    // An ensemble that was made anew, and arrived at the same numbers.
    let before = of(&data(1, 1, "other"));
    script(if_changed(), |machine, _| machine.restore(Some(before), false)).play("0 data 1 => start #1 load 1");
}

#[test]
fn a_reload_under_if_changed_runs_what_has_not_succeeded() {
    let mut script = Script::new(if_changed()).policy(if_changed()).play(
        "0 data 1 => start #1 load 1
         1 fail #1
         2 reload
         3 data 1 => start #2 load 1",
    );
    script.machine.succeeded(of(&data(1, 1, "1")), Some(1));
    script.play(
        "4 exit #2
         5 reload
         6 data 1
         7 reload
         8 data 2 => start #3 load 2",
    );
}

#[test]
fn a_node_that_went_away_unseen_is_deleted_at_load() {
    let policy = |on_delete, run_on_load| Policy {
        on_delete,
        run_on_load,
        ..Policy::default()
    };
    let (present, absent) = (of(&data(1, 1, "1")), of(&Observation::absent()));
    for (policy, done, expected) in [
        (policy(true, RunOnLoad::Always), Some(present), "start #1 deleted"),
        (policy(true, RunOnLoad::IfChanged), Some(present), "start #1 deleted"),
        (
            policy(true, RunOnLoad::Never),
            Some(present),
            "update ignored: the node does not exist",
        ),
        (
            policy(false, RunOnLoad::Always),
            Some(present),
            "update ignored: the node does not exist",
        ),
        (
            policy(true, RunOnLoad::Always),
            Some(absent),
            "update ignored: the node does not exist",
        ),
        (
            policy(true, RunOnLoad::Always),
            None,
            "update ignored: the node does not exist",
        ),
    ] {
        script(policy, |machine, _| machine.restore(done, false)).play(&format!("0 absent => {expected}"));
    }
}

#[test]
fn a_parked_watch_stays_parked() {
    script(Policy::default(), |machine, _| machine.restore(None, true))
        .play(
            "0 data 1 => update queued (load): the watch is parked
             1 resume => watch resumed; start #1 load 1",
        )
        .play("2 exit #1");
    // What was parked was not handled, also if what a load finds is not run for otherwise.
    let never = || Policy {
        run_on_load: RunOnLoad::Never,
        ..Policy::default()
    };
    script(never(), |machine, _| machine.restore(None, true)).play(
        "0 data 1 => update queued (load): the watch is parked
         1 resume => watch resumed; start #1 load 1",
    );
    let done = of(&data(1, 1, "1"));
    script(never(), |machine, _| machine.restore(Some(done), true))
        .play("0 data 1 => update ignored: run_on_load is False");
}

#[test]
fn a_found_run_is_waited_for() {
    for run_mode in [RunMode::Queue, RunMode::Discard] {
        let policy = Policy {
            run_mode,
            ..Policy::default()
        };
        script(policy, |machine, admission| {
            machine.adopt(RunId(99), version(1).map(FoundFor::Version), admission)
        })
        .play(
            "0 data 1 => update queued (load): the action is running
             1 data 2 => update queued (load): the action is running, replacing an older one
             2 fail #99 => start #1 load 2",
        );
    }
}

#[test]
fn parallel_counts_found_runs() {
    let policy = Policy {
        run_mode: RunMode::Parallel,
        max_parallel: 2,
        ..Policy::default()
    };
    script(policy, |machine, admission| machine.adopt(RunId(99), None, admission)).play(
        "0 data 1 => start #1 load 1
         1 data 2 => update queued (data): max_parallel actions are running
         2 fail #99 => start #2 data 2",
    );
}

#[test]
fn restart_terminates_a_found_run_only_for_another_state() {
    let policy = || Policy {
        run_mode: RunMode::Restart,
        ..Policy::default()
    };
    script(policy(), |machine, admission| {
        machine.adopt(RunId(99), version(1).map(FoundFor::Version), admission)
    })
    .play(
        "0 data 1 => update queued (load): the action is running
         1 data 2 => terminate #99; update queued (load): the running action is being terminated, replacing an older one
         2 fail #99 => start #1 load 2",
    );
    script(policy(), |machine, admission| {
        machine.adopt(RunId(99), version(1).map(FoundFor::Version), admission)
    })
    .play(
        "0 data 1 => update queued (load): the action is running
         1 fail #99 => start #1 load 1",
    );
    script(policy(), |machine, admission| machine.adopt(RunId(99), None, admission)).play(
        "0 data 1 => terminate #99; update queued (load): the running action is being terminated
         1 fail #99 => start #1 load 1",
    );
}

#[test]
fn changes_during_a_found_run_are_not_lost_without_run_on_load() {
    let policy = Policy {
        run_on_load: RunOnLoad::Never,
        ..Policy::default()
    };
    let script = script(policy, |machine, admission| machine.adopt(RunId(99), None, admission)).play(
        "0 data 1 => update ignored: run_on_load is False
         1 data 2 => update queued (data): the action is running
         2 fail #99 => start #1 data 2",
    );
    assert_eq!(script.machine.state(), MachineState::Running);
}
