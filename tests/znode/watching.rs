//! `twitcher znode watch`: a line a state, and none missed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::At;
use crate::support::DEADLINE;
use crate::support::proxy::Proxy;
use crate::support::zookeeper::{ZooKeeperServer, free_port, unique_path};

/// A watch that runs. Killed when dropped.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(at: &At, arguments: &[&str]) -> Self {
        let mut child = at
            .command(&[&["watch"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Lines until one has this data.
    fn until_data(&self, data: &str) -> Value {
        loop {
            let line = self.json();
            if line["data"] == data {
                return line;
            }
        }
    }

    /// Its exit code, and what it said on standard error.
    fn stop(mut self, signal: Option<Signal>) -> (Option<i32>, String) {
        if let Some(signal) = signal {
            kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        }
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_znodes_life_is_told_a_line_a_state() {
    let server = ZooKeeperServer::shared();
    let at = At::new(&["--zk", &server.address()]);
    let path = unique_path("watched");
    let watch = Watch::start(&at, &[&path, "--json"]);
    let first = watch.json();
    assert_eq!((&first["event"], &first["exists"]), (&json!("absent"), &json!(false)));
    at.ok(&["create", &path, "1"]);
    let created = watch.json();
    assert_eq!((&created["event"], &created["data"]), (&json!("created"), &json!("1")));
    assert_eq!((&created["version"], &created["znode"]), (&json!(0), &json!(path)));
    at.ok(&["set", &path, "2"]);
    let set = watch.json();
    assert_eq!(
        (&set["event"], &set["data"], &set["version"]),
        (&json!("data"), &json!("2"), &json!(1))
    );
    at.ok(&["delete", &path]);
    assert_eq!(watch.json()["event"], "deleted");
    assert_eq!(watch.stop(Some(Signal::SIGTERM)), (Some(0), String::new()));
}

#[test]
fn children_and_subtrees_are_watched_too() {
    let server = ZooKeeperServer::shared();
    let tree = tempfile::tempdir().unwrap();
    let path = unique_path("below");
    for at in [
        At::new(&["--zk", &server.address()]),
        At::new(&["--tree", tree.path().to_str().unwrap()]),
    ] {
        at.ok(&["create", "-p", &format!("{path}/a/x"), "1"]);
        let children = Watch::start(&at, &[&path, "--children", "--json"]);
        let below = Watch::start(&at, &[&path, "-r", "--json"]);
        let text = Watch::start(&at, &[&path, "--children", "-n", "1"]);
        assert_eq!(children.json()["children"], json!(["a"]));
        assert_eq!(below.json()["event"], "load");
        assert!(text.line().contains(" load     "));
        at.ok(&["set", &format!("{path}/a/x"), "2"]);
        let changed = below.json();
        assert_eq!(
            (&changed["event"], &changed["changed"]),
            (&json!("tree"), &json!([format!("{path}/a/x")]))
        );
        at.ok(&["create", &format!("{path}/b")]);
        let more = children.json();
        assert_eq!(
            (&more["event"], &more["children"]),
            (&json!("children"), &json!(["a", "b"]))
        );
        assert!(text.line().ends_with("children=2 a b"));
        assert_eq!(
            text.stop(None),
            (Some(0), String::new()),
            "it was to end after a change"
        );
    }
}

#[test]
fn a_lost_connection_and_an_expired_session_lose_nothing() {
    let mut server = ZooKeeperServer::start();
    let proxy = Proxy::to(server.port());
    let (direct, path) = (At::new(&["--zk", &server.address()]), "/watched");
    direct.ok(&["create", path, "1"]);
    let at = At::new(&["--zk", &proxy.address(), "--zk-session-timeout", "1"]);
    let watch = Watch::start(&at, &[path, "--json"]);
    assert_eq!(watch.until_data("1")["event"], "load");
    // Nothing passes until the session has expired.
    proxy.rules(|rules| rules.blackhole = true);
    crate::support::until("the session has expired", || super::sessions(&server) == 0);
    direct.ok(&["set", path, "2"]);
    proxy.rules(|rules| rules.blackhole = false);
    proxy.sever();
    assert_eq!(watch.until_data("2")["event"], "data");
    server.restart();
    direct.ok(&["set", path, "3"]);
    assert_eq!(watch.until_data("3")["event"], "data");
    direct.ok(&["delete", path]);
    direct.ok(&["create", path, "4"]);
    watch.until_data("4");
    let (code, said) = watch.stop(Some(Signal::SIGINT));
    assert_eq!(code, Some(0));
    assert!(said.contains("WARN"), "what is wrong is said: {said}");
}

#[test]
fn it_waits_for_servers_and_for_permission_and_says_so() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let watch = Watch::start(&At::new(&["--zk", &nobody]), &["/a"]);
    let mut watch = watch;
    let mut said = BufReader::new(watch.child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(
        line.contains("no ZooKeeper session") && line.contains("Connection refused"),
        "{line}"
    );
    watch.child.stderr = Some(said.into_inner());
    watch.stop(Some(Signal::SIGTERM));

    let server = ZooKeeperServer::shared();
    let dir = tempfile::tempdir().unwrap();
    let digest = dir.path().join("digest");
    fs::write(&digest, "owner:secret\n").unwrap();
    let (address, path) = (server.address(), unique_path("closed"));
    At::new(&["--zk", &address, "--zk-digest-file", digest.to_str().unwrap()]).ok(&["create", &path, "x"]);
    let mut watch = Watch::start(&At::new(&["--zk", &address]), &[&path]);
    let mut said = BufReader::new(watch.child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(
        line.contains(&path) && line.contains("no permission to read it"),
        "{line}"
    );
}
