//! Who may use the socket, and what happens when it cannot be had.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::*;
use crate::support::daemon::PROGRAM;

/// The kernel says who is at the other end; the mode of the file alone would not be enough should somebody change it.
#[test]
fn a_user_who_is_no_operator_is_refused_whatever_the_mode_of_the_file() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let site = Site::new();
    let daemon = Controlled::start(&site);
    let ask = || {
        let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
            s.sendall(b'POST /v1/drain HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n')\n\
            d=b''\nwhile True:\n    b=s.recv(4096)\n    if not b: break\n    d+=b\nprint(d.decode())";
        let mut nobody = Command::new("python3");
        nobody
            .args(["-c", script])
            .arg(&daemon.socket)
            .uid(65534)
            .gid(65534)
            .current_dir("/");
        let output = nobody.output().unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(
        fs::metadata(&daemon.socket).unwrap().permissions().mode() & 0o777,
        0o660
    );
    fs::set_permissions(site.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(ask().1.contains("PermissionError"), "the file's mode comes first");
    fs::set_permissions(&daemon.socket, fs::Permissions::from_mode(0o666)).unwrap();
    let (answer, _) = ask();
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("members of the group twitcher"),
        "{answer}"
    );
    daemon.daemon.wait("it is logged", |line| {
        line["uid"] == 65534 && line["message"].as_str().is_some_and(|text| text.contains("refused"))
    });
    assert_eq!(daemon.get("/healthz").status, 200, "and was not drained");
}

#[test]
fn a_socket_left_behind_is_replaced() {
    let site = Site::new();
    let first = Controlled::start(&site);
    let socket = first.socket.clone();
    first.daemon.crash();
    assert!(socket.exists());
    let second = Controlled::start(&site);
    assert_eq!(second.get("/healthz").status, 200);
    second.daemon.signal(Signal::SIGTERM);
}

fn refused(site: &Site, arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM)
        .args(["run", "--config"])
        .arg(site.path("conf"))
        .arg("--tree")
        .arg(site.path("tree"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_second_daemon_is_refused_and_told_who_is_there() {
    let site = Site::new();
    let daemon = Controlled::start(&site);
    let pid = format!("pid {}", daemon.daemon.pid());
    let (state, other) = (site.path("state"), site.path("other"));
    let (state, other) = (state.to_string_lossy(), other.to_string_lossy());
    let said = refused(&site, &["--state-dir", &state]);
    assert!(said.contains(&pid), "state directory: {said}");
    let said = refused(
        &site,
        &["--state-dir", &other, "--control", &daemon.socket.to_string_lossy()],
    );
    assert!(
        said.contains(&pid) && said.contains("control socket"),
        "control socket: {said}"
    );
    let said = refused(
        &site,
        &[
            "--state-dir",
            &other,
            "--control",
            &site.path("sock").to_string_lossy(),
            "--http",
            &daemon.http,
        ],
    );
    assert!(said.contains(&daemon.http) && said.contains("--http"), "port: {said}");
    assert_eq!(daemon.get("/healthz").status, 200, "the first one goes on");
}

#[test]
fn what_browsers_may_do_on_the_port() {
    let site = Site::new();
    let daemon = Controlled::start(&site);
    let page = http::browse(&daemon.http, "GET", "/");
    assert!(
        page.status == 200 && page.body.starts_with("<!doctype html>"),
        "{page:?}"
    );
    assert_eq!(http::browse(&daemon.http, "POST", "/v1/drain").status, 405);
    // What never changes while a daemon runs: its phase may, between the two questions.
    let (shown, told) = (
        http::browse(&daemon.http, "GET", "/v1/status").json(),
        daemon.get("/v1/status").json(),
    );
    assert!(shown["pid"].is_u64() && shown["pid"] == told["pid"], "{shown} {told}");
}

/// Whoever reaches the port is nobody in particular: every local user, to begin with.
#[test]
fn the_port_shows_what_runs_and_what_it_wrote_only_where_that_is_asked_for() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        "RegisterWatch('/a', Exec('echo password hunter2; exit 3'), name='a', description='hunter2')",
    );
    for (more, shown) in [(&[][..], false), (&["--http-details"], true)] {
        let daemon = Controlled::start_with(&site, more, &[]);
        let id = daemon.until_state("a", "failed")["last_run"]["run"].clone();
        let run = format!("/v1/runs/{}", id.as_str().unwrap());
        until("its output is on the socket", || {
            daemon.get(&run).json()["output"] == "password hunter2\n"
        });
        for path in ["/v1/watches/a", &run] {
            let told = http::browse(&daemon.http, "GET", path);
            assert_eq!(told.body.contains("hunter2"), shown, "{path}: {told:?}");
            assert_eq!(told.json()["withheld"], !shown, "{path}: {told:?}");
            assert!(told.body.contains("exit code 3"), "{path}: {told:?}");
            assert!(daemon.get(path).body.contains("hunter2"), "{path}");
        }
    }
}
