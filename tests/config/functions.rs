//! Functions of `.twc` files as actions, each run in a process of its own.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use twitcher_config::function_action;
use twitcher_model::{Action, FunctionAction};

use super::Dir;

/// Runs the function that is the action of `call` in a file, in a process of its own: this test program, told to run
/// [`the_function_of_a_child_process`].
pub(super) fn run_function(dir: &mut Dir, call: usize, stdin: &[u8]) -> Output {
    let watches = dir.watches();
    let Action::Function(action) = &watches[call].action else {
        panic!("{:?}", watches[call].action)
    };
    let file = dir.path(".action");
    fs::write(&file, serde_json::to_vec(action).unwrap()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "config::functions::the_function_of_a_child_process",
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
    std::process::exit(function_action::run(&action));
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
