//! Files that load others, and files that change.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use twitcher_model::Action;

use super::{Dir, names, outcome};

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
