//! A service's life in order: installed, started, reloaded, upgraded, stopped, purged.

use std::time::{Duration, Instant};

use super::{APP, CONFIG, GO, LOG, Stage};
use crate::package::successor;
use crate::support::until;

#[test]
fn the_service_lives_as_services_do() {
    let Some(stage) = Stage::set(APP) else { return };
    let machine = &stage.machine;
    assert_eq!(
        machine.property("ActiveState"),
        "inactive",
        "started without being asked"
    );
    assert_eq!(
        machine.property("UnitFileState"),
        "disabled",
        "enabled without being asked"
    );
    stage.create("/app", "one");

    it_has_started_once_every_watch_is_armed(&stage);
    it_and_its_runs_have_cgroups_of_their_own(&stage);
    a_reload_takes_over_what_is_good_and_refuses_what_is_bad(&stage);
    an_upgrade_loses_nothing_and_does_nothing_twice(&stage);
    a_stop_lets_actions_end(&stage);
    a_purge_leaves_nothing(&stage);
}

fn it_has_started_once_every_watch_is_armed(stage: &Stage) {
    let machine = &stage.machine;
    stage.proxy.rules(|rules| rules.refuse = true);
    let start = machine.begin("systemctl enable --now twitcher");
    machine.until_told("no ZooKeeper session");
    assert_eq!(machine.property("ActiveState"), "activating");
    stage.proxy.rules(|rules| rules.refuse = false);
    start.done();
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.told("all watches are armed"), 1, "ready before it was");
    machine.until_last(LOG, "one ends");
    stage.runs_for("two");
}

fn it_and_its_runs_have_cgroups_of_their_own(stage: &Stage) {
    let machine = &stage.machine;
    stage.runs_on_for("slow three");
    let unified = |pid: &str| {
        let cgroups = machine.said(&format!("cat /proc/{pid}/cgroup"));
        let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
        unified.unwrap().to_owned()
    };
    let unit = machine.property("ControlGroup");
    let daemon = machine.property("MainPID");
    assert_eq!(unified(&daemon), format!("{unit}/daemon"));
    let run = machine.said("pgrep --oldest --full 'begins.*>> /srv/log'");
    let run = unified(run.trim());
    assert!(run.starts_with(&format!("{unit}/runs/run-")), "{run}");
    machine.write(GO, "");
    machine.until_last(LOG, "slow three ends");
    machine.remove(GO);
}

fn a_reload_takes_over_what_is_good_and_refuses_what_is_bad(stage: &Stage) {
    let machine = &stage.machine;
    let loaded = || machine.told("configuration loaded");
    let daemon = machine.property("MainPID");
    // It does read the configuration, also one that nobody edited.
    let before = loaded();
    machine.said("systemctl reload twitcher");
    until("it is loaded again", || loaded() > before);

    machine.write(
        CONFIG,
        &format!("{APP}\nRegisterWatch('/app', Exec('cat > /srv/more'), name='more')\n"),
    );
    machine.said("systemctl reload twitcher");
    until("the new watch has run", || machine.read("/srv/more") == "slow three");

    machine.write(
        "/etc/twitcher/bad.twc",
        "RegisterWatch('/app', Exec('true'), name='bad', tiemout=1)\n",
    );
    machine.said("systemctl reload twitcher");
    until("it says what is bad", || {
        machine
            .journal()
            .lines()
            .any(|line| line.contains("bad.twc") && line.contains("tiemout"))
    });
    stage.runs_for("four");
    until("the other watch has run too", || machine.read("/srv/more") == "four");
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.property("MainPID"), daemon, "it is the same daemon");
    machine.remove("/etc/twitcher/bad.twc");
    machine.write(CONFIG, APP);
    machine.said("systemctl reload twitcher");
}

fn an_upgrade_loses_nothing_and_does_nothing_twice(stage: &Stage) {
    let machine = &stage.machine;
    let dir = tempfile::tempdir().unwrap();
    let second = successor(dir.path());
    let daemon = machine.property("MainPID");
    stage.runs_on_for("slow five");
    let upgrade = machine.install(&second);
    // Of the old daemon, which waits for the run and sees no change any more.
    machine.until_told("stopping");
    stage.change("six");
    machine.write(GO, "");
    upgrade.done();
    machine.until_last(LOG, "six ends");
    machine.remove(GO);
    assert_eq!(machine.property("ActiveState"), "active");
    assert_ne!(machine.property("MainPID"), daemon, "the new version does not run");
    assert!(machine.said("dpkg-query --show twitcher").trim().ends_with("-2"));
    stage.runs_for("seven");
    let expected = ["one", "two", "slow three", "four", "slow five", "six", "seven"];
    let expected = expected.map(|data| format!("{data} begins\n{data} ends\n")).concat();
    assert_eq!(machine.read(LOG), expected);
}

fn a_stop_lets_actions_end(stage: &Stage) {
    let machine = &stage.machine;
    stage.runs_on_for("slow eight");
    let start = Instant::now();
    let stop = machine.begin("systemctl stop twitcher");
    until("it stops", || machine.property("ActiveState") == "deactivating");
    machine.write(GO, "");
    stop.done();
    machine.remove(GO);
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "it did not wait for the run, but for its deadline"
    );
    machine.until_last(LOG, "slow eight ends");
    assert_eq!(machine.property("ActiveState"), "inactive");
    assert_eq!(machine.property("Result"), "success");
    assert_eq!(
        machine.said("find /sys/fs/cgroup -name '*twitcher*'"),
        "",
        "cgroups are left"
    );
}

fn a_purge_leaves_nothing(stage: &Stage) {
    let machine = &stage.machine;
    machine.said("dpkg --purge twitcher");
    assert_eq!(machine.property("LoadState"), "not-found");
    assert!(!machine.succeeds("getent group twitcher"), "the group is left");
    // What the administrator wrote is the administrator's.
    let found = machine.said("find / /run -xdev -name '*twitcher*'");
    assert_eq!(found, "/etc/twitcher\n");
    assert_eq!(machine.said("ls /etc/twitcher"), "site.twc\n");
}
