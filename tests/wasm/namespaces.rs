//! Where a component's process is: in namespaces in which there is nothing but what was granted.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::geteuid;

use super::{open_out, outcome, wasm};
use crate::support::daemon::Site;
use crate::support::guests::guest;
use crate::support::until;

/// The namespace of this kind that a process is in; none once it has ended.
fn namespace(pid: i64, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

#[test]
fn a_component_shares_no_files_no_network_and_no_memory_with_others() {
    if !geteuid().is_root() {
        eprintln!("only root makes namespaces: left out");
        return;
    }
    let site = Site::new();
    let action = |grants| wasm(&guest("sleeps"), grants);
    let (plain, online) = (action(""), action("net=['127.0.0.1:1']"));
    site.config(
        "w.twc",
        &format!(
            "RegisterWatch(znode='/x', name='plain', action={plain}, uid='nobody')\n\
             RegisterWatch(znode='/x', name='online', action={online}, uid='nobody')\n\
             RegisterWatch(znode='/x', name='root', action={plain})\n"
        ),
    );
    site.set("/x", "1");
    let daemon = site.start();
    let own = i64::from(std::process::id());
    for watch in ["plain", "online", "root"] {
        let started = daemon.wait(watch, |line| line["message"] == "run started" && line["watch"] == watch);
        let pid = started["pid"].as_i64().unwrap();
        let elsewhere = |kind| namespace(pid, kind).is_some_and(|there| Some(there) != namespace(own, kind));
        until("it is elsewhere", || elsewhere("mnt"));
        assert!(elsewhere("ipc"), "{watch}");
        assert_eq!(elsewhere("net"), watch != "online", "{watch}");
        let root = fs::read_dir(format!("/proc/{pid}/root/")).unwrap().count();
        assert_eq!(root, 0, "{watch} sees files");
        // What it took to get there is gone before anything of the component runs.
        until("it has given up its rights", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let has = |line: &str| status.lines().any(|it| it == line);
            has("CapPrm:\t0000000000000000") && has("CapEff:\t0000000000000000") && has("Seccomp:\t2")
        });
    }
}

#[test]
fn what_is_mounted_below_a_granted_directory_is_granted_with_it() {
    if !geteuid().is_root() {
        eprintln!("only root mounts: left out");
        return;
    }
    let site = Site::new();
    open_out(&site);
    let (granted, mounted) = (site.path("granted"), site.path("granted/out"));
    fs::create_dir_all(&mounted).unwrap();
    let mount = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).arg(&mounted).status().unwrap();
        assert!(done.success(), "{program}");
    };
    mount("mount", &["-t", "tmpfs", "-o", "mode=0777", "none"]);
    let action = wasm(&guest("echo"), &format!("dirs={{'/': '{}:rw'}}", granted.display()));
    site.config(
        "w.twc",
        &format!("RegisterWatch(znode='/x', name='w', action={action}, uid='nobody')\n"),
    );
    site.set("/x", "1");
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    assert!(mounted.join("echo").exists());
    let busy = Command::new("umount").arg(&mounted).status().unwrap();
    assert!(busy.success(), "nothing keeps it mounted once the run has ended");
}
