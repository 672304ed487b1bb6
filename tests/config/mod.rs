//! `.twc` files, from text to watches, with the real helper process.

mod components;
mod functions;
mod limits;
mod loads;
mod migrating;
mod rollouts;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use twitcher_config::{Config, Evaluator, FileOutcome, Reload, report};
use twitcher_model::{Action, OnFailure, Retry, RunMode, RunOnLoad, Watch};

/// A directory of configuration files.
struct Dir {
    dir: tempfile::TempDir,
    config: Config,
}

impl Dir {
    fn new(files: &[(&str, &str)]) -> Self {
        // Far more than a file needs: the machine may be busy with other tests.
        Self::with_budget(files, Duration::from_secs(60))
    }

    fn with_budget(files: &[(&str, &str)], budget: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let evaluator = Evaluator::new(env!("CARGO_BIN_EXE_twitcher").into()).with_budget(budget);
        let config = Config::new(vec![dir.path().to_owned()], evaluator);
        let this = Self { dir, config };
        for (name, text) in files {
            this.write(name, text);
        }
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn reload(&mut self) -> Reload {
        self.config.reload()
    }

    /// The watches, when nothing is wrong.
    fn watches(&mut self) -> Vec<Arc<Watch>> {
        let reload = self.reload();
        assert_eq!(report::render_errors(&reload), "");
        reload.watches
    }

    /// All errors as text, with the directory written as `DIR`.
    fn errors(&mut self) -> String {
        let reload = self.reload();
        report::render_errors(&reload).replace(self.dir.path().to_str().unwrap(), "DIR")
    }
}

fn errors(text: &str) -> String {
    Dir::new(&[("a.twc", text)]).errors()
}

fn names(reload: &Reload) -> Vec<&str> {
    reload.watches.iter().map(|watch| &*watch.name).collect()
}

fn outcome(reload: &Reload, file: &str) -> String {
    let report = reload.files.iter().find(|report| report.file.ends_with(file)).unwrap();
    match &report.outcome {
        FileOutcome::Failed { errors, kept } => format!("Failed({}), {kept} kept", errors.len()),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_examples_of_the_first_twitcher_run_unchanged() {
    let watches = Dir::new(&[(
        "examples.twc",
        r#"
# A comment, and code at the top level.
def example2():
    open('/tmp/twitcher_example2.out', 'w').write('testing')

RegisterWatch(znode='/twitcher/example2', action=example2)
RegisterWatch(znode='/brady/test',
              action=Exec('\n'.join([
                  'date >> /tmp/x',
                  'echo hi',
              ])))
RegisterWatch('/a', lambda: None, False, False, PARALLEL, 'daemon', None, None, 5, 'by position')
for n in range(2):
    if n:
        RegisterWatch('/loop/%d' % n, Exec(command=["echo", str(n)]), run_mode=RESTART)
"#,
    )])
    .watches();
    let shown: Vec<_> = watches
        .iter()
        .map(|watch| (&*watch.name, watch.znode.as_str(), watch.origin.line))
        .collect();
    let expected = [
        ("examples-1", "/twitcher/example2", 6),
        ("examples-2", "/brady/test", 7),
        ("by position", "/a", 12),
        ("examples-4", "/loop/1", 15),
    ];
    assert_eq!(shown, expected);
    assert_eq!(watches[1].action, Action::Shell("date >> /tmp/x\necho hi".into()));
    let by_position = &watches[2];
    assert!(!by_position.process.pipe_stdin && by_position.policy.run_on_load == RunOnLoad::Never);
    assert_eq!(by_position.policy.run_mode, RunMode::Parallel);
    assert_eq!(by_position.process.identity.user, "daemon");
    assert_eq!(by_position.process.timeout, Some(Duration::from_secs(5)));
    let Action::Function(action) = &by_position.action else {
        panic!("{:?}", by_position.action)
    };
    assert_eq!(action.call, 2);
}

#[test]
fn every_field_and_constant_can_be_given() {
    let watches = Dir::new(&[(
        "a.twc",
        r#"
RegisterWatch(
    znode = "/a", action = Exec(["true"]), name = "n", description = "d", watch_type = WATCH_CHILDREN, pipe_stdin = False,
    run_on_load = False, run_mode = QUEUE, max_parallel = 2, uid = 1, gid = "daemon", timeout = 0.5, kill_after = 1,
    notify_signal = SIGUSR1, on_failure = STOP, on_delete = True, settle = 1, settle_max = 2, splay = 3600, min_interval = 1,
    refuse_empty = True, cwd = "/tmp", umask = 0o27, env = {"A": "b"}, inherit_env = True, limits = {"nofile": [5, 6]})
RegisterWatch("/b", Exec("x"), on_failure = KEEP, run_mode = DISCARD, watch_type = WATCH_DATA, umask = "077", notify_signal = None)
RegisterWatch("/c", Exec("x"), watch_type = WATCH_TREE, notify_signal = 1)
"#,
    )])
    .watches();
    let watch = &watches[0];
    assert_eq!((watch.process.umask, watches[1].process.umask), (0o27, 0o77));
    assert_eq!(
        (watch.policy.notify_signal, watches[2].policy.notify_signal),
        (Some(10), Some(1))
    );
    assert!(watch.policy.delay < Duration::from_secs(3600));
    assert_eq!((watch.process.identity.uid, watch.process.limits[0].hard), (Some(1), 6));
}

#[test]
fn syntax_errors_and_unknown_names_are_located() {
    insta::assert_snapshot!(errors("x = 1\nRegisterWatch(znode='/a'\n  action=1)\n"), @r"
    DIR/a.twc:3:3: parse error: unexpected identifier 'action', expected symbol ')'
      |   action=1)
      |   ^
    ");
    insta::assert_snapshot!(errors("RegisterWatch('/a', Exec('x'), run_mode=QEUE)\n"), @r"
    DIR/a.twc:1:41: variable `QEUE` not found, did you mean `QUEUE`?
      | RegisterWatch('/a', Exec('x'), run_mode=QEUE)
      |                                         ^
    ");
    insta::assert_snapshot!(errors("import os\n"), @r#"
    DIR/a.twc:1:1: `import os` does not carry over: there are no modules here
      | import os
      | ^
      hint: run(["program", "argument"]) runs a program, open(path) opens a file, env["NAME"] is the environment
    "#);
    insta::assert_snapshot!(errors("def f(x):\n    return x + 'ü'\n\ny = 'é' + str(f(1))\n"), @r"
    DIR/a.twc:2:12: operation `+` not supported for types `int` and `string`
      |     return x + 'ü'
      |            ^
      hint: called from DIR/a.twc:4:15
    ");
}

#[test]
fn an_unknown_name_hides_no_other_mistake() {
    insta::assert_snapshot!(errors(r#"
RegisterWatch("/a", Exec("x"), run_mode = QEUE)
RegistrWatch("/b", Exec("x"))
RegisterWatch(prefix + "/c", Exec([program.name, "x"]), on_failure = QEUE, timeout = "60")
RegisterWatch("/d", Exec("x"), nam = "d", uid = "nobdy")
"#), @r#"
    DIR/a.twc:2:43: variable `QEUE` not found, did you mean `QUEUE`?
      | RegisterWatch("/a", Exec("x"), run_mode = QEUE)
      |                                           ^

    DIR/a.twc:3:1: variable `RegistrWatch` not found, did you mean `RegisterWatch`?
      | RegistrWatch("/b", Exec("x"))
      | ^

    DIR/a.twc:4:15: variable `prefix` not found
      | RegisterWatch(prefix + "/c", Exec([program.name, "x"]), on_failure = QEUE, timeout = "60")
      |               ^

    DIR/a.twc:4:36: variable `program` not found
      | RegisterWatch(prefix + "/c", Exec([program.name, "x"]), on_failure = QEUE, timeout = "60")
      |                                    ^

    DIR/a.twc:4:86: timeout must be a number of seconds above 0 and at most 10 years, not the string "60"
      | RegisterWatch(prefix + "/c", Exec([program.name, "x"]), on_failure = QEUE, timeout = "60")
      |                                                                                      ^

    DIR/a.twc:5:32: unknown field "nam"
      | RegisterWatch("/d", Exec("x"), nam = "d", uid = "nobdy")
      |                                ^
      hint: did you mean "name"?

    DIR/a.twc:5:49: there is no user "nobdy"
      | RegisterWatch("/d", Exec("x"), nam = "d", uid = "nobdy")
      |                                                 ^
      hint: did you mean "nobody"?
    "#);
}

#[test]
fn all_wrong_fields_are_told_each_at_its_place() {
    insta::assert_snapshot!(errors(r#"
RegisterWatch(
    znode = "git/head",
    action = Exec("git pull"),   # znode = "/in/a/comment",
    runmode = QUEUE,
    timeout = "60",
)
RegisterWatch("/a", Exec(5), env = {1: 2})
RegisterWatch("/b", Exec("x"), **{"uid": "nobdy"})
RegisterWatch("/c", Exec("x"), name = "twice")
for n in range(3):
    RegisterWatch("/d/%d" % n, Exec("x"), name = "twice")
RegisterWatch("/e", print("now"))
"#), @r#"
    DIR/a.twc:3:13: znode path "git/head" is not absolute: it must begin with "/"
      |     znode = "git/head",
      |             ^

    DIR/a.twc:5:5: unknown field "runmode"
      |     runmode = QUEUE,
      |     ^
      hint: did you mean "run_mode"?

    DIR/a.twc:6:15: timeout must be a number of seconds above 0 and at most 10 years, not the string "60"
      |     timeout = "60",
      |               ^

    DIR/a.twc:8:26: action must be a command line or a list of strings, not the number 5
      | RegisterWatch("/a", Exec(5), env = {1: 2})
      |                          ^

    DIR/a.twc:8:36: env must be a dict of strings, not a dict with a key that is not a string
      | RegisterWatch("/a", Exec(5), env = {1: 2})
      |                                    ^

    DIR/a.twc:9:1: there is no user "nobdy"
      | RegisterWatch("/b", Exec("x"), **{"uid": "nobdy"})
      | ^
      hint: did you mean "nobody"?

    DIR/a.twc:12:50: the name "twice" is already taken by the watch at DIR/a.twc:10:1
      |     RegisterWatch("/d/%d" % n, Exec("x"), name = "twice")
      |                                                  ^
      hint: give one of them another name = "…"; a watch without one is named by its description or file

    DIR/a.twc:13:1: action is missing
      | RegisterWatch("/e", print("now"))
      | ^
    "#);
}

#[test]
fn calls_that_make_no_sense_are_located() {
    insta::assert_snapshot!(errors("RegisterWatch(*range(12))\n"), @r"
    DIR/a.twc:1:1: RegisterWatch takes at most 10 arguments by position, not 12
      | RegisterWatch(*range(12))
      | ^
      hint: give the others by name
    ");
    insta::assert_snapshot!(errors("RegisterWatch('/a', Exec('x'), znode='/b')\n"), @r"
    DIR/a.twc:1:1: RegisterWatch got znode both by position and by name
      | RegisterWatch('/a', Exec('x'), znode='/b')
      | ^
    ");
}

#[test]
fn arguments_that_an_exec_does_not_have_are_told_with_those_that_were_meant() {
    insta::assert_snapshot!(errors("RegisterWatch('/a', Exec('x', capabilites=[]))\n"), @r#"
    DIR/a.twc:1:31: action has "capabilites", which is nothing of a command
      | RegisterWatch('/a', Exec('x', capabilites=[]))
      |                               ^
      hint: did you mean "capabilities"?
    "#);
    let told = errors("RegisterWatch('/a', Exec('x', capabilities=['NET_ADMIN']))\n");
    assert!(told.contains("hint: did you mean \"CAP_NET_ADMIN\"?"), "{told}");
    for (call, column) in [
        ("Exec('x', private_tmp=True, read_only=['srv'])", 59),
        ("Exec(private_tmp=True, command=['', 'a'])", 52),
        ("Exec(['a', 1], no_new_privs=True)", 26),
        ("Exec(exec='x')", 26),
        ("Exec()", 21),
    ] {
        let told = errors(&format!("RegisterWatch('/a', {call})\n"));
        assert!(
            told.starts_with(&format!("DIR/a.twc:1:{column}: action ")),
            "{call}: {told}"
        );
    }
}

#[test]
fn a_function_that_needs_arguments_is_no_action() {
    let text = "def f(a, b=1, *args, c, **more):\n    pass\nRegisterWatch('/a', f)\n";
    insta::assert_snapshot!(errors(text), @r#"
    DIR/a.twc:3:1: the action is a function that takes arguments (a, c), and it is called without any
      | RegisterWatch('/a', f)
      | ^
      hint: give them defaults, or give `lambda: function(...)`; change() and stdin() tell what has changed
    "#);
    for without in ["f(a=1, *args, **more)", "f()"] {
        let text =
            format!("def {without}:\n    pass\nRegisterWatch('/a', f)\nRegisterWatch('/b', lambda: f(), name='b')\n");
        assert_eq!(errors(&text), "", "{without}");
    }
    assert_eq!(errors("def f(a):\n    pass\nRegisterWatch('/a', partial(f, 1))\n"), "");
}

#[test]
fn run_on_load_has_three_values_in_both_formats() {
    let twc = "for i, value in enumerate([True, False, IF_CHANGED]):\n    RegisterWatch('/a', Exec('x'), run_on_load=value)\n";
    let json = ["true", "false", "\"IF_CHANGED\""]
        .map(|value| format!(r#"{{"znode": "/a", "action": {{"exec": "x"}}, "run_on_load": {value}}}"#))
        .join(",");
    let mut dir = Dir::new(&[("a.twc", twc), ("b.json", &format!("[{json}]"))]);
    let watches = dir.watches();
    let read: Vec<_> = watches.iter().map(|watch| watch.policy.run_on_load).collect();
    let three = [RunOnLoad::Always, RunOnLoad::Never, RunOnLoad::IfChanged];
    assert_eq!(read, [three, three].concat());
}

#[test]
fn retries_and_groups_are_read() {
    let mut dir = Dir::new(&[(
        "a.twc",
        r#"
patient = Retry(times=5, initial=0.5, factor=1.5, max_delay=30, jitter=0, codes=[75, 1], then=STOP)
RegisterWatch("/a", Exec("x"), on_failure=patient, group="db")
RegisterWatch("/b", Exec("x"), on_failure=Retry(2))
RegisterGroup("db", limit=2)
RegisterWatch("/c", print)
"#,
    )]);
    let reload = dir.reload();
    assert_eq!(report::render_errors(&reload), "");
    let policy = |at: usize| &reload.watches[at].policy;
    let patient = Retry {
        times: 5,
        initial: Duration::from_millis(500),
        factor: 1500,
        max_delay: Duration::from_secs(30),
        jitter: 0,
        codes: vec![1, 75],
    };
    assert_eq!(
        (&policy(0).retry, policy(0).on_failure),
        (&Some(patient), OnFailure::Stop)
    );
    let twice = Retry {
        times: 2,
        ..Retry::default()
    };
    assert_eq!(
        (&policy(1).retry, policy(1).on_failure),
        (&Some(twice), OnFailure::Keep)
    );
    assert_eq!(policy(0).group.as_deref(), Some("db"));
    assert_eq!(reload.groups, [("db".into(), 2)].into());
    // A group is no watch: it has no number.
    assert_eq!(names(&reload), ["a-1", "a-2", "a-3"]);
}

#[test]
fn what_is_wrong_with_retries_and_groups_is_located() {
    let wrong = r#"
again = Retry(times=0, initial=-1, factor=0.5, max_delay=90000, jitter=2,
              codes=[0], then="RETRY", time=3)
RegisterWatch("/a", Exec("x"), on_failure=again)
RegisterWatch("/b", Exec("x"), on_failure=Retry(initial=5, max_delay=2))
RegisterWatch("/c", Exec("x"), on_failure=3, group=7)
RegisterGroup("db", limit=0)
RegisterGroup(group="db")
RegisterGroup("x", 1)
RegisterGroup("x", 2)
RegisterGroup("x", 1, size=3)
"#;
    insta::assert_snapshot!(errors(wrong), @r#"
    DIR/a.twc:2:21: times must be a whole number from 1 to 1000000, not the number 0
      | again = Retry(times=0, initial=-1, factor=0.5, max_delay=90000, jitter=2,
      |                     ^

    DIR/a.twc:2:32: initial must be a number of seconds from 0 to 86400, a day, not the number -1
      | again = Retry(times=0, initial=-1, factor=0.5, max_delay=90000, jitter=2,
      |                                ^

    DIR/a.twc:2:43: factor must be a number from 1 to 100, not the number 0.5
      | again = Retry(times=0, initial=-1, factor=0.5, max_delay=90000, jitter=2,
      |                                           ^

    DIR/a.twc:2:58: max_delay must be a number of seconds from 0 to 86400, a day, not the number 90000
      | again = Retry(times=0, initial=-1, factor=0.5, max_delay=90000, jitter=2,
      |                                                          ^

    DIR/a.twc:2:72: jitter must be a share from 0 to 1, not the number 2
      | again = Retry(times=0, initial=-1, factor=0.5, max_delay=90000, jitter=2,
      |                                                                        ^

    DIR/a.twc:3:21: codes must be a list of exit codes from 1 to 255, not one with the number 0
      |               codes=[0], then="RETRY", time=3)
      |                     ^

    DIR/a.twc:3:31: then must be one of KEEP, STOP, not "RETRY"
      |               codes=[0], then="RETRY", time=3)
      |                               ^

    DIR/a.twc:3:40: unknown argument "time" of Retry
      |               codes=[0], then="RETRY", time=3)
      |                                        ^
      hint: did you mean "times"?

    DIR/a.twc:5:70: max_delay must not be less than initial
      | RegisterWatch("/b", Exec("x"), on_failure=Retry(initial=5, max_delay=2))
      |                                                                      ^

    DIR/a.twc:6:43: on_failure must be KEEP, STOP or Retry(…), not the number 3
      | RegisterWatch("/c", Exec("x"), on_failure=3, group=7)
      |                                           ^
      hint: Retry(times = 5) has it retried; in JSON {"retry": {"times": 5}}

    DIR/a.twc:6:52: group must be a string, not the number 7
      | RegisterWatch("/c", Exec("x"), on_failure=3, group=7)
      |                                                    ^

    DIR/a.twc:7:27: limit must be a whole number from 1 to 10000, not the number 0
      | RegisterGroup("db", limit=0)
      |                           ^

    DIR/a.twc:8:1: limit is missing
      | RegisterGroup(group="db")
      | ^

    DIR/a.twc:10:1: the group "x" already has the limit 1, given at DIR/a.twc:9:1
      | RegisterGroup("x", 2)
      | ^

    DIR/a.twc:11:23: unknown field "size" of a group
      | RegisterGroup("x", 1, size=3)
      |                       ^
    "#);
    insta::assert_snapshot!(errors("RegisterWatch('/a', Exec('x'), on_failure=Retry(1, 2))\n"), @r"
    DIR/a.twc:1:43: Retry takes at most 1 argument by position, not 2
      | RegisterWatch('/a', Exec('x'), on_failure=Retry(1, 2))
      |                                           ^
      hint: give the others by name
    ");
}

#[test]
fn what_only_an_action_can_do_is_refused_while_loading() {
    let texts = [
        "x = open('/etc/passwd').read()",
        "stdin()",
        "run(['true'])",
        "x = env['HOME']",
        "x = env.get('HOME')",
    ];
    let all = texts.map(|text| errors(&format!("{text}\n"))).join("\n");
    insta::assert_snapshot!(all, @r"
    DIR/a.twc:1:5: open() works only while an action runs, not while the file is loaded
      | x = open('/etc/passwd').read()
      |     ^
      hint: put it into a function, and give the function as an action

    DIR/a.twc:1:1: stdin() works only while an action runs, not while the file is loaded
      | stdin()
      | ^
      hint: put it into a function, and give the function as an action

    DIR/a.twc:1:1: run() works only while an action runs, not while the file is loaded
      | run(['true'])
      | ^
      hint: put it into a function, and give the function as an action

    DIR/a.twc:1:5: env works only while an action runs, not while the file is loaded
      | x = env['HOME']
      |     ^
      hint: put it into a function, and give the function as an action

    DIR/a.twc:1:5: env works only while an action runs, not while the file is loaded
      | x = env.get('HOME')
      |     ^
      hint: put it into a function, and give the function as an action
    ");
}
