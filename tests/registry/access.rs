//! Registries that are not there, or not for everybody.

use std::fs;
use std::process::Command;

use super::{Sample, Scene, complaint, printed};
use crate::support::registry::{Registry, Setup};
use crate::support::zookeeper::free_port;

/// Docker's configuration with these credentials; the text is Base64.
fn log_in(scene: &Scene, registry: &str, auth: &str) {
    let config = format!(r#"{{"auths": {{"{registry}": {{"auth": "{auth}"}}}}}}"#);
    fs::write(scene.path("docker/config.json"), config).unwrap();
}

/// `user:secret` and `user:wrong`.
const RIGHT: &str = "dXNlcjpzZWNyZXQ=";
const WRONG: &str = "dXNlcjp3cm9uZw==";

#[test]
fn what_is_not_there_is_said_with_where_it_was_looked_for() {
    let (registry, scene) = (Registry::start(), Scene::new());
    for rest in ["none:1", "tools/hello:9"] {
        let remote = format!("oci://{}/{rest}", registry.address());
        let why = scene.fails(&format!("bundle pull {remote}"));
        let tag = rest.rsplit_once(':').unwrap().1;
        assert!(
            why.contains(&format!("{remote}: the registry has no manifest with the tag {tag}")),
            "{why}"
        );
    }
    let remote = format!("oci://{}/hello@sha256:{}", registry.address(), "0".repeat(64));
    assert!(
        scene
            .fails(&format!("bundle pull {remote}"))
            .contains("no manifest with this digest")
    );
}

#[test]
fn a_registry_that_is_down_is_said_to_be() {
    let scene = Scene::new();
    let remote = format!("oci://127.0.0.1:{}/hello:1", free_port());
    let push = format!("bundle push {} {remote}", Sample::get().bundle().display());
    for line in [&push, &format!("bundle pull {remote}")] {
        let why = scene.fails(line);
        assert!(
            why.contains(&remote) && why.contains("is a registry running there?"),
            "{why}"
        );
    }
    let why = scene.fails("bundle pull oci://no-such-host.invalid/hello:1");
    assert!(why.contains("cannot reach the registry"), "{why}");
}

#[test]
fn only_loopback_is_spoken_to_without_tls_unless_that_is_wanted() {
    let (registry, scene) = (Registry::start(), Scene::new());
    let near = format!("oci://{}/hello:1", registry.address());
    let far = format!("oci://{}/hello:1", registry.far_address());
    scene.push(&near);
    let why = scene.fails(&format!("bundle pull {far}"));
    assert!(why.contains("use --plain-http"), "{why}");
    scene.ok(&format!("bundle pull {far} --plain-http --keys none"));
}

#[test]
fn tls_needs_a_certificate_that_is_trusted() {
    let registry = Registry::start_with(Setup {
        tls: true,
        ..Setup::default()
    });
    let scene = Scene::new();
    let remote = format!("oci://{}/hello:1", registry.far_address());
    let push = format!("bundle push {} {remote}", Sample::get().bundle().display());
    let why = scene.fails(&push);
    assert!(why.contains("certificate") && why.contains("SSL_CERT_FILE"), "{why}");
    let trusting = |line: &str| {
        let output = scene
            .command(line)
            .env("SSL_CERT_FILE", registry.certificate())
            .output();
        printed(line, output.unwrap())
    };
    trusting(&push);
    trusting(&format!("bundle pull {remote} --keys none"));
    assert!(fs::read(scene.path("hello-1.0.0.twb")).unwrap() == fs::read(Sample::get().bundle()).unwrap());
}

#[test]
fn credentials_are_those_of_docker() {
    let registry = Registry::start_with(Setup {
        password: true,
        ..Setup::default()
    });
    let scene = Scene::new();
    let (address, file) = (registry.address(), scene.path("docker/config.json"));
    let remote = format!("oci://{address}/tools/hello:1");
    let push = format!("bundle push {} {remote}", Sample::get().bundle().display());
    let pull = format!("bundle pull {remote} --keys none");
    let why = scene.fails(&push);
    let advice = format!("no credentials for {address} in {}", file.display());
    assert!(
        why.contains(&remote) && why.contains("401") && why.contains(&advice),
        "{why}"
    );
    log_in(&scene, "other.example", RIGHT);
    assert!(scene.fails(&pull).contains(&advice));
    log_in(&scene, &address, WRONG);
    for line in [&push, &pull] {
        let why = scene.fails(line);
        assert!(
            why.contains("401") && why.contains("those of the user user for"),
            "{why}"
        );
        assert!(
            why.contains(&file.display().to_string()) && !why.contains("wrong"),
            "{why}"
        );
    }
    log_in(&scene, &address, RIGHT);
    scene.ok(&push);
    scene.ok(&pull);
    assert!(fs::read(scene.path("hello-1.0.0.twb")).unwrap() == fs::read(Sample::get().bundle()).unwrap());
    fs::write(&file, "{ \"auths\": nothing }").unwrap();
    let why = scene.fails(&pull);
    assert!(
        why.contains(&format!("{}: expected ident at line 1", file.display())),
        "{why}"
    );
}

#[test]
fn a_helper_gives_credentials() {
    let registry = Registry::start_with(Setup {
        password: true,
        ..Setup::default()
    });
    let scene = Scene::new();
    let remote = format!("oci://{}/hello:1", registry.address());
    let line = format!("bundle push {} {remote}", Sample::get().bundle().display());
    let config = format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.address());
    fs::write(scene.path("docker/config.json"), config).unwrap();
    let helper = scene.path("docker-credential-test");
    let run = |script: &str| {
        // Not by this process: while it starts others, they have the file open too, and it cannot be executed.
        let make = format!(
            "printf '%s\\n' '#!/bin/sh' \"$1\" > {0}; chmod 755 {0}",
            helper.display()
        );
        let made = Command::new("sh").args(["-c", &make, "make", script]).status();
        assert!(made.unwrap().success());
        let path = format!("{}:/usr/bin:/bin", scene.dir.path().display());
        scene.command(&line).env("PATH", path).output().unwrap()
    };
    let why = complaint(&line, run("cat >/dev/null; echo it is locked; exit 1"));
    assert!(why.contains("docker-credential-test fails: it is locked"), "{why}");
    let why = complaint(
        &line,
        run("cat >/dev/null; echo credentials not found in native keychain; exit 1"),
    );
    assert!(why.contains("no credentials for"), "{why}");
    let script = format!(
        r#"[ "$1" = get ] && [ "$(cat)" = {} ] && echo '{{"Username": "user", "Secret": "secret"}}'"#,
        registry.address()
    );
    printed(&line, run(&script));
}
