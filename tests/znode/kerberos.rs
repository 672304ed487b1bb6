//! SASL GSSAPI: a realm with a KDC, a server that serves nobody without a ticket, and the program as an operator starts it.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{command, exit};
use crate::support::daemon::{Daemon, Site};
use crate::support::kdc::Realm;
use crate::support::until;
use crate::support::zookeeper::{Setup, ZooKeeperServer, free_port};

const CLIENT: &str = "twitcher";
const SERVER: &str = "zookeeper/localhost";

/// A realm, and a server in it; none where no realm can be had, which is said.
fn start(life: Duration) -> Option<(Realm, ZooKeeperServer)> {
    if let Err(why) = Realm::can_start() {
        // Not captured: `make test` installs what it takes, and whoever reads what it says is to see that this was left out.
        let _ = writeln!(std::io::stderr(), "left out, Kerberos: {why}");
        return None;
    }
    let realm = Realm::start(&[CLIENT, SERVER, "somebody/else"], life);
    let server = ZooKeeperServer::start_with(Setup {
        kerberos: Some((realm.config(), realm.keytab(SERVER))),
        require_sasl: true,
        ..Setup::default()
    });
    Some((realm, server))
}

/// `twitcher znode` by an operator with this keytab.
fn znode(realm: &Realm, servers: &str, keytab: &Path, arguments: &[&str]) -> Command {
    let mut command = command(arguments, &["--zk", servers, "--zk-keytab"]);
    command.arg(keytab).env("KRB5_CONFIG", realm.config());
    command
}

fn said(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {text}");
    text
}

#[test]
fn keys_in_a_keytab_are_enough_and_tickets_are_renewed() {
    let Some((realm, mut server)) = start(Duration::from_secs(4)) else {
        return;
    };
    let servers = format!("localhost:{}", server.port());
    let keytab = realm.keytab(CLIENT);
    let znode = |arguments: &[&str]| said(znode(&realm, &servers, &keytab, arguments), 0);
    znode(&["create", "/a", "1"]);

    let site = Site::new();
    site.config(
        "a.twc",
        &format!(
            r#"RegisterWatch("/a", Exec("cat >> {0}; echo >> {0}"))"#,
            site.path("ran").display()
        ),
    );
    let (keytab, state) = (keytab.to_string_lossy(), site.path("state"));
    let arguments = [
        "--state-dir",
        &state.to_string_lossy(),
        "--zk",
        &servers,
        "--zk-keytab",
        &keytab,
        "--zk-principal",
        "twitcher@TEST",
    ];
    let daemon = Daemon::start_in(&site.path("conf"), &arguments, &[("KRB5_CONFIG", &realm.config())]);
    until("the first run", || site.lines("ran") == ["1"]);
    znode(&["set", "/a", "2"]);
    until("the second run", || site.lines("ran") == ["1", "2"]);
    // Past the life of the first ticket, by the KDC's own clock: it takes whatever this machine takes to get there.
    let first = std::time::Instant::now();
    until("the ticket is over", || first.elapsed() > Duration::from_secs(6));
    server.restart();
    znode(&["set", "/a", "3"]);
    until("the run after the restart", || site.lines("ran") == ["1", "2", "3"]);
    assert!(daemon.stop().success());
}

#[test]
fn what_is_wrong_is_told_with_principal_keytab_and_realm() {
    let Some((mut realm, server)) = start(Duration::from_secs(600)) else {
        return;
    };
    let servers = format!("localhost:{}", server.port());
    let keytab = realm.keytab(CLIENT);
    let ask = |realm: &Realm, servers: &str, keytab: &Path, more: &[&str]| {
        let mut command = znode(realm, servers, keytab, &["ls", "/", "--timeout", "4"]);
        command.args(more);
        command
    };

    let missing = said(
        ask(&realm, &servers, Path::new("/nonexistent/keytab"), &[]),
        exit::USAGE,
    );
    assert!(
        missing.contains("cannot read the keytab /nonexistent/keytab"),
        "{missing}"
    );

    // The keytab has no keys of it.
    let foreign = said(
        ask(&realm, &servers, &keytab, &["--zk-principal", "somebody/else@TEST"]),
        exit::UNREACHABLE,
    );
    for word in ["somebody/else@TEST", &*keytab.to_string_lossy(), "zookeeper/localhost"] {
        assert!(foreign.contains(word), "{word}: {foreign}");
    }
    // The realm has no such service.
    let service = said(
        ask(&realm, &servers, &keytab, &["--zk-service", "kafka"]),
        exit::UNREACHABLE,
    );
    assert!(
        service.contains("kafka/localhost") && service.contains("TEST"),
        "{service}"
    );
    // Nobody is there.
    let nobody = format!("localhost:{}", free_port());
    let nobody = said(ask(&realm, &nobody, &keytab, &[]), exit::UNREACHABLE);
    assert!(nobody.contains("refused") && !nobody.contains("Kerberos"), "{nobody}");
    // Without a ticket, the server does not serve.
    let mut without = command(&["ls", "/", "--timeout", "4"], &["--zk", &servers]);
    assert_ne!(without.output().unwrap().status.code(), Some(0));

    realm.kill();
    let away = said(ask(&realm, &servers, &keytab, &[]), exit::UNREACHABLE);
    assert!(away.contains("KDC") && away.contains("TEST"), "{away}");
    realm.launch();
    said(ask(&realm, &servers, &keytab, &[]), 0);
}
