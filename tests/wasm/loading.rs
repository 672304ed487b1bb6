//! From a file to a component: compiling, keeping, judging, replacing.

use std::fs;

use super::{loaded, message, open_out, outcome, said, watch};
use crate::support::daemon::Site;
use crate::support::guests::{guest, save};

fn compiled(daemon: &crate::support::daemon::Daemon) -> usize {
    daemon.count(|line| line["message"] == "component compiled")
}

#[test]
fn a_component_is_compiled_once_and_kept() {
    let site = Site::new();
    watch(&site, &guest("logs"), "", "");
    site.set("/x", "1");
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    assert_eq!(compiled(&daemon), 1);
    assert!(daemon.stop().success());
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    assert_eq!(compiled(&daemon), 0);
}

#[test]
fn a_replaced_component_serves_the_next_run_and_a_broken_one_none() {
    let site = Site::new();
    open_out(&site);
    let file = site.path("out/action.wasm");
    let replace = |with: &[u8]| {
        fs::write(site.path("out/draft"), with).unwrap();
        fs::rename(site.path("out/draft"), &file).unwrap();
    };
    replace(&fs::read(guest("sleeps")).unwrap());
    watch(&site, &file, "", "run_mode=PARALLEL");
    site.set("/x", "1");
    let daemon = site.start();
    daemon.wait("the first run", |line| line["message"] == "run started");
    // While it runs.
    replace(&fs::read(guest("unreachable")).unwrap());
    let run = daemon.wait_runs("w", 1).remove(0);
    assert!(outcome(&run).starts_with("trapped"), "{run}");
    assert_eq!(daemon.count(|line| line["message"] == "run started"), 2);
    // A broken one is an error in words, and the one before stays.
    replace(b"\0asm, but no more");
    daemon.wait("the error", |line| {
        line["level"] == "ERROR" && message(line).contains("w.twc:1:")
    });
    site.set("/x", "2");
    let runs = daemon.wait_runs("w", 2);
    assert!(outcome(&runs[1]).starts_with("trapped"), "{}", runs[1]);
}

#[test]
fn a_component_judges_its_configuration_when_it_is_loaded() {
    let site = Site::new();
    watch(&site, &guest("checks"), "config={'ok': 'no'}", "");
    site.set("/x", "1");
    let daemon = site.start();
    daemon.wait("the first reason", |line| {
        message(line).contains(r#"ok is "no""#) && message(line).contains("w.twc:1:")
    });
    daemon.wait("the second reason", |line| {
        message(line).contains("and a second reason")
    });
    assert_eq!(daemon.count(|line| line["message"] == "run started"), 0);
    watch(&site, &guest("checks"), "config={'ok': 'yes'}", "");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
}

#[test]
fn what_is_no_action_is_refused_with_its_place_and_the_reason() {
    let truncated = fs::read(guest("echo")).unwrap();
    for (file, reason) in [
        (save("script", b"#!/bin/sh\necho hi\n"), "not WebAssembly"),
        (save("truncated", &truncated[..truncated.len() / 2]), "does not compile"),
        (guest("no_entry"), "exports neither"),
        (guest("wrong_version"), "twitcher:action/"),
        (guest("unknown_import"), "does not have"),
        (guest("traps_in_check"), "check"),
        (guest("loops_in_check"), "more than 5 s of processor time"),
    ] {
        let site = Site::new();
        watch(&site, &file, "", "");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .arg("check")
            .arg(site.path("conf"))
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains("w.twc:1:") && errors.contains(reason),
            "{}: {errors}",
            file.display()
        );
    }
}

#[test]
fn a_panic_is_in_the_log_with_its_message_and_backtrace() {
    let site = Site::new();
    watch(&site, &guest("panics"), "", "");
    site.set("/x", "1");
    let daemon = site.start();
    let run = daemon.wait_runs("w", 1).remove(0);
    assert!(outcome(&run).starts_with("trapped"), "{run}");
    said(&daemon, "panicked at");
    daemon.wait("a frame of the guest", |line| {
        line["stream"] == "trap" && message(line).contains("panics")
    });
}

/// The native code and the facts beside it.
fn cached(site: &Site) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(site.path("state/components")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn is_native(file: &std::path::Path) -> bool {
    file.extension().is_some_and(|extension| extension == "cwasm")
}

#[test]
fn native_code_that_is_damaged_or_gone_is_compiled_again() {
    type Damage = fn(&std::path::Path);
    let damages: [Damage; 3] = [
        |file| fs::remove_file(file).unwrap(),
        |file| fs::write(file, "").unwrap(),
        |file| {
            let mut code = fs::read(file).unwrap();
            let middle = code.len() / 2;
            code[middle..].fill(0);
            fs::write(file, code).unwrap();
        },
    ];
    let site = Site::new();
    watch(&site, &guest("logs"), "", "");
    site.set("/x", "0");
    let mut daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    for (round, damage) in damages.iter().enumerate() {
        // While the daemon runs and has the code loaded.
        cached(&site)
            .iter()
            .filter(|file| is_native(file))
            .for_each(|file| damage(file));
        let before = compiled(&daemon);
        site.set("/x", &format!("{round}, running"));
        assert_eq!(outcome(&daemon.wait_runs("w", 2)[1]), "success");
        assert_eq!(compiled(&daemon), before + 1);
        // What was loaded before would keep its room on the disk.
        let loaded = loaded(&daemon);
        assert!(
            !loaded.is_empty() && !loaded.iter().any(|line| line.ends_with("(deleted)")),
            "{loaded:?}"
        );
        assert!(daemon.stop().success());
        // And while it does not.
        cached(&site).iter().for_each(|file| damage(file));
        site.set("/x", &format!("{round}, stopped"));
        daemon = site.start();
        assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
        assert_eq!(compiled(&daemon), 1);
    }
}

#[test]
fn native_code_of_another_version_goes() {
    let site = Site::new();
    watch(&site, &guest("logs"), "", "");
    site.set("/x", "1");
    let daemon = site.start();
    daemon.wait_runs("w", 1);
    assert!(daemon.stop().success());
    let ours = cached(&site).into_iter().find(|file| is_native(file)).unwrap();
    let name = ours.file_stem().unwrap().to_str().unwrap();
    let (digest, _) = name.split_once('-').unwrap();
    for ending in ["cwasm", "json"] {
        let theirs = site.path(&format!("state/components/{digest}-wasmtime-0123456789abcdef.{ending}"));
        fs::copy(ours.with_extension(ending), theirs).unwrap();
    }
    let daemon = site.start();
    daemon.wait_runs("w", 1);
    crate::support::until("it is removed", || cached(&site).len() == 2);
    assert!(ours.exists());
    drop(daemon);
}
