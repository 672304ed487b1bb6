//! The example plugins, as their documentation configures them. `make plugins` builds them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use super::{open_out, outcome, said, watch};
use crate::support::daemon::Site;

/// A missing one is a failure, for `make test` builds them.
pub fn plugin(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let file = target.join("wasm32-wasip2/release").join(format!("{name}.wasm"));
    assert!(file.is_file(), "{} is missing: make plugins", file.display());
    file
}

#[test]
fn render_writes_the_file_and_reloads_only_when_it_differs() {
    let site = Site::new();
    open_out(&site);
    fs::create_dir(site.path("templates")).unwrap();
    site.write(
        "templates/app.conf",
        "{% for server in data.servers %}\nserver {{ server }};\n{% endfor %}\n",
    );
    let templates = site.path("templates");
    let grants = format!(
        "config={{'template': '/templates/app.conf', 'dest': '/out/app.conf'}}, \
         dirs={{'/templates': {:?}, '/out': 'OUT:rw'}}, commands={{'reload': ['sh', '-c', 'echo reloaded >> OUT/reloads']}}",
        templates.display().to_string()
    );
    watch(&site, &plugin("render"), &grants, "uid='nobody', timeout=60");
    site.set("/x", r#"{"servers": ["a", "b"]}"#);
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    assert_eq!(site.read("out/app.conf"), "server a;\nserver b;\n");
    // The same content from another state of the node.
    site.set("/x", r#"{ "servers": ["a", "b"] }"#);
    assert_eq!(outcome(&daemon.wait_runs("w", 2)[1]), "success");
    assert_eq!(site.lines("out/reloads"), ["reloaded"]);
    site.set("/x", r#"{"servers": ["c"]}"#);
    assert_eq!(outcome(&daemon.wait_runs("w", 3)[2]), "success");
    assert_eq!(site.read("out/app.conf"), "server c;\n");
    assert_eq!(site.lines("out/reloads").len(), 2);
    // What is not right leaves everything as it was.
    site.set("/x", r#"{"servers": "#);
    assert!(outcome(&daemon.wait_runs("w", 4)[3]).starts_with("failed"));
    assert_eq!(site.read("out/app.conf"), "server c;\n");
}

/// A server that answers each request with the next of these.
fn server(answers: &'static [&'static str]) -> (u16, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let answer = |status: &&str| {
            let (mut client, _) = listener.accept().unwrap();
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&request).trim_end().ends_with('}') {
                let length = client.read(&mut buffer).unwrap();
                assert!(length > 0, "{}", String::from_utf8_lossy(&request));
                request.extend_from_slice(&buffer[..length]);
            }
            write!(client, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            String::from_utf8(request).unwrap()
        };
        answers.iter().map(answer).collect()
    };
    (port, thread::spawn(serve))
}

#[test]
fn webhook_posts_each_change_and_tells_what_is_worth_a_retry() {
    let (port, requests) = server(&["200 OK", "503 Service Unavailable", "404 Not Found"]);
    let site = Site::new();
    let origin = format!("http://127.0.0.1:{port}");
    let grants = format!("config={{'url': '{origin}/hook', 'header.x-token': 't'}}, http=['{origin}']");
    watch(&site, &plugin("webhook"), &grants, "uid='nobody', timeout=60");
    site.set("/x", "first");
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    site.set("/x", "second");
    assert!(outcome(&daemon.wait_runs("w", 2)[1]).starts_with("failed, may be retried"));
    site.set("/x", "third");
    assert!(outcome(&daemon.wait_runs("w", 3)[2]).starts_with("failed: "));
    let requests = requests.join().unwrap();
    let first = requests[0].to_lowercase();
    assert!(
        first.starts_with("post /hook") && first.contains("x-token: t"),
        "{first}"
    );
    let body = requests[0].split("\r\n\r\n").nth(1).unwrap();
    let body: String = body.lines().filter(|line| line.starts_with('{')).collect();
    let posted: serde_json::Value =
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {}", requests[0]));
    assert_eq!(
        (posted["path"].as_str(), posted["data"].as_str()),
        (Some("/x"), Some("first"))
    );
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let identity = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "init.defaultBranch=main",
    ];
    let output = Command::new("git")
        .current_dir(dir)
        .args(identity)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn git_pull_brings_the_clone_to_the_new_commit() {
    let site = Site::new();
    let (origin, clone) = (site.path("out/origin"), site.path("out/clone"));
    fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "--quiet"]);
    let commit = |text: &str| {
        fs::write(origin.join("file"), text).unwrap();
        git(&origin, &["add", "file"]);
        git(&origin, &["commit", "--quiet", "-m", text]);
        git(&origin, &["rev-parse", "HEAD"])
    };
    commit("one");
    git(&site.path("out"), &["clone", "--quiet", "origin", "clone"]);
    let head = commit("two");
    let grants = "config={'repository': 'OUT/clone'}, commands={'git': ['git', '*']}";
    watch(&site, &plugin("git_pull"), grants, "timeout=60");
    site.set("/x", &head);
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), head);
    assert_eq!(fs::read_to_string(clone.join("file")).unwrap(), "two");
    said(&daemon, &head[..7]);
}

#[test]
fn plugins_check_their_configuration_when_it_is_loaded() {
    for (name, grants, missing) in [
        ("render", "", "dest"),
        ("webhook", "", "url"),
        ("git_pull", "", "repository"),
    ] {
        let site = Site::new();
        watch(&site, &plugin(name), grants, "");
        let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .arg("check")
            .arg(site.path("conf"))
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {errors}");
        assert!(
            errors.contains("w.twc:1:") && errors.contains(missing),
            "{name}: {errors}"
        );
    }
}
