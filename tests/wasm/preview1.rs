//! Programs for WASI's first preview, which are core modules: they run as they are, with the same grants, denials and limits as
//! components.

use std::fs;
use std::process::{Command, Output};

use super::{message, open_out, outcome, said, watch};
use crate::support::daemon::{Daemon, Site};
use crate::support::guests::{preview1_guest, save, text_guest, wasi_testsuite};

/// A site with a program watching `/x`, which exists, and its daemon.
fn started(name: &str, grants: &str, fields: &str) -> (Site, Daemon) {
    let site = Site::new();
    open_out(&site);
    watch(&site, &preview1_guest(name), grants, fields);
    site.set("/x", "first");
    let daemon = site.start();
    (site, daemon)
}

fn twitcher(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twitcher"));
    command.args(arguments).output().unwrap()
}

#[test]
fn a_program_gets_its_arguments_environment_and_input() {
    let (_site, daemon) = started("program", "args=['a b', 'c'], env={'K': 'V'}", "uid='nobody'");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    for line in [r#"args: ["a b", "c"]"#, r#"env: [("K", "V")]"#, "stdin: first"] {
        said(&daemon, line);
    }
}

#[test]
fn its_memory_is_its_own_from_zero_up() {
    let site = Site::new();
    watch(&site, &text_guest("own_heap"), "args=['a']", "");
    site.set("/x", "echoed");
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    said(&daemon, "echoed");
}

#[test]
fn its_exit_code_arrives_as_it_is() {
    let site = Site::new();
    let program = preview1_guest("exits");
    let codes = [0, 1, 2, 3, 75, 125, 126, 255];
    let watches = codes.map(|code| {
        let action = super::wasm(&program, &format!("args=['{code}']"));
        format!("RegisterWatch(znode='/x', name='exits-{code}', action={action})\n")
    });
    site.config("exits.twc", &watches.concat());
    site.set("/x", "");
    let daemon = site.start();
    for code in codes {
        let run = daemon.wait_runs(&format!("exits-{code}"), 1).remove(0);
        let expected = match code {
            0 => "success".to_owned(),
            code => format!("exit code {code}"),
        };
        assert_eq!(outcome(&run), expected);
    }
}

#[test]
fn a_retry_of_some_codes_sees_its_code() {
    let retry = "on_failure=Retry(times=1, initial=0.01, codes=[75])";
    let (_site, daemon) = started("exits", "args=['75']", retry);
    let runs = daemon.wait_runs("w", 2);
    assert_eq!(outcome(&runs[1]), "exit code 75");
    let (_site, daemon) = started("exits", "args=['3']", retry);
    daemon.wait("the reason", |line| {
        message(line).contains("no retry, codes does not have it: exit code 3")
    });
}

#[test]
fn it_has_as_many_files_open_as_a_component() {
    let (_site, daemon) = started("opens_many", "dirs={'/out': 'OUT:rw'}", "");
    let run = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(outcome(&run), "success", "{}", daemon.text());
    said(&daemon, "200 files at once, 200 listed");
    said(&daemon, "no more than 2");
}

#[test]
fn files_outside_its_directories_are_out_of_its_reach() {
    let site = Site::new();
    open_out(&site);
    for dir in ["out/rw", "out/ro", "out/outside"] {
        fs::create_dir(site.path(dir)).unwrap();
    }
    fs::write(site.path("out/outside/secret"), "secret").unwrap();
    fs::write(site.path("out/ro/file"), "before").unwrap();
    std::os::unix::fs::symlink("../outside/secret", site.path("out/rw/link")).unwrap();
    let outside = site.path("out/outside/secret").display().to_string();
    let program = preview1_guest("files");
    let attempts = [
        ("read", "/etc/passwd"),
        ("read", &outside),
        ("read", "/out/../outside/secret"),
        ("read", "/out/link"),
        ("write", "/out/link"),
        ("write", "/in/../outside/secret"),
        ("write", "/in/file"),
        ("write", "/in/new"),
        ("remove", "/in/file"),
        ("link", "../outside/secret"),
        ("link", "/etc/passwd"),
    ];
    let mut watches = String::new();
    for (at, (what, path)) in attempts.iter().enumerate() {
        let action = super::wasm(
            &program,
            &format!("args=['{what}', '{path}'], dirs={{'/out': 'OUT/rw:rw', '/in': 'OUT/ro'}}"),
        );
        watches += &format!("RegisterWatch(znode='/x', name='w{at}', action={action})\n");
    }
    site.config("w.twc", &watches);
    site.set("/x", "");
    let daemon = site.start();
    for (at, attempt) in attempts.iter().enumerate() {
        let run = daemon.wait_runs(&format!("w{at}"), 1).remove(0);
        assert_eq!(outcome(&run), "exit code 3", "{attempt:?}: {}", daemon.text());
    }
    let kept = |name: &str| site.read(&format!("out/{name}"));
    assert_eq!(
        (kept("outside/secret").as_str(), kept("ro/file").as_str()),
        ("secret", "before")
    );
    assert!(!daemon.text().contains("root:x:0"), "it was read and printed");
}

#[test]
fn a_program_that_sleeps_is_interrupted_where_it_is() {
    let (_site, daemon) = started("naps", "", "timeout=1, kill_after=20");
    said(&daemon, "slept for a moment");
    let run = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(outcome(&run), "timed out");
    // Not killed: that would be after 21 seconds.
    assert!(run["seconds"].as_f64().unwrap() < 20.0, "{run}");
}

#[test]
fn a_module_that_is_a_component_but_for_its_frame_becomes_one() {
    let (_site, daemon) = started("logs", "", "");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    said(&daemon, "at this level");
}

#[test]
fn what_is_no_program_is_refused_in_words() {
    for (module, why) in [
        (
            "core_library",
            "the core module exports no function _start: it is a library",
        ),
        ("no_memory", "the core module exports no memory named \"memory\""),
    ] {
        let site = Site::new();
        watch(&site, &text_guest(module), "", "");
        let output = twitcher(&["check", &site.path("conf").display().to_string()]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(why), "{errors}");
    }
}

#[test]
fn what_is_not_supported_is_named_with_what_to_build_instead() {
    let text = |name: &str, text: &str| save(name, &wat::parse_str(text).unwrap());
    for (file, named, instead) in [
        (text_guest("preview0"), "WASI's preview 0", "wasm32-wasip1"),
        (
            text(
                "shared_memory",
                r#"(module (memory (export "memory") 1 1 shared) (func (export "_start")))"#,
            ),
            "threads (shared memory)",
            "one thread",
        ),
        (
            text(
                "exceptions",
                r#"(module (tag $t) (memory (export "memory") 1) (func (export "_start") (throw $t)))"#,
            ),
            "exceptions of WebAssembly",
            "-fno-exceptions",
        ),
        (
            text(
                "gc",
                r#"(module (type $s (struct)) (memory (export "memory") 1) (func (export "_start") (drop (struct.new $s))))"#,
            ),
            "garbage collection by the engine",
            "brings its own",
        ),
        (
            text("asynchronous", "(component (core func (canon task.return)))"),
            "WASI 0.3",
            "wasm32-wasip2",
        ),
        (
            text(
                "wasi_0_3",
                r#"(component
                    (core module $m (func (export "run") (result i32) (i32.const 0)))
                    (core instance $i (instantiate $m))
                    (func $run (result (result)) (canon lift (core func $i "run")))
                    (instance $entry (export "run" (func $run)))
                    (export "wasi:cli/run@0.3.0" (instance $entry)))"#,
            ),
            "WASI 0.3",
            "wasm32-wasip2",
        ),
        (
            text(
                "memory64",
                r#"(module (memory (export "memory") i64 1) (func (export "_start")))"#,
            ),
            "a memory of 64 bits",
            "wasm32-wasip1",
        ),
    ] {
        let site = Site::new();
        watch(&site, &file, "", "");
        let output = twitcher(&["check", &site.path("conf").display().to_string()]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(named) && errors.contains(instead), "{errors}");
        assert!(!errors.contains("offset"), "{errors}");
        if named == "a memory of 64 bits" {
            continue;
        }
        let output = twitcher(&["plugin", "inspect", &file.display().to_string()]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("none that twitcher can run"), "{named}: {text}");
        assert!(text.contains(named) && text.contains(instead), "{text}");
    }
}

#[test]
fn inspect_shows_what_it_needs() {
    let output = twitcher(&["plugin", "inspect", &preview1_guest("program").display().to_string()]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "world wasi_snapshot_preview1: a program; the data is on its stdin, its exit code is the outcome",
        "  wasi_snapshot_preview1 environ_get",
        "env = {\"NAME\": \"VALUE\"},",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let output = twitcher(&["plugin", "inspect", &preview1_guest("files").display().to_string()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("dirs = {"), "{text}");
    // Of a module that becomes a component, what it will be is shown.
    let output = twitcher(&["plugin", "inspect", &preview1_guest("logs").display().to_string()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("world twitcher:action/action: called at each change"),
        "{text}"
    );
}

#[test]
fn a_check_names_what_is_configured_in_vain() {
    let site = Site::new();
    watch(&site, &preview1_guest("program"), "config={'greeting': 'hello'}", "");
    let output = twitcher(&["check", &site.path("conf").display().to_string()]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        text.contains("w.twc:1:") && text.contains("config has greeting, which a program for preview 1 cannot read"),
        "{text}"
    );
}

/// Programs of WASI's own test suite that ask for what is not granted: to set the times of a file by its path. The system call for that
/// reaches files outside of the directories that are granted, so it is not there; by an open file times can be set.
const NOT_GRANTED: [&str; 2] = ["path_filestat", "symlink_filestat"];

#[test]
fn the_programs_of_wasi_s_own_test_suite_succeed() {
    let programs = wasi_testsuite();
    assert_eq!(programs.len(), 46);
    for program in programs {
        let name = program.file_stem().unwrap().to_string_lossy().into_owned();
        let scratch = tempfile::tempdir().unwrap();
        let (file, dir) = (program.to_string_lossy(), format!("/={}:rw", scratch.path().display()));
        let output = twitcher(&["plugin", "run", &file, "--dir", &dir]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        match NOT_GRANTED.contains(&&*name) {
            true => assert!(
                said.contains("path_filestat_set_times should succeed") && said.contains("PERM"),
                "{name}: {said}"
            ),
            false => assert!(output.status.success(), "{name}: {said}"),
        }
    }
}
