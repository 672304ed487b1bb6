//! What is run for, and the run modes, as scripts. See [`super::script`] for how to read them.

use std::time::Duration;

use super::data;
use super::script::Script;
use twitcher_model::{Policy, Position, RunMode, RunOnLoad, Share};

pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn mode(run_mode: RunMode) -> Policy {
    Policy {
        run_mode,
        ..Policy::default()
    }
}

pub fn parallel(max_parallel: u32) -> Policy {
    Policy {
        max_parallel,
        ..mode(RunMode::Parallel)
    }
}

// ---- what is run for ----

#[test]
fn load_runs_for_a_node_that_exists() {
    Script::new(Policy::default()).play(
        "0 data 1 => start #1 load 1
         1 exit #1
         2 data 2 => start #2 data 2",
    );
}

#[test]
fn load_of_an_absent_node_arms_the_watch() {
    Script::new(Policy::default()).play(
        "0 absent => update ignored: the node does not exist
         1 data 1 => start #1 created 1",
    );
}

#[test]
fn without_run_on_load_the_state_at_load_counts_as_seen() {
    let policy = Policy {
        run_on_load: RunOnLoad::Never,
        ..Policy::default()
    };
    Script::new(policy).play(
        "0 data 1 => update ignored: run_on_load is False
         1 data 1
         2 data 2 => start #1 data 2",
    );
}

#[test]
fn the_same_version_again_is_no_update() {
    for run_mode in [RunMode::Queue, RunMode::Discard, RunMode::Parallel, RunMode::Restart] {
        Script::new(mode(run_mode)).play(
            "0 data 1 => start #1 load 1
             1 data 1
             2 exit #1
             3 data 1",
        );
    }
}

#[test]
fn a_smaller_version_is_an_update_too() {
    // A server that lost its data counts from the beginning again.
    Script::new(Policy::default()).play(
        "0 data 9 => start #1 load 9
         1 exit #1
         2 data 2 => start #2 data 2",
    );
}

#[test]
fn events_follow_the_watch_type() {
    Script::new(Policy::default()).play(
        "0 kids 1 a   => start #1 load a
         1 exit #1
         2 kids 2 a b => start #2 children a b",
    );
    Script::new(Policy::default()).play(
        "0 tree 1 /a => start #1 load /a
         1 exit #1
         2 tree 2 /b => start #2 tree /b",
    );
}

#[test]
fn delete_and_recreate_seen_as_one_is_created() {
    Script::new(Policy::default()).play(
        "0 data 1.1 => start #1 load 1.1
         1 exit #1
         2 data 5.5 => start #2 created 5.5",
    );
}

#[test]
fn deletion_is_run_for_only_with_on_delete() {
    Script::new(Policy::default()).play(
        "0 data 1 => start #1 load 1
         1 exit #1
         2 absent => update ignored: the node was deleted and on_delete is False
         3 data 1 => start #2 created 1",
    );
    let policy = Policy {
        on_delete: true,
        ..Policy::default()
    };
    Script::new(policy).play(
        "0 absent => update ignored: the node does not exist
         1 data 1 => start #1 created 1
         2 exit #1
         3 absent => start #2 deleted
         4 data 1 => update queued (created): the action is running
         5 exit #2 => start #3 created 1",
    );
}

#[test]
fn what_waits_is_dropped_with_the_node() {
    Script::new(Policy::default()).play(
        "0 data 1 => start #1 load 1
         1 data 2 => update queued (data): the action is running
         2 absent => update ignored: the node was deleted and on_delete is False; \
                     queued update dropped (data): the node was deleted and on_delete is False
         3 exit #1",
    );
    Script::new(parallel(1)).play(
        "0 data 1 => start #1 load 1
         1 data 2 => update queued (data): max_parallel actions are running
         2 absent => update ignored: the node was deleted and on_delete is False
         3 exit #1 => start #2 data 2",
    );
}

#[test]
fn an_empty_node_is_not_ready() {
    let policy = Policy {
        refuse_empty: true,
        ..Policy::default()
    };
    Script::new(policy.clone()).play(
        "0 absent  => update ignored: the node does not exist
         1 empty 1 => update ignored: the node is empty and refuse_empty is True
         2 data 2  => start #1 created 2
         3 data 3  => update queued (data): the action is running
         4 empty 4 => update ignored: the node is empty and refuse_empty is True
         5 exit #1 => start #2 data 3",
    );
    Script::new(policy.clone()).play(
        "0 empty 1 => update ignored: the node is empty and refuse_empty is True
         1 data 2  => start #1 load 2",
    );
    Script::new(policy.clone()).play("0 kids 1 => update ignored: the node is empty and refuse_empty is True");
    Script::new(policy).play("0 tree 1 => start #1 load");
    Script::new(Policy::default()).play("0 empty 1 => start #1 load");
}

/// A run succeeds for so much.
fn success(script: &mut Script, size: u32) {
    script
        .machine
        .succeeded(Position::of(&data(1, 1, "")).fingerprint(), Some(size));
}

#[test]
fn a_node_that_shrank_too_much_is_refused_until_somebody_accepts_it() {
    let policy = || Policy {
        refuse_shrink: Some(Share(500)),
        ..Policy::default()
    };
    let mut script = Script::new(policy()).play("0 kids 1 a b c d => start #1 load a b c d");
    success(&mut script, 4);
    let mut script = script.play(
        "1 exit #1
         2 kids 2 a b => start #2 children a b
         3 kids 3 a => update ignored: the node shrank from 4 to 1 children since the last success and refuse_shrink is 0.5
         4 exit #2",
    );
    let shrunk = |script: &Script| {
        script
            .machine
            .standing(Duration::from_secs(9))
            .shrunk
            .map(|shrunk| shrunk.now)
    };
    assert_eq!(shrunk(&script), Some(1));
    success(&mut script, 2);
    let mut script = script.play(
        "5 kids 4 => update ignored: the node shrank from 2 to 0 children since the last success and refuse_shrink is 0.5
         6 run-now
         7 kids 4 => start #3 manual
         8 exit #3",
    );
    assert_eq!(shrunk(&script), None, "it was accepted");
    success(&mut script, 0);
    script.play(
        "9 kids 5 a b c d => start #4 children a b c d
         10 absent => update ignored: the node was deleted and on_delete is False",
    );
    // Of a subtree the nodes count; what the last daemon succeeded for is what is compared with, also at a load.
    let mut script = Script::new(policy());
    script.machine.restore_size(Some(5));
    script.play(
        "0 tree 1 /a /a/b => update ignored: the node shrank from 5 to 2 znodes since the last success and refuse_shrink is 0.5
         1 tree 2 /a /a/b /a/c => start #1 load /a /a/b /a/c",
    );
}

#[test]
fn what_shrank_takes_nothing_from_an_update_that_waits() {
    let policy = Policy {
        refuse_shrink: Some(Share(0)),
        ..Policy::default()
    };
    let mut script = Script::new(policy.clone())
        .policy(policy)
        .play("0 data 10 => start #1 load 10");
    success(&mut script, 2);
    script.play(
        "1 data 11 => update queued (data): the action is running
         2 data 1 => update ignored: the node shrank from 2 to 1 bytes since the last success and refuse_shrink is 0
         3 exit #1 => start #2 data 11
         4 exit #2
         5 reload other
         6 data 1 => start #3 load 1",
    );
}

// ---- run modes ----

#[test]
fn queue_remembers_only_the_newest() {
    Script::new(mode(RunMode::Queue)).play(
        "0 data 1  => start #1 load 1
         1 data 2  => update queued (data): the action is running
         2 data 3  => update queued (data): the action is running, replacing an older one
         3 exit #1 => start #2 data 3
         4 exit #2",
    );
}

#[test]
fn queue_signals_at_every_update() {
    let policy = Policy {
        notify_signal: Some(10),
        ..Policy::default()
    };
    Script::new(policy).play(
        "0 data 1  => start #1 load 1
         1 data 2  => signal #1 10; update queued (data): the action is running
         2 data 2
         3 data 3  => signal #1 10; update queued (data): the action is running, replacing an older one
         4 exit #1 => start #2 data 3
         5 data 4  => signal #2 10; update queued (data): the action is running",
    );
}

#[test]
fn discard_ignores_for_good() {
    Script::new(mode(RunMode::Discard)).play(
        "0 data 1  => start #1 load 1
         1 data 2  => update ignored: the action is running and run_mode is DISCARD
         2 exit #1
         3 data 2
         4 data 3  => start #2 data 3",
    );
}

#[test]
fn parallel_runs_every_update_up_to_its_cap() {
    Script::new(parallel(2)).play(
        "0 data 1  => start #1 load 1
         1 data 2  => start #2 data 2
         2 data 3  => update queued (data): max_parallel actions are running
         3 data 4  => update queued (data): max_parallel actions are running
         4 data 5  => queued update dropped (data): newer ones wait and there is no room for it; \
                      update queued (data): max_parallel actions are running
         5 exit #2 => start #3 data 4
         6 exit #1 => start #4 data 5
         7 exit #3
         8 exit #4",
    );
    Script::new(parallel(0)).play("0 data 1  => start #1 load 1");
}

#[test]
fn restart_terminates_once_and_runs_the_newest() {
    Script::new(mode(RunMode::Restart)).play(
        "0 data 1  => start #1 load 1
         1 data 2  => terminate #1; update queued (data): the running action is being terminated
         2 data 3  => update queued (data): the running action is being terminated, replacing an older one
         3 fail #1 => start #2 data 3
         4 data 4  => terminate #2; update queued (data): the running action is being terminated",
    );
}

// ---- changed paths ----

#[test]
fn a_replaced_tree_update_hands_on_its_paths() {
    Script::new(mode(RunMode::Queue)).play(
        "0 tree 1 /a    => start #1 load /a
         1 tree 2 /c /d => update queued (tree): the action is running
         2 tree 3 /b /d => update queued (tree): the action is running, replacing an older one
         3 exit #1      => start #2 tree /b /c /d",
    );
    Script::new(parallel(1)).play(
        "0 tree 1 /a => start #1 load /a
         1 tree 2 /b => update queued (tree): max_parallel actions are running
         2 tree 3 /c => queued update dropped (tree): newer ones wait and there is no room for it; \
                        update queued (tree): max_parallel actions are running
         3 exit #1   => start #2 tree /b /c",
    );
}

#[test]
fn so_does_a_terminated_run() {
    Script::new(mode(RunMode::Restart)).play(
        "0 tree 1 /a => start #1 load /a
         1 tree 2 /b => terminate #1; update queued (tree): the running action is being terminated
         2 tree 3 /c => update queued (tree): the running action is being terminated, replacing an older one
         3 fail #1   => start #2 tree /a /b /c
         4 exit #2
         5 tree 4 /d => start #3 tree /d",
    );
}
