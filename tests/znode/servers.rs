//! Znodes of real servers: the commands, who may use them, and what is said when they cannot.

use std::fs;

use serde_json::json;

use super::{At, exit};
use crate::support::proxy::{Proxy, op};
use crate::support::until;
use crate::support::zookeeper::{Setup, ZooKeeperServer, free_port, unique_path};

fn at(servers: &str) -> At {
    At::new(&["--zk", servers])
}

#[test]
fn znodes_are_set_read_listed_and_deleted() {
    let server = ZooKeeperServer::shared();
    let top = unique_path("znode");
    let at = at(&server.address());
    let path = |below: &str| format!("{top}{below}");
    at.fails(exit::NO_NODE, &["set", &path("/git/head"), "1"]);
    assert_eq!(at.ok(&["set", "-p", &path("/git/head"), "1"]), "0\n");
    assert_eq!(
        at.ok(&["set", "-p", &path("/git/head"), "1"]),
        "1\n",
        "a poke, though the data is the same"
    );
    assert_eq!(at.ok(&["set", &path("/git/head"), "2", "--if-version", "1"]), "2\n");
    let error = at.fails(exit::CONFLICT, &["set", &path("/git/head"), "3", "--if-version", "1"]);
    assert!(
        error.contains("has version 2, not 1: it was set in the meantime"),
        "{error}"
    );
    at.fails(exit::NO_NODE, &["set", "-p", &path("/new"), "3", "--if-version", "0"]);
    assert_eq!(at.ok(&["get", &path("/git/head")]), "2");
    let (got, stat) = (
        at.json(&["get", &path("/git/head")]),
        at.json(&["stat", &path("/git/head")]),
    );
    assert_eq!((&got["version"], &got["data"]), (&json!(2), &json!("2")));
    for name in ["version", "mzxid", "czxid", "znode"] {
        assert_eq!(got[name], stat[name], "{name}");
    }
    assert_eq!((&stat["data_length"], &stat["num_children"]), (&json!(1), &json!(0)));
    assert!(
        stat["ctime"].as_str() <= stat["mtime"].as_str() && stat["ephemeral_owner"] == 0,
        "{stat}"
    );
    assert!(
        at.ok(&["stat", &path("/git/head")])
            .starts_with("version          2\ndata_length      1\n")
    );

    at.ok(&["create", &path("/a"), "x"]);
    at.fails(exit::CONFLICT, &["create", &path("/a"), "y"]);
    at.fails(exit::NO_NODE, &["create", &path("/none/a")]);
    assert_eq!(at.ok(&["ls", &top]), "a\ngit\n");
    assert_eq!(at.json(&["ls", &top])["children"], json!(["a", "git"]));
    let below = [path("/a"), path("/git"), path("/git/head")];
    assert_eq!(at.json(&["ls", "-r", &top])["znodes"], json!(below));
    let error = at.fails(exit::FAILURE, &["delete", &top]);
    assert!(error.contains("it has children"), "{error}");
    at.fails(exit::CONFLICT, &["delete", &path("/a"), "--if-version", "1"]);
    at.ok(&["delete", &path("/a"), "--if-version", "0"]);
    assert_eq!(at.json(&["delete", "-r", &top])["deleted"], 3);
    at.fails(exit::NO_NODE, &["get", &top]);
    for kept in ["/", "/zookeeper", "/zookeeper/config"] {
        let error = at.fails(exit::FAILURE, &["delete", "-r", kept]);
        assert!(error.contains("not deleted with everything below it"), "{error}");
    }
}

#[test]
fn hundreds_of_znodes_are_listed_and_deleted() {
    let server = ZooKeeperServer::shared();
    let top = unique_path("many");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = zookeeper_client::Client::connect(&server.address()).await.unwrap();
        let open = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
        client.create(&top, b"", &open).await.unwrap();
        for i in 0..20 {
            client.create(&format!("{top}/{i}"), b"", &open).await.unwrap();
            for j in 0..20 {
                client.create(&format!("{top}/{i}/{j}"), b"", &open).await.unwrap();
            }
        }
    });
    let at = at(&server.address());
    assert_eq!(at.ok(&["ls", "-r", &top]).lines().count(), 420);
    assert_eq!(at.json(&["delete", "-r", &top])["deleted"], 421);
}

#[test]
fn servers_are_found_in_the_environment_and_a_chroot_is_obeyed() {
    let server = ZooKeeperServer::shared();
    let chroot = unique_path("chroot");
    let inside = at(&format!("{}{chroot}", server.address()));
    let error = inside.fails(exit::NO_NODE, &["set", "-p", "/a/b", "x"]);
    assert!(
        error.contains(&format!("the chroot {chroot} does not exist\n  hint: create it first")),
        "{error}"
    );
    let outside = at(&server.address());
    outside.ok(&["create", &chroot]);
    inside.ok(&["set", "-p", "/a/b", "x"]);
    assert_eq!(outside.ok(&["get", &format!("{chroot}/a/b")]), "x");
    let mut by_environment = super::command(&["get", "/a/b"], &[]);
    let output = by_environment
        .env("TWITCHER_ZK", format!("{}{chroot}", server.address()))
        .output();
    assert_eq!(output.unwrap().stdout, b"x");
}

#[test]
fn credentials_own_what_they_create_unless_everybody_may_read_it() {
    let server = ZooKeeperServer::shared();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("digest");
    fs::write(&file, "poker:secret\n").unwrap();
    let address = server.address();
    let anybody = at(&address);
    let poker = At::new(&["--zk", &address, "--zk-digest-file", file.to_str().unwrap()]);
    let (own, open) = (unique_path("own"), unique_path("open"));
    poker.ok(&["set", "-p", &format!("{own}/a"), "mine"]);
    assert_eq!(poker.ok(&["get", &format!("{own}/a")]), "mine");
    for command in [
        &["get", &format!("{own}/a")][..],
        &["set", &format!("{own}/a"), "x"],
        &["delete", &format!("{own}/a")],
        &["delete", "-r", &own],
        &["create", &format!("{own}/b")],
    ] {
        let error = anybody.fails(exit::DENIED, command);
        assert!(
            error.contains("does not permit this to a client without credentials"),
            "{error}"
        );
        assert!(error.contains("hint: --zk-digest-file"), "{error}");
    }
    poker.ok(&["set", "-p", "--world-readable", &format!("{open}/a"), "ours"]);
    assert_eq!(anybody.ok(&["get", &format!("{open}/a")]), "ours");
    assert_eq!(anybody.ok(&["ls", &open]), "a\n");
    let acl = anybody.ok(&["stat", "--acl", &open]);
    let acl: Vec<&str> = acl
        .lines()
        .filter_map(|line| line.strip_prefix("acl "))
        .map(str::trim)
        .collect();
    assert!(
        acl.len() == 2 && acl[0].starts_with("digest:poker:") && acl[0].ends_with(":cdrwa"),
        "{acl:?}"
    );
    assert_eq!(acl[1], "world:anyone:r");
    let acl = poker.json(&["stat", "--acl", &own]);
    assert_eq!(
        (&acl["acl"][0]["scheme"], &acl["acl"][0]["permissions"]),
        (&json!("digest"), &json!("cdrwa"))
    );
    anybody.fails(exit::DENIED, &["set", &format!("{open}/a"), "x"]);
    poker.ok(&["set", &format!("{open}/a"), "still ours"]);
    assert_eq!(anybody.ok(&["get", &format!("{open}/a")]), "still ours");
}

#[test]
fn tls_and_sasl_are_those_of_the_daemon() {
    let server = ZooKeeperServer::start_with(Setup {
        tls: true,
        sasl: Some(("twitcher", "secret")),
        require_sasl: true,
        ..Setup::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (dir.path().join("right"), dir.path().join("wrong"));
    fs::write(&right, "twitcher:secret\n").unwrap();
    fs::write(&wrong, "twitcher:other\n").unwrap();
    let secure = format!("localhost:{}", server.secure_port());
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| server.file(name));
    let with = |password: &std::path::Path, more: &[&str]| {
        let files = [ca.to_str().unwrap(), cert.to_str().unwrap(), key.to_str().unwrap()];
        let tls = ["--zk-ca", files[0], "--zk-cert", files[1], "--zk-key", files[2]];
        let sasl = ["--zk", &secure, "--zk-sasl-file", password.to_str().unwrap()];
        At::new(&[&sasl[..], &tls, more].concat())
    };
    let at = with(&right, &[]);
    at.ok(&["set", "-p", "/a/b", "x"]);
    assert_eq!(at.ok(&["get", "/a/b"]), "x");
    let error = with(&wrong, &["--timeout", "5"]).fails(exit::UNREACHABLE, &["get", "/a/b"]);
    // A server that speaks TLS may hang up before it says why.
    assert!(error.contains("credentials"), "{error}");
    let wrong = ["--zk", &server.address(), "--zk-sasl-file", wrong.to_str().unwrap()];
    let error = At::new(&[&wrong[..], &["--timeout", "5"]].concat()).fails(exit::UNREACHABLE, &["get", "/a/b"]);
    assert!(
        error.contains("credentials") && error.contains("; nothing was changed"),
        "{error}"
    );
    assert!(!error.contains("other"), "{error}");
    let plain = At::new(&["--zk", &secure, "--timeout", "5"]).fails(exit::UNREACHABLE, &["get", "/a/b"]);
    assert!(plain.contains("no session with ZooKeeper at localhost:"), "{plain}");
    let error = At::new(&["--zk", &secure, "--zk-ca", "/nonexistent"]).fails(exit::USAGE, &["get", "/a"]);
    assert!(error.contains("cannot read /nonexistent"), "{error}");
}

#[test]
fn no_server_is_said_and_a_cut_off_write_is_uncertain() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let error = At::new(&["--zk", &nobody, "--timeout", "0.5"]).fails(exit::UNREACHABLE, &["set", "/a", "x"]);
    assert!(
        error.contains("within 0.5 s") && error.contains("Connection refused"),
        "{error}"
    );
    assert!(error.ends_with("nothing was changed\n"), "{error}");

    let server = ZooKeeperServer::start();
    let proxy = Proxy::to(server.port());
    let (at, direct) = (at(&proxy.address()), at(&server.address()));
    direct.ok(&["create", "/a", "1"]);
    proxy.rules(|rules| rules.cut_reply_to = Some(op::SET_DATA));
    let error = at.fails(exit::UNKNOWN_OUTCOME, &["set", "/a", "2"]);
    assert!(
        error.contains("may have been carried out or not") && error.contains("hint:"),
        "{error}"
    );
    assert_eq!(
        (direct.ok(&["get", "/a"]), proxy.requests(op::SET_DATA)),
        ("2".to_owned(), 1),
        "never twice"
    );
    // A read is made again.
    proxy.rules(|rules| rules.cut_reply_to = Some(op::GET_DATA));
    assert_eq!(at.ok(&["get", "/a"]), "2");
}

#[test]
fn what_a_znode_cannot_hold_is_refused_before_it_is_sent() {
    let server = ZooKeeperServer::shared();
    let path = unique_path("large");
    let at = at(&server.address());
    at.ok(&["create", &path, "kept"]);
    let large = at.given(&["set", &path, "-"], &vec![b'x'; 1 << 20]);
    let error = String::from_utf8(large.stderr).unwrap();
    assert_eq!(large.status.code(), Some(exit::FAILURE));
    assert!(error.contains("more than 1048576 bytes"), "{error}");
    assert_eq!(at.ok(&["get", &path]), "kept");
}

#[test]
fn larger_znodes_are_for_servers_that_hold_them() {
    let server = ZooKeeperServer::start_with(Setup {
        max_buffer: Some(8 << 20),
        ..Setup::default()
    });
    let at = At::new(&["--zk", &server.address(), "--max-znode-size", "4MiB"]);
    let data = vec![b'x'; 3 << 20];
    assert!(at.given(&["create", "/a", "-"], &data).status.success());
    assert_eq!(at.run(&["get", "/a"]).stdout, data);
    let error = At::new(&["--zk", &server.address()]).fails(exit::FAILURE, &["get", "/a"]);
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}

#[test]
fn no_session_is_left_behind() {
    let server = ZooKeeperServer::start();
    let at = at(&server.address());
    for i in 0..3 {
        at.ok(&["set", "-p", "/a", &i.to_string()]);
        at.fails(exit::NO_NODE, &["get", "/none"]);
    }
    // Well before they would expire, after 10 s.
    let started = std::time::Instant::now();
    until("no session is left", || super::sessions(&server) == 0);
    assert!(
        started.elapsed() < std::time::Duration::from_secs(3),
        "they were not closed but expired"
    );
}
