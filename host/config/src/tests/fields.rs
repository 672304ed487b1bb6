//! What watches are made of, and what is wrong with them.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::splay::share;
use twitcher_model::{
    Action, AtOnce, Capabilities, Hardening, Limit, Lost, OnFailure, OnNewer, Probe, Resource, RunLimits, RunMode,
    RunOnLoad, Share, WatchType,
};

/// The errors of a file with one watch that has these fields beside a znode and an action.
fn errors_of(fields: &str) -> String {
    let text = format!("[{{\"znode\": \"/a\", \"action\": {{\"exec\": \"true\"}}, {fields}}}]");
    let errors = Dir::new(&[("a.json", &text)]).errors();
    // The place and the line are tested elsewhere.
    errors
        .lines()
        .filter(|line| !line.starts_with("  |"))
        .map(|line| line.split_once(": ").unwrap().1.trim())
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn little_is_needed_and_the_rest_has_defaults() {
    let reload = Dir::new(&[("conf.json", ONE)]).reload();
    assert_eq!(outcome(&reload, "conf.json"), "Loaded { watches: 1 }");
    let watch = &reload.watches[0];
    assert_eq!((&*watch.name, &*watch.description), ("conf-1", "conf-1"));
    assert_eq!(watch.znode.as_str(), "/a");
    assert_eq!(watch.watch_type, WatchType::Data);
    assert_eq!(watch.action, Action::Shell("true".into()));
    assert_eq!(*watch.policy, twitcher_model::Policy::default());
    let process = &watch.process;
    assert_eq!(
        (&*process.cwd, process.umask, process.inherit_env),
        (Path::new("/"), 0o022, false)
    );
    assert_eq!(
        (process.pipe_stdin, process.timeout, process.kill_after),
        (true, None, Duration::from_secs(5))
    );
    assert_eq!((process.identity.uid, process.identity.gid), (None, None));
    assert_eq!((watch.origin.line, watch.origin.column), (1, 2));
}

#[test]
fn every_field_arrives() {
    let text = r#"{"$schema": "x", "watches": [{
        "znode": "/a/b", "action": {"exec": ["echo", "hi"]}, "name": "n", "description": "d d", "watch_type": "WATCH_TREE",
        "pipe_stdin": false, "run_on_load": false, "run_mode": "PARALLEL", "max_parallel": 3, "uid": "daemon", "gid": 7,
        "timeout": 1.5, "kill_after": 0, "on_failure": "STOP", "on_delete": true, "settle": 1, "settle_max": 2,
        "min_interval": 3, "refuse_empty": true, "cwd": "/srv", "umask": "077", "env": {"A": "1"}, "inherit_env": true,
        "limits": {"nofile": 10, "core": [0, "unlimited"]}, "splay": 0, "notify_signal": null, "refuse_shrink": 0.25
    }]}"#;
    let reload = Dir::new(&[("a.json", text)]).reload();
    assert_eq!(report::render_errors(&reload), "");
    let watch = &reload.watches[0];
    let Action::Argv(argv) = &watch.action else {
        panic!("{:?}", watch.action)
    };
    assert_eq!(argv.iter().map(|arg| &**arg).collect::<Vec<_>>(), ["echo", "hi"]);
    assert_eq!(
        (&*watch.name, &*watch.description, watch.watch_type),
        ("n", "d d", WatchType::Tree)
    );
    let policy = &watch.policy;
    assert_eq!(
        (policy.run_mode, policy.max_parallel, policy.on_failure),
        (RunMode::Parallel, 3, OnFailure::Stop)
    );
    assert_eq!(
        (policy.run_on_load, policy.on_delete, policy.refuse_empty),
        (RunOnLoad::Never, true, true)
    );
    assert_eq!(policy.refuse_shrink, Some(Share(250)));
    let seconds = [policy.settle, policy.settle_max, policy.min_interval].map(|duration| duration.as_secs());
    assert_eq!(seconds, [1, 2, 3]);
    let process = &watch.process;
    assert_eq!(
        (process.identity.user.as_str(), process.identity.gid),
        ("daemon", Some(7))
    );
    assert_eq!(
        (process.timeout, process.kill_after),
        (Some(Duration::from_millis(1500)), Duration::ZERO)
    );
    assert_eq!(
        (&*process.cwd, process.umask, process.pipe_stdin, process.inherit_env),
        (Path::new("/srv"), 0o077, false, true)
    );
    assert_eq!(process.env, [("A".to_owned(), "1".to_owned())]);
    let limits = [
        Limit {
            resource: Resource::Core,
            soft: 0,
            hard: u64::MAX,
        },
        Limit {
            resource: Resource::Nofile,
            soft: 10,
            hard: 10,
        },
    ];
    assert_eq!(process.limits, limits);
}

#[test]
fn all_errors_of_a_file_are_told_each_at_its_place() {
    let errors = Dir::new(&[(
        "bad.json",
        r#"[
  {"znode": "git/head", "action": {"exec": "true"}, "run_mod": "QUEUE"},
  {"znode": "/a", "action": {"exec": "true"}, "run_mode": "QEUEU",
   "timeout": "60"},
  {"znode": "/b", "name": "x", "action": {"exec": "true"}, "uid": "nobdy"},
  {"znode": "/b", "name": "twice", "action": {"exec": "true"}},
  {"znode": "/c", "name": "twice", "action": {"exec": "true"}},
  {"action": {"exec": "true"}},
  7
]"#,
    )])
    .errors();
    insta::assert_snapshot!(errors, @r#"
    DIR/bad.json:2:13: znode path "git/head" is not absolute: it must begin with "/"
      |   {"znode": "git/head", "action": {"exec": "true"}, "run_mod": "QUEUE"},
      |             ^

    DIR/bad.json:2:53: unknown field "run_mod"
      |   {"znode": "git/head", "action": {"exec": "true"}, "run_mod": "QUEUE"},
      |                                                     ^
      hint: did you mean "run_mode"?

    DIR/bad.json:3:59: run_mode must be one of QUEUE, DISCARD, PARALLEL, RESTART, not "QEUEU"
      |   {"znode": "/a", "action": {"exec": "true"}, "run_mode": "QEUEU",
      |                                                           ^
      hint: did you mean "QUEUE"?

    DIR/bad.json:4:15: timeout must be a number of seconds above 0 and at most 10 years, not the string "60"
      |    "timeout": "60"},
      |               ^

    DIR/bad.json:5:67: there is no user "nobdy"
      |   {"znode": "/b", "name": "x", "action": {"exec": "true"}, "uid": "nobdy"},
      |                                                                   ^
      hint: did you mean "nobody"?

    DIR/bad.json:7:27: the name "twice" is already taken by the watch at DIR/bad.json:6:3
      |   {"znode": "/c", "name": "twice", "action": {"exec": "true"}},
      |                           ^
      hint: give one of them another name = "…"; a watch without one is named by its description or file

    DIR/bad.json:8:3: znode is missing
      |   {"action": {"exec": "true"}},
      |   ^

    DIR/bad.json:9:3: a watch must be an object
      |   7
      |   ^
    "#);
}

#[test]
fn text_that_is_not_json_is_located() {
    let of = |text: &str| Dir::new(&[("a.json", text)]).errors();
    let all = [
        "",
        "[{\"znode\": \"/a\",\n  action: 1}]",
        "[{}",
        "{\"watch\": []}",
        "{\"watches\": 1}",
        "true",
        "[1",
    ]
    .map(of)
    .join("\n");
    insta::assert_snapshot!(all, @r#"
    DIR/a.json: the file is empty; it must hold a list of watches, such as []

    DIR/a.json:2:3: key must be a string
      |   action: 1}]
      |   ^

    DIR/a.json:1:3: EOF while parsing a list
      | [{}
      |   ^

    DIR/a.json:1:2: unknown field "watch"
      | {"watch": []}
      |  ^
      hint: the file must hold a list of watches, or "$schema" and "watches"

    DIR/a.json:1:13: watches must be a list
      | {"watches": 1}
      |             ^

    DIR/a.json:1:1: the file must hold a list of watches
      | true
      | ^

    DIR/a.json:1:2: EOF while parsing a list
      | [1
      |  ^
    "#);
    let deep = "[{\"znode\": ".to_owned() + &"[".repeat(100_000) + &"]".repeat(100_000) + "}]";
    assert!(of(&deep).contains("recursion limit exceeded"));
}

#[test]
fn a_run_as_a_whole_has_limits_where_the_controllers_are() {
    let text = |more: &str| {
        format!(
            r#"[{{"znode": "/n", "action": {{"exec": "x"}},
                "limits": {{"memory": "512MiB", "tasks": 64, "cpu": "150%", "nofile": 10{more}}}}}]"#
        )
    };
    let load = |more: &str, controllers: &[&'static str]| {
        let mut dir = Dir::new(&[("a.json", &text(more))]);
        dir.config = dir.config.with_controllers(controllers);
        (dir.reload(), dir)
    };
    let all = ["memory", "pids", "cpu"];
    let (reload, _) = load("", &all);
    let process = &reload.watches[0].process;
    let wanted = RunLimits {
        memory: Some(512 << 20),
        tasks: Some(64),
        cpu_percent: Some(150),
        optional: false,
    };
    assert_eq!((process.run_limits, process.limits.len()), (wanted, 1));
    for (missing, limit) in [("memory", "memory"), ("pids", "tasks"), ("cpu", "cpu")] {
        let there: Vec<_> = all.into_iter().filter(|name| *name != missing).collect();
        let (reload, mut dir) = load("", &there);
        assert!(reload.watches.is_empty());
        let errors = dir.errors();
        assert!(errors.contains("a.json:2:"), "{errors}");
        assert!(
            errors.contains(&format!("the limit {limit:?} needs the cgroup controller {missing:?}")),
            "{errors}"
        );
        let (reload, _) = load(r#", "optional": true"#, &there);
        assert_eq!(reload.watches.len(), 1);
        assert!(reload.notes[0].to_string().contains(limit), "{:?}", reload.notes);
    }
}

#[test]
fn each_field_says_what_it_takes() {
    let fields = [
        r#""name": """#,
        r#""name": "a\nb""#,
        r#""description": 5"#,
        r#""watch_type": "WATCH_DATE""#,
        r#""pipe_stdin": "yes""#,
        r#""run_on_load": "IF_CHANGE""#,
        r#""run_mode": 1"#,
        r#""max_parallel": 0"#,
        r#""uid": -1"#,
        r#""uid": 4294967295"#,
        r#""uid": 3999999999"#,
        r#""gid": "no such group""#,
        r#""gid": []"#,
        r#""timeout": 0"#,
        r#""timeout": 1e300"#,
        r#""kill_after": -0.5"#,
        r#""notify_signal": "SIGHUPP""#,
        r#""notify_signal": 99"#,
        r#""notify_signal": "SIGHUP", "run_mode": "RESTART""#,
        r#""payload": "JASON""#,
        r#""payload": "JSON", "pipe_stdin": false"#,
        r#""on_failure": "RETRY""#,
        r#""on_failure": {"retry": {"times": "3"}}"#,
        r#""on_failure": {"retry": 3}"#,
        r#""on_failure": {"retry": {"times": 3, "time": 3}}"#,
        r#""group": """#,
        r#""settle": 5, "settle_max": 1"#,
        r#""cwd": "srv""#,
        r#""umask": "888""#,
        r#""umask": 512"#,
        r#""env": {"TWITCHER_X": "1"}"#,
        r#""env": {"A=B": "1"}"#,
        r#""env": {"A": {"secret": "b"}}"#,
        r#""refuse_shrink": 1"#,
        r#""refuse_shrink": true"#,
        r#""data_file": "app""#,
        r#""data_file": "/run/app/""#,
        r#""data_file": "/run/app/..""#,
        r#""data_file": "/run/app", "run_mode": "PARALLEL""#,
        r#""service": true"#,
        r#""service": true, "run_mode": "RESTART", "timeout": 3"#,
        r#""ready_after": 3"#,
        r#""env": {"A": 1}"#,
        r#""env": {"A": "\u0000"}"#,
        r#""env": {"A": "1", "B": "", "A": "2"}"#,
        r#""limits": {"nofiles": 1}"#,
        r#""limits": {"nofile": [2, 1]}"#,
        r#""limits": {"nofile": -1}"#,
        r#""limits": {"nofile": "50%"}"#,
        r#""limits": {"cpu": "half"}"#,
        r#""limits": {"memory": "1KiB"}"#,
        r#""limits": {"memory": 1024}"#,
        r#""limits": {"memory": [1, 2]}"#,
        r#""limits": {"tasks": 0}"#,
        r#""limits": {"optional": 1}"#,
        r#""action": null"#,
    ];
    let all: Vec<String> = fields
        .iter()
        .map(|field| format!("{field} -> {}", errors_of(field)))
        .collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    "name": "" -> name must not be empty
    "name": "a\nb" -> name must not have line breaks or other control characters
    "description": 5 -> description must be a string, not the number 5
    "watch_type": "WATCH_DATE" -> watch_type must be one of WATCH_DATA, WATCH_CHILDREN, WATCH_TREE, not "WATCH_DATE"; did you mean "WATCH_DATA"?
    "pipe_stdin": "yes" -> pipe_stdin must be true or false, not the string "yes"
    "run_on_load": "IF_CHANGE" -> run_on_load must be true, false or IF_CHANGED, not "IF_CHANGE"; did you mean "IF_CHANGED"?
    "run_mode": 1 -> run_mode must be one of QUEUE, DISCARD, PARALLEL, RESTART, not the number 1
    "max_parallel": 0 -> max_parallel must be a whole number from 1 to 10000, not the number 0
    "uid": -1 -> uid must be a name or a number, not the number -1
    "uid": 4294967295 -> uid must be a name or a number, not the number 4294967295
    "uid": 3999999999 -> user 3999999999 is not in the user database, so its group is not known; give a gid as well
    "gid": "no such group" -> there is no group "no such group"
    "gid": [] -> gid must be a name or a number, not a list
    "timeout": 0 -> timeout must be a number of seconds above 0 and at most 10 years, not the number 0
    "timeout": 1e300 -> timeout must be a number of seconds above 0 and at most 10 years, not the number 1e300
    "kill_after": -0.5 -> kill_after must be a number of seconds from 0 to 10 years, not the number -0.5
    "notify_signal": "SIGHUPP" -> notify_signal must be a signal's name or number, not "SIGHUPP"; did you mean "SIGHUP"?
    "notify_signal": 99 -> notify_signal must be a signal's name or number, not the number 99
    "notify_signal": "SIGHUP", "run_mode": "RESTART" -> notify_signal is for QUEUE only, and run_mode is RESTART; in RESTART a running action gets SIGTERM; in DISCARD and PARALLEL it is left alone
    "payload": "JASON" -> payload must be one of DATA, JSON, not "JASON"; did you mean "JSON"?
    "payload": "JSON", "pipe_stdin": false -> payload = JSON says what is on stdin, and pipe_stdin = False that nothing is; leave one of them out
    "on_failure": "RETRY" -> on_failure must be one of KEEP, STOP, not "RETRY"; Retry(times = 5) has it retried; in JSON {"retry": {"times": 5}}
    "on_failure": {"retry": {"times": "3"}} -> times must be a whole number from 1 to 1000000, not the string "3"
    "on_failure": {"retry": 3} -> on_failure must be KEEP, STOP or Retry(…), not a dict; Retry(times = 5) has it retried; in JSON {"retry": {"times": 5}}
    "on_failure": {"retry": {"times": 3, "time": 3}} -> unknown argument "time" of Retry; did you mean "times"?
    "group": "" -> group must not be empty
    "settle": 5, "settle_max": 1 -> settle_max must not be less than settle
    "cwd": "srv" -> cwd must be an absolute path, not the string "srv"
    "umask": "888" -> umask must be a mask from "000" to "777", not the string "888"
    "umask": 512 -> umask must be a mask from "000" to "777", not the number 512
    "env": {"TWITCHER_X": "1"} -> env must not set "TWITCHER_X": Twitcher sets such names itself
    "env": {"A=B": "1"} -> env has "A=B", which is not the name of a variable
    "env": {"A": {"secret": "b"}} -> env has Secret("b"), which must be the absolute path of a file of at most 4095 bytes
    "refuse_shrink": 1 -> refuse_shrink must be a share from 0 to 0.999, not the number 1
    "refuse_shrink": true -> refuse_shrink must be a share from 0 to 0.999, not true
    "data_file": "app" -> data_file must be the absolute path of a file, not the string "app"
    "data_file": "/run/app/" -> data_file must be the absolute path of a file, not the string "/run/app/"
    "data_file": "/run/app/.." -> data_file must be the absolute path of a file, not the string "/run/app/.."
    "data_file": "/run/app", "run_mode": "PARALLEL" -> data_file is one file, and in PARALLEL several runs would have it at once; let the action read its stdin
    "service": true -> a service is never told of a change in QUEUE; give it run_mode = RESTART, which replaces it, or in QUEUE a notify_signal such as SIGHUP
    "service": true, "run_mode": "RESTART", "timeout": 3 -> timeout is for what ends by itself, and service = True says that this does not; leave one of them out
    "ready_after": 3 -> ready_after is for services; add service = True, or leave it out
    "env": {"A": 1} -> env must have a string or Secret("/file") for "A", not the number 1
    "env": {"A": "\u0000"} -> env has a NUL character or too many bytes in "A"
    "env": {"A": "1", "B": "", "A": "2"} -> env has "A" twice
    "limits": {"nofiles": 1} -> limits has "nofiles", which is none of as, core, cpu, data, fsize, memlock, nofile, nproc, stack, memory, tasks, optional; did you mean "nofile"?
    "limits": {"nofile": [2, 1]} -> limits has a soft limit above the hard one for "nofile"
    "limits": {"nofile": -1} -> limits must have a whole number, "unlimited", or a pair [soft, hard] of these for "nofile", not the number -1
    "limits": {"nofile": "50%"} -> limits must have a whole number, "unlimited", or a pair [soft, hard] of these for "nofile", not the string "50%"
    "limits": {"cpu": "half"} -> limits must have a whole number of seconds, "unlimited", a pair [soft, hard] of these, or a percentage such as "50%" for "cpu", not the string "half"
    "limits": {"memory": "1KiB"} -> limits must have a size of at least 1 MiB, such as "512MiB" for "memory", not the string "1KiB"
    "limits": {"memory": 1024} -> limits must have a size of at least 1 MiB, such as "512MiB" for "memory", not the number 1024
    "limits": {"memory": [1, 2]} -> limits must have a size of at least 1 MiB, such as "512MiB" for "memory", not a list
    "limits": {"tasks": 0} -> limits must have a whole number of processes and threads, at least 1, for "tasks", not the number 0
    "limits": {"optional": 1} -> limits must have true or false for "optional", not the number 1
    "action": null -> "action" is given twice
    "#);
}

#[test]
fn commands_are_kept_from_what_they_ask_to_be_kept_from() {
    let hardening = |file: &str, text: &str| {
        let reload = Dir::new(&[(file, text)]).reload();
        let [watch] = &reload.watches[..] else {
            panic!("{:?}", reload.errors().collect::<Vec<_>>())
        };
        watch.process.hardening.clone()
    };
    let json = r#"[{"znode": "/a", "action": {"read_only": ["/srv", "/etc"], "exec": ["a"], "no_new_privs": true, "private_tmp": true,
        "capabilities": ["CAP_CHOWN", "CAP_KILL"]}}]"#;
    let all = Hardening {
        no_new_privs: true,
        private_tmp: true,
        read_only: vec![Path::new("/srv").into(), Path::new("/etc").into()],
        capabilities: Some(Capabilities(0b10_0001)),
    };
    assert_eq!(hardening("a.json", json), all);
    let none =
        r#"[{"znode": "/a", "action": {"exec": "a", "no_new_privs": false, "read_only": false, "capabilities": []}}]"#;
    let no_capabilities = Hardening {
        capabilities: Some(Capabilities(0)),
        ..Hardening::default()
    };
    assert_eq!(hardening("a.json", none), no_capabilities);
    assert_eq!(hardening("a.json", ONE), Hardening::default());
    let all_dirs = r#"[{"znode": "/a", "action": {"exec": "a", "read_only": true}}]"#;
    assert_eq!(hardening("a.json", all_dirs).read_only, [Path::new("/").into()]);
}

#[test]
fn actions_are_commands() {
    let actions = [
        r#""true""#,
        r#"{"exec": ""}"#,
        r#"{"exec": []}"#,
        r#"{"exec": ["", "a"]}"#,
        r#"{"exec": ["a", 1]}"#,
        r#"{"exec": 1}"#,
        r#"{"exec": "a\u0000b"}"#,
        r#"{"wasm": "x"}"#,
        r#"{"exec": "a", "shell": true}"#,
        r#"{"exec": "a", "privat_tmp": true}"#,
        r#"{"exec": "a", "no_new_privs": 1}"#,
        r#"{"exec": "a", "private_tmp": ["/tmp"]}"#,
        r#"{"exec": "a", "read_only": "/srv"}"#,
        r#"{"exec": "a", "read_only": ["srv"]}"#,
        r#"{"exec": "a", "capabilities": true}"#,
        r#"{"exec": "a", "capabilities": ["CAP_CHWON"]}"#,
        r#"{"exec": "a", "capabilities": ["chown"]}"#,
        r#"{"wasm": {"component": "/x"}, "read_only": true}"#,
        r#"{"deploy": "oci://host/x"}"#,
        r#"{"deploy": {}}"#,
        r#"{"deploy": {"source": "x"}}"#,
        r#"{"deploy": {"source": "oci://host/tools/x:1.0.0"}}"#,
        r#"{"deploy": {"source": "oci://host/tools/X"}}"#,
        r#"{"deploy": {"source": "/srv/x.twb"}}"#,
        r#"{"deploy": {"source": "/srv/../{version}.twb"}}"#,
        r#"{"deploy": {"source": "/srv/X-{version}.twb"}}"#,
        r#"{"deploy": {"source": "oci://host/x", "name": "X"}}"#,
        r#"{"deploy": {"source": "oci://host/x", "nam": "x"}}"#,
    ];
    let of = |action: &&str| {
        let text = format!("[{{\"znode\": \"/a\", \"action\": {action}}}]");
        let errors = Dir::new(&[("a.json", &text)]).errors();
        format!(
            "{action} -> {}",
            errors.lines().next().unwrap().split_once(": ").unwrap().1
        )
    };
    insta::assert_snapshot!(actions.iter().map(of).collect::<Vec<_>>().join("\n"), @r#"
    "true" -> action must be Exec(…), Wasm(…), Deploy(…) or a function, not the string "true"
    {"exec": ""} -> action must not be an empty command
    {"exec": []} -> action must not be an empty list: the first item is the program
    {"exec": ["", "a"]} -> action must have a program as the list's first item
    {"exec": ["a", 1]} -> action must be a list of strings, not one with the number 1
    {"exec": 1} -> action must be a command line or a list of strings, not the number 1
    {"exec": "a\u0000b"} -> action must not have a NUL character: programs cannot be given one
    {"wasm": "x"} -> action must be an object as "wasm", not the string "x"
    {"exec": "a", "shell": true} -> action has "shell", which is nothing of a command
    {"exec": "a", "privat_tmp": true} -> action has "privat_tmp", which is nothing of a command
    {"exec": "a", "no_new_privs": 1} -> action must have true or false for "no_new_privs", not the number 1
    {"exec": "a", "private_tmp": ["/tmp"]} -> action must have true or false for "private_tmp", not a list
    {"exec": "a", "read_only": "/srv"} -> action must have true or false or a list of absolute paths for "read_only", not the string "/srv"
    {"exec": "a", "read_only": ["srv"]} -> action must have true or false or a list of absolute paths for "read_only", not a list
    {"exec": "a", "capabilities": true} -> action must have a list of capabilities, such as ["CAP_NET_BIND_SERVICE"] for "capabilities", not true
    {"exec": "a", "capabilities": ["CAP_CHWON"]} -> action must not name the capability "CAP_CHWON": there is none of that name
    {"exec": "a", "capabilities": ["chown"]} -> action must not name the capability "chown": there is none of that name
    {"wasm": {"component": "/x"}, "read_only": true} -> action must have "exec", "wasm" or "deploy" and nothing else
    {"deploy": "oci://host/x"} -> action must be an object as "deploy", not the string "oci://host/x"
    {"deploy": {}} -> source is missing
    {"deploy": {"source": "x"}} -> source "x" is neither oci://REGISTRY/REPOSITORY nor an absolute path with {version} in the name of its file
    {"deploy": {"source": "oci://host/tools/x:1.0.0"}} -> source "oci://host/tools/x:1.0.0" has a tag or a digest, ":1.0.0": the znode's data says which version, so leave it out
    {"deploy": {"source": "oci://host/tools/X"}} -> source "oci://host/tools/X" has "tools/X", which is not the name of a repository: lower-case letters and digits, with . _ or - between them, in parts separated by /
    {"deploy": {"source": "/srv/x.twb"}} -> source "/srv/x.twb" has no {version} in the name of its file, as /srv/bundles/render-{version}.twb has
    {"deploy": {"source": "/srv/../{version}.twb"}} -> source "/srv/../{version}.twb" has . or .. or a NUL character: write the path without
    {"deploy": {"source": "/srv/X-{version}.twb"}} -> source "/srv/X-{version}.twb" does not say what the bundle is called
    {"deploy": {"source": "oci://host/x", "name": "X"}} -> name must be the name of a bundle: 1 to 64 lower-case letters, digits, - and _, the first a letter or digit, not the string "X"
    {"deploy": {"source": "oci://host/x", "nam": "x"}} -> unknown argument "nam" of Deploy
    "#);
    let long = format!(
        "[{{\"znode\": \"/a\", \"action\": {{\"exec\": \"{}\"}}}}]",
        "x".repeat(131_072)
    );
    assert!(
        Dir::new(&[("a.json", &long)])
            .errors()
            .contains("131072 bytes in one argument; Linux allows 131071")
    );
}

#[test]
fn errors_of_one_file_are_bounded() {
    let watch = |n: i32| format!("{{\"znode\": \"{n}\", \"action\": {{\"exec\": \"true\"}}}}");
    let text = format!("[{}]", (0..500).map(watch).collect::<Vec<_>>().join(",\n"));
    let mut dir = Dir::new(&[("a.json", &text)]);
    let reload = dir.reload();
    assert_eq!(reload.errors().count(), 101);
    let last = reload.errors().last().unwrap();
    assert_eq!(
        last.message,
        "there may be more errors; the rest of the file was not looked at"
    );
}

#[test]
fn hosts_and_watches_spread_over_the_splay() {
    let splay = Duration::from_secs(100);
    assert_eq!(
        share("host", "watch", splay),
        Duration::from_nanos(47_847_747_071),
        "the hash must never change: hosts would move"
    );
    assert_eq!(share("host", "watch", Duration::ZERO), Duration::ZERO);
    assert_ne!(share("host", "watch", splay), share("hostw", "atch", splay));
    let mut tenths = [0; 10];
    for host in 0..1000 {
        let share = share(&format!("host-{host}"), "watch", splay);
        assert!(share < splay);
        tenths[share.as_secs() as usize / 10] += 1;
    }
    assert!(tenths.iter().all(|count| (60..=140).contains(count)), "{tenths:?}");
}

#[test]
fn a_mask_that_is_decimal_and_looks_octal_is_noted() {
    let notes = |mask: &str| {
        let text = format!(r#"[{{"znode": "/a", "action": {{"exec": "true"}}, "umask": {mask}}}]"#);
        let reload = Dir::new(&[("a.json", &text)]).reload();
        assert_eq!(outcome(&reload, "a.json"), "Loaded { watches: 1 }");
        let told = |note: &ConfigError| format!("{} ({})", note.message, note.hint.as_deref().unwrap_or_default());
        reload.notes.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(
        notes("22"),
        [
            "umask is the decimal number 22, which means the mask 026 (write \"022\" for the mask 022, or \"026\" for what it means now)"
        ]
    );
    assert_eq!(notes("77").len(), 1);
    assert_eq!(notes("177").len(), 1);
    // No octal number, the same either way, and what was meant.
    for clear in ["18", "0", "7", "\"022\"", "\"22\""] {
        assert_eq!(notes(clear), [""; 0], "{clear}");
    }
}

/// The same with Starlark's calls is tried where programs can evaluate it: in tests/config.
#[test]
fn a_rollout_is_what_it_says() {
    let text = r#"[{"znode": "/a", "action": {"exec": "true"}, "timeout": 9, "rollout": {"name": "repo", "at_once": "5%", "max_failures": 2,
    "waves": [{"labels": {"canary": "yes"}, "bake": 5}, {"percent": 10, "promote": "MANUAL", "check": {"exec": "test -e /ok"}}, {}],
    "lost_after": 60, "lost": "RELEASE", "on_newer": "CARRY", "unavailable": 90,
    "verify": {"exec": ["/bin/healthy", "--now"], "no_new_privs": true}, "verify_for": 5}}]"#;
    let mut dir = Dir::new(&[("a.json", text)]);
    let reload = dir.reload();
    assert!(reload.errors().next().is_none(), "{}", dir.errors());
    let watch = reload.watches[0].clone();
    assert!(watch.policy.by_turns);
    assert_eq!(watch.policy.run_on_load, RunOnLoad::IfChanged);
    let rollout = watch.rollout.clone().unwrap();
    assert_eq!((rollout.at_once, rollout.max_failures), (AtOnce::Percent(5), 2));
    assert_eq!((rollout.lost, rollout.on_newer), (Lost::Release, OnNewer::Carry));
    let waves: Vec<_> = rollout
        .waves
        .iter()
        .map(|wave| (wave.percent, wave.manual, wave.has_all()))
        .collect();
    assert_eq!(waves, [(100, false, false), (10, true, false), (100, false, true)]);
    let argv = |probe: &Probe| probe.argv.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let verify = rollout.verify.clone().unwrap();
    assert_eq!(
        (argv(&verify.probe), verify.probe.hardening.no_new_privs),
        (vec!["/bin/healthy".to_owned(), "--now".to_owned()], true)
    );
    assert_eq!((verify.steady.as_secs(), verify.deadline.as_secs()), (5, 300));
    assert_eq!(
        argv(rollout.waves[1].check.as_ref().unwrap()),
        ["/bin/sh", "-c", "test -e /ok"]
    );
    assert_eq!(rollout.unavailable.map(|time| time.as_secs()), Some(90));
}

#[test]
fn what_is_wrong_with_a_rollout_is_told() {
    let repo = |more: &str| format!(r#""rollout": {{"name": "repo", "at_once": 1{more}}}"#);
    for (text, part) in [
        (r#""rollout": {}"#.to_owned(), "Rollout needs name"),
        (r#""rollout": {"name": "repo"}"#.to_owned(), "Rollout needs at_once"),
        (
            r#""rollout": {"name": "a/b", "at_once": 1}"#.to_owned(),
            "name must be 1 to 64",
        ),
        (
            r#""rollout": {"name": "repo", "at_once": 0}"#.to_owned(),
            "at_once must be a number of hosts",
        ),
        (
            r#""rollout": {"name": "repo", "at_once": "200%"}"#.to_owned(),
            "at_once must be a number of hosts",
        ),
        (
            repo(r#", "verify": {"exec": ["true"]}, "verify_for": 60, "verify_deadline": 60"#),
            "verify_for must be less than verify_deadline",
        ),
        (
            repo(r#", "verify": {"exec": ["true"]}, "verify_deadline": 5"#),
            "10 s is not less than 5 s",
        ),
        (
            repo(r#", "verify_for": 5"#),
            "verify_for goes with verify, which is not given",
        ),
        (
            repo(r#", "verify": "true""#),
            "verify must be an Exec(…), not the string",
        ),
        (
            repo(r#", "verify": {"wasm": {"component": "x.wasm"}}"#),
            "verify must be an Exec(…)",
        ),
        (repo(r#", "verify": {"exec": []}"#), "verify must not be an empty list"),
        (
            repo(r#", "verify": {"exec": ["true"], "uid": "app"}"#),
            "verify has \"uid\", which is for commands of a component",
        ),
        (repo(r#", "waves": [{"check": true}]"#), "check must be an Exec(…)"),
        (
            repo(r#", "unavailable": "LATER""#),
            "unavailable must be WAIT or a number of seconds",
        ),
        (repo(r#", "most": 2"#), "unknown argument \"most\""),
        (repo(r#", "waves": []"#), "waves must be a list of Wave"),
        (
            repo(r#", "waves": [{"percent": 50}]"#),
            "the last wave must have all hosts",
        ),
        (repo(r#", "waves": [{"percent": 0}, {}]"#), "percent must be"),
        (r#""rollout": "repo""#.to_owned(), "rollout must be a Rollout"),
        (repo("") + r#", "run_on_load": true"#, "run_on_load = True does not go"),
        (
            repo("") + r#", "run_mode": "PARALLEL""#,
            "needs run_mode QUEUE or RESTART",
        ),
        (repo("") + r#", "watch_type": "WATCH_TREE""#, "WATCH_TREE does not go"),
        (repo("") + r#", "splay": 5"#, "splay does not go"),
        (repo("") + r#", "publish": false"#, "publish = False does not go"),
    ] {
        let file = format!("[{{\"znode\": \"/a\", \"action\": {{\"exec\": \"true\"}}, {text}}}]");
        let said = Dir::new(&[("a.json", &file)]).errors();
        assert!(said.contains(part), "{text}: {said}");
    }
}

#[test]
fn on_a_host_one_watch_has_a_rollout() {
    let watch = |name: &str| {
        format!(
            r#"{{"znode": "/a", "name": "{name}", "action": {{"exec": "true"}}, "timeout": 9, "rollout": {{"name": "repo", "at_once": 1}}}}"#
        )
    };
    let said = Dir::new(&[("a.json", &format!("[{}, {}]", watch("one"), watch("two")))]).errors();
    assert!(said.contains("the rollout \"repo\" is that of the watch at"), "{said}");
}

#[test]
fn a_deployment_knows_what_its_bundles_are_called() {
    let of = |znode: &str, deploy: &str| {
        let text = format!(r#"[{{"znode": "{znode}", "action": {{"deploy": {deploy}}}}}]"#);
        let mut dir = Dir::new(&[("a.json", &text)]);
        let reload = dir.reload();
        let Some(watch) = reload.watches.first() else {
            return dir.errors().lines().next().unwrap_or_default().to_owned();
        };
        match &watch.action {
            Action::Deploy(deployment) => deployment.to_string(),
            other => format!("{other:?}"),
        }
    };
    let all = [
        of("/a", r#"{"source": "oci://127.0.0.1:5000/tools/render"}"#),
        of("/a", r#"{"source": "oci://r.example/tools/x", "name": "render"}"#),
        of("/a", r#"{"source": "/srv/render-{version}.twb"}"#),
        of("/plugins/render", r#"{"source": "/srv/{version}.twb"}"#),
        of("/plugins/Render", r#"{"source": "/srv/{version}.twb"}"#),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    render from oci://127.0.0.1:5000/tools/render
    render from oci://r.example/tools/x
    render from /srv/render-{version}.twb
    render from /srv/{version}.twb
    DIR/a.json:1:42: source "/srv/{version}.twb" does not say what the bundle is called
    "#);
}

#[test]
fn what_does_not_go_with_a_deployment_is_told_where_it_stands() {
    let fields = [
        r#""uid": "nobody""#,
        r#""gid": "nogroup""#,
        r#""watch_type": "WATCH_TREE""#,
        r#""pipe_stdin": false"#,
        r#""payload": "JSON""#,
        r#""data_file": "/run/version""#,
        r#""cwd": "/srv""#,
        r#""on_delete": true"#,
        r#""service": true, "run_mode": "RESTART""#,
        r#""notify_signal": "SIGHUP""#,
        r#""run_mode": "PARALLEL""#,
    ];
    let of = |fields: &&str| {
        let text =
            format!("[{{\"znode\": \"/a\", \"action\": {{\"deploy\": {{\"source\": \"oci://h/a\"}}}}, {fields}}}]");
        Dir::new(&[("a.json", &text)])
            .errors()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    insta::assert_snapshot!(fields.iter().map(of).collect::<Vec<_>>().join("\n"), @r#"
    DIR/a.json:1:72: uid is not for Deploy(…)
    DIR/a.json:1:72: gid is not for Deploy(…)
    DIR/a.json:1:79: Deploy(…) needs watch_type WATCH_DATA
    DIR/a.json:1:79: pipe_stdin = False is not for Deploy(…)
    DIR/a.json:1:76: payload = JSON is not for Deploy(…)
    DIR/a.json:1:78: data_file is not for Deploy(…)
    DIR/a.json:1:72: cwd is not for Deploy(…), which looks for nothing there
    DIR/a.json:1:78: on_delete = True is not for Deploy(…): a znode that is gone names no version
    DIR/a.json:1:76: service = True is not for Deploy(…), which ends by itself
    DIR/a.json:1:82: notify_signal is not for Deploy(…): it would end it
    DIR/a.json:1:77: PARALLEL is not for Deploy(…): of two versions at once the older could become current last
    "#);
    let several = r#"[{"znode": ["/a", "/b"], "action": {"deploy": {"source": "oci://h/a"}}}]"#;
    assert!(
        Dir::new(&[("a.json", several)])
            .errors()
            .contains("Deploy(…) is for a watch of one znode")
    );
}
