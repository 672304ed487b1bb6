//! `.twc` files, from text to watches, with the real helper process; and functions of such files as actions.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use twitcher::config::{Config, Evaluator, FileOutcome, Reload, function, report};
use twitcher::model::{Action, FunctionAction, RunMode, Watch};

/// A directory of configuration files.
struct Dir {
    dir: tempfile::TempDir,
    config: Config,
}

impl Dir {
    fn new(files: &[(&str, &str)]) -> Self {
        Self::with_budget(files, Duration::from_secs(20))
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
    assert!(!by_position.process.pipe_stdin && !by_position.policy.run_on_load);
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
    insta::assert_snapshot!(errors("import os\n"), @r"
    DIR/a.twc:1:1: parse error: cannot use reserved keyword `import`
      | import os
      | ^
      hint: Starlark is a dialect of Python without modules, classes, exceptions, while and with
    ");
    insta::assert_snapshot!(errors("def f(x):\n    return x + 'ü'\n\ny = 'é' + str(f(1))\n"), @r"
    DIR/a.twc:2:12: operation `+` not supported for types `int` and `string`
      |     return x + 'ü'
      |            ^
      hint: called from DIR/a.twc:4:15
    ");
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

    DIR/a.twc:8:21: action must be a command line or a list of strings, not the number 5
      | RegisterWatch("/a", Exec(5), env = {1: 2})
      |                     ^

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
      hint: give the other fields by name
    ");
    insta::assert_snapshot!(errors("RegisterWatch('/a', Exec('x'), znode='/b')\n"), @r"
    DIR/a.twc:1:1: RegisterWatch got znode both by position and by name
      | RegisterWatch('/a', Exec('x'), znode='/b')
      | ^
    ");
}

#[test]
fn what_this_version_lacks_says_so() {
    insta::assert_snapshot!(errors("RegisterWatch('/a', Exec('x'), on_failure=Retry(times=3))\n"), @r"
    DIR/a.twc:1:43: this version of Twitcher does not support Retry()
      | RegisterWatch('/a', Exec('x'), on_failure=Retry(times=3))
      |                                           ^
      hint: use on_failure = KEEP or STOP, or retry in the command itself
    ");
    insta::assert_snapshot!(errors("RegisterWatch('/a', Wasm('render', config={}))\n"), @r"
    DIR/a.twc:1:21: this version of Twitcher does not support Wasm()
      | RegisterWatch('/a', Wasm('render', config={}))
      |                     ^
      hint: use Exec or a function as the action
    ");
    insta::assert_snapshot!(errors("RegisterWatch('/a', Exec('x'), run_on_load=IF_CHANGED)\n"), @r"
    DIR/a.twc:1:44: run_on_load cannot be IF_CHANGED: this version of Twitcher does not support it
      | RegisterWatch('/a', Exec('x'), run_on_load=IF_CHANGED)
      |                                            ^
      hint: True runs the action at every start, False only for changes after it
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

#[test]
fn a_file_that_never_ends_is_ended() {
    let budget = Duration::from_secs(1);
    let mut dir = Dir::with_budget(
        &[
            (
                "a.twc",
                "def f():\n    for a in range(1000000000):\n        pass\nf()\n",
            ),
            // Time goes by inside the library, which never looks at the clock.
            (
                "b.twc",
                "x = sorted(list(range(3000000)) * 4, key=lambda x: -x)\ny = 'a' in 'b' * 100000000\n",
            ),
            ("c.twc", "RegisterWatch('/c', Exec('x'))\n"),
        ],
        budget,
    );
    let started = Instant::now();
    let reload = dir.reload();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(names(&reload), ["c-1"], "the next file is not to blame");
    let text = report::render_errors(&reload).replace(dir.dir.path().to_str().unwrap(), "DIR");
    assert!(
        text.starts_with("DIR/a.twc:2:5: evaluation took more than 1 s"),
        "{text}"
    );
    assert!(text.contains("DIR/b.twc"), "{text}");
}

#[test]
fn a_file_that_eats_memory_is_ended() {
    let mut dir = Dir::new(&[
        ("a.twc", "x = ['a' * 1000 for a in range(100000000)]\n"),
        ("b.twc", "x = 'a' * 1999999999\n"),
        ("c.twc", "x = list(range(1000000000))\n"),
        ("d.twc", "RegisterWatch('/d', Exec('x'))\n"),
    ]);
    let reload = dir.reload();
    assert_eq!(names(&reload), ["d-1"]);
    let text = report::render_errors(&reload).replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(text, @r"
    DIR/a.twc:1:26: evaluation used more than 384 MiB of memory
      | x = ['a' * 1000 for a in range(100000000)]
      |                          ^

    DIR/b.twc: evaluation used more than 1024 MiB of memory

    DIR/c.twc: evaluation used more than 1024 MiB of memory
    ");
}

#[test]
fn deep_recursion_and_nesting_are_survived() {
    let nested = format!("x = {}1{}\n", "(".repeat(100_000), ")".repeat(100_000));
    let lists = "x = []\nfor a in range(1000000):\n    x = [x]\ny = str(x)\n";
    let mut dir = Dir::new(&[
        ("a.twc", "def f(n):\n    return f(n + 1)\nf(0)\n"),
        ("b.twc", &nested),
        ("c.twc", lists),
        ("d.twc", "RegisterWatch('/d', Exec('x'))\n"),
    ]);
    let reload = dir.reload();
    assert_eq!(names(&reload), ["d-1"]);
    let text = report::render_errors(&reload).replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(text, @r"
    DIR/a.twc:2:12: more than 500 functions call one another
      |     return f(n + 1)
      |            ^
      hint: called from DIR/a.twc:3:1

    DIR/b.twc: expressions or values are nested too deeply

    DIR/c.twc: expressions or values are nested too deeply
    ");
}

#[test]
fn a_flood_of_prints_and_watches_is_bounded() {
    let mut dir = Dir::new(&[
        ("a.twc", "for a in range(5000):\n    print('line', a)\n"),
        (
            "b.twc",
            "for a in range(200000):\n    RegisterWatch('/%d' % a, Exec('x'))\n",
        ),
        ("c.twc", "RegisterWatch('/c', Exec('x' * 50000000))\n"),
        ("d.twc", "print('d\\x1b[2J\\nx', [1])\n"),
    ]);
    let reload = dir.reload();
    assert_eq!(reload.prints.len(), 1002);
    let first = &reload.prints[0];
    assert_eq!((first.line, first.text.as_str()), (Some(2), "line 0"));
    assert_eq!(
        reload.prints[1000].text,
        "printed more than 1000 lines; the rest is not shown"
    );
    assert_eq!(reload.prints[1001].text, "d [2J x [1]");
    let text = report::render_errors(&reload).replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(text, @r"
    DIR/b.twc:2:5: more than 100000 watches in one file
      |     RegisterWatch('/%d' % a, Exec('x'))
      |     ^

    DIR/c.twc:1:1: a watch is too large
      | RegisterWatch('/c', Exec('x' * 50000000))
      | ^
    ");
}

#[test]
fn ten_thousand_watches_load_in_one_go() {
    let mut dir = Dir::new(&[(
        "a.twc",
        "for n in range(10000):\n    RegisterWatch('/n/%d' % n, Exec('true'))\n",
    )]);
    let started = Instant::now();
    assert_eq!(dir.watches().len(), 10_000);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_helper_that_cannot_start_is_an_error() {
    let mut dir = Dir::new(&[("a.twc", "")]);
    for (program, message) in [
        ("/nonexistent", "cannot start the process"),
        ("/bin/true", "broke down"),
        ("/bin/yes", "nonsense"),
    ] {
        dir.config = Config::new(vec![dir.dir.path().to_owned()], Evaluator::new(program.into()));
        let errors = dir.errors();
        assert!(errors.contains(message), "{program}: {errors}");
    }
}

#[test]
fn the_helper_has_no_rights() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .arg("evaluate")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its first message says that it has given up its rights.
    let mut length = [0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut length).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    if nix::unistd::geteuid().is_root() {
        assert_eq!(field("Uid:"), "65534 65534 65534 65534");
        assert_eq!(field("Gid:"), "65534 65534 65534 65534");
        assert_eq!(field("Groups:"), "");
        assert_eq!(field("CapEff:"), "0000000000000000");
        assert_eq!(field("CapPrm:"), "0000000000000000");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    for (name, most) in [
        ("Max core file size", "0"),
        ("Max file size", "0"),
        ("Max address space", "1073741824"),
        ("Max processes", "0"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, [most, most], "{name}");
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_file_can_load_a_sibling() {
    let mut dir = Dir::new(&[
        (
            "main.twc",
            "load('lib/_lib.twc', 'command', watch='w')\nRegisterWatch('/a', command('a'))\nwatch('/b')\n",
        ),
        (
            "lib/_lib.twc",
            "load('../base.twc', 'PREFIX')\ndef command(x):\n    return Exec(PREFIX + x)\n\ndef w(node):\n    RegisterWatch(node, command(node))\n",
        ),
        ("base.twc", "PREFIX = 'echo '\nRegisterWatch('/base', Exec('base'))\n"),
    ]);
    let watches = dir.watches();
    let shown: Vec<_> = watches
        .iter()
        .map(|watch| (&*watch.name, watch.znode.as_str(), watch.origin.line))
        .collect();
    assert_eq!(
        shown,
        [("base-1", "/base", 2), ("main-1", "/a", 2), ("main-2", "/b", 3)],
        "a library registers once, for itself"
    );
    assert_eq!(watches[1].action, Action::Shell("echo a".into()));

    // What is loaded counts as part of the file.
    assert_eq!(outcome(&dir.reload(), "main.twc"), "Unchanged");
    dir.write("base.twc", "PREFIX = 'printf '\n");
    let reload = dir.reload();
    assert_eq!(outcome(&reload, "main.twc"), "Loaded { watches: 2 }");
    assert_eq!(reload.watches[0].action, Action::Shell("printf a".into()));

    // An error in a library is told where it is, for every file that it breaks, and each keeps its watches.
    dir.write("base.twc", "PREFIX = 1\n");
    let errors = dir.errors();
    insta::assert_snapshot!(errors, @r"
    DIR/lib/_lib.twc:3:17: operation `+` not supported for types `int` and `string`
      |     return Exec(PREFIX + x)
      |                 ^
      hint: called from DIR/main.twc:2:21
    ");
    assert_eq!(names(&dir.reload()), ["main-1", "main-2"]);
}

#[test]
fn a_wrong_field_in_a_library_is_told_there() {
    let mut dir = Dir::new(&[
        ("main.twc", "load('_lib.twc', 'watch')\n\nwatch('b')\n"),
        (
            "_lib.twc",
            "def watch(node):\n    RegisterWatch(\n        znode = node,\n        action = Exec('x'))\n",
        ),
    ]);
    insta::assert_snapshot!(dir.errors(), @r#"
    DIR/_lib.twc:3:17: znode path "b" is not absolute: it must begin with "/"
      |         znode = node,
      |                 ^
      hint: called from DIR/main.twc:3:1
    "#);
}

#[test]
fn what_cannot_be_loaded_is_told() {
    let mut dir = Dir::new(&[
        ("a.twc", "load('b.twc', 'x')\n"),
        ("b.twc", "load('c.twc', 'x')\n"),
        ("c.twc", "load('b.twc', 'x')\n"),
        ("d.twc", "load('gone.twc', 'x')\n"),
        ("e.twc", "load('../../etc/passwd', 'x')\n"),
        ("f.twc", "load('../outside.twc', 'x')\n"),
        ("g.twc", "load('h.json', 'x')\n"),
        ("i.twc", "load('_k.twc', 'y')\n"),
        ("_k.twc", "yy = 1\n"),
    ]);
    insta::assert_snapshot!(dir.errors(), @r"
    DIR/c.twc:1:1: cannot load DIR/b.twc: it is still being loaded: DIR/b.twc loads DIR/c.twc loads DIR/b.twc
      | load('b.twc', 'x')
      | ^
      hint: loaded for DIR/a.twc

    DIR/c.twc:1:1: cannot load DIR/b.twc: it is still being loaded: DIR/b.twc loads DIR/c.twc loads DIR/b.twc
      | load('b.twc', 'x')
      | ^
      hint: loaded for DIR/b.twc

    DIR/b.twc:1:1: cannot load DIR/c.twc: it is still being loaded: DIR/c.twc loads DIR/b.twc loads DIR/c.twc
      | load('c.twc', 'x')
      | ^
      hint: loaded for DIR/c.twc

    DIR/d.twc:1:1: cannot load DIR/gone.twc: cannot open: No such file or directory
      | load('gone.twc', 'x')
      | ^

    DIR/e.twc:1:1: cannot load /etc/passwd: its name does not end in .twc
      | load('../../etc/passwd', 'x')
      | ^

    DIR/f.twc:1:1: cannot load /tmp/outside.twc: lies outside the configuration directories
      | load('../outside.twc', 'x')
      | ^

    DIR/g.twc:1:1: cannot load DIR/h.json: its name does not end in .twc
      | load('h.json', 'x')
      | ^

    DIR/i.twc:1:16: module has no symbol `y`, did you mean `yy`?
      | load('_k.twc', 'y')
      |                ^
    ");
}

#[test]
fn a_library_that_others_can_write_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut dir = Dir::new(&[("a.twc", "load('_lib.twc', 'x')\n"), ("_lib.twc", "x = 1\n")]);
    fs::set_permissions(dir.path("_lib.twc"), fs::Permissions::from_mode(0o666)).unwrap();
    let errors = dir.errors();
    assert!(errors.contains("a.twc:1:1: cannot load"), "{errors}");
    assert!(errors.contains("mode 0666 lets others"), "{errors}");
}

#[test]
fn a_file_that_fails_keeps_its_previous_watches() {
    let mut dir = Dir::new(&[
        ("a.twc", "RegisterWatch('/a', Exec('x'))\n"),
        ("b.twc", "RegisterWatch('/b', Exec('x'))\n"),
    ]);
    assert_eq!(names(&dir.reload()), ["a-1", "b-1"]);
    for broken in [
        "RegisterWatch('/a', Exec('y')",
        "RegisterWatch('/a', Exec('y'))\nfail('not today')\n",
        "RegisterWatch('a', Exec('y'))\n",
    ] {
        dir.write("a.twc", broken);
        let reload = dir.reload();
        assert_eq!(
            (names(&reload), outcome(&reload, "a.twc")),
            (vec!["a-1", "b-1"], "Failed(1), 1 kept".to_owned())
        );
        assert_eq!(reload.watches[0].action, Action::Shell("x".into()));
        assert_eq!(outcome(&reload, "b.twc"), "Unchanged");
    }
    dir.write("a.twc", "RegisterWatch('/a', Exec('y'))\n");
    assert_eq!(dir.reload().watches[0].action, Action::Shell("y".into()));
}

/// Runs the function that is the action of `call` in a file, in a process of its own: this test program, told to run
/// [`the_function_of_a_child_process`].
fn run_function(dir: &mut Dir, call: usize, stdin: &[u8]) -> Output {
    let watches = dir.watches();
    let Action::Function(action) = &watches[call].action else {
        panic!("{:?}", watches[call].action)
    };
    let file = dir.path(".action");
    fs::write(&file, serde_json::to_vec(action).unwrap()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "config::the_function_of_a_child_process",
            "--nocapture",
            "--quiet",
        ])
        .env("TWITCHER_TEST_FUNCTION", &file)
        .env("TEST_VARIABLE", "its value")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A function that does not read its stdin may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let mut output = child.wait_with_output().unwrap();
    let begin = output
        .stdout
        .windows(BEGIN.len())
        .position(|bytes| bytes == BEGIN.as_bytes())
        .unwrap();
    output.stdout.drain(..begin + BEGIN.len());
    output
}

/// What comes before it is of the test harness.
const BEGIN: &str = "-- the function --\n";

#[test]
fn the_function_of_a_child_process() {
    let Some(file) = std::env::var_os("TWITCHER_TEST_FUNCTION") else {
        return;
    };
    let action: FunctionAction = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    print!("{BEGIN}");
    std::io::stdout().flush().unwrap();
    std::process::exit(function::run(&action));
}

/// What the first function of a file prints, given that it succeeds. `OUT` stands for a path that it may write to.
fn printed(text: &str, stdin: &[u8]) -> String {
    let mut dir = Dir::new(&[]);
    let out = dir.path(".out");
    dir.write("a.twc", &text.replace("OUT", out.to_str().unwrap()));
    let output = run_function(&mut dir, 0, stdin);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    String::from_utf8(output.stdout).unwrap()
}

/// What the first function of a file says on stderr, given that it fails.
fn complaint(text: &str, stdin: &[u8]) -> String {
    let mut dir = Dir::new(&[("a.twc", text)]);
    let output = run_function(&mut dir, 0, stdin);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr)
        .unwrap()
        .replace(dir.dir.path().to_str().unwrap(), "DIR")
}

#[test]
fn functions_read_and_write_files() {
    let text = r#"
def f():
    print(open("OUT", "w").write("one\ntwö\nthree"))
    open("OUT", "ab").write("!\n")
    print(repr(open("OUT").read()))
    file = open("OUT", "r")
    print(repr(file.read(6)), repr(file.readline()), file.readlines(), repr(file.read()), repr(file.readline()))
    file.close()
    print([line.strip() for line in open("OUT")])
    return 7
RegisterWatch("/a", f)
"#;
    insta::assert_snapshot!(printed(text, b""), @r#"
    13
    "one\ntw\xf6\nthree!\n"
    "one\ntw" "\xf6\n" ["three!\n"] "" ""
    ["one", "tw\xf6", "three!"]
    "#);
}

#[test]
fn functions_have_stdin_and_the_environment() {
    let text = r#"
print("while loading")
RegisterWatch("/a", lambda: print(stdin().upper(), env["TEST_VARIABLE"], env.get("NONE"), env.get("NONE", 1), "PATH" in env))
"#;
    assert_eq!(printed(text, "dätä".as_bytes()), "DÄTÄ its value None 1 True\n");
}

#[test]
fn functions_run_programs() {
    let text = r#"
def f():
    result = run(["sh", "-c", "cat; exit 3"], stdin="x" * 200000)
    print(result.code, len(result.stdout))
    print(run(["sh", "-c", "kill -9 $$"]).code, repr(run(["cat"]).stdout), run(["true"], check=True).code)
RegisterWatch("/a", f)
"#;
    assert_eq!(printed(text, b"not for programs"), "3 200000\n-9 \"\" 0\n");
}

#[test]
fn a_function_is_the_one_of_its_call() {
    let mut dir = Dir::new(&[
        (
            "_lib.twc",
            "names = []\ndef show(name):\n    names.append(name) if False else print(name, later)\nlater = 'lib'\n",
        ),
        (
            "a.twc",
            "load('_lib.twc', 'show')\ndef make(n):\n    return lambda: show(n)\nfor n in range(3):\n    RegisterWatch('/%d' % n, action=make(n))\nRegisterWatch('/x', lambda: print(after))\nafter = 'defined later'\n",
        ),
    ]);
    let stdout = |dir: &mut Dir, call| String::from_utf8(run_function(dir, call, b"").stdout).unwrap();
    assert_eq!(stdout(&mut dir, 1), "1 lib\n");
    assert_eq!(stdout(&mut dir, 2), "2 lib\n");
    assert_eq!(stdout(&mut dir, 3), "defined later\n");
}

#[test]
fn a_function_runs_as_it_was_loaded() {
    let mut dir = Dir::new(&[
        ("_lib.twc", "def f():\n    print('old')\n"),
        ("a.twc", "load('_lib.twc', 'f')\nRegisterWatch('/a', f)\n"),
    ]);
    let watches = dir.watches();
    let Action::Function(action) = &watches[0].action else {
        panic!()
    };
    assert_eq!(action.program.loads.len(), 1);
    assert!(action.program.loads[0].1.contains("old"));
}

#[test]
fn an_error_in_a_function_is_told_with_its_calls() {
    let text = "def g(x):\n    return x + 1\n\ndef f():\n    g('a')\n\nRegisterWatch('/a', f)\n";
    insta::assert_snapshot!(complaint(text, b""), @r"
    DIR/a.twc:2:12: operation `+` not supported for types `string` and `int`
      |     return x + 1
      |            ^
      hint: called from DIR/a.twc:5:5
    ");
    let texts = [
        "open('/nonexistent/x')",
        "open('/tmp', 'w')",
        "open('/tmp/x', 'rw')",
        "open('/dev/null').write('x')",
        "stdin()",
        "run(['/nonexistent/x'])",
        "run(['sh', '-c', 'exit 4'], check=True)",
        "run('ls')",
        "run([])",
        "run(['true'], stdin=1)",
        "env['NO_SUCH_VARIABLE']",
        "RegisterWatch('/b', Exec('x'))",
        "fail('on purpose')",
    ];
    let of = |text: &str| {
        complaint(&format!("RegisterWatch('/a', lambda: {text})\n"), b"\xff")
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    insta::assert_snapshot!(texts.map(of).join("\n"), @r#"
    DIR/a.twc:1:29: cannot open "/nonexistent/x": No such file or directory (os error 2)
    DIR/a.twc:1:29: cannot open "/tmp": Is a directory (os error 21)
    DIR/a.twc:1:29: mode "rw" is none of "r", "w" and "a"
    DIR/a.twc:1:29: the file is not open for writing
    DIR/a.twc:1:29: stdin is not UTF-8 text, and functions handle text only
    DIR/a.twc:1:29: cannot run "/nonexistent/x": No such file or directory (os error 2)
    DIR/a.twc:1:29: run: sh ended with code 4
    DIR/a.twc:1:29: the command must be a list of strings, not the string "ls"
    DIR/a.twc:1:29: the command must be a list of strings, not an empty one
    DIR/a.twc:1:29: stdin must be a string, not the number 1
    DIR/a.twc:1:29: there is no environment variable "NO_SUCH_VARIABLE"
    DIR/a.twc:1:29: RegisterWatch() works only while the file is loaded, not while an action runs
    DIR/a.twc:1:29: fail: on purpose
    "#);
}

#[test]
fn a_function_that_recurses_for_ever_fails() {
    let said = complaint("def f():\n    f()\nRegisterWatch('/a', f)\n", b"");
    assert!(said.contains("more than 500 functions call one another"), "{said}");
}
