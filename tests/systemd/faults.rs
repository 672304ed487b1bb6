//! What befalls a service: a journal that takes nothing, a daemon that is killed, or hangs.

use super::{APP, GO, LOG, Stage};
use crate::support::until;

/// How long the daemon may say nothing, in seconds.
const WATCHDOG: u64 = 5;

#[test]
fn the_service_survives_what_befalls_it() {
    // Each run writes enough that a journal that takes nothing is full.
    let chatty = "RegisterWatch('/app', Exec('seq 300'), name='chatty')\n";
    let Some(stage) = Stage::set(&format!("{APP}{chatty}")) else {
        return;
    };
    stage.drop_in(&format!("WatchdogSec={WATCHDOG}\nTimeoutStopSec=5\n"));
    stage.create("/app", "one");
    stage.machine.said("systemctl start twitcher");
    stage.machine.until_last(LOG, "one ends");

    a_journal_that_hangs_or_is_stopped_holds_up_nothing(&stage);
    a_daemon_that_was_killed_runs_for_the_last_state(&stage);
    a_daemon_that_hangs_is_started_again(&stage);
}

fn a_journal_that_hangs_or_is_stopped_holds_up_nothing(stage: &Stage) {
    let machine = &stage.machine;
    let daemon = machine.property("MainPID");
    let journald = "systemctl kill --kill-who=main systemd-journald --signal";
    let units = [".socket", "-dev-log.socket", "-audit.socket", ".service"];
    let units = units.map(|unit| format!("systemd-journald{unit}")).join(" ");
    for (name, take, give) in [
        ("hanging", format!("{journald}=STOP"), format!("{journald}=CONT")),
        (
            "stopped",
            format!("systemctl stop {units}"),
            format!("systemctl start {units}"),
        ),
    ] {
        machine.said(&take);
        let alive = || machine.number("WatchdogTimestampMonotonic");
        let before = alive();
        for change in 0..5 {
            stage.runs_for(&format!("{name} {change}"));
        }
        // A daemon that the log holds up would have been killed by then.
        until("the watchdog is served", || {
            alive() > before + (WATCHDOG + 1) * 1_000_000
        });
        stage.runs_for(&format!("{name} to the end"));
        machine.said(&give);
        stage.runs_for(&format!("{name} no more"));
        machine.until_told(&format!("ran for {name} no more"));
    }
    assert_eq!(machine.property("MainPID"), daemon, "it is the same daemon");
    assert_eq!(machine.number("NRestarts"), 0);
}

fn a_daemon_that_was_killed_runs_for_the_last_state(stage: &Stage) {
    let machine = &stage.machine;
    stage.runs_on_for("slow two");
    machine.said("systemctl kill --kill-who=main --signal=KILL twitcher");
    stage.change("three");
    machine.until_last(LOG, "three ends");
    assert_eq!(machine.number("NRestarts"), 1);
    // Of what ran nothing is left that could go on now.
    machine.write(GO, "");
    stage.runs_for("four");
    machine.remove(GO);
    let log = machine.read(LOG);
    assert!(
        log.ends_with("slow two begins\nthree begins\nthree ends\nfour begins\nfour ends\n"),
        "{log}"
    );
}

fn a_daemon_that_hangs_is_started_again(stage: &Stage) {
    let machine = &stage.machine;
    machine.said("systemctl kill --kill-who=main --signal=STOP twitcher");
    stage.change("five");
    until("it is started again", || machine.number("NRestarts") == 2);
    machine.until_last(LOG, "five ends");
    assert_eq!(machine.told("Watchdog timeout"), 1);
    stage.runs_for("six");
    assert!(!machine.read(LOG).contains("five ends\nfive begins"));
    until("it is up", || machine.property("ActiveState") == "active");
}
