//! `Wasm(…)` in `.twc` files. What its arguments may be is tested where `.json` files are: both are read by the same code.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use twitcher_config::Resolver;
use twitcher_model::{Action, Component, Digest, EntryPoint, Grants, Keep, WasmAction, Watch};

use super::{Dir, outcome};

/// Files, with somebody who takes every file for a component.
fn dir(files: &[(&str, &str)]) -> Dir {
    let mut dir = Dir::new(files);
    dir.config = dir.config.with_components(Resolver::of_files(resolve));
    dir
}

fn resolve(file: &Path, _: &Grants) -> Result<Component, Vec<String>> {
    let text = fs::read(file).map_err(|error| vec![format!("cannot read: {error}")])?;
    let mut digest = [0; 32];
    let length = text.len().min(32);
    digest[..length].copy_from_slice(&text[..length]);
    Ok(Component {
        file: file.into(),
        bundle: None,
        digest: Digest(digest),
        entry: EntryPoint::Handler,
        native: Path::new("/cache/x").into(),
        keep: Keep::default(),
    })
}

fn action(watch: &Watch) -> &Arc<WasmAction> {
    match &watch.action {
        Action::Wasm(action) => action,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_formats_mean_the_same() {
    let watches = dir(&[
        (
            "a.twc",
            r#"
RegisterWatch(znode="/x", action=Wasm("x.wasm", config={"k": "v"}, args=("-v",), env={"A": "1"},
    dirs={"/out": "/srv/out:rw"}, net=["db:5432"], http=["https://example.org"], commands={"reload": ["systemctl", "reload", "*"]},
    znodes={"/x/**": "rw"}, memory="1GiB", warm=0), uid="nobody", timeout=5)
RegisterWatch("/y", Wasm(component="x.wasm", memory=None))
"#,
        ),
        (
            "b.json",
            r#"[{"znode": "/x", "action": {"wasm": {"component": "x.wasm", "config": {"k": "v"}, "args": ["-v"], "env": {"A": "1"},
                "dirs": {"/out": "/srv/out:rw"}, "net": ["db:5432"], "http": ["https://example.org"],
                "commands": {"reload": ["systemctl", "reload", "*"]}, "znodes": {"/x/**": "rw"}, "memory": "1GiB", "warm": 0}}},
               {"znode": "/y", "action": {"wasm": {"component": "x.wasm"}}}]"#,
        ),
        ("x.wasm", "one"),
    ])
    .watches();
    assert_eq!(watches.len(), 4);
    assert_eq!(action(&watches[0]).grants.commands[0].argv, ["systemctl", "reload"]);
    assert!(Arc::ptr_eq(action(&watches[0]), action(&watches[2])));
    assert!(Arc::ptr_eq(action(&watches[1]), action(&watches[3])));
}

#[test]
fn errors_are_told_at_their_arguments() {
    let errors = dir(&[(
        "a.twc",
        r#"
plugin = Wasm("/x.wasm",
              memroy = "1MiB",  # memory = 5
              dirs = {"out": "/srv"})
RegisterWatch("/a", plugin)
RegisterWatch("/b", Wasm(config = {"k": 1}), inherit_env = True, env = {"A": "1"})
RegisterWatch("/c", Wasm("render"))
RegisterWatch("/d", Wasm("gone.wasm"))
RegisterWatch("/e", Wasm(Wasm("x.wasm")))
RegisterWatch("/f", Exec("x"), env = Wasm("x.wasm"))
RegisterWatch("/g", Wasm("/x.wasm", **{"wram": 1, "config": {1: "x"}}))
"#,
    )])
    .errors();
    insta::assert_snapshot!(errors, @r#"
    DIR/a.twc:3:15: unknown argument "memroy" of a component
      |               memroy = "1MiB",  # memory = 5
      |               ^
      hint: did you mean "memory"?

    DIR/a.twc:4:22: dirs has "out", which is not an absolute path in its simplest form
      |               dirs = {"out": "/srv"})
      |                      ^

    DIR/a.twc:6:21: component is missing
      | RegisterWatch("/b", Wasm(config = {"k": 1}), inherit_env = True, env = {"A": "1"})
      |                     ^
      hint: it is the first argument of Wasm(…): a path, or the name of a bundle

    DIR/a.twc:6:35: config must have a string or Secret("/file") for "k", not the number 1
      | RegisterWatch("/b", Wasm(config = {"k": 1}), inherit_env = True, env = {"A": "1"})
      |                                   ^
      hint: put it in quotes: "1"

    DIR/a.twc:6:60: inherit_env is not for components
      | RegisterWatch("/b", Wasm(config = {"k": 1}), inherit_env = True, env = {"A": "1"})
      |                                                            ^
      hint: a component sees only what Wasm(…, env = {…}) gives it

    DIR/a.twc:6:72: env is not for components
      | RegisterWatch("/b", Wasm(config = {"k": 1}), inherit_env = True, env = {"A": "1"})
      |                                                                        ^
      hint: a component sees only what Wasm(…, env = {…}) gives it

    DIR/a.twc:7:21: bundle render: bundles are not known here; give the path of a component
      | RegisterWatch("/c", Wasm("render"))
      |                     ^

    DIR/a.twc:8:21: component DIR/gone.wasm: cannot read: No such file or directory (os error 2)
      | RegisterWatch("/d", Wasm("gone.wasm"))
      |                     ^

    DIR/a.twc:9:26: component must be the path of a component or bundle, or the name of an installed bundle, not a component
      | RegisterWatch("/e", Wasm(Wasm("x.wasm")))
      |                          ^

    DIR/a.twc:10:38: env must be a dict of strings, not a component
      | RegisterWatch("/f", Exec("x"), env = Wasm("x.wasm"))
      |                                      ^

    DIR/a.twc:11:21: unknown argument "wram" of a component
      | RegisterWatch("/g", Wasm("/x.wasm", **{"wram": 1, "config": {1: "x"}}))
      |                     ^
      hint: did you mean "warm"?

    DIR/a.twc:11:21: config must be a dict of strings, not a dict with a key that is not a string
      | RegisterWatch("/g", Wasm("/x.wasm", **{"wram": 1, "config": {1: "x"}}))
      |                     ^
    "#);
    let called_wrongly = ["Wasm('x.wasm', {})", "Wasm('x.wasm', component='y.wasm')"];
    let all = called_wrongly
        .map(|call| dir(&[("a.twc", &format!("{call}\n"))]).errors())
        .join("\n");
    insta::assert_snapshot!(all, @r#"
    DIR/a.twc:1:1: Wasm takes at most 1 argument by position, not 2
      | Wasm('x.wasm', {})
      | ^
      hint: give the others by name

    DIR/a.twc:1:1: Wasm got component both by position and by name
      | Wasm('x.wasm', component='y.wasm')
      | ^
    "#);
}

#[test]
fn a_component_of_a_library_lies_beside_the_library() {
    let mut dir = dir(&[
        (
            "main.twc",
            "load('lib/_lib.twc', 'PLUGIN', 'plugin')\nRegisterWatch('/a', PLUGIN)\nRegisterWatch('/b', plugin('./y'))\n",
        ),
        (
            "lib/_lib.twc",
            "PLUGIN = Wasm('x.wasm')\ndef plugin(name):\n    return Wasm(name)\n",
        ),
        ("lib/x.wasm", "one"),
        ("lib/y", "two"),
    ]);
    let watches = dir.watches();
    assert_eq!(*action(&watches[0]).component.file, *dir.path("lib/x.wasm"));
    assert_eq!(*action(&watches[1]).component.file, *dir.path("lib/y"));
    fs::remove_file(dir.path("lib/x.wasm")).unwrap();
    insta::assert_snapshot!(dir.errors(), @r#"
    DIR/lib/_lib.twc:1:10: component DIR/lib/x.wasm: cannot read: No such file or directory (os error 2)
      | PLUGIN = Wasm('x.wasm')
      |          ^
      hint: used at DIR/main.twc:2:1
    "#);
}

#[test]
fn a_component_that_changes_takes_its_file_along() {
    let mut dir = dir(&[
        ("a.twc", "print('evaluated')\nRegisterWatch('/a', Wasm('x.wasm'))\n"),
        ("b.twc", "RegisterWatch('/b', Exec('x'))\n"),
        ("x.wasm", "one"),
    ]);
    let first = dir.watches();
    assert_eq!(outcome(&dir.reload(), "a.twc"), "Unchanged");
    dir.write(".new", "two");
    fs::rename(dir.path(".new"), dir.path("x.wasm")).unwrap();
    let reload = dir.reload();
    assert_eq!(outcome(&reload, "a.twc"), "Loaded { watches: 1 }");
    assert_eq!(outcome(&reload, "b.twc"), "Unchanged");
    assert!(!reload.watches[0].same_as(&first[0]));
}

#[test]
fn a_file_with_a_component_can_have_functions_too() {
    let watches = dir(&[
        ("a.twc", "def f():\n    print(PLUGIN)\nPLUGIN = Wasm('x.wasm')\nRegisterWatch('/a', PLUGIN)\nRegisterWatch('/b', f)\n"),
        ("x.wasm", "one"),
    ])
    .watches();
    assert!(matches!(watches[1].action, Action::Function(_)));
}
