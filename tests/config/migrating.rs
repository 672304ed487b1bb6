//! Configurations of the first Twitcher, as `twitcher check` sees them.

use std::path::Path;
use std::process::Command;

use super::*;

/// What `check` prints, and its exit code.
fn check(file: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/config/original");
    let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .args(["check", file])
        .current_dir(dir.canonicalize().unwrap())
        .output()
        .unwrap();
    let dir = dir.canonicalize().unwrap();
    let text = [output.stdout, output.stderr]
        .map(|text| String::from_utf8(text).unwrap())
        .concat();
    let text = text.replace(&format!("{}/", dir.display()), "");
    format!("{text}\nexit code {}", output.status.code().unwrap())
}

#[test]
fn an_action_that_counts_in_a_global_is_explained() {
    insta::assert_snapshot!(check("simple.twc"));
}

#[test]
fn an_action_that_calls_programs_and_logs_is_explained() {
    insta::assert_snapshot!(check("git_pull.twc"));
}

#[test]
fn an_action_with_classes_files_and_requests_is_explained() {
    insta::assert_snapshot!(check("notify.twc"));
}

#[test]
fn what_was_carried_over_as_advised_loads() {
    insta::assert_snapshot!(check("carried_over.twc"));
}

#[test]
fn a_loaded_file_is_explained_where_it_is() {
    let mut dir = Dir::new(&[
        ("a.twc", "load(\"lib.twc\", \"f\")\nRegisterWatch('/a', f)\n"),
        ("lib.twc", "def f():\n    import os\n"),
    ]);
    let errors = dir.errors();
    assert!(
        errors.contains("DIR/lib.twc:2:5: `import os` does not carry over"),
        "{errors}"
    );
}

/// Each thing that the advice recommends is there, and does what is said of it.
#[test]
fn what_is_advised_works() {
    let out = tempfile::tempdir().unwrap();
    let text = r#"
def act():
    if run(["test", "-e", "DIR"]).code != 0: fail("test")
    run(["mkdir", "-p", "DIR/a"], check = True)
    f = open("DIR/a/x", "w")
    f.write("1")
    run(["cp", "DIR/a/x", "DIR/y"], check = True)
    run(["mv", "-T", "DIR/y", "DIR/z"], check = True)
    if run(["ls", "DIR/a"]).stdout.splitlines() != ["x"]: fail("ls")
    if "a/b/c".split("/")[-1] != "c" or "a/b/c".rpartition("/")[0] != "a/b": fail("names")
    if int(run(["date", "+%s"]).stdout.strip()) < 1000000000: fail("date")
    if json.decode(json.encode({"a": 1})) != {"a": 1}: fail("json")
    if run(["grep", "b"], stdin = "a\nb\n").stdout != "b\n": fail("grep")
    if env.get("NAME", "none") != "none" or repr("x") != "\"x\"": fail("env")
    if type("") != "string" or type(1) != "int" or type([]) != "list" or type({}) != "dict": fail("type")
    d = {"k": 1}
    d.pop("k")
    if not any([x for x in (0, 1)]) or struct(name = 1).name != 1 or 1 << 3 != 8: fail("values")
    for n in range(1000):
        if n > 3: break
    if stdin() != "": fail("stdin")
    open("DIR/done", "w").write("done")
RegisterWatch("/a", act, splay = 60, settle = 1, min_interval = 1, cwd = "/", umask = 0o022,
    on_failure = Retry(times = 10), notify_signal = SIGUSR1)
RegisterWatch("/b", Exec(["/usr/bin/python3", "/etc/twitcher/scripts/NAME.py"]))
"#;
    let text = text.replace("DIR", out.path().to_str().unwrap());
    let ran = functions::run_function(&mut Dir::new(&[("a.twc", &text)]), 0, b"");
    assert_eq!(
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr)),
        (Some(0), "".into())
    );
    assert_eq!(fs::read_to_string(out.path().join("done")).unwrap(), "done");
}
