//! What becomes of files: several of them, permissions, checks, backups, diffs.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use twitcher_sdk::commands::ErrorKind as CommandError;

fn mode(scene: &Scene, name: &str) -> u32 {
    fs::metadata(scene.path(name)).unwrap().permissions().mode() & 0o777
}

/// Two templates beside the one of the scene, `a` and `b`, which become files of these names.
fn two(scene: Scene, a: &str, b: &str) -> Scene {
    let mut scene = scene;
    for (name, text) in [("a", a), ("b", b)] {
        fs::write(scene.path(&format!("{name}.template")), text).unwrap();
        let path = |file: String| scene.path(&file).to_str().unwrap().to_owned();
        let (template, dest) = (path(format!("{name}.template")), path(name.to_owned()));
        scene = scene
            .config(&format!("template.{name}"), &template)
            .config(&format!("dest.{name}"), &dest);
    }
    scene
}

#[test]
fn several_templates_are_one_change_with_one_reload() {
    let scene = two(Scene::new("{{ data.x }}"), "a {{ data.x }}", "b {{ data.y }}").config("command.b", "other");
    let scene = Scene {
        host: scene.host.clone().command("other", |_| Ok(Ended::exited(0, ""))),
        ..scene
    };
    assert_eq!(scene.run(r#"{"x": 1, "y": 1}"#), Ok(()));
    assert_eq!(
        (scene.text(), scene.read("a"), scene.read("b")),
        ("1".into(), "a 1".into(), "b 1".into())
    );
    assert_eq!(scene.commands(), ["reload", "other"]);
    assert_eq!(scene.run(r#"{"x": 1, "y": 2}"#), Ok(()));
    assert_eq!(scene.commands(), ["reload", "other", "other"]);

    // Any mistake leaves all as they were.
    let failure = scene.run(r#"{"x": 2}"#).unwrap_err().to_string();
    assert!(
        failure.contains("b.template:1: undefined value: `data.y` is undefined"),
        "{failure}"
    );
    assert_eq!((scene.text(), scene.read("b")), ("1".into(), "b 2".into()));

    // One that fails does not hold up the other, and is made up for.
    let failing = scene.host.clone().command("reload", |_| Ok(Ended::exited(1, "")));
    assert!(failing.run(on_change, r#"{"x": 3, "y": 3}"#).is_err());
    assert_eq!(scene.commands()[3..], ["reload", "other"]);
    assert!(scene.files().contains(&".app.conf.pending".to_owned()));
    let working = scene.host.clone().command("reload", |_| Ok(Ended::exited(0, "")));
    assert_eq!(working.run(on_change, r#"{"x": 3, "y": 3}"#), Ok(()));
    assert_eq!(scene.commands()[5..], ["reload"]);
    assert!(
        scene.files().iter().all(|name| !name.starts_with('.')),
        "{:?}",
        scene.files()
    );
}

#[test]
fn a_check_gets_the_new_file_and_its_refusal_keeps_the_old_one() {
    let scene = Scene::new("{{ data.port }}\n")
        .config("check", "own check")
        .config("perms", "0640");
    let seen = scene.path("seen");
    let check = move |call: &twitcher_sdk::testing::Call| {
        let [file] = &call.args[..] else { panic!("{call:?}") };
        assert!(file.ends_with("/.app.conf.new"), "{file}");
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o640);
        let text = fs::read_to_string(file).unwrap();
        fs::write(&seen, &text).unwrap();
        Ok(match text.trim() {
            "80" => Ended::exited(0, "fine"),
            _ => Ended {
                stderr: b"line 1: not 80\nfatal\n".to_vec(),
                ..Ended::exited(1, "looked\n")
            },
        })
    };
    let host = scene
        .host
        .clone()
        .command("own", |_| Ok(Ended::exited(0, "")))
        .command("check", check);
    assert_eq!(host.run(on_change, r#"{"port": 80}"#), Ok(()));
    assert_eq!(scene.commands(), ["own", "check", "reload"]);

    let failure = host.run(on_change, r#"{"port": 81}"#).unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
    let words = failure.to_string();
    let expected = "app.conf: the new file is refused, and the old one stays: command check: exit code 1: fatal";
    assert!(words.ends_with(expected), "{words}");
    assert!(scene.said("looked") && scene.said("line 1: not 80"));
    assert_eq!((scene.text(), scene.read("seen")), ("80\n".into(), "81\n".into()));
    assert_eq!(scene.commands().len(), 5, "no reload");
    assert_eq!(scene.files(), ["app.conf", "seen", "template"]);
}

#[test]
fn one_check_that_refuses_keeps_every_file() {
    let scene = two(Scene::new("{{ data }}"), "{{ data }}", "{{ data }}").config("check.b", "check");
    let host = scene.host.clone().command("check", |_| Ok(Ended::exited(0, "")));
    assert_eq!(host.run(on_change, "1"), Ok(()));
    let refusing = scene.host.clone().command("check", |call| {
        // All new files are there by then.
        let dir = std::path::Path::new(&call.args[0]).parent().unwrap();
        assert!(dir.join(".a.new").exists() && dir.join(".app.conf.new").exists());
        Ok(Ended::exited(1, ""))
    });
    assert!(refusing.run(on_change, "2").is_err());
    assert_eq!(
        (scene.text(), scene.read("a"), scene.read("b")),
        ("1".into(), "1".into(), "1".into())
    );
    assert!(
        scene.files().iter().all(|name| !name.starts_with('.')),
        "{:?}",
        scene.files()
    );
}

#[test]
fn a_check_that_is_not_granted_says_what_to_add_and_is_not_retried() {
    let scene = Scene::new("x").config("check", "check");
    let failure = scene.run("1").unwrap_err();
    assert!(
        matches!(&failure, Failure::Denied { message } if message.contains("commands = ")),
        "{failure:?}"
    );
    assert_eq!(scene.files(), ["template"]);
    let cancelled = scene.host.clone().command("check", |_| Err(CommandError::Cancelled));
    assert!(matches!(
        cancelled.run(on_change, "1").unwrap_err(),
        Failure::Retry { .. }
    ));
}

#[test]
fn permissions_are_set_before_there_is_anything_to_read_and_put_right_later() {
    let scene = Scene::new("secret {{ data }}").config("perms", "600");
    assert_eq!(scene.run("1"), Ok(()));
    assert_eq!(mode(&scene, "app.conf"), 0o600);
    fs::set_permissions(scene.path("app.conf"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(scene.run("1"), Ok(()));
    assert_eq!((mode(&scene, "app.conf"), scene.reloads()), (0o600, 2));
    assert!(scene.said("permissions 644 become 600"));
    assert_eq!(scene.run("1"), Ok(()));
    assert_eq!(scene.reloads(), 2);

    let other = Scene::new("#!/bin/sh\n").config("perms", "0755");
    assert_eq!(other.run("1"), Ok(()));
    assert_eq!(mode(&other, "app.conf"), 0o755);
}

#[test]
fn what_a_run_before_left_is_no_obstacle() {
    let scene = Scene::new("{{ data }}");
    fs::write(scene.path(".app.conf.new"), "half").unwrap();
    fs::set_permissions(scene.path(".app.conf.new"), fs::Permissions::from_mode(0o400)).unwrap();
    let before = fs::metadata(scene.path(".app.conf.new")).unwrap().ino();
    std::os::unix::fs::symlink("/nowhere", scene.path(".b.new")).unwrap();
    assert_eq!(scene.run("1"), Ok(()));
    assert_eq!(scene.text(), "1");
    let after = fs::metadata(scene.path("app.conf")).unwrap();
    assert!(after.permissions().mode() & 0o777 != 0o400 || after.ino() != before);
}

#[test]
fn the_old_file_is_kept_with_its_permissions() {
    let scene = Scene::new("{{ data }}")
        .config("backup", "true")
        .config("perms", "0600");
    assert_eq!(scene.run("1"), Ok(()));
    assert_eq!(scene.files(), ["app.conf", "template"], "there was none");
    assert_eq!(scene.run("2"), Ok(()));
    assert_eq!(
        (scene.read("app.conf.bak"), mode(&scene, "app.conf.bak")),
        ("1".into(), 0o600)
    );
    assert_eq!(scene.run("2"), Ok(()));
    assert_eq!(scene.read("app.conf.bak"), "1", "nothing changed");
    assert_eq!(scene.run("3"), Ok(()));
    assert_eq!(scene.read("app.conf.bak"), "2");
    assert_eq!(scene.files(), ["app.conf", "app.conf.bak", "template"]);
}

#[test]
fn a_diff_is_for_those_who_want_to_know_more() {
    let scene = Scene::new("port = {{ data.port }}\nhost = a\n");
    assert_eq!(scene.run(r#"{"port": 80}"#), Ok(()));
    assert_eq!(scene.run(r#"{"port": 81}"#), Ok(()));
    let shown: Vec<_> = scene
        .host
        .logs()
        .into_iter()
        .filter(|record| record.level == Level::Debug)
        .map(|record| record.message)
        .collect();
    let second = shown.iter().rposition(|line| line.starts_with("--- ")).unwrap();
    assert_eq!(
        shown[second + 2..],
        ["@@ -1,2 +1,2 @@", "-port = 80", "+port = 81", " host = a"]
    );
}

#[test]
fn with_mode_diff_nothing_is_written_and_nothing_run() {
    let scene = Scene::new("port = {{ data.port }}\n");
    assert_eq!(scene.run(r#"{"port": 80}"#), Ok(()));
    let scene = scene
        .config("mode", "diff")
        .config("check", "check")
        .config("backup", "true");
    assert_eq!(scene.run(r#"{"port": 81}"#), Ok(()));
    assert_eq!((scene.text().as_str(), scene.reloads()), ("port = 80\n", 1));
    assert_eq!(scene.files(), ["app.conf", "template"]);
    let shown = |words: &str| {
        let logs = scene.host.logs();
        logs.iter()
            .any(|record| record.level == Level::Info && record.message == words)
    };
    assert!(shown("-port = 80") && shown("+port = 81"));
    assert!(scene.run("{}").is_err(), "what cannot be rendered is still an error");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let scene = Scene::new("x");
    let dest = scene.path("none/app.conf");
    let scene = scene.config("dest", dest.to_str().unwrap());
    let failure = scene.run("1").unwrap_err().to_string();
    assert!(
        failure.starts_with(dest.to_str().unwrap()) && failure.contains("No such file"),
        "{failure}"
    );
    let root = Scene::new("x").config("dest", "/");
    assert!(root.run("1").unwrap_err().to_string().starts_with("/: "));
}
