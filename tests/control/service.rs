//! What the service manager is told.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::signal::Signal;

use super::*;
use crate::support::DEADLINE;

/// Reads messages until one has a line like this; gives that message.
fn told(manager: &UnixDatagram, line: &str) -> String {
    let mut heard = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = match manager.recv(&mut buffer) {
            Ok(length) => length,
            // Other tests of this process handle signals.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => panic!("{error}; heard: {heard:#?}"),
        };
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.lines().any(|has| has.starts_with(line)) {
            return message;
        }
        heard.push(message);
    }
}

#[test]
fn ready_reloading_alive_and_stopping() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("env > OUT/env"), name = "a", inherit_env = True)"#,
    );
    let path = site.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let usec = Path::new("400000");
    let daemon = Controlled::start_in(&site, &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", usec)]);
    told(&manager, "READY=1");
    told(&manager, "STATUS=1 watches armed");
    for _ in 0..3 {
        told(&manager, "WATCHDOG=1");
    }
    daemon.daemon.signal(Signal::SIGHUP);
    let reloading = told(&manager, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    told(&manager, "READY=1");
    site.config("b.twc", "nonsense");
    assert_eq!(daemon.post("/v1/reload").status, 200);
    told(&manager, "RELOADING=1");
    told(&manager, "READY=1");
    told(
        &manager,
        "STATUS=1 watches armed, 0 running; the configuration has errors",
    );
    daemon.daemon.signal(Signal::SIGTERM);
    told(&manager, "STOPPING=1");
    let env = site.read("out/env");
    assert!(
        env.contains("TWITCHER_NAME=a") && !env.contains("NOTIFY_SOCKET"),
        "{env}"
    );
}
