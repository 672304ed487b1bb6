//! What a daemon on a real ZooKeeper says of itself when it cannot see what it watches: znodes that are too large or hidden, in part or
//! from the start, and servers that are gone. Commands, interface, metrics and readiness must agree.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Permission};

use crate::support::daemon::{Daemon, PROGRAM, Site};
use crate::support::zookeeper::{Setup, ZooKeeperServer};
use crate::support::{http, until};

/// A daemon on a server, with a socket for operators.
struct Stage {
    daemon: Daemon,
    socket: PathBuf,
}

impl Stage {
    fn start(site: &Site, server: &ZooKeeperServer, more: &[&str]) -> Self {
        let socket = site.path("control.sock");
        let (address, control) = (server.address(), socket.to_string_lossy().into_owned());
        let arguments = [
            &[
                "--zk",
                &address,
                "--zk-session-timeout",
                "4",
                "--resync",
                "1",
                "--control",
                &control,
            ],
            more,
        ];
        let daemon = site.start_with(&arguments.concat());
        Self { daemon, socket }
    }

    fn get(&self, path: &str) -> http::Answer {
        http::operate(&self.socket, "GET", path)
    }

    fn until_state(&self, watch: &str, state: &str) -> Value {
        let mut found = Value::Null;
        until(&format!("{watch} is {state}"), || {
            found = self.get(&format!("/v1/watches/{watch}")).json();
            found["state"] == state
        });
        found
    }

    /// What a command of an operator prints.
    fn operate(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("--control").arg(&self.socket);
        let output = command.env_remove("COLUMNS").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn metric(&self, name: &str) -> String {
        let metrics = self.get("/metrics").body;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or("missing").to_owned()
    }
}

/// Does something with a client that connects for that alone.
fn with<T>(server: &ZooKeeperServer, act: impl AsyncFnOnce(&Client) -> Result<T, zookeeper_client::Error>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { act(&Client::connect(&server.address()).await?).await })
        .unwrap()
}

fn create(server: &ZooKeeperServer, path: &str, readable: bool) {
    let acl = [acl(readable)];
    let options = CreateMode::Persistent.with_acls(Acls::new(&acl));
    with(server, async |client| client.create(path, b"1", &options).await);
}

fn set(server: &ZooKeeperServer, path: &str, data: &[u8]) {
    with(server, async |client| client.set_data(path, data, None).await);
}

fn let_read(server: &ZooKeeperServer, path: &str, readable: bool) {
    let acl = [acl(readable)];
    with(server, async |client| client.set_acl(path, &acl, None).await);
}

fn acl(readable: bool) -> Acl {
    let others = Permission::WRITE | Permission::CREATE | Permission::DELETE | Permission::ADMIN;
    Acl::new(if readable { Permission::ALL } else { others }, AuthId::anyone())
}

const CONFIG: &str = r#"
RegisterWatch("/big", Exec("wc -c >> OUT/big"), name = "big")
RegisterWatch("/plain", Exec("cat >> OUT/plain; echo >> OUT/plain"), name = "plain")
RegisterWatch("/hidden", Exec("cat >> OUT/hidden"), name = "hidden")
RegisterWatch("/tree", Exec("cat >> OUT/tree"), name = "tree", watch_type = WATCH_TREE)
"#;

#[test]
fn what_cannot_be_read_is_told_everywhere_until_it_can() {
    let server = ZooKeeperServer::start_with(Setup {
        max_buffer: Some(8 << 20),
        ..Setup::default()
    });
    for (path, readable) in [
        ("/big", true),
        ("/plain", true),
        ("/hidden", false),
        ("/tree", true),
        ("/tree/open", true),
        ("/tree/shut", false),
    ] {
        create(&server, path, readable);
    }
    let site = Site::new();
    site.config("a.twc", CONFIG);
    let stage = Stage::start(&site, &server, &[]);
    let armed = stage.daemon.wait("armed", |line| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("watches are armed, but of some"))
    });
    assert_eq!((&armed["watches"], &armed["unreadable"]), (&4.into(), &2.into()));
    stage.daemon.wait_runs("plain", 1);
    stage.daemon.wait_runs("big", 1);
    stage.daemon.wait_runs("tree", 1);

    // Hidden from the start, and in part.
    let hidden = stage.until_state("hidden", "unreadable");
    assert_eq!(
        (&hidden["seen"], &hidden["unreadable"]["parts"]),
        (&Value::Null, &Value::Null)
    );
    let tree = stage.until_state("tree", "unreadable");
    assert_eq!(tree["unreadable"]["parts"], 1);
    assert!(
        tree["unreadable"]["why"].as_str().unwrap().contains("/tree/shut"),
        "{tree}"
    );
    let text = stage.operate(&["status", "hidden"]);
    for part in [
        "hidden: unreadable",
        "NoAuth",
        "`zkCli.sh getAcl /hidden`",
        "--zk-digest-file",
        "tried again in",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("not exist") && !text.contains("been read yet"), "{text}");
    // A run on request has to wait, and says for what.
    let text = stage.operate(&["run-now", "hidden"]);
    assert!(
        text.contains("nothing started yet, it is unreadable (no permission"),
        "{text}"
    );
    stage.until_state("hidden", "unreadable");
    assert_eq!(stage.metric("twitcher_watches_unreadable"), "2");
    assert_eq!(stage.metric("twitcher_watches{state=\"unreadable\"}"), "2");
    let ready = stage.get("/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("of 2 watches"), "{}", ready.body);

    // Too large, after it was handled.
    set(&server, "/big", &vec![b'x'; 2 << 20]);
    stage.until_state("big", "unreadable");
    let text = stage.operate(&["status", "big"]);
    for part in ["2097152 bytes", "at most 1048576", "--max-znode-size", "jute.maxbuffer"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        !text.contains("nothing to do") && !text.contains("Nothing to do"),
        "{text}"
    );
    let line = stage.daemon.wait("it is logged", |line| {
        line["watch"] == "big"
            && line["message"]
                .as_str()
                .is_some_and(|message| message.contains("2097152 bytes"))
    });
    assert!(line["message"].as_str().unwrap().contains("--max-znode-size"), "{line}");
    let listed = stage.operate(&["status", "--state", "unreadable"]);
    let rows = listed.lines().filter(|line| line.contains(" unreadable "));
    assert!(
        rows.clone().any(|row| row.starts_with("big ")) && !listed.contains("\nplain "),
        "{listed}"
    );
    set(&server, "/big", b"small");
    stage.daemon.wait_runs("big", 2);
    assert!(stage.until_state("big", "armed")["unreadable"].is_null());

    // Permission taken away, and given back.
    let_read(&server, "/plain", false);
    stage.until_state("plain", "unreadable");
    set(&server, "/plain", b"2");
    let_read(&server, "/plain", true);
    set(&server, "/plain", b"3");
    until("the last state is run for", || site.read("out/plain").ends_with("3\n"));
    stage.until_state("plain", "armed");
    assert_eq!(stage.metric("twitcher_watches_unreadable"), "2");

    // What is larger than a znode is by default can be asked for.
    set(&server, "/big", &vec![b'x'; 2 << 20]);
    stage.until_state("big", "unreadable");
    stage.daemon.stop();
    let stage = Stage::start(&site, &server, &["--max-znode-size", "4MiB"]);
    stage.daemon.wait_runs("big", 1);
    assert_eq!(site.lines("out/big").last().unwrap(), "2097152");
}

#[test]
fn a_daemon_whose_servers_are_gone_is_not_ready_for_anybody() {
    let mut server = ZooKeeperServer::start();
    create(&server, "/plain", true);
    let site = Site::new();
    site.config("a.twc", r#"RegisterWatch("/plain", Exec("true"), name = "plain")"#);
    let stage = Stage::start(&site, &server, &[]);
    stage.daemon.wait_runs("plain", 1);
    stage.until_state("plain", "armed");
    assert!(stage.operate(&["status"]).lines().next().unwrap().ends_with(": ready"));
    assert_eq!(
        (stage.get("/readyz").status, &*stage.metric("twitcher_ready")),
        (200, "1")
    );

    server.kill();
    until("the loss is noticed", || stage.get("/readyz").status == 503);
    let status = stage.get("/v1/status").json();
    assert!(
        status["unready"].as_str().unwrap().starts_with("not connected to"),
        "{status}"
    );
    assert_eq!(stage.metric("twitcher_ready"), "0");
    let text = stage.operate(&["status"]);
    assert!(
        text.lines().next().unwrap().ends_with(": not ready: not connected"),
        "{text}"
    );
    assert!(text.contains("  as of "), "{text}");
    let watch = stage.get("/v1/watches/plain").json();
    assert!(watch["as_of"].is_string(), "{watch}");
    assert!(stage.operate(&["status", "plain"]).contains("  as of "), "{watch}");

    server.restart();
    until("it is back", || stage.get("/readyz").status == 200);
    assert!(stage.get("/v1/watches/plain").json()["as_of"].is_null());
}

#[test]
fn of_several_znodes_nothing_is_run_for_before_all_have_been_read() {
    let server = ZooKeeperServer::start_with(Setup::default());
    create(&server, "/a", true);
    create(&server, "/b", false);
    let site = Site::new();
    site.config(
        "a.twc",
        r#"RegisterWatch(["/a", "/b", "/c"], Exec("echo $(cat) >> OUT/log"), name = "s")"#,
    );
    let stage = Stage::start(&site, &server, &[]);
    let unreadable = stage.until_state("s", "unreadable");
    assert!(
        unreadable["unreadable"]["why"]
            .as_str()
            .unwrap()
            .starts_with("/b: no permission"),
        "{unreadable}"
    );
    assert_eq!(unreadable["znodes"][0]["seen"]["exists"], true);
    assert_eq!(
        (&unreadable["znodes"][1]["seen"], &unreadable["seen"]),
        (&Value::Null, &Value::Null)
    );
    let text = stage.operate(&["run-now", "s"]);
    assert!(
        text.contains("nothing started yet, it is unreadable (/b: no permission"),
        "{text}"
    );
    assert!(!site.path("out/log").exists());
    let_read(&server, "/b", true);
    set(&server, "/b", b"1");
    until("it runs for all", || site.lines("out/log") == ["/a /b"]);
    stage.until_state("s", "armed");

    // What was read stands for what cannot be read any more; the others are run for.
    let_read(&server, "/b", false);
    set(&server, "/b", b"2");
    stage.until_state("s", "unreadable");
    set(&server, "/a", b"2");
    until("for the other one", || site.lines("out/log").len() == 2);
    assert_eq!(site.lines("out/log")[1], "/a");
    create(&server, "/c", true);
    until("for one that came", || {
        site.lines("out/log").last().is_some_and(|last| last == "/c")
    });
    let_read(&server, "/b", true);
    set(&server, "/b", b"3");
    until("once it is readable", || {
        site.lines("out/log").last().is_some_and(|last| last == "/b")
    });
    stage.until_state("s", "armed");
}
