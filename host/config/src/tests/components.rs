//! Components: what their arguments may be, and what follows when their files change. Who resolves them here looks at nothing but
//! the file's first bytes.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::{Changes, Resolver, Watched};
use twitcher_model::{Action, Component, Digest, EntryPoint, Grants, Keep, WasmAction, Watch};

/// A component whose digest is its text. One that says so is broken.
pub(super) fn resolve(file: &Path, _: &Grants) -> Result<Component, Vec<String>> {
    let text = fs::read(file).map_err(|error| vec![format!("cannot read: {error}")])?;
    if text.starts_with(b"broken") {
        return Err(vec![
            "is not a component".to_owned(),
            "has a line of nonsense".to_owned(),
        ]);
    }
    let mut digest = [0; 32];
    let length = text.len().min(32);
    digest[..length].copy_from_slice(&text[..length]);
    Ok(Component {
        file: file.into(),
        bundle: None,
        digest: Digest(digest),
        entry: EntryPoint::Handler,
        native: Path::new("/cache").join(hex(&text)).into(),
        keep: Keep::default(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn action(watch: &Watch) -> &Arc<WasmAction> {
    match &watch.action {
        Action::Wasm(action) => action,
        other => panic!("{other:?}"),
    }
}

pub(super) fn watch_with(wasm: &str) -> String {
    format!("[{{\"znode\": \"/a\", \"action\": {{\"wasm\": {{{wasm}}}}}}}]")
}

#[test]
fn every_argument_arrives() {
    let text = watch_with(
        r#""component": "x.wasm", "config": {"k": "v"}, "args": ["-v", ""], "env": {"A": "1"},
        "dirs": {"/in": "/srv/in", "/out": "/srv/o:ut:rw", "/ro": "/srv:ro"},
        "net": ["Example.org:5432", "10.0.0.1:1", "[::1]:65535"], "http": ["https://example.org", "http://[2001:DB8::0]:8080"],
        "commands": {"all": ["/bin/echo", "*"], "one": ["systemctl", "reload", "app"], "star": ["echo", "*", "x"]},
        "znodes": {"/a": "r", "/b/**": "rw", "/**": "r"}, "memory": "2GiB", "warm": 0"#,
    );
    let mut dir = Dir::new(&[("conf/a.json", &text), ("conf/x.wasm", "one")]).with_components();
    let reload = dir.reload();
    assert_eq!(report::render_errors(&reload), "");
    let WasmAction { component, grants } = &**action(&reload.watches[0]);
    assert_eq!(*component.file, *dir.path("conf/x.wasm"));
    assert_eq!(
        (grants.memory, grants.args.as_slice()),
        (2 << 30, ["-v".into(), String::new()].as_slice())
    );
    let shown = |list: Vec<String>| list.join("\n");
    insta::assert_snapshot!(shown(grants.dirs.iter().map(ToString::to_string).collect()), @r#"
    "/in": "/srv/in:ro"
    "/out": "/srv/o:ut:rw"
    "/ro": "/srv:ro"
    "#);
    insta::assert_snapshot!(shown(grants.net.iter().map(ToString::to_string).collect()), @r#"
    example.org:5432
    10.0.0.1:1
    [::1]:65535
    "#);
    insta::assert_snapshot!(shown(grants.http.iter().map(ToString::to_string).collect()), @r#"
    https://example.org
    http://[2001:db8::]:8080
    "#);
    insta::assert_snapshot!(shown(grants.commands.iter().map(|c| format!("{c} {}", c.arguments)).collect()), @r#"
    "all": ["/bin/echo", "*"] true
    "one": ["systemctl", "reload", "app"] false
    "star": ["echo", "*", "x"] false
    "#);
    insta::assert_snapshot!(shown(grants.znodes.iter().map(ToString::to_string).collect()), @r#"
    "/**": "r"
    "/a": "r"
    "/b/**": "rw"
    "#);
}

#[test]
fn nothing_is_granted_that_is_not_written() {
    let mut dir = Dir::new(&[("a.json", &watch_with("\"component\": \"./x\"")), ("x", "one")]).with_components();
    let reload = dir.reload();
    let expected = Grants {
        memory: 64 << 20,
        ..Grants::default()
    };
    assert_eq!(action(&reload.watches[0]).grants, expected);
}

#[test]
fn errors_of_arguments_are_located() {
    let text = r#"[
  {"znode": "/a", "env": {"A": "1"}, "inherit_env": true, "action": {
      "wasm": {"component": "/x.wasm", "memroy": "1MiB",
               "dirs": {"a": "/b"}, "dirs ": {}}}},
  {"znode": "/b", "action": {
      "wasm": {"component": "missing.wasm"}}},
  {"znode": "/c", "action": {
      "wasm": {"component": "broken.wasm"}}},
  {"znode": "/d", "action": {"wasm": {"config": {}, "config": {}}}}
]"#;
    let mut dir = Dir::new(&[("a.json", text), ("broken.wasm", "broken")]).with_components();
    insta::assert_snapshot!(dir.errors(), @r#"
    DIR/a.json:2:26: env is not for components
      |   {"znode": "/a", "env": {"A": "1"}, "inherit_env": true, "action": {
      |                          ^
      hint: a component sees only what Wasm(…, env = {…}) gives it

    DIR/a.json:2:53: inherit_env is not for components
      |   {"znode": "/a", "env": {"A": "1"}, "inherit_env": true, "action": {
      |                                                     ^
      hint: a component sees only what Wasm(…, env = {…}) gives it

    DIR/a.json:3:40: unknown argument "memroy" of a component
      |       "wasm": {"component": "/x.wasm", "memroy": "1MiB",
      |                                        ^
      hint: did you mean "memory"?

    DIR/a.json:4:24: dirs has "a", which is not an absolute path in its simplest form
      |                "dirs": {"a": "/b"}, "dirs ": {}}}},
      |                        ^

    DIR/a.json:4:37: unknown argument "dirs " of a component
      |                "dirs": {"a": "/b"}, "dirs ": {}}}},
      |                                     ^
      hint: did you mean "dirs"?

    DIR/a.json:6:7: component DIR/missing.wasm: cannot read: No such file or directory (os error 2)
      |       "wasm": {"component": "missing.wasm"}}},
      |       ^

    DIR/a.json:8:7: component DIR/broken.wasm: is not a component
      |       "wasm": {"component": "broken.wasm"}}},
      |       ^

    DIR/a.json:8:7: component DIR/broken.wasm: has a line of nonsense
      |       "wasm": {"component": "broken.wasm"}}},
      |       ^

    DIR/a.json:9:53: "config" is given twice
      |   {"znode": "/d", "action": {"wasm": {"config": {}, "config": {}}}}
      |                                                     ^
    "#);
}

#[test]
fn what_is_for_processes_applies_to_components_too() {
    let text = r#"[{"znode": "/a", "action": {"wasm": {"component": "x.wasm"}}, "env": {}, "inherit_env": false, "uid": "daemon",
        "timeout": 5, "notify_signal": "SIGUSR1", "limits": {"nofile": 10}, "cwd": "/tmp", "umask": "077", "pipe_stdin": false}]"#;
    let mut dir = Dir::new(&[("a.json", text), ("x.wasm", "one")]).with_components();
    let reload = dir.reload();
    assert_eq!(report::render_errors(&reload), "");
    let watch = &reload.watches[0];
    assert_eq!(
        (watch.process.identity.user.as_str(), watch.policy.notify_signal),
        ("daemon", Some(10))
    );
}

#[test]
fn without_somebody_who_knows_them_components_are_errors() {
    let text = watch_with("\"component\": \"/x.wasm\"");
    insta::assert_snapshot!(Dir::new(&[("a.json", &text)]).errors(), @r#"
    DIR/a.json:1:29: component /x.wasm: components are not supported in this build
      | [{"znode": "/a", "action": {"wasm": {"component": "/x.wasm"}}}]
      |                             ^
    "#);
}

#[test]
fn a_component_that_changes_takes_the_files_that_use_it_along() {
    let both = format!(
        "[{}, {}]",
        &watch_with("\"component\": \"x.wasm\"")[1..].trim_end_matches(']'),
        &ONE[1..ONE.len() - 1]
    );
    let mut dir = Dir::new(&[
        ("a.json", &both),
        ("b.json", &watch_with("\"component\": \"y.wasm\"")),
        ("c.json", ONE),
        ("x.wasm", "one"),
        ("y.wasm", "one"),
    ])
    .with_components();
    let first = dir.reload();
    let written = |name: &str| Watched {
        path: dir.path(name).into(),
        changes: Changes::Written,
    };
    assert_eq!(
        dir.config.components().into_iter().collect::<Vec<_>>(),
        ["x.wasm", "y.wasm"].map(written)
    );
    assert!(!dir.config.components_changed());
    assert_eq!(outcome(&dir.reload(), "a.json"), "Unchanged");

    replace(&dir, "x.wasm", "two");
    assert!(dir.config.components_changed());
    let second = dir.reload();
    assert_eq!(outcome(&second, "a.json"), "Loaded { watches: 2 }");
    assert_eq!(outcome(&second, "b.json"), "Unchanged");
    assert_eq!(outcome(&second, "c.json"), "Unchanged");
    let same: Vec<bool> = first
        .watches
        .iter()
        .zip(&second.watches)
        .map(|(a, b)| a.same_as(b))
        .collect();
    assert_eq!(same, [false, true, true, true]);
    assert_eq!(
        action(&second.watches[0]).component.digest.to_string()[..6],
        hex(b"two")
    );

    // Another file, the same content: nothing that a watch would notice.
    replace(&dir, "x.wasm", "two");
    let third = dir.reload();
    assert_eq!(outcome(&third, "a.json"), "Loaded { watches: 2 }");
    assert!(third.watches.iter().zip(&second.watches).all(|(a, b)| a.same_as(b)));
}

/// Replaces a file by another, as a deployment does.
fn replace(dir: &Dir, name: &str, text: &str) {
    dir.write(".new", text);
    fs::rename(dir.path(".new"), dir.path(name)).unwrap();
}

#[test]
fn a_component_that_is_broken_or_gone_keeps_the_watches() {
    let text = watch_with("\"component\": \"x.wasm\"");
    let mut dir = Dir::new(&[("a.json", &text), ("x.wasm", "one")]).with_components();
    let first = dir.reload();
    for broken in [true, false] {
        match broken {
            true => replace(&dir, "x.wasm", "broken"),
            false => fs::remove_file(dir.path("x.wasm")).unwrap(),
        }
        let reload = dir.reload();
        assert!(outcome(&reload, "a.json").ends_with("1 kept"));
        assert!(Arc::ptr_eq(&reload.watches[0], &first.watches[0]));
        assert!(!dir.config.components().is_empty(), "it may come back");
    }
    replace(&dir, "x.wasm", "one");
    let reload = dir.reload();
    assert_eq!(outcome(&reload, "a.json"), "Loaded { watches: 1 }");
    assert!(reload.watches[0].same_as(&first.watches[0]));

    fs::remove_file(dir.path("a.json")).unwrap();
    dir.reload();
    assert!(dir.config.components().is_empty());
}

#[test]
fn a_component_that_was_missing_is_used_once_it_is_there() {
    let text = watch_with("\"component\": \"later/x.wasm\"");
    let mut dir = Dir::new(&[("a.json", &text)]).with_components();
    assert_eq!(outcome(&dir.reload(), "a.json"), "Failed(1), 0 kept");
    assert!(!dir.config.components_changed());
    dir.write("later/x.wasm", "one");
    assert!(dir.config.components_changed());
    assert_eq!(outcome(&dir.reload(), "a.json"), "Loaded { watches: 1 }");
}

#[test]
fn one_component_with_the_same_grants_is_asked_for_once() {
    let watch = |n: usize| {
        let memory = 1 + n % 2;
        format!(
            "{{\"znode\": \"/{n}\", \"action\": {{\"wasm\": {{\"component\": \"x.wasm\", \"memory\": \"{memory}MiB\"}}}}}}"
        )
    };
    let text = format!("[{}]", (0..100).map(watch).collect::<Vec<_>>().join(","));
    let mut dir = Dir::new(&[("a.json", &text), ("b.json", ONE), ("x.wasm", "one")]);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asks = asked.clone();
    dir.config = dir.config.with_components(Resolver::of_files(move |file, grants| {
        asks.lock().unwrap().push(grants.memory >> 20);
        resolve(file, grants)
    }));
    let asked = || std::mem::take(&mut *asked.lock().unwrap());
    let reload = dir.reload();
    assert_eq!(asked(), [1, 2]);
    assert!(Arc::ptr_eq(action(&reload.watches[0]), action(&reload.watches[98])));
    dir.write("b.json", &named(&["b"]));
    dir.reload();
    assert_eq!(asked(), [0; 0], "only files that are read again ask");
    // A file that has another mistake does not ask about the watch that has it.
    dir.write("a.json", &watch_with("\"component\": \"x.wasm\", \"memory\": 1"));
    dir.reload();
    assert_eq!(asked(), [0; 0]);
}

#[test]
fn check_shows_components() {
    let text = watch_with(
        r#""component": "/opt/plugins/render.wasm", "config": {"k": "v"}, "dirs": {"/out": "/srv/out:rw"}, "net": ["a:1"],
        "http": ["https://a"], "commands": {"reload": ["true", "*"]}, "znodes": {"/a/**": "rw"}"#,
    );
    let mut dir = Dir::new(&[("a.json", &text)]);
    dir.config = dir.config.with_components(Resolver::of_files(|file, _| {
        Ok(Component {
            file: file.into(),
            bundle: None,
            digest: Digest([0xab; 32]),
            entry: EntryPoint::Command,
            native: Path::new("/cache/x").into(),
            keep: Keep::default(),
        })
    }));
    let reload = dir.reload();
    let table = report::render_table(&reload.watches).replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(table, @r#"
    NAME  ZNODE  TYPE  ACTION                   MODE   USER  TIMEOUT  WHERE
    a-1   /a     data  (component) render.wasm  QUEUE  root  -        DIR/a.json:1
    "#);
    let json = &report::to_json(&reload)["watches"][0];
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["component"]).unwrap(), @r#"
    {
      "entry": "command",
      "sha256": "abababababababababababababababababababababababababababababababab"
    }
    "#);
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["action"]).unwrap(), @r#"
    {
      "wasm": {
        "commands": {
          "reload": [
            "true",
            "*"
          ]
        },
        "component": "/opt/plugins/render.wasm",
        "config": {
          "k": "v"
        },
        "dirs": {
          "/out": "/srv/out:rw"
        },
        "http": [
          "https://a"
        ],
        "memory": 67108864,
        "net": [
          "a:1"
        ],
        "znodes": {
          "/a/**": "rw"
        }
      }
    }
    "#);

    // What is shown means the same when it is read.
    let again = format!("[{{\"znode\": \"/a\", \"action\": {}}}]", json["action"]);
    dir.write("a.json", &again);
    assert_eq!(
        action(&dir.reload().watches[0]).grants,
        action(&reload.watches[0]).grants
    );
}
