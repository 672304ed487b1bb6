//! Changes that go out to so many hosts at once, judged from outside: by what the actions themselves have written down.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Host, Stage};
use crate::support::daemon::{PROGRAM, Site};
use crate::support::proxy::Proxy;
use crate::support::zookeeper::ZooKeeperServer;
use crate::support::{http, until};

/// It takes a while, longer where it is held, and fails for what is called bad and where the host is.
const ACTION: &str = r#"v=$(cat); echo "+ HOST $v" >> SHARED/journal; while test -e SHARED/hold-HOST; do sleep 0.02; done; sleep 0.1; echo "- HOST $v" >> SHARED/journal; case $v in bad*) exit 3;; esac; test ! -e SHARED/bad-HOST"#;

/// Several hosts with one rollout.
pub(super) struct Fleet {
    pub stage: Stage,
    pub shared: TempDir,
    rollout: String,
    /// What else there is to be said of the watch.
    pub watch: &'static str,
    pub hosts: Vec<Host>,
}

impl Fleet {
    /// `rollout` is what stands behind the name.
    pub async fn new(test: &str, rollout: &str) -> Self {
        Self {
            stage: Stage::new(&ZooKeeperServer::shared().address(), test).await,
            shared: TempDir::new().unwrap(),
            rollout: rollout.to_owned(),
            watch: "timeout = 60",
            hosts: Vec::new(),
        }
    }

    pub fn site(&self, name: &str) -> Site {
        let site = Site::new();
        let action = ACTION
            .replace("HOST", name)
            .replace("SHARED", &self.shared.path().to_string_lossy());
        let config = format!(
            "RegisterWatch(znode = \"{}\", name = \"repo\", {}, action = Exec({action:?}), rollout = Rollout(\"repo\", {}))",
            self.stage.znode,
            self.watch,
            self.rollout
                .replace("HOST", name)
                .replace("SHARED", &self.shared.path().to_string_lossy())
        );
        site.config("a.twc", &config);
        site
    }

    pub fn join(&mut self, name: &str, more: &[&str]) {
        let host = self.stage.start(name, self.site(name), more);
        self.hosts.push(host);
    }

    pub fn of(mut self, names: &[&str]) -> Self {
        for name in names {
            self.join(name, &[]);
        }
        self
    }

    pub fn mark(&self, name: &str) {
        fs::write(self.shared.path().join(name), "").unwrap();
    }

    pub fn unmark(&self, name: &str) {
        fs::remove_file(self.shared.path().join(name)).unwrap();
    }

    /// What the actions have written: whether they start, which host, what for.
    pub fn journal(&self) -> Vec<(bool, String, String)> {
        let text = fs::read_to_string(self.shared.path().join("journal")).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let starts = words.next()? == "+";
            Some((starts, words.next()?, words.next()?))
        };
        text.lines()
            .map(|line| entry(line).unwrap_or_else(|| panic!("{line:?}")))
            .collect()
    }

    /// Hosts that have started for this, in order.
    pub fn started(&self, data: &str) -> Vec<String> {
        let journal = self.journal().into_iter();
        journal
            .filter(|(starts, _, of)| *starts && of == data)
            .map(|(_, host, _)| host)
            .collect()
    }

    /// Most that have acted at once, by the order of what they have written.
    pub fn most_at_once(&self) -> usize {
        let (mut now, mut most) = (0_usize, 0);
        for (starts, ..) in self.journal() {
            now = if starts { now + 1 } else { now - 1 };
            most = most.max(now);
        }
        most
    }

    pub fn status(&self) -> Value {
        http::operate(&self.hosts[0].socket, "GET", "/v1/fleet/rollouts/repo").json()
    }

    /// Waits until the rollout is in this state, for what the znode is now.
    pub fn until_state(&self, state: &str) -> Value {
        let mut last = Value::Null;
        until(&format!("the rollout is {state}"), || {
            last = self.status();
            // Who comes late has its turn when it is done.
            let is_busy =
                |(_, state): &(String, String)| matches!(&**state, "waiting" | "granted" | "acting" | "verifying");
            let is_through = state != "done" || !states(&last).iter().any(is_busy);
            last["state"] == state && last["goal"] == last["newest"] && is_through
        });
        last
    }

    pub fn operate(&self, arguments: &[&str]) -> String {
        let (code, text) = self.hosts[0].operate(arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    }
}

pub(super) fn states(status: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hosts = status["hosts"].as_array().unwrap();
    hosts
        .iter()
        .map(|host| (text(&host["host"]), text(&host["state"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_to_two_hosts_at_a_time_until_all_have_it() {
    let fleet = Fleet::new("rollout-all", "at_once = 2").await;
    let fleet = fleet.of(&["web-1", "web-2", "web-3", "web-4", "web-5"]);
    let (code, said) = fleet.hosts[0].operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    // The rollout may not have been there yet when it was asked about.
    assert!(code == 0 || said.contains("no rollout"), "{said}");
    let five = |data: &str| {
        let mut hosts = fleet.started(data);
        hosts.sort();
        hosts == ["web-1", "web-2", "web-3", "web-4", "web-5"]
    };
    until("all five have the first state", || five("1"));
    fleet.until_state("done");
    for change in ["2", "3"] {
        fleet.stage.change(change).await;
        let said = fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
        assert!(said.contains("done") && said.contains("5 hosts: 5 current"), "{said}");
        assert!(five(change), "{:?}", fleet.journal());
    }
    assert_eq!(fleet.most_at_once(), 2, "{:?}", fleet.journal());
    fleet.hosts[4].until_laggards("repo", 0, &["5 hosts: nobody lags"]);
    // Each host has written only below its own znode, and its part is where the layout says.
    assert_eq!(fleet.stage.children("/hosts/web-3").await, ["live", "r.repo"]);
    assert_eq!(
        fleet.stage.children("/rollouts/repo").await,
        ["good", "good-before", "grants", "steward"]
    );
    let part = fleet.stage.record("/hosts/web-3/r.repo").await;
    assert_eq!(
        (&part["part"]["state"], &part["state"]),
        (&"succeeded".into(), &"current".into()),
        "{part}"
    );
    // What is in force already is not run for again, whoever starts anew.
    let (mut fleet, count) = (fleet, 15 * 2);
    let Host { daemon, site, .. } = fleet.hosts.remove(4);
    daemon.stop();
    let host = fleet.stage.start("web-5", site, &[]);
    fleet.hosts.push(host);
    fleet.hosts[4].until_published();
    fleet.stage.change("4").await;
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.journal().len(), count + 10, "{:?}", fleet.journal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_change_stops_after_so_many_hosts_and_the_next_goes_out() {
    let fleet = Fleet::new("rollout-halt", "at_once = 1, max_failures = 1").await;
    let fleet = fleet.of(&["web-1", "web-2", "web-3", "web-4"]);
    until("all have the first state", || fleet.started("1").len() == 4);
    fleet.until_state("done");
    fleet.stage.change("bad").await;
    let status = fleet.until_state("halted");
    assert_eq!(status["why"], "2 hosts failed, 1 allowed");
    assert_eq!(fleet.started("bad").len(), 2);
    // The steward alone counts, and no other host says anything else.
    let of_hosts = fleet.hosts.iter();
    let metrics: Vec<String> = of_hosts
        .map(|host| http::operate(&host.socket, "GET", "/metrics").body)
        .collect();
    for line in [
        "twitcher_rollout_steward{rollout=\"repo\"} 1",
        "twitcher_rollout_state{rollout=\"repo\",state=\"halted\"} 1",
        "twitcher_rollout_hosts{rollout=\"repo\",state=\"failed\"} 2",
        "twitcher_rollout_slots{rollout=\"repo\"} 0",
        "twitcher_rollout_slots_max{rollout=\"repo\"} 1",
    ] {
        let count = metrics
            .iter()
            .filter(|text| text.lines().any(|has| has == line))
            .count();
        assert_eq!(count, 1, "{line}: {metrics:?}");
    }
    let (code, said) = fleet.hosts[2].operate(&["fleet", "status", "repo"]);
    assert_eq!(code, 0);
    for part in [
        "halted",
        "2 hosts failed, 1 allowed",
        "exit code 3",
        "twitcher logs ",
        "twitcher fleet retry repo",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = fleet.hosts[1].operate(&["fleet", "wait", "repo", "--timeout", "9"]);
    assert_eq!(code, 1, "{said}");
    // Going on without them ends with the next failure.
    fleet.operate(&["fleet", "resume", "repo"]);
    fleet.until_state("halted");
    assert_eq!(fleet.started("bad").len(), 4, "so many more may fail as before");
    // Back to what all had before; then the other way round.
    fleet.operate(&["fleet", "rollback", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("1").len(), 8);
    fleet.stage.change("2").await;
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2").len(), 4);
    fleet.operate(&["fleet", "rollback", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("1").len(), 12);
    assert_eq!(fleet.most_at_once(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_has_given_up_undoes_no_change_that_came_after_it() {
    let fleet = Fleet::new("rollout-late", "at_once = 2").await;
    let fleet = fleet.of(&["web-1", "web-2"]);
    until("all have the first state", || fleet.started("1").len() == 2);
    fleet.until_state("done");
    fleet.stage.change("2").await;
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    // A daemon that does nothing for a while has all that it was told before it when it goes on.
    fleet.hosts[0].daemon.signal(Signal::SIGSTOP);
    for verb in ["rollback", "pause"] {
        let mut command = Command::new("timeout");
        command.args(["0.7", PROGRAM, "fleet", verb, "repo", "--control"]);
        let status = command.arg(&fleet.hosts[0].socket).status().unwrap();
        assert_eq!(status.code(), Some(124), "{verb}");
    }
    fleet.stage.change("3").await;
    fleet.hosts[0].daemon.signal(Signal::SIGCONT);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!((fleet.started("3").len(), fleet.started("1").len()), (2, 2));
    assert_eq!(fleet.status()["state"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_that_a_newer_change_would_pass_by_is_refused() {
    let fleet = Fleet::new("rollout-abort", "at_once = 1").await;
    let fleet = fleet.of(&["web-1", "web-2"]);
    until("all have the first state", || fleet.started("1").len() == 2);
    fleet.mark("hold-web-1");
    fleet.mark("hold-web-2");
    fleet.stage.change("2").await;
    until("one acts", || fleet.started("2").len() == 1);
    let (first, second) = (&fleet.hosts[0], &fleet.hosts[1]);
    let (steward, other) = match fleet.status()["steward"] == "web-1" {
        true => (first, second),
        false => (second, first),
    };
    steward.daemon.signal(Signal::SIGSTOP);
    fleet.stage.change("3").await;
    let (code, said) = other.operate(&["fleet", "abort", "repo"]);
    steward.daemon.signal(Signal::SIGCONT);
    assert!(code != 0 && said.contains("no steward has taken that up yet"), "{said}");
    fleet.unmark("hold-web-1");
    fleet.unmark("hold-web-2");
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("3").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_failed_try_again_when_an_operator_says_so() {
    let fleet = Fleet::new("rollout-retry", "at_once = 1").await;
    let fleet = fleet.of(&["web-1", "web-2", "web-3"]);
    until("all have the first state", || fleet.started("1").len() == 3);
    fleet.until_state("done");
    for host in ["web-1", "web-2", "web-3"] {
        fleet.mark(&format!("bad-{host}"));
    }
    fleet.stage.change("2").await;
    fleet.until_state("halted");
    let failed = fleet.started("2");
    assert_eq!(failed.len(), 1);
    let (code, said) = fleet.hosts[0].operate(&["fleet", "promote", "repo"]);
    assert!(code != 0 && said.contains("does not wait to be promoted"), "{said}");
    for host in ["web-1", "web-2", "web-3"] {
        fleet.unmark(&format!("bad-{host}"));
    }
    fleet.operate(&["fleet", "retry", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    let started = fleet.started("2");
    assert_eq!(
        (started.len(), &started[1]),
        (4, &failed[0]),
        "who has failed comes first"
    );
    let (code, said) = fleet.hosts[0].operate(&["run-now", "repo"]);
    assert!(code != 0 && said.contains("--ungoverned"), "{said}");
    fleet.operate(&["run-now", "repo", "--ungoverned", "--wait"]);
    assert_eq!(fleet.started("2").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_while_it_is_paused_also_not_by_a_new_daemon() {
    let mut fleet = Fleet::new("rollout-pause", "at_once = 1")
        .await
        .of(&["web-1", "web-2", "web-3"]);
    until("all have the first state", || fleet.started("1").len() == 3);
    fleet.until_state("done");
    for host in ["web-1", "web-2", "web-3"] {
        fleet.mark(&format!("hold-{host}"));
    }
    fleet.stage.change("2").await;
    until("one has started", || fleet.started("2").len() == 1);
    let first = fleet.started("2").remove(0);
    fleet.operate(&["fleet", "pause", "repo"]);
    for host in ["web-1", "web-2", "web-3"] {
        fleet.unmark(&format!("hold-{host}"));
    }
    until("the one that had started has ended", || {
        states(&fleet.status()).contains(&(first.clone(), "current".to_owned()))
    });
    let Host { daemon, site, .. } = fleet.hosts.pop().unwrap();
    daemon.stop();
    let host = fleet.stage.start("web-3", site, &[]);
    host.until_published();
    fleet.hosts.push(host);
    let status = fleet.status();
    assert_eq!(
        (&status["state"], fleet.started("2").len()),
        (&"paused".into(), 1),
        "{status}"
    );
    assert!(status["why"].as_str().unwrap().starts_with("paused by "), "{status}");
    fleet.operate(&["fleet", "resume", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2").len(), 3);
    assert_eq!(fleet.most_at_once(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_of_a_host_that_is_gone_is_held_until_it_is_released() {
    let mut fleet = Fleet::new("rollout-lost", "at_once = 1, lost_after = 1, max_failures = 1").await;
    fleet = fleet.of(&["web-1", "web-2", "web-3"]);
    until("all have the first state", || fleet.started("1").len() == 3);
    fleet.until_state("done");
    for host in ["web-1", "web-2", "web-3"] {
        fleet.mark(&format!("hold-{host}"));
    }
    fleet.stage.change("2").await;
    until("one has started", || fleet.started("2").len() == 1);
    let gone = fleet.started("2").remove(0);
    let at = ["web-1", "web-2", "web-3"]
        .iter()
        .position(|host| *host == gone)
        .unwrap();
    let Host { daemon, site, .. } = fleet.hosts.remove(at);
    // Its action goes on without it.
    daemon.crash();
    until("it is known to be gone", || {
        states(&fleet.status()).contains(&(gone.clone(), "lost".to_owned()))
    });
    let said = fleet.operate(&["fleet", "status", "repo"]);
    assert!(said.contains(&format!("twitcher fleet release {gone} repo")), "{said}");
    assert_eq!(fleet.started("2").len(), 1, "nobody else has its slot");
    let (code, said) = fleet.hosts[0].operate(&["fleet", "forget", &gone]);
    assert!(code != 0 && said.contains("holds a slot of the rollout repo"), "{said}");
    for host in ["web-1", "web-2", "web-3"] {
        fleet.unmark(&format!("hold-{host}"));
    }
    fleet.operate(&["fleet", "release", &gone]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2").len(), 3);
    // Back again, it gets a slot of its own, for it has not written down how its run ended.
    let host = fleet.stage.start(&gone, site, &[]);
    fleet.hosts.push(host);
    until("it is current", || {
        let status = fleet.status();
        states(&status).iter().all(|(_, state)| state == "current") && status["slots"] == 0
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_come_first_and_the_next_wave_waits_for_an_operator() {
    let rollout = r#"at_once = 3, waves = [Wave(labels = {"canary": "yes"}, bake = 0.2, promote = MANUAL), Wave(percent = 50), Wave()]"#;
    let mut fleet = Fleet::new("rollout-waves", rollout).await;
    fleet.join("web-1", &["--label", "canary=yes"]);
    fleet.join("web-2", &["--label", "canary=no"]);
    fleet.join("web-3", &[]);
    fleet.join("web-4", &[]);
    until("the first state waits for an operator", || {
        let status = fleet.status();
        status["state"] == "promoting" && states(&status).len() == 4
    });
    assert_eq!(fleet.started("1"), ["web-1"]);
    let said = fleet.operate(&["fleet", "status"]);
    assert!(
        said.contains("wave 1 of 3") && said.contains("twitcher fleet promote repo"),
        "{said}"
    );
    fleet.operate(&["fleet", "promote", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("1").len(), 4);
    // Who comes later comes at once.
    fleet.join("web-5", &[]);
    until("the fifth has it", || fleet.started("1").len() == 5);
    fleet.stage.change("2").await;
    fleet.until_state("promoting");
    fleet.operate(&["fleet", "abort", "repo"]);
    assert_eq!(
        fleet.until_state("aborted")["why"].as_str().unwrap().split(' ').next(),
        Some("aborted")
    );
    fleet.stage.change("3").await;
    fleet.until_state("promoting");
    assert_eq!(fleet.started("3"), ["web-1"]);
    assert_eq!(fleet.started("2"), ["web-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_goes_on_when_the_steward_is_gone() {
    let mut fleet = Fleet::new("rollout-steward", "at_once = 1, max_failures = 3, lost_after = 600").await;
    fleet = fleet.of(&["web-1", "web-2", "web-3"]);
    until("all have the first state", || fleet.started("1").len() == 3);
    let steward = fleet.until_state("done")["steward"].as_str().unwrap().to_owned();
    let at = ["web-1", "web-2", "web-3"]
        .iter()
        .position(|host| *host == steward)
        .unwrap();
    let Host { daemon, site, .. } = fleet.hosts.remove(at);
    daemon.crash();
    fleet.stage.change("2").await;
    until("the other two have the change", || fleet.started("2").len() == 2);
    let host = fleet.stage.start(&steward, site, &[]);
    fleet.hosts.push(host);
    until("so has the steward that was", || fleet.started("2").len() == 3);
    fleet.until_state("done");
    assert_eq!(fleet.most_at_once(), 1);
}

/// A server keeps one mode for all watches of a session on one znode: the steward's host must not have it forget that the steward watches what is
/// below the gate, when it looks at the gate itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_steward_that_has_waited_with_a_slot_hears_what_others_do_all_the_same() {
    let mut fleet = Fleet::new("rollout-deaf", "at_once = 1").await;
    // Each has its slot before it may use it.
    fleet.watch = "timeout = 60, settle = 0.5";
    fleet = fleet.of(&["web-1", "web-2"]);
    until("both have the first state", || fleet.started("1").len() == 2);
    let done = fleet.until_state("done");
    let other = &fleet.hosts[usize::from(done["steward"] == "web-1")];
    let operate = |verb: &str| {
        let (code, said) = other.operate(&["fleet", verb, "repo"]);
        assert_eq!(code, 0, "{said}");
    };
    for change in ["2", "3", "4", "5"] {
        operate("pause");
        fleet.stage.change(change).await;
        fleet.until_state("paused");
        operate("resume");
        fleet.until_state("done");
        assert_eq!(fleet.started(change).len(), 2, "{:?}", fleet.journal());
    }
}

/// What servers were seen to do, on a connection that was well.
#[tokio::test(flavor = "multi_thread")]
async fn a_steward_that_is_told_nothing_looks_for_itself() {
    let proxy = Proxy::to(ZooKeeperServer::shared().port());
    let mut fleet = Fleet::new("rollout-untold", "at_once = 1").await;
    let direct = std::mem::replace(&mut fleet.stage.address, proxy.address());
    fleet.join("web-1", &[]);
    until("it has the first state", || fleet.started("1").len() == 1);
    assert_eq!(fleet.until_state("done")["steward"], "web-1");
    fleet.stage.address = direct;
    fleet.join("web-2", &[]);
    until("so has the other", || fleet.started("1").len() == 2);
    fleet.until_state("done");
    // Whoever is first, the other's turn comes only once the steward knows how that ended.
    fleet.mark("hold-web-1");
    fleet.mark("hold-web-2");
    fleet.stage.change("2").await;
    until("one has started", || fleet.started("2").len() == 1);
    if fleet.started("2") == ["web-1"] {
        fleet.unmark("hold-web-1");
        until("the other has started", || fleet.started("2").len() == 2);
    }
    proxy.rules(|rules| rules.drop_events = true);
    fleet.unmark("hold-web-2");
    fleet.hosts[0].daemon.wait("that it has looked", |line| {
        line["message"]
            .as_str()
            .is_some_and(|said| said.contains("have not told of what hosts have done"))
    });
    proxy.rules(|rules| rules.drop_events = false);
    let _ = fs::remove_file(fleet.shared.path().join("hold-web-1"));
    fleet.until_state("done");
    assert_eq!(fleet.started("2").len(), 2, "{:?}", fleet.journal());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_has_rollouts_wait_and_nothing_else() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "rollout-garbage").await;
    for path in ["", "/hosts", "/rollouts"] {
        stage
            .create(
                &format!("{}{path}", stage.root),
                if path.is_empty() { r#"{"v":1}"# } else { "" },
            )
            .await;
    }
    stage
        .create(&format!("{}/rollouts/repo", stage.root), r#"{"v":99}"#)
        .await;
    stage
        .create(&format!("{}/rollouts/repo/grants", stage.root), "\u{0}{")
        .await;
    let config = format!(
        "{}\n{}",
        r#"RegisterWatch(znode = "ZNODE", name = "plain", action = Exec("true"))"#,
        r#"RegisterWatch(znode = "ZNODE", name = "repo", timeout = 9, action = Exec("true"), rollout = Rollout("repo", at_once = 1))"#,
    );
    let host = stage.host_with("web-1", &config, &[]);
    host.daemon.wait_runs("plain", 1);
    host.daemon.wait("why the rollout waits", |line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("it makes no sense") || text.contains("of version 99"))
    });
    stage.change("2").await;
    host.daemon.wait_runs("plain", 2);
    let (code, said) = host.operate(&["status", "repo"]);
    assert!(
        code == 0 && said.contains("waits for its turn in the rollout"),
        "{said}"
    );
    // Somebody mends it, by deleting it.
    stage
        .client
        .delete(&format!("{}/rollouts/repo/grants", stage.root), None)
        .await
        .unwrap();
    stage
        .client
        .delete(&format!("{}/rollouts/repo", stage.root), None)
        .await
        .unwrap();
    host.daemon.wait_runs("repo", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fleet_a_rollout_waits_and_says_so() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "rollout-alone").await;
    let site = Site::new();
    let config = r#"RegisterWatch(znode = "ZNODE", name = "repo", timeout = 9, action = Exec("true"), rollout = Rollout("repo", at_once = 1))
RegisterWatch(znode = "ZNODE", name = "plain", action = Exec("true"))"#;
    site.config("a.twc", &config.replace("ZNODE", &stage.znode));
    let host = stage.start_alone(site, &[]);
    host.daemon.wait("that there is no fleet", |line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("started with --fleet"))
    });
    host.daemon.wait_runs("plain", 1);
    let (_, said) = host.operate(&["status", "repo"]);
    assert!(said.contains("waits for its turn in the rollout"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_installed_anew_does_not_use_the_slot_of_its_former_self() {
    let mut fleet = Fleet::new("rollout-anew", "at_once = 1").await.of(&["web-1", "web-2"]);
    until("both have the first state", || fleet.started("1").len() == 2);
    fleet.until_state("done");
    for host in ["web-1", "web-2"] {
        fleet.mark(&format!("hold-{host}"));
    }
    fleet.stage.change("2").await;
    until("one has started", || fleet.started("2").len() == 1);
    let first = fleet.started("2").remove(0);
    let at = usize::from(first == "web-2");
    let Host { daemon, site, .. } = fleet.hosts.remove(at);
    // Its action goes on, and its state directory is lost.
    daemon.crash();
    let _former = site;
    let host = fleet.stage.start(&first, fleet.site(&first), &[]);
    host.until_published();
    fleet.hosts.push(host);
    fleet.operate(&["fleet", "status", "repo"]);
    fleet.unmark(&format!("hold-{}", if first == "web-1" { "web-2" } else { "web-1" }));
    // A change of another kind shows that the steward has looked at all of it.
    fleet.stage.change("3").await;
    until("the newer change is open", || fleet.status()["serial"] == 3);
    assert_eq!(fleet.started("3").len(), 0, "{:?}", fleet.journal());
    fleet.unmark(&format!("hold-{first}"));
    until("the former action has ended", || {
        fleet.journal().contains(&(false, first.clone(), "2".to_owned()))
    });
    fleet.operate(&["fleet", "release", &first]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("3").len(), 2);
    assert_eq!(fleet.most_at_once(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_may_be_renamed() {
    let fleet = Fleet::new("rollout-renamed", "at_once = 1")
        .await
        .of(&["web-1", "web-2"]);
    until("both have the first state", || fleet.started("1").len() == 2);
    fleet.until_state("done");
    let Host { daemon, site, .. } = &fleet.hosts[1];
    let text = fs::read_to_string(site.path("conf/a.twc")).unwrap();
    site.config("a.twc", &text.replace("name = \"repo\"", "name = \"other\""));
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_for(2, "the configuration is loaded again", |line| {
        line["message"] == "configuration loaded"
    });
    for change in ["2", "3"] {
        fleet.stage.change(change).await;
        fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
        assert_eq!(fleet.started(change).len(), 2);
    }
    assert_eq!(fleet.most_at_once(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_parked_by_its_failure_tries_again() {
    let fleet = Fleet::new("rollout-parked", "at_once = 1), on_failure = STOP, settle = (0").await;
    let fleet = fleet.of(&["web-1", "web-2"]);
    until("both have the first state", || fleet.started("1").len() == 2);
    fleet.until_state("done");
    fleet.mark("bad-web-1");
    fleet.mark("bad-web-2");
    fleet.stage.change("2").await;
    fleet.until_state("halted");
    fleet.unmark("bad-web-1");
    fleet.unmark("bad-web-2");
    fleet.operate(&["fleet", "retry", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_waits_also_for_hosts_that_come_later() {
    let mut fleet = Fleet::new("rollout-later", "at_once = 1").await.of(&["web-1", "web-2"]);
    until("both have the first state", || fleet.started("1").len() == 2);
    fleet.until_state("done");
    let Host { daemon, site, .. } = fleet.hosts.pop().unwrap();
    daemon.stop();
    fleet.stage.change("2").await;
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    fleet.mark("hold-web-2");
    fleet.hosts.push(fleet.stage.start("web-2", site, &[]));
    until("it has started", || fleet.started("2").len() == 2);
    let (code, said) = fleet.hosts[0].operate(&["fleet", "wait", "repo", "--timeout", "0.5"]);
    assert_eq!(code, 1, "{said}");
    fleet.unmark("hold-web-2");
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    // Whoever is held has not got it, and nothing is to come.
    fleet.hosts[1].operate(&["pause", "repo"]);
    fleet.stage.change("3").await;
    fleet.until_state("done");
    let (code, said) = fleet.hosts[0].operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert!(code == 1 && said.contains("declined"), "{said}");
}
