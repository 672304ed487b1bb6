//! Files that come, go, change and fail; and what `twitcher check` shows of them.

use std::collections::BTreeMap;

use super::*;

#[test]
fn a_file_that_fails_keeps_its_previous_watches() {
    let mut dir = Dir::new(&[("a.json", &named(&["a1", "a2"])), ("b.json", &named(&["b1"]))]);
    assert_eq!(names(&dir.reload()), ["a1", "a2", "b1"]);

    let half_written = &named(&["a1", "a3"])[..40];
    dir.write("a.json", half_written);
    dir.write("b.json", &named(&["b2"]));
    let reload = dir.reload();
    assert_eq!(names(&reload), ["a1", "a2", "b2"]);
    assert_eq!(outcome(&reload, "a.json"), "Failed(1), 2 kept");
    assert_eq!(outcome(&reload, "b.json"), "Loaded { watches: 1 }");

    let again = dir.reload();
    assert_eq!(outcome(&again, "a.json"), "Failed(1), 2 kept", "an error is told again");
    assert_eq!(outcome(&again, "b.json"), "Unchanged");

    dir.write("a.json", &named(&["a1", "a3"]));
    assert_eq!(names(&dir.reload()), ["a1", "a3", "b2"]);
}

#[test]
fn an_unchanged_file_keeps_the_very_same_watches() {
    let mut dir = Dir::new(&[("a.json", ONE)]);
    let (first, second) = (dir.reload(), dir.reload());
    assert!(std::sync::Arc::ptr_eq(&first.watches[0], &second.watches[0]));
    dir.write("a.json", &format!("\n\n{ONE}"));
    let third = dir.reload();
    assert!(
        third.watches[0].same_as(&first.watches[0]),
        "another line is not another watch"
    );
    assert_eq!(third.watches[0].origin.line, 3);
}

#[test]
fn files_come_and_go() {
    let mut dir = Dir::new(&[("a.json", &named(&["a"])), ("sub/b.json", &named(&["b"]))]);
    assert_eq!(names(&dir.reload()), ["a", "b"]);
    fs::remove_file(dir.path("a.json")).unwrap();
    dir.write("sub/c.json", &named(&["c"]));
    let reload = dir.reload();
    assert_eq!(names(&reload), ["b", "c"]);
    assert_eq!(outcome(&reload, "a.json"), "Removed");
    fs::remove_dir_all(dir.path("sub")).unwrap();
    assert_eq!(names(&dir.reload()), [""; 0]);
}

#[test]
fn a_directory_that_cannot_be_read_keeps_its_watches() {
    let mut dir = Dir::new(&[
        ("a.json", &named(&["a"])),
        ("sub/b.json", &named(&["b"])),
        ("sub/c.json", &named(&["c"])),
    ]);
    dir.reload();
    fs::rename(dir.path("sub"), dir.path(".aside")).unwrap();
    std::os::unix::fs::symlink("sub", dir.path("sub")).unwrap();
    let reload = dir.reload();
    assert_eq!(names(&reload), ["a", "b", "c"]);
    assert_eq!(outcome(&reload, "sub"), "Failed(1), 2 kept");
    fs::remove_file(dir.path("sub")).unwrap();
    fs::rename(dir.path(".aside"), dir.path("sub")).unwrap();
    assert_eq!(outcome(&dir.reload(), "sub/b.json"), "Unchanged");
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let missing = PathBuf::from("/nonexistent/twitcher");
    let mut config = Config::new(vec![missing], Evaluator::new("/nonexistent".into()));
    let errors: Vec<_> = config.reload().errors().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        ["/nonexistent/twitcher: cannot read: No such file or directory"]
    );
}

#[test]
fn paths_may_overlap() {
    let mut dir = Dir::new(&[("a.json", ONE)]);
    let paths = vec![dir.path(""), dir.path("a.json"), dir.dir.path().to_owned()];
    dir.config = Config::new(paths, Evaluator::new("/nonexistent".into()));
    let reload = dir.reload();
    assert_eq!((names(&reload), reload.errors().count()), (vec!["a-1"], 0));
}

#[test]
fn of_two_files_with_one_name_the_older_wins_and_of_two_new_ones_neither() {
    let mut dir = Dir::new(&[("a.json", &named(&["x"])), ("b.json", &named(&["y", "x"]))]);
    insta::assert_snapshot!(dir.errors(), @r#"
    DIR/a.json:1:2: the name "x" is already taken by the watch at DIR/b.json:2:1
      | [{"znode": "/a", "name": "x", "action": {"exec": "true"}}]
      |  ^
      hint: give one of them another name = "…"; a watch without one is named by its description or file

    DIR/b.json:2:1: the name "x" is already taken by the watch at DIR/a.json:1:2
      | {"znode": "/a", "name": "x", "action": {"exec": "true"}}]
      | ^
      hint: give one of them another name = "…"; a watch without one is named by its description or file
    "#);
    dir.write("b.json", &named(&["y"]));
    assert_eq!(names(&dir.reload()), ["x", "y"]);
    dir.write("a.json", &named(&["y"]));
    let reload = dir.reload();
    assert_eq!(
        (names(&reload), outcome(&reload, "a.json")),
        (vec!["x", "y"], "Failed(1), 1 kept".to_owned())
    );
}

/// The files as the next daemon finds them, which is told what the last one kept.
fn restarted(dir: &Dir, kept: &BTreeMap<PathBuf, WatchNames>) -> Reload {
    Config::new(vec![dir.dir.path().to_owned()], Evaluator::new("/nonexistent".into()))
        .with_names(kept.clone())
        .reload()
}

fn keep(kept: &mut BTreeMap<PathBuf, WatchNames>, reload: &Reload) {
    for (file, names) in &reload.names {
        match names {
            Some(names) => drop(kept.insert(file.clone(), names.clone())),
            None => drop(kept.remove(file)),
        }
    }
}

#[test]
fn a_name_stays_with_its_file_over_a_restart() {
    let mut dir = Dir::new(&[("m.json", &named(&["x", "m"]))]);
    let mut kept = BTreeMap::new();
    keep(&mut kept, &dir.reload());
    // Earlier in the order of paths, and new.
    dir.write("a.json", &named(&["x"]));
    let reload = dir.reload();
    keep(&mut kept, &reload);
    assert_eq!(outcome(&reload, "a.json"), "Failed(1), 0 kept");
    let next = restarted(&dir, &kept);
    assert_eq!(
        (names(&next), outcome(&next, "a.json")),
        (vec!["x", "m"], "Failed(1), 0 kept".to_owned())
    );
    // Also when the one that has it was edited meanwhile,
    dir.write("m.json", &named(&["n", "x"]));
    let next = restarted(&dir, &kept);
    assert_eq!(names(&next), ["n", "x"]);
    // or has a mistake now.
    dir.write("m.json", "[");
    let next = restarted(&dir, &kept);
    assert_eq!(names(&next), Vec::<&str>::new());
    let errors = report::render_errors(&next).replace(dir.dir.path().to_str().unwrap(), "DIR");
    assert!(
        errors
            .contains("DIR/a.json:1:2: the name \"x\" is that of a watch in DIR/m.json, which is not in force for now"),
        "{errors}"
    );
    // It gives the name away, or goes.
    for free in [Some(named(&["n"])), None] {
        match free {
            Some(text) => dir.write("m.json", &text),
            None => fs::remove_file(dir.path("m.json")).unwrap(),
        }
        let next = restarted(&dir, &kept);
        assert_eq!((names(&next)[0], next.errors().count()), ("x", 0));
    }
    // Nobody knows whose it is.
    dir.write("m.json", &named(&["x"]));
    let next = restarted(&dir, &BTreeMap::new());
    assert_eq!((names(&next).len(), next.errors().count()), (0, 2));
}

#[test]
fn a_name_may_move_from_one_file_to_another() {
    let mut dir = Dir::new(&[("a.json", &named(&["x"])), ("b.json", &named(&["y"]))]);
    dir.reload();
    dir.write("a.json", &named(&["y"]));
    dir.write("b.json", &named(&["x"]));
    let reload = dir.reload();
    assert_eq!((names(&reload), reload.errors().count()), (vec!["y", "x"], 0));
}

#[test]
fn a_name_is_not_free_while_the_file_that_gave_it_up_fails() {
    let mut dir = Dir::new(&[
        ("a.json", &named(&["x"])),
        ("b.json", &named(&["y"])),
        ("c.json", &named(&["z"])),
    ]);
    dir.reload();
    // c fails, so z stays taken; so b fails and keeps y; so a, which takes y, fails too.
    dir.write("a.json", &named(&["y"]));
    dir.write("b.json", &named(&["z"]));
    dir.write("c.json", "[");
    let reload = dir.reload();
    assert_eq!(names(&reload), ["x", "y", "z"]);
    for file in ["a.json", "b.json", "c.json"] {
        assert_eq!(outcome(&reload, file), "Failed(1), 1 kept");
    }
}

#[test]
fn two_files_may_agree_on_the_limit_of_a_group_but_not_differ() {
    let limit = |limit| format!("[{{\"group\": \"db\", \"limit\": {limit}}}]");
    let mut dir = Dir::new(&[("a.json", &limit(2)), ("b.json", &limit(2)), ("c.json", &limit(3))]);
    insta::assert_snapshot!(dir.errors(), @r#"
    DIR/c.json:1:2: the group "db" already has the limit 2, given at DIR/a.json:1:2
      | [{"group": "db", "limit": 3}]
      |  ^
      hint: give a group its limit once, in a file of its own for example
    "#);
    assert_eq!(dir.reload().groups, [("db".into(), 2)].into());
    dir.write("a.json", "[]");
    dir.write("b.json", "[]");
    dir.reload();
    // With the others gone it is free.
    dir.write("c.json", &limit(4));
    let reload = dir.reload();
    assert_eq!(
        (reload.groups.clone(), outcome(&reload, "c.json").as_str()),
        ([("db".into(), 4)].into(), "Loaded { watches: 0 }")
    );
}

#[test]
fn a_group_in_json_says_what_it_lacks() {
    let alone = Dir::new(&[("a.json", r#"[{"group": "g"}]"#)]).errors();
    assert!(
        alone.contains("limit is missing") && !alone.contains("znode"),
        "{alone}"
    );
    let text = r#"[{"group": "db", "limit": "2"}, {"limit": 3}, {"group": "x", "limits": {}, "znode": "/a"}]"#;
    insta::assert_snapshot!(Dir::new(&[("a.json", text)]).errors(), @r#"
    DIR/a.json:1:27: limit must be a whole number from 1 to 10000, not the string "2"
      | [{"group": "db", "limit": "2"}, {"limit": 3}, {"group": "x", "limits": {}, "znode": "/a"}]
      |                           ^

    DIR/a.json:1:33: group is missing
      | [{"group": "db", "limit": "2"}, {"limit": 3}, {"group": "x", "limits": {}, "znode": "/a"}]
      |                                 ^

    DIR/a.json:1:47: action is missing
      | [{"group": "db", "limit": "2"}, {"limit": 3}, {"group": "x", "limits": {}, "znode": "/a"}]
      |                                               ^
    "#);
}

#[test]
fn equal_settings_are_shared() {
    let watch = |n: usize| format!("{{\"znode\": \"/n/{n}\", \"action\": {{\"exec\": \"true\"}}}}");
    let text = format!("[{}]", (0..100).map(watch).collect::<Vec<_>>().join(","));
    let reload = Dir::new(&[("a.json", &text)]).reload();
    let first = &reload.watches[0];
    for watch in &reload.watches {
        assert!(std::sync::Arc::ptr_eq(&watch.policy, &first.policy));
        assert!(std::sync::Arc::ptr_eq(&watch.process, &first.process));
        assert!(std::sync::Arc::ptr_eq(&watch.name, &watch.description));
    }
    assert_eq!(&*reload.watches[99].name, "a-100");
}

#[test]
fn check_shows_a_table() {
    let text = r#"[
  {"znode": "/git/head", "action": {"exec": "cd /srv/repo && git pull --quiet --recurse-submodules"}, "name": "pull", "uid": "daemon", "timeout": 60},
  {"znode": "/app", "watch_type": "WATCH_TREE", "action": {"exec": ["systemctl", "reload", "app"]}, "run_mode": "RESTART", "uid": "daemon"}
]"#;
    let mut dir = Dir::new(&[("app.json", text)]);
    let reload = dir.reload();
    let table = report::render_table(&reload.watches).replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(table, @r"
    NAME   ZNODE      TYPE  ACTION                                     MODE     USER    TIMEOUT  WHERE
    pull   /git/head  data  cd /srv/repo && git pull --quiet --recur…  QUEUE    daemon  60 s     DIR/app.json:2
    app-2  /app       tree  systemctl reload app                       RESTART  daemon  -        DIR/app.json:3
    ");
}

#[test]
fn check_gives_json() {
    let mut dir = Dir::new(&[
        ("a.json", ONE),
        ("b.json", "[{\"znode\": 1, \"action\": {\"exec\": \"true\"}}]"),
    ]);
    let json = report::to_json(&dir.reload());
    let text = serde_json::to_string_pretty(&json)
        .unwrap()
        .replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(text, @r#"
    {
      "errors": [
        {
          "file": "DIR/b.json",
          "hint": null,
          "message": "znode must be a string or a list of strings, not the number 1",
          "position": {
            "column": 12,
            "line": 1
          },
          "source_line": {
            "caret": 11,
            "text": "[{\"znode\": 1, \"action\": {\"exec\": \"true\"}}]"
          }
        }
      ],
      "notes": [],
      "watches": [
        {
          "action": {
            "exec": "true"
          },
          "column": 2,
          "component": null,
          "data_file": null,
          "description": "a-1",
          "file": "DIR/a.json",
          "line": 1,
          "name": "a-1",
          "rollout": null,
          "run_mode": "QUEUE",
          "secrets": [],
          "service": false,
          "timeout": null,
          "user": "root",
          "watch_type": "data",
          "znode": "/a"
        }
      ]
    }
    "#);
}

#[test]
fn what_others_have_named_cannot_imitate_lines_nor_move_the_cursor() {
    let name = "b\u{202e}\nERROR forged\u{1b}[31m.json";
    let wrong = r#"[{"znode": "/a", "action": {"exec": "x"}, "run_mode": "QEUE"}]"#;
    let errors = Dir::new(&[(name, wrong)]).errors();
    assert!(
        errors.contains(r"b\u{202e}\nERROR forged\u{1b}[31m.json:1:"),
        "{errors}"
    );
    let right = r#"[{"znode": "/a", "action": {"exec": "x"}, "name": "n\u202e\u200b"}]"#;
    let reload = Dir::new(&[(name, right)]).reload();
    let table = report::render_table(&reload.watches);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(
        !table
            .chars()
            .any(|c| c == '\u{202e}' || c == '\u{200b}' || c == '\u{1b}'),
        "{table}"
    );
}

#[test]
fn of_two_files_with_one_rollout_the_older_wins_and_of_two_new_ones_neither() {
    let watch = |name: &str| {
        format!(
            r#"[{{"znode": "/{name}", "name": "{name}", "action": {{"exec": "true"}}, "timeout": 9, "rollout": {{"name": "repo", "at_once": 1}}}}]"#
        )
    };
    let mut dir = Dir::new(&[("a.json", &watch("a")), ("b.json", &watch("b"))]);
    let said = dir.errors();
    for (file, other) in [("a", "b"), ("b", "a")] {
        let expected = format!(
            "DIR/{file}.json:1:2: the rollout \"repo\" is that of the watch at DIR/{other}.json:1:2: on a host one watch has it"
        );
        assert!(said.contains(&expected), "{said}");
    }
    fs::remove_file(dir.path("b.json")).unwrap();
    let mut kept = BTreeMap::new();
    keep(&mut kept, &dir.reload());
    dir.write("b.json", &watch("b"));
    let reload = dir.reload();
    assert_eq!((names(&reload), reload.errors().count()), (vec!["a"], 1));
    // Also where the daemon is started anew.
    let next = restarted(&dir, &kept);
    assert_eq!((names(&next), next.errors().count()), (vec!["a"], 1));
    assert_eq!(restarted(&dir, &BTreeMap::new()).errors().count(), 2);
}
