//! Strict access: ZooKeeper itself keeps every host to its own znode.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Error, Permission};

use super::rollouts::Fleet;
use super::{Host, Stage, WATCH};
use crate::support::daemon::{PROGRAM, Site};
use crate::support::proxy::Proxy;
use crate::support::until;
use crate::support::zookeeper::{Setup, ZooKeeperServer};

/// Those who have credentials of the scheme `digest`: each the password that is its name.
struct People(TempDir);

impl People {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        let file = self.0.path().join(name);
        std::fs::write(&file, format!("{name}:{name}\n")).unwrap();
        file
    }

    fn path(&self, name: &str) -> String {
        self.file(name).to_string_lossy().into_owned()
    }

    fn identity(&self, name: &str) -> String {
        format!("digest:@{}", self.path(name))
    }

    /// A client with these credentials.
    async fn client(&self, stage: &Stage, name: &str) -> Client {
        let connector = Client::connector().with_auth("digest", format!("{name}:{name}").as_bytes());
        connector.connect(&stage.address).await.unwrap()
    }

    /// What somebody does by `fleet enroll`.
    fn enroll(&self, stage: &Stage, by: Option<&str>, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(PROGRAM);
        command.args(["fleet", "enroll", "--zk", &stage.address, "--fleet", &stage.root]);
        if let Some(by) = by {
            command.arg("--zk-digest-file").arg(self.file(by));
        }
        let output = command.args(arguments).env_remove("COLUMNS").output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    /// The first host with a steward of its name, and more.
    fn make_strict(&self, stage: &Stage, steward: &str, hosts: &[&str]) {
        let whom = self.identity(steward);
        let (code, said) = self.enroll(stage, Some("ops"), &[steward, "--as", &whom, "--steward", &whom]);
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("is strict now") && said.contains("stewards: digest:ops, digest:"),
            "{said}"
        );
        for host in hosts {
            let (code, said) = self.enroll(stage, Some("ops"), &[host, "--as", &self.identity(host)]);
            assert_eq!(code, 0, "{said}");
            assert_eq!(said, format!("{host}: enrolled in {} as digest:{host}\n", stage.root));
        }
    }
}

/// A fleet's znodes with their data and lists, as somebody sees them who may see all.
async fn whole(client: &Client, root: &str) -> BTreeMap<String, (Vec<u8>, Vec<Acl>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let (data, _) = client.get_data(&path).await.unwrap();
        let (acl, _) = client.get_acl(&path).await.unwrap();
        let names = client.list_children(&path).await.unwrap();
        left.extend(names.iter().map(|name| format!("{path}/{name}")));
        found.insert(path, (data, acl));
    }
    found
}

/// Tries all that can be tried with each znode that is not below `own`.
async fn cannot_write(client: &Client, by: &str, all: &BTreeMap<String, (Vec<u8>, Vec<Acl>)>, own: &str) {
    let open = [Acl::new(Permission::ALL, AuthId::anyone())];
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let denied = |what: &str, path: &str, result: Result<(), Error>| {
        assert_eq!(result, Err(Error::NoAuth), "{by}: {what} {path}");
    };
    let is_below = |path: &str| path.starts_with(&format!("{own}/"));
    for path in all.keys().filter(|path| !is_below(path)) {
        let child = format!("{path}/intruder");
        if path != own {
            denied("set", path, client.set_data(path, b"{}", None).await.map(drop));
            denied(
                "create in",
                path,
                client.create(&child, b"", &persistent).await.map(drop),
            );
            denied("be in", path, client.create(&child, b"", &ephemeral).await.map(drop));
            let mut multi = client.new_multi_writer();
            multi.add_check_version(path, -1).unwrap();
            multi.add_set_data(path, b"{}", None).unwrap();
            denied(
                "set in a transaction",
                path,
                multi.commit().await.map(drop).map_err(Error::from),
            );
            let mut multi = client.new_multi_writer();
            multi.add_create(&child, b"", &persistent).unwrap();
            denied(
                "create in a transaction",
                path,
                multi.commit().await.map(drop).map_err(Error::from),
            );
        }
        denied(
            "set the list of",
            path,
            client.set_acl(path, &open, None).await.map(drop),
        );
        // Where the fleet itself may be, somebody else says.
        if path.ends_with("/hosts") || path.contains("/hosts/") || path.contains("/rollouts") {
            denied("delete", path, client.delete(path, None).await);
            let mut multi = client.new_multi_writer();
            multi.add_delete(path, None).unwrap();
            denied(
                "delete in a transaction",
                path,
                multi.commit().await.map(drop).map_err(Error::from),
            );
        }
    }
}

/// That nobody who is not a steward can write outside its own znode, now.
async fn are_confined(people: &People, stage: &Stage, hosts: &[&str]) {
    let ops = people.client(stage, "ops").await;
    let all = whole(&ops, &stage.root).await;
    for name in hosts {
        let own = format!("{}/hosts/{name}", stage.root);
        let client = people.client(stage, name).await;
        cannot_write(&client, name, &all, &own).await;
        let mine = format!("{own}/mine");
        let acl = CreateMode::Persistent.with_acls(Acls::anyone_read());
        client.create(&mine, b"1", &acl).await.unwrap();
        client.delete(&mine, None).await.unwrap();
    }
    let anybody = Client::connect(&stage.address).await.unwrap();
    cannot_write(&anybody, "anybody", &all, "/nothing").await;
    let anybody = people.client(stage, "mallory").await;
    cannot_write(&anybody, "mallory", &all, "/nothing").await;
    assert_eq!(all, whole(&ops, &stage.root).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_out_and_no_credential_writes_outside_its_host() {
    let mut fleet = Fleet::new("access-strict", "at_once = 1, max_failures = 9").await;
    let people = People::new();
    people.make_strict(&fleet.stage, "web-0", &["web-1", "web-2"]);
    let names = ["web-0", "web-1", "web-2"];
    for name in names {
        fleet.join(name, &["--zk-digest-file", &people.path(name)]);
    }
    until("all have the first state", || fleet.started("1").len() == 3);
    assert_eq!(fleet.until_state("done")["steward"], "web-0");
    for name in names {
        fleet.mark(&format!("hold-{name}"));
    }
    fleet.stage.change("2").await;
    until("one has started", || fleet.started("2").len() == 1);
    let (code, said) = fleet.hosts[1].operate(&["fleet", "pause", "repo"]);
    assert!(code == 1 && said.contains("only its stewards may do that"), "{said}");
    are_confined(&people, &fleet.stage, &["web-1", "web-2"]).await;
    for name in names {
        fleet.unmark(&format!("hold-{name}"));
    }
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2").len(), 3);
    until("what all have is kept", || {
        tokio::task::block_in_place(|| {
            let children = fleet.stage.children("/rollouts/repo");
            tokio::runtime::Handle::current()
                .block_on(children)
                .contains(&"good-before".to_owned())
        })
    });
    are_confined(&people, &fleet.stage, &["web-1", "web-2"]).await;

    // What not everybody may be able to read is not copied for everybody.
    let web = people.client(&fleet.stage, "web-1").await;
    for kept in ["good", "good-before"] {
        let kept = format!("{}/rollouts/repo/{kept}", fleet.stage.root);
        assert_eq!(web.get_data(&kept).await.unwrap_err(), Error::NoAuth, "{kept}");
    }
    // Its own daemon is not one by which anything is done to a rollout, or anybody forgotten; a steward's is.
    let (code, said) = fleet.hosts[1].operate(&["fleet", "rollback", "repo"]);
    assert!(code == 1 && said.contains("only its stewards may do that"), "{said}");
    fleet.operate(&["fleet", "rollback", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("1").len(), 6);
    assert_eq!(fleet.most_at_once(), 1);

    let Host { daemon, .. } = fleet.hosts.pop().unwrap();
    daemon.stop();
    let (code, said) = fleet.hosts[1].operate(&["fleet", "forget", "web-2"]);
    assert!(code == 1 && said.contains("only its stewards may do that"), "{said}");
    fleet.operate(&["fleet", "forget", "web-2"]);
    assert_eq!(fleet.stage.children("/hosts").await, ["web-0", "web-1"]);
    let text = fleet.hosts[0].daemon.text();
    assert!(!text.contains("NoAuth"), "the steward may do all of its work: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_becomes_a_steward_later_goes_on_with_what_another_has_made() {
    let mut fleet = Fleet::new("access-stewards", "at_once = 1, max_failures = 3, lost_after = 600").await;
    let people = People::new();
    people.make_strict(&fleet.stage, "web-0", &["web-1", "web-2"]);
    for name in ["web-0", "web-1", "web-2"] {
        fleet.join(name, &["--zk-digest-file", &people.path(name)]);
    }
    until("all have the first state", || fleet.started("1").len() == 3);
    assert_eq!(fleet.until_state("done")["steward"], "web-0");
    let (code, said) = people.enroll(&fleet.stage, Some("ops"), &["--steward", &people.identity("web-1")]);
    assert_eq!(code, 0, "{said}");
    are_confined(&people, &fleet.stage, &["web-2"]).await;
    let Host { daemon, site, .. } = fleet.hosts.remove(0);
    daemon.crash();
    fleet.stage.change("2").await;
    until("the others have the change", || fleet.started("2").len() == 2);
    until("it has another steward", || fleet.status()["steward"] == "web-1");
    let arguments = ["--zk-digest-file", &people.path("web-0")];
    fleet.hosts.push(fleet.stage.start("web-0", site, &arguments));
    until("so has the one that was", || fleet.started("2").len() == 3);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    fleet.operate(&["fleet", "rollback", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!((fleet.started("1").len(), fleet.most_at_once()), (6, 1));
    are_confined(&people, &fleet.stage, &["web-2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_enrolled_says_so_and_what_to_do() {
    let server = ZooKeeperServer::shared();
    let mut stage = Stage::new(&server.address(), "access-unknown").await;
    let people = People::new();
    people.make_strict(&stage, "web-0", &[]);
    let direct = std::mem::take(&mut stage.address);
    let proxy = Proxy::to(server.port());
    stage.address = proxy.address();
    let rollout = format!(
        "{WATCH}\n{}",
        r#"RegisterWatch(znode = "ZNODE", name = "out", timeout = 9, action = Exec("echo >> OUT/turn"), rollout = Rollout("out", at_once = 1))"#
    );
    let nobody = stage.host("web-1");
    nobody.daemon.wait_runs("repo", 1);
    nobody.until_problem("twitcher fleet enroll web-1 --as ID");
    nobody.until_problem("--zk-digest-file");
    // Writes that fail cost the servers as much as others: there are ever fewer.
    let creates = || proxy.requests(1) + proxy.requests(15);
    let before = (Instant::now(), creates());
    until("it has been tried a few times", || creates() >= before.1 + 5);
    assert!(before.0.elapsed() > Duration::from_secs(2), "{:?}", before.0.elapsed());
    for (what, command) in [
        ("status", &["status"][..]),
        ("fleet", &["fleet", "status"]),
        ("hosts", &["fleet", "hosts"]),
    ] {
        let (code, said) = nobody.operate(command);
        assert!(
            code == 0 && said.contains("twitcher fleet enroll web-1") && !said.contains("--zk SERVERS --control"),
            "{what}: {said}"
        );
    }
    let said = |line: &Value| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("twitcher fleet enroll web-1"))
    };
    assert_eq!(nobody.daemon.count(said), 1);
    let Host { daemon, site, .. } = nobody;
    daemon.stop();
    stage.address = direct;

    site.config("a.twc", &rollout.replace("ZNODE", &stage.znode));
    let host = stage.start("web-1", site, &["--zk-digest-file", &people.path("web-1")]);
    host.until_problem(&format!(
        "`twitcher fleet enroll web-1 --as digest:@FILE --fleet {} --zk SERVERS`",
        stage.root
    ));
    stage.change("2").await;
    until("the watch without a rollout runs", || {
        host.site.read("out/ran").ends_with('2')
    });
    let (code, said) = people.enroll(&stage, Some("ops"), &["web-1", "--as", &people.identity("web-1")]);
    assert_eq!(code, 0, "{said}");
    host.until_laggards("repo", 0, &["nobody lags"]);
    // Nobody is a steward: only the host that was enrolled first may be.
    until("it says that there is no steward", || {
        let said = host.operate(&["status"]).1;
        said.contains("there is no steward, and this host cannot be it") && said.contains("--steward ID")
    });
    let steward = stage.start("web-0", Site::new(), &["--zk-digest-file", &people.path("web-0")]);
    steward.until_published();
    assert!(!host.site.path("out/turn").exists());
    // Now this host may be it, and finds out by itself.
    let (code, said) = people.enroll(&stage, Some("web-0"), &["--steward", &people.identity("web-1")]);
    assert_eq!(
        (code, &*said),
        (0, "stewards: digest:ops, digest:web-0, digest:web-1\n")
    );
    until("its turn comes", || host.site.path("out/turn").exists());
    let (_, said) = host.operate(&["status"]);
    assert!(!said.contains("steward"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn access_is_made_strict_while_a_fleet_is_there() {
    let mut fleet = Fleet::new("access-later", "at_once = 1, max_failures = 9").await;
    let people = People::new();
    fleet.join("web-0", &["--zk-digest-file", &people.path("web-0")]);
    for name in ["web-1", "web-2"] {
        fleet.join(name, &[]);
    }
    until("all have the first state", || fleet.started("1").len() == 3);
    fleet.until_state("done");
    let stage = &fleet.stage;
    // Somebody has left things while it was open.
    for path in [
        "/rollouts/repo/web-9",
        "/hosts/web-9",
        "/hosts/web-9/r.repo",
        "/hosts/web-9/r.repo/x",
    ] {
        stage.create(&format!("{}{path}", stage.root), "{}").await;
    }
    let (code, said) = people.enroll(stage, Some("ops"), &["web-1", "--as", &people.identity("web-1")]);
    assert!(
        code == 1 && said.contains("is open, and nobody was named") && said.contains("--steward"),
        "{said}"
    );
    let (code, said) = people.enroll(stage, None, &["web-1", "--as", &people.identity("web-1")]);
    assert!(
        code == 1 && said.contains("needs credentials") && said.contains("--zk-digest-file"),
        "{said}"
    );
    let steward = people.identity("web-0");
    let arguments = [
        "web-1",
        "--as",
        &people.identity("web-1"),
        "--steward",
        &steward,
        "--json",
    ];
    let (code, said) = people.enroll(stage, Some("ops"), &arguments);
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &json["was_open"], &json["as"]),
        (0, &true.into(), &"digest:web-1".into()),
        "{said}"
    );
    // The first has made its znode for itself already.
    assert_eq!(json["shut_out"], serde_json::json!(["web-2", "web-9"]), "{said}");
    are_confined(&people, stage, &["web-1"]).await;

    // Who has no credentials cannot go on; what it has published stays.
    fleet.hosts[2].operate(&["run-now", "repo", "--ungoverned", "--wait"]);
    fleet.stage.change("2").await;
    until("the steward has got it", || {
        fleet.started("2").contains(&"web-0".to_owned())
    });
    for at in [1, 2] {
        let Host { daemon, site, .. } = fleet.hosts.remove(1);
        let name = format!("web-{at}");
        daemon.stop();
        let host = fleet
            .stage
            .start(&name, site, &["--zk-digest-file", &people.path(&name)]);
        match at {
            1 => host.until_published(),
            _ => host.until_problem("twitcher fleet enroll web-2"),
        }
        fleet.hosts.push(host);
    }
    let (code, said) = people.enroll(
        &fleet.stage,
        Some("web-0"),
        &["web-2", "--as", &people.identity("web-2")],
    );
    assert_eq!(code, 0, "{said}");
    until("all have it", || fleet.started("2").len() == 3);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.most_at_once(), 1);
    are_confined(&people, &fleet.stage, &["web-1", "web-2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_enrolled_again_and_as_somebody_else() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "access-again").await;
    let people = People::new();
    people.make_strict(&stage, "web-0", &["web-1"]);
    let host = stage.host_with("web-1", WATCH, &["--zk-digest-file", &people.path("web-1")]);
    host.until_published();
    let again = people.enroll(&stage, Some("ops"), &["web-1", "--as", &people.identity("web-1")]);
    assert_eq!(
        again,
        (
            0,
            format!("web-1: already enrolled in {} as digest:web-1\n", stage.root)
        )
    );
    // Two hosts that are one for ZooKeeper are kept from nothing of each other's.
    let (code, said) = people.enroll(&stage, Some("ops"), &["web-2", "--as", &people.identity("web-1")]);
    assert!(
        code == 0 && said.contains("warning: for ZooKeeper web-2 is the same as web-1:"),
        "{said}"
    );
    let (code, said) = people.enroll(&stage, Some("ops"), &["web-2", "--as", &people.identity("web-2")]);
    assert!(code == 0 && !said.contains("warning"), "{said}");
    let Host { daemon, site, .. } = host;
    daemon.stop();
    let ops = people.client(&stage, "ops").await;
    let result = format!("{}/hosts/web-1/w.repo", stage.root);
    let (before, _) = ops.get_data(&result).await.unwrap();

    let (code, said) = people.enroll(&stage, Some("web-0"), &["web-1", "--as", &people.identity("new-1")]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(ops.get_data(&result).await.unwrap().0, before, "nothing of it was gone");
    let former = people.client(&stage, "web-1").await;
    cannot_write(&former, "web-1", &whole(&ops, &stage.root).await, "/nothing").await;
    let host = stage.start("web-1", site, &["--zk-digest-file", &people.path("web-1")]);
    host.until_problem("twitcher fleet enroll web-1");
    let Host { daemon, site, .. } = host;
    daemon.stop();
    let host = stage.start("web-1", site, &["--zk-digest-file", &people.path("new-1")]);
    stage.change("2").await;
    host.daemon.wait_runs("repo", 1);
    host.until_published();
    assert_ne!(ops.get_data(&result).await.unwrap().0, before);
    are_confined(&people, &stage, &[]).await;

    // Others than stewards do not.
    for who in ["new-1", "mallory"] {
        let (code, said) = people.enroll(&stage, Some(who), &["web-1", "--as", &people.identity(who)]);
        assert!(
            code == 8 && said.contains("only stewards of a fleet enroll hosts"),
            "{code} {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_enrolled_gets_words() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "access-words").await;
    let people = People::new();
    std::fs::write(people.0.path().join("bad"), "secret").unwrap();
    let bad = format!("digest:@{}", people.0.path().join("bad").display());
    let steward = people.identity("web-0");
    for (arguments, code, words) in [
        (&["web-1"][..], 2, "--as"),
        (&["--as", "sasl:web-1"], 2, "<HOST>"),
        (&[], 2, "<HOST>"),
        (&["web-1", "--as", "web-1"], 2, "--as: expected x509:SUBJECT, sasl:USER"),
        (&["web-1", "--as", "digest:web-1:secret"], 2, "digest:@FILE"),
        (&["web-1", "--as", "world:anyone"], 2, "anybody can be that"),
        (&["web-1", "--as", "x509:CN=a, O=b"], 2, "without spaces"),
        (&["web-1", "--as", "digest:@/nowhere"], 2, "cannot read /nowhere"),
        (&["web-1", "--as", &bad], 2, "expected USER:PASSWORD"),
        (&["a/b", "--as", "sasl:a"], 2, "no name for a host in a fleet"),
        (
            &["web-1", "--as", "sasl:a", "--steward", "ip:10.0.0.1"],
            2,
            "--steward: ip",
        ),
        // The servers know no users of SASL.
        (
            &["web-1", "--as", "sasl:web-1", "--steward", &steward],
            1,
            "know nobody like sasl:web-1",
        ),
    ] {
        let (found, said) = people.enroll(&stage, Some("ops"), arguments);
        assert!(found == code && said.contains(words), "{arguments:?}: {found} {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    stage.client.set_data(&stage.root, br#"{"v":99}"#, None).await.ok();
    let mut nowhere = Stage::new(&stage.address, "access-nowhere").await;
    nowhere.create(&nowhere.root, r#"{"v":99}"#).await;
    let (code, said) = people.enroll(
        &nowhere,
        Some("ops"),
        &["web-1", "--as", &steward, "--steward", &steward],
    );
    assert!(code == 1 && said.contains("of version 99"), "{code} {said}");
    nowhere.address = format!("127.0.0.1:{}", crate::support::zookeeper::free_port());
    let (code, said) = people.enroll(&nowhere, Some("ops"), &["--steward", &steward, "--timeout", "0.5"]);
    assert!(
        code == 5 && said.contains("no connection with ZooKeeper at 127.0.0.1"),
        "{code} {said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_be_known_by_its_certificate() {
    let server = ZooKeeperServer::start_with(Setup {
        tls: true,
        ..Setup::default()
    });
    let mut stage = Stage::new(&server.address(), "access-x509").await;
    let people = People::new();
    let plain = std::mem::replace(&mut stage.address, format!("localhost:{}", server.secure_port()));
    let file = |name: &str| server.file(name).to_string_lossy().into_owned();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let tls = ["--zk-ca", &ca, "--zk-cert", &cert, "--zk-key", &key];
    let host = stage.host_with("web-1", WATCH, &tls);
    host.until_laggards("repo", 0, &["nobody lags"]);
    // What it has made for itself while access was open only it can give away.
    let secure = std::mem::replace(&mut stage.address, plain.clone());
    people.make_strict(&stage, "web-0", &[]);
    let (code, said) = people.enroll(&stage, Some("ops"), &["web-1", "--as", "x509:CN=other"]);
    assert!(code == 8 && said.contains("is that of x509:CN=client"), "{said}");
    let (code, said) = people.enroll(&stage, Some("ops"), &["web-1", "--as", "x509:CN=client"]);
    assert_eq!(code, 0, "{said}");
    for name in ["web-2", "web-3"] {
        let (code, said) = people.enroll(&stage, Some("ops"), &[name, "--as", "x509:CN=client"]);
        assert_eq!(code, 0, "{said}");
    }
    stage.address = secure;
    stage.change("2").await;
    host.daemon.wait_runs("repo", 2);
    host.until_laggards("repo", 0, &["nobody lags"]);
    let third = stage.host_with("web-3", WATCH, &tls);
    third.until_published();
    let other = stage.host_with("web-4", WATCH, &tls);
    other.until_problem(&format!(
        "`twitcher fleet enroll web-4 --as x509:SUBJECT --fleet {} --zk SERVERS`",
        stage.root
    ));
    stage.address = plain;
    are_confined(&people, &stage, &[]).await;
}

/// Whichever of the fleet's znodes a daemon may not read or write: its watches run, what has a rollout waits and says why, and all goes on
/// when it may.
async fn goes_on_after(test: &str, permission: Permission) {
    let nothing = [Acl::new(permission | Permission::ADMIN, AuthId::anyone())];
    let all = [Acl::new(Permission::ALL, AuthId::anyone())];
    let watches = r#"RegisterWatch(znode = "ZNODE", name = "plain", action = Exec("true"))
RegisterWatch(znode = "ZNODE", name = "out", timeout = 9, run_on_load = IF_CHANGED, action = Exec("cat > OUT/turn"), rollout = Rollout("out", at_once = 1))"#;
    let places: [&[&str]; 9] = [
        &[""],
        &["/hosts"],
        &["/hosts/web-1"],
        &["/hosts/web-1/r.out"],
        &["/rollouts"],
        &["/rollouts/out"],
        &["/rollouts/out/grants"],
        &["/rollouts/out/grants/web-1"],
        &[
            "",
            "/hosts",
            "/hosts/web-1",
            "/hosts/web-1/r.out",
            "/rollouts",
            "/rollouts/out",
            "/rollouts/out/grants",
        ],
    ];
    let mut hosts = Vec::new();
    for places in places {
        let stage = Stage::new(&ZooKeeperServer::shared().address(), test).await;
        hosts.push((stage.host_with("web-1", watches, &[]), stage, places));
    }
    for (host, ..) in &hosts {
        until("the first state has gone out", || host.site.read("out/turn") == "1");
        host.until_published();
    }
    for (host, stage, places) in &hosts {
        for place in *places {
            let path = format!("{}{place}", stage.root);
            stage.client.set_acl(&path, &nothing, None).await.unwrap();
        }
        stage.change("2").await;
        host.daemon.wait_runs("plain", 2);
    }
    for (host, stage, places) in &hosts {
        // Also one that begins with it so.
        let began = host.daemon.count(|_| true);
        host.daemon.signal(nix::sys::signal::Signal::SIGHUP);
        host.daemon.wait_for(1, "it is loaded again", |line| {
            line["message"] == "configuration loaded"
        });
        assert!(host.daemon.count(|_| true) - began < 100, "{}", host.daemon.text());
        for place in *places {
            let path = format!("{}{place}", stage.root);
            stage.client.set_acl(&path, &all, None).await.unwrap();
        }
    }
    for (host, _, places) in &hosts {
        until(&format!("{places:?}: the change has gone out"), || {
            host.site.read("out/turn") == "2"
        });
        until(&format!("{places:?}: nothing is wrong any more"), || {
            let fleet = host.membership();
            fleet["problem"].is_null() && fleet["rollouts"][0]["problem"].is_null()
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_written_holds_up_rollouts_and_nothing_else() {
    goes_on_after("access-read", Permission::READ).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_holds_up_rollouts_and_nothing_else() {
    goes_on_after("access-none", Permission::NONE).await;
}

/// A failed write costs the servers as much as another one, also where reading and joining go well.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_write_its_result_tries_ever_less_often() {
    let server = ZooKeeperServer::shared();
    let mut stage = Stage::new(&server.address(), "access-spin").await;
    let proxy = Proxy::to(server.port());
    stage.address = proxy.address();
    let host = stage.host("web-1");
    host.until_laggards("repo", 0, &["nobody lags"]);
    let result = format!("{}/hosts/web-1/w.repo", stage.root);
    let read = [Acl::new(Permission::READ | Permission::ADMIN, AuthId::anyone())];
    stage.client.set_acl(&result, &read, None).await.unwrap();
    stage.change("2").await;
    host.until_problem("twitcher fleet enroll web-1");
    let before = (Instant::now(), proxy.requests(14));
    until("it has been tried a few times", || proxy.requests(14) >= before.1 + 5);
    assert!(before.0.elapsed() > Duration::from_secs(2), "{:?}", before.0.elapsed());
    let said = |line: &Value| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("in the fleet"))
    };
    assert_eq!(host.daemon.count(said), 2, "{}", host.daemon.text());
    let all = [Acl::new(Permission::ALL, AuthId::anyone())];
    stage.client.set_acl(&result, &all, None).await.unwrap();
    host.until_published();
}
