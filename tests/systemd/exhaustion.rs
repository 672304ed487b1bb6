//! Actions that take all they can get of what the service may have, and those that leave for a session of their own.

use std::os::unix::fs::PermissionsExt as _;

use super::{APP, LOG, Stage};
use crate::support::until;

/// Timeouts are long enough that a busy machine gets to what they end.
const WATCHES: &str = r#"
RegisterWatch("/bomb", Exec(["/usr/bin/perl", "-e", """
    $SIG{TERM} = "IGNORE";
    # Without a limit of the service, this is the end.
    for (1 .. 2000) {
        my $pid = fork();
        if (!defined $pid) { open(my $full, ">", "/srv/full"); select(undef, undef, undef, 0.01) }
        elsif (!$pid) { sleep 1000; exit }
    }
"""]), name="bomb", timeout=8, kill_after=1, run_on_load=False)

RegisterWatch("/hog", Exec(["/usr/bin/perl", "-e", "my $all = 'x' x (900 << 20); print length $all"]), name="hog", run_on_load=False)

RegisterWatch("/escape", Exec("su - nobody -s /bin/sh -c /srv/deaf"), name="escape", timeout=8, kill_after=1, run_on_load=False)
"#;

/// It does not listen, works for another user, and is in a session that logind knows.
const DEAF: &str = "#!/bin/sh\ntrap '' TERM HUP INT\necho $$ >> /srv/pids\nwhile :; do sleep 0.05; done\n";

#[test]
fn actions_cannot_take_the_service_down_nor_leave_it() {
    let Some(stage) = Stage::set(&format!("{APP}{WATCHES}")) else {
        return;
    };
    stage.drop_in("TasksMax=200\nMemoryMax=600M\n");
    for znode in ["/app", "/bomb", "/hog", "/escape"] {
        stage.create(znode, "zero");
    }
    let machine = &stage.machine;
    machine.said("systemctl start twitcher");
    machine.until_last(LOG, "zero ends");
    let daemon = machine.property("MainPID");

    who_leaves_for_another_session_ends_at_the_timeout(&stage);
    let limited = |file: &str| {
        let unit = "/sys/fs/cgroup*/system.slice/twitcher.service";
        let found = machine.said(&format!("find /sys/fs/cgroup -path '{unit}/{file}'"));
        !found.is_empty()
    };
    if limited("pids.max") {
        who_takes_every_process_is_ended(&stage);
    } else {
        eprintln!("left out: no controller here holds the service to a number of tasks");
    }
    if limited("memory.max") || limited("memory.limit_in_bytes") {
        who_takes_all_memory_is_killed(&stage);
    } else {
        eprintln!("left out: no controller here holds the service to an amount of memory");
    }

    stage.runs_for("last");
    assert_eq!(machine.property("MainPID"), daemon, "it is the same daemon");
    assert_eq!(machine.number("NRestarts"), 0);
    machine.said("systemctl stop twitcher");
    assert_eq!(machine.property("Result"), "success");
}

fn until_outcome(stage: &Stage, watch: &str, outcome: &str) {
    until(&format!("{watch} {outcome}"), || {
        stage
            .machine
            .journal()
            .lines()
            .any(|line| line.contains("run ended") && line.contains(watch) && line.contains(outcome))
    });
}

fn who_leaves_for_another_session_ends_at_the_timeout(stage: &Stage) {
    let machine = &stage.machine;
    machine.write("/srv/deaf", DEAF);
    machine.write("/srv/pids", "");
    for (path, mode) in [("/srv/deaf", 0o755), ("/srv/pids", 0o666)] {
        std::fs::set_permissions(machine.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    stage.change_of("/escape", "one");
    until("it is there", || machine.lines("/srv/pids").len() == 1);
    let pid = machine.lines("/srv/pids").remove(0);
    let cgroup = machine.read(&format!("/proc/{pid}/cgroup"));
    // Else the machine lacks pam_systemd, and this proves little.
    assert!(cgroup.contains("/session-"), "{cgroup}");
    until_outcome(stage, "escape", "timed out");
    assert!(!machine.path(&format!("/proc/{pid}")).exists(), "it is still there");
}

fn who_takes_every_process_is_ended(stage: &Stage) {
    let machine = &stage.machine;
    stage.change_of("/bomb", "one");
    until("there are no more processes", || machine.path("/srv/full").exists());
    // Whatever comes now finds none, and waits.
    stage.runs_for("meanwhile");
    until_outcome(stage, "bomb", "timed out");
    stage.runs_for("after the bomb");
}

fn who_takes_all_memory_is_killed(stage: &Stage) {
    stage.change_of("/hog", "one");
    until_outcome(stage, "hog", "SIGKILL");
    stage.runs_for("after the hog");
}
