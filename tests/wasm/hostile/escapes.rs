//! Reaching for what is not granted: files, sockets, names. Each attempt is refused, and what it was after is untouched.

use std::fs::{self, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::process::Command;

use super::{Scene, hostile, message, outcome, site};
use crate::support::daemon::{PROGRAM, Site};
use crate::support::guests::guest;

const REFUSED: &str = "failed: refused: ";

#[test]
fn files_outside_the_granted_directories_are_out_of_reach() {
    let site = site();
    // As root, whom no file mode stops.
    for dir in ["out/rw", "out/ro", "out/outside"] {
        fs::create_dir(site.path(dir)).unwrap();
        fs::set_permissions(site.path(dir), Permissions::from_mode(0o777)).unwrap();
    }
    fs::write(site.path("out/outside/secret"), "secret").unwrap();
    fs::write(site.path("out/ro/file"), "before").unwrap();
    symlink("../outside/secret", site.path("out/rw/link")).unwrap();
    symlink("../outside", site.path("out/rw/linked-dir")).unwrap();
    symlink(site.path("out/outside/secret"), site.path("out/rw/absolute-link")).unwrap();
    let dirs = "dirs={'/out': 'OUT/rw:rw', '/in': 'OUT/ro'}";
    let outside = site.path("out/outside/secret").display().to_string();
    let mut names = Vec::new();
    let mut attempt = |name: String, component: &str, config: String| {
        hostile(&site, &name, &guest(component), &format!("{dirs}{config}"), "");
        names.push(name);
    };
    attempt("passwd".into(), "reads_passwd", String::new());
    for (at, path) in [
        "/etc/passwd",
        &outside,
        "/out/../outside/secret",
        "/out/../../outside/secret",
        "/in/../outside/secret",
        "../outside/secret",
        "/out/link",
        "/out/absolute-link",
        "/out/linked-dir/secret",
    ]
    .iter()
    .enumerate()
    {
        attempt(format!("reads-{at}"), "reads", format!(", config={{'path': '{path}'}}"));
        attempt(
            format!("writes-{at}"),
            "writes",
            format!(", config={{'path': '{path}'}}"),
        );
    }
    for (at, path) in ["/in/file", "/in/new", "/out/linked-dir/new"].iter().enumerate() {
        attempt(
            format!("makes-{at}"),
            "writes",
            format!(", config={{'path': '{path}'}}"),
        );
    }
    for (at, target) in [&outside, "../outside/secret", "/etc/passwd"].iter().enumerate() {
        attempt(
            format!("links-{at}"),
            "writes_by_own_link",
            format!(", config={{'target': '{target}'}}"),
        );
    }
    let passwd = fs::read("/etc/passwd").unwrap();
    let scene = Scene::start(site);
    for name in names {
        let run = scene.end(&name);
        assert!(outcome(&run).starts_with(REFUSED), "{run}\n{}", scene.daemon.text());
    }
    let kept = |name: &str| scene.site.read(&format!("out/{name}"));
    assert_eq!(
        (kept("outside/secret").as_str(), kept("ro/file").as_str()),
        ("secret", "before")
    );
    assert_eq!(fs::read("/etc/passwd").unwrap(), passwd);
    for (dir, files) in [("out/outside", 1), ("out/ro", 1)] {
        assert_eq!(fs::read_dir(scene.site.path(dir)).unwrap().count(), files, "{dir}");
    }
    assert!(!scene.daemon.text().contains("\\\"secret"), "it was read and printed");
    scene.is_unharmed();
}

#[test]
fn without_a_grant_there_is_no_network() {
    let (tcp, udp) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    let (to, udp_to) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    let cases = [
        (
            "connects",
            format!("config={{'address': '{to}'}}"),
            "net = [\"HOST:PORT\"]".to_owned(),
        ),
        ("listens", String::new(), "making a TCP socket".to_owned()),
        (
            "sends_udp",
            format!("config={{'address': '{udp_to}'}}"),
            "nothing allows it".to_owned(),
        ),
        (
            "resolves",
            "config={'name': 'localhost'}".to_owned(),
            "net = [\"localhost:PORT\"]".to_owned(),
        ),
        (
            "requests",
            format!("config={{'scheme': 'http', 'authority': '{to}'}}"),
            format!("http = [\"http://{to}\"]"),
        ),
    ];
    let site = site();
    for (name, grants, _) in &cases {
        hostile(&site, name, &guest(name), grants, "");
    }
    let scene = Scene::start(site);
    for (name, _, says) in &cases {
        let run = scene.end(name);
        assert!(outcome(&run).starts_with(REFUSED), "{run}");
        scene.daemon.wait(says, |line| {
            let text = message(line);
            line["watch"] == *name && line["level"] == "WARN" && text.starts_with("denied: ") && text.contains(says)
        });
    }
    assert!(tcp.accept().is_err() && udp.recv(&mut [0; 10]).is_err(), "nothing came");
    scene.is_unharmed();
}

/// Whoever owns a directory decides what is found in it, but not what root's rights are used for.
#[test]
fn a_link_of_another_user_grants_nothing() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let site = Site::new();
    for dir in ["secret", "theirs", "ours", "ours/releases"] {
        fs::create_dir(site.path(dir)).unwrap();
    }
    fs::set_permissions(site.path("secret"), Permissions::from_mode(0o700)).unwrap();
    chown(site.path("theirs"), Some(4711), None).unwrap();
    symlink(site.path("secret"), site.path("theirs/out")).unwrap();
    lchown(site.path("theirs/out"), Some(4711), None).unwrap();
    symlink("releases", site.path("ours/current")).unwrap();
    for (name, dir) in [("theirs", "theirs/out"), ("ours", "ours/current")] {
        let dir = site.path(dir);
        let grants = format!(
            "config={{'path': '/out/file'}}, dirs={{'/out': '{}:rw'}}",
            dir.display()
        );
        hostile(&site, name, &guest("writes"), &grants, "");
    }
    let checked = Command::new(PROGRAM)
        .arg("check")
        .arg(site.path("conf"))
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(said.matches("can replace").count(), 1, "{said}");
    assert!(
        said.contains("theirs/out is a link that user 4711 can replace"),
        "{said}"
    );

    site.set("/x", "0");
    let daemon = site.start();
    let refused = daemon.wait_runs("theirs", 1).remove(0);
    assert!(
        outcome(&refused).contains("theirs/out is a link that user 4711 can replace"),
        "{refused}"
    );
    assert_eq!(fs::read_dir(site.path("secret")).unwrap().count(), 0);
    assert_eq!(
        outcome(&daemon.wait_runs("ours", 1)[0]),
        "success",
        "a link of root's is root's will"
    );
    assert_eq!(site.read("ours/releases/file"), "written by a guest");
}
