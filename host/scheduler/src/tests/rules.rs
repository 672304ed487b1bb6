//! What is run for, and the run modes, as scripts. See [`super::script`] for how to read them.

use std::time::Duration;

use super::script::Script;
use twitcher_model::{Policy, RunMode, RunOnLoad};

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
