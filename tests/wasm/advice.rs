//! What is said of a failure names what it was, and what is advised helps.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Output};

use super::{message, open_out, outcome, watch};
use crate::support::daemon::{Daemon, Site};
use crate::support::guests::{guest, preview1_guest, text_guest};

const MORE_MEMORY: &str = "it needs more memory than it may have";

fn started(name: &str, grants: &str) -> (Site, Daemon) {
    let site = Site::new();
    watch(&site, &text_guest(name), grants, "");
    site.set("/x", "");
    let daemon = site.start();
    (site, daemon)
}

#[test]
fn lack_of_memory_is_blamed_for_what_it_may_have_caused_alone() {
    for (letter, is_blamed) in [("u", true), ("d", false), ("g", false)] {
        let (_site, daemon) = started("refused_memory", &format!("args=['{letter}']"));
        let run = daemon.wait_runs("w", 1).remove(0);
        assert!(outcome(&run).starts_with("trapped: "), "{run}");
        assert_eq!(outcome(&run).contains(MORE_MEMORY), is_blamed, "{letter}: {run}");
    }
}

#[test]
fn a_program_that_gives_up_for_lack_of_memory_is_told_how_much_to_grant() {
    let (_site, daemon) = started("refused_memory", "args=['x']");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "exit code 2");
    let denied = daemon.wait("the advice", |line| {
        message(line).starts_with("denied: growing its memory to 81 MiB, of 64 MiB; to allow it, add ")
    });
    let (_, line) = message(&denied).split_once("add ").unwrap();
    let argument = line.strip_suffix(" to its Wasm(...)").unwrap();
    let (_site, daemon) = started("refused_memory", &format!("args=['x'], {argument}"));
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
}

#[test]
fn a_module_at_its_own_maximum_is_not_told_of_a_grant() {
    let (_site, daemon) = started("small_maximum", "");
    let run = daemon.wait_runs("w", 1).remove(0);
    assert!(
        outcome(&run).contains("more memory than the 1 MiB that it declares itself")
            && !outcome(&run).contains("Wasm("),
        "{run}"
    );
}

#[test]
fn inspect_says_how_much_of_an_exit_code_arrives() {
    for (name, says) in [
        ("program", "Every exit code but 0 arrives as 1: what has more to say"),
        ("exits_3", "its exit code is the outcome"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .args(["plugin", "inspect"])
            .arg(guest(name))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(says), "{text}");
    }
}

fn plugin_run(site: &Site, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .args(["plugin", "run"])
        .args(arguments)
        .env("XDG_CACHE_HOME", site.path("cache"))
        .output()
        .unwrap()
}

#[test]
fn a_trial_plays_every_event_with_what_belongs_to_it() {
    let site = Site::new();
    open_out(&site);
    let echo = guest("echo").display().to_string();
    let out = format!("/out={}:rw", site.path("out").display());
    for (given, event, facts) in [
        (
            &["--children", "b", "--children", "a"][..],
            "Children",
            ["children: Some([\"b\", \"a\"])", "changed: None", "attempt: 1"],
        ),
        (
            &["--changed", "/x/b"],
            "Tree",
            ["children: None", "changed: Some([\"/x/b\"])", "attempt: 1"],
        ),
        (
            &["--event", "tree"],
            "Tree",
            ["children: None", "changed: Some([])", "attempt: 1"],
        ),
        (
            &["--event", "load", "--children", "a"],
            "Load",
            ["children: Some([\"a\"])", "changed: None", "attempt: 1"],
        ),
        (
            &["--event", "retry", "--data", "d"],
            "Retry",
            ["data: d", "children: None", "attempt: 2"],
        ),
        (
            &["--event", "manual", "--data", "d"],
            "Manual",
            ["data: d", "children: None", "attempt: 1"],
        ),
    ] {
        let output = plugin_run(&site, &[&[&echo[..], "--dir", &out, "--path", "/x"], given].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = site.read("out/echo");
        let event = format!("event: EventKind::{event}");
        for fact in [&[&event[..]], &facts[..]].concat() {
            assert!(
                told.lines().any(|line| line == fact),
                "{given:?}: no {fact:?} in\n{told}"
            );
        }
    }
    let output = plugin_run(&site, &[&echo, "--event", "tree", "--children", "a"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("--event tree has --changed"), "{errors}");
}

#[test]
fn a_path_that_is_not_utf_8_is_refused_in_words() {
    let site = Site::new();
    let file = site.path("out").join(OsString::from_vec(b"x\xff.wasm".to_vec()));
    fs::copy(text_guest("core_program"), &file).unwrap();
    for command in ["run", "bench"] {
        let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .args(["plugin", command])
            .arg(&file)
            .env("XDG_CACHE_HOME", site.path("cache"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("a configuration is in UTF-8"), "{errors}");
    }
}

/// What a denial says to add, once it is in the log.
fn advised(daemon: &Daemon, denied: &str) -> String {
    let line = daemon.wait(denied, |line| message(line).starts_with(denied));
    let (_, advice) = message(&line).split_once("; to allow it, add ").unwrap();
    advice.strip_suffix(" to its Wasm(...)").unwrap().to_owned()
}

#[test]
fn of_a_read_only_directory_the_log_says_once_what_makes_it_writable() {
    for program in [guest("files"), preview1_guest("files")] {
        for what in ["write", "remove"] {
            let site = Site::new();
            open_out(&site);
            site.write("out/f", "before");
            let arguments = format!("args=['{what}', '/out/f']");
            // The other one, and one that is writable, are not what is in the way.
            fs::create_dir(site.path("other")).unwrap();
            let other = site.path("other").display().to_string();
            let grants = format!("{arguments}, dirs={{'/other': '{other}', '/out': 'OUT', '/tmp': '{other}:rw'}}");
            watch(&site, &program, &grants, "");
            site.set("/x", "");
            let daemon = site.start();
            assert!(outcome(&daemon.wait_runs("w", 1)[0]).starts_with("exit code"));
            let argument = advised(&daemon, "denied: changing what is in \"/out\", which is read-only; ");
            assert_eq!(daemon.count(|line| message(line).starts_with("denied: ")), 1);

            let again = Site::new();
            watch(&again, &program, &format!("{arguments}, {argument}"), "");
            again.set("/x", "");
            let daemon = again.start();
            assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
            assert_eq!(daemon.count(|line| message(line).starts_with("denied: ")), 0);
            assert_eq!(site.path("out/f").exists(), what == "write");
        }
    }
}

#[test]
fn a_program_that_finds_no_directory_is_told_that_none_is_granted() {
    for program in [guest("files"), preview1_guest("files")] {
        let site = Site::new();
        open_out(&site);
        site.write("out/f", "found");
        watch(&site, &program, "args=['read', '/data/f']", "");
        site.set("/x", "");
        let daemon = site.start();
        assert!(outcome(&daemon.wait_runs("w", 1)[0]).starts_with("exit code"));
        let argument = advised(&daemon, "denied: finding a directory, for none is granted; ");

        let again = Site::new();
        let argument = argument.replace("/path/of/directory", &site.path("out").display().to_string());
        watch(&again, &program, &format!("args=['read', '/data/f'], {argument}"), "");
        again.set("/x", "");
        let daemon = again.start();
        assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
        assert_eq!(daemon.count(|line| message(line).starts_with("denied: ")), 0);
    }
}
