//! What a component has done by the daemon: commands and znodes, within its grants.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{open_out, outcome, said, watch};
use crate::support::daemon::{Daemon, Site, alive};
use crate::support::guests::guest;
use crate::support::until;

fn started(name: &str, grants: &str, fields: &str) -> (Site, Daemon) {
    let site = Site::new();
    open_out(&site);
    watch(&site, &guest(name), grants, fields);
    site.set("/x", "data");
    let daemon = site.start();
    (site, daemon)
}

#[test]
fn a_granted_command_runs_as_the_user_with_its_own_input_and_output() {
    let grants = "config={'name': 'who'}, commands={'who': ['sh', '-c', 'id -u; cat; echo oops >&2; exit 5']}";
    let (_site, daemon) = started("commands", grants, "uid='nobody'");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    said(&daemon, "code Some(5), signal None, truncated false");
    said(&daemon, "stdout: 65534");
    said(&daemon, "data");
    said(&daemon, "stderr: oops");
    let end = said(&daemon, "command ended");
    assert_eq!(
        (end["command"].as_str(), end["outcome"].as_str()),
        (Some("who"), Some("exit code 5"))
    );
}

#[test]
fn arguments_are_passed_as_they_are_where_the_operator_lets_them() {
    let args = "a b\\n$(id); `id` | id\\n-x";
    let grants = format!("config={{'name': 'e', 'args': '{args}'}}, commands={{'e': ['printf', '[%s]', '*']}}");
    let (_site, daemon) = started("commands", &grants, "");
    daemon.wait_runs("w", 1);
    said(&daemon, "stdout: [a b][$(id); `id` | id][-x]");
}

#[test]
fn a_command_of_another_user_is_that_users_in_every_way() {
    let command = "Exec(['sh', '-c', 'id -u; id -g; echo $USER $HOME; grep NoNewPrivs /proc/self/status'], uid='daemon', no_new_privs=True)";
    let grants = format!("config={{'name': 'who'}}, commands={{'who': {command}}}");
    let (_site, daemon) = started("commands", &grants, "uid='nobody'");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    let line = said(&daemon, "stdout: 1");
    let said: String = daemon.text();
    assert!(
        said.contains("daemon /usr/sbin") && said.contains("NoNewPrivs:\\t1"),
        "{line}: {said}"
    );
}

#[test]
fn a_command_gets_a_file_that_the_component_may_write_and_nothing_else() {
    let run = |args: &str, prepare: fn(&Site)| {
        let grants = format!(
            "config={{'name': 'e', 'args': '{args}'}}, dirs={{'/out': 'OUT:rw', '/in': 'OUT/in'}}, commands={{'e': ['sh', '-c', 'echo got $#: \"$@\"; cat \"$1\"', 'sh', '{{file}}']}}"
        );
        let site = Site::new();
        open_out(&site);
        site.write("out/in/f", "read-only");
        site.write("out/f", "the file");
        prepare(&site);
        watch(&site, &guest("commands"), &grants, "uid='nobody'");
        site.set("/x", "data");
        let daemon = site.start();
        let runs = daemon.wait_runs("w", 1);
        (site, outcome(&runs[0]).to_owned(), daemon)
    };
    let (site, ended, daemon) = run("/out/f", |_| {});
    assert_eq!(ended, "success");
    said(&daemon, &format!("got 1: {}", site.path("out/f").display()));
    said(&daemon, "the file");
    for (args, prepare, words) in [
        ("/in/f", (|_| {}) as fn(&Site), "dirs that ends in"),
        ("/etc/passwd", |_| {}, "it is in no directory of dirs"),
        ("/out/../../etc/passwd", |_| {}, "it is in no directory of dirs"),
        ("/out/none", |_| {}, "no such file or directory"),
        ("/out/in", |_| {}, "is a directory"),
        (
            "/out/l",
            |site| std::os::unix::fs::symlink("/etc/shadow", site.path("out/l")).unwrap(),
            "a link leads there",
        ),
        ("/out/f\\n-x", |_| {}, "takes no such arguments"),
    ] {
        let (_site, ended, daemon) = run(args, prepare);
        assert!(ended.contains("failed") || ended == "success", "{ended}");
        said(&daemon, words);
        assert_eq!(daemon.count(|line| line["message"] == "command ended"), 0, "{args}");
    }
}

#[test]
fn what_is_not_granted_is_denied_and_the_log_says_what_to_add() {
    for (grants, says) in [
        (
            "config={'name': 'sh', 'args': '-c'}, commands={'e': ['echo', '*']}",
            r#"commands = {"sh": ["#,
        ),
        (
            "config={'name': 'e', 'args': 'more'}, commands={'e': ['echo']}",
            r#"end its list in commands with "*""#,
        ),
    ] {
        let (_site, daemon) = started("commands", grants, "");
        assert!(outcome(&daemon.wait_runs("w", 1)[0]).contains("failed"));
        said(&daemon, says);
        assert_eq!(daemon.count(|line| line["message"] == "command ended"), 0);
    }
    for (config, says) in [
        ("{'do': 'get', 'path': '/secret'}", r#"znodes = {"/secret": "r"}"#),
        ("{'do': 'set', 'path': '/app'}", r#"znodes = {"/app": "rw"}"#),
        ("{'do': 'create', 'path': '/app/new/../x'}", "failed"),
    ] {
        let site = Site::new();
        site.set("/secret", "s");
        site.set("/app", "before");
        watch(
            &site,
            &guest("znodes"),
            &format!("config={config}, znodes={{'/app': 'r'}}"),
            "",
        );
        site.set("/x", "data");
        let daemon = site.start();
        assert!(outcome(&daemon.wait_runs("w", 1)[0]).contains("failed"));
        said(&daemon, says);
        assert_eq!(site.read("tree/app"), "before");
    }
}

#[test]
fn a_command_that_cannot_start_or_takes_too_long_is_an_error_of_the_command() {
    let (_site, daemon) = started(
        "commands",
        "config={'name': 'no'}, commands={'no': ['/no/such/program']}",
        "",
    );
    daemon.wait_runs("w", 1);
    said(&daemon, "No such file or directory");
    let (_site, daemon) = started(
        "commands",
        "config={'name': 'long'}, commands={'long': ['sleep', '1000']}",
        "timeout=0.3, kill_after=1",
    );
    daemon.wait_runs("w", 1);
    said(&daemon, "command ended");
}

#[test]
fn a_command_ends_with_the_run_it_belongs_to() {
    let script = "['sh', '-c', 'echo $$ > OUT/pid; exec sleep 1000']";
    for command in [script.to_owned(), format!("Exec({script}, uid='root')")] {
        let grants = format!("config={{'name': 'long'}}, commands={{'long': {command}}}");
        let (site, daemon) = started("commands", &grants, "uid='nobody'");
        until("the command runs", || !site.read("out/pid").is_empty());
        let command = Pid::from_raw(site.read("out/pid").trim().parse().unwrap());
        let run = daemon.wait("the run", |line| line["message"] == "run started");
        kill(Pid::from_raw(run["pid"].as_i64().unwrap() as i32), Signal::SIGKILL).unwrap();
        until("the command is gone", || !alive(command));
        assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "killed by SIGKILL");
    }
}

#[test]
fn granted_znodes_are_read_and_written() {
    let znodes = "znodes={'/app/**': 'rw'}";
    for (config, says) in [
        ("{'do': 'get', 'path': '/app/a'}", "Node"),
        ("{'do': 'children', 'path': '/app'}", r#"["a"]"#),
        ("{'do': 'set', 'path': '/app/a'}", "Stat"),
        ("{'do': 'create', 'path': '/app/b'}", ""),
    ] {
        let site = Site::new();
        site.set("/app/a", "before");
        watch(&site, &guest("znodes"), &format!("config={config}, {znodes}"), "");
        site.set("/x", "data");
        let daemon = site.start();
        assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success", "{config}");
        said(&daemon, says);
        let after = [site.read("tree/app/a"), site.read("tree/app/b")];
        let expected = match config {
            _ if config.contains("'set'") => ["data", ""],
            _ if config.contains("'create'") => ["before", "data"],
            _ => ["before", ""],
        };
        assert_eq!(after, expected, "{config}");
    }
}
