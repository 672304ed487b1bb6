mod files;
mod language;
mod migrating;

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use twitcher_sdk::Event;
use twitcher_sdk::commands::Output as Ended;
use twitcher_sdk::testing::Host;

use super::*;

struct Scene {
    dir: TempDir,
    host: Host,
}

impl Scene {
    /// A template in a file, and a command for the reload.
    fn new(template: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("template"), template).unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let host = Host::new()
            .path("/app/config")
            .config("template", path("template"))
            .config("dest", path("app.conf"))
            .command("reload", |_| Ok(Ended::exited(0, "")));
        Self { dir, host }
    }

    fn config(mut self, key: &str, value: &str) -> Self {
        self.host = self.host.config(key, value);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self) -> String {
        self.read("app.conf")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, data: &str) -> Result<(), Failure> {
        self.host.run(on_change, data)
    }

    /// The names of the commands that were run.
    fn commands(&self) -> Vec<String> {
        self.host.commands().into_iter().map(|call| call.name).collect()
    }

    fn reloads(&self) -> usize {
        self.host.commands().len()
    }

    fn said(&self, words: &str) -> bool {
        self.host.logs().iter().any(|record| record.message.contains(words))
    }

    /// What is in the directory, sorted.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// What a template that stands in the configuration becomes, or the words of the error.
fn render_with(host: Host, template: &str) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("dest");
    let host = host
        .config("template_text", template)
        .config("dest", dest.to_str().unwrap())
        .config("command", "");
    host.run(on_change, "").map_err(|failure| failure.to_string())?;
    Ok(fs::read_to_string(dest).unwrap())
}

/// A watch of a subtree, whose root is /app unless a path says otherwise.
fn tree(nodes: &[(&str, &str)]) -> Host {
    let host = Host::new().path("/app").tree_node("/app", "");
    nodes
        .iter()
        .fold(host, |host, (path, data)| host.tree_node(path, *data))
}

fn problems(host: Host) -> Vec<String> {
    host.enter(validate).err().unwrap_or_default()
}

#[test]
fn writes_and_reloads_only_what_changed() {
    let scene = Scene::new("# {{ path }} {{ version }}\nport = {{ data.port }}\n");
    assert_eq!(scene.run(r#"{"port": 80}"#), Ok(()));
    assert_eq!(scene.text(), "# /app/config 1\nport = 80\n");
    assert_eq!(scene.reloads(), 1);

    assert_eq!(scene.run(r#"{ "port" : 80 }"#), Ok(()));
    assert_eq!(scene.reloads(), 1, "the file is the same");

    assert_eq!(scene.run(r#"{"port": 81}"#), Ok(()));
    assert_eq!(scene.text(), "# /app/config 1\nport = 81\n");
    assert_eq!(scene.reloads(), 2);
    assert_eq!(scene.files(), ["app.conf", "template"]);
}

#[test]
fn a_reload_that_failed_is_made_up_for() {
    let scene = Scene::new("{{ data }}");
    let failing = scene.host.clone().command("reload", |_| Ok(Ended::exited(1, "")));
    let failure = failing.run(on_change, "1").unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
    assert_eq!(scene.text(), "1");

    let working = scene.host.clone().command("reload", |_| Ok(Ended::exited(0, "")));
    assert_eq!(working.run(on_change, "1"), Ok(()));
    assert_eq!(scene.reloads(), 2);
    assert_eq!(working.run(on_change, "1"), Ok(()));
    assert_eq!(scene.reloads(), 2, "made up for once");
}

#[test]
fn a_mistake_leaves_everything_as_it_was() {
    let scene = Scene::new("{{ data.port }}");
    assert_eq!(scene.run(r#"{"port": 80}"#), Ok(()));
    for data in ["", "{", r#"{"prot": 81}"#, "null"] {
        let failure = scene.run(data).unwrap_err();
        assert!(matches!(failure, Failure::Permanent { .. }), "{data}: {failure:?}");
    }
    fs::write(scene.path("template"), "{% if %}").unwrap();
    assert!(scene.run("1").is_err());
    assert_eq!((scene.text().as_str(), scene.reloads()), ("80", 1));
}

#[test]
fn a_znode_that_is_gone_leaves_the_file() {
    let scene = Scene::new("{{ data }}");
    assert_eq!(scene.run("1"), Ok(()));
    let host = scene.host.clone().event(Event::Deleted);
    assert_eq!(host.run(on_change, ""), Ok(()));
    assert_eq!((scene.text().as_str(), scene.reloads()), ("1", 1));
}

#[test]
fn the_template_can_stand_in_the_configuration_and_the_command_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("x");
    let host = Host::new()
        .config(
            "template_text",
            "{% for name in data %}\n{{ name | upper }}\n{% endfor %}\n",
        )
        .config("dest", dest.to_str().unwrap())
        .config("command", "");
    assert_eq!(host.run(on_change, r#"["a", "b"]"#), Ok(()));
    assert_eq!(fs::read_to_string(dest).unwrap(), "A\nB\n");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let host = Host::new()
        .config("template_text", "x")
        .config("dest", "/nowhere/at/all");
    let failure = host.run(on_change, "1").unwrap_err();
    assert!(failure.to_string().starts_with("/nowhere/at/all: "), "{failure}");
}

#[test]
fn the_check_tells_every_problem() {
    assert_eq!(problems(Host::new()).len(), 2);
    let inline = |text| problems(Host::new().config("dest", "/out/x").config("template_text", text));
    assert!(inline("{{ data }}").is_empty());
    let said = inline("a\n{% if %}");
    assert!(
        said[0].starts_with("config template_text:2: syntax error: "),
        "{said:?}"
    );
    let both = Host::new()
        .config("dest", "/x")
        .config("template", "/t")
        .config("template_text", "x");
    assert_eq!(problems(both).len(), 1);
}

#[test]
fn each_key_has_words_for_what_it_cannot_be() {
    let told = |key: &str, value: &str| {
        let host = Host::new().config("dest", "/out/x").config("template", "/t");
        problems(host.config(key, value)).join("\n")
    };
    for (key, value, words) in [
        (
            "perms",
            "0648",
            r#"config "perms": must be permissions from "000" to "777""#,
        ),
        ("perms", "4755", r#"config "perms": must be permissions"#),
        ("perms", "+644", r#"config "perms": must be permissions"#),
        (
            "backup",
            "yes",
            r#"config "backup": must be "false" or "true", not "yes""#,
        ),
        (
            "undefined",
            "loose",
            r#"config "undefined": must be "strict" or "lenient", not "loose""#,
        ),
        (
            "mode",
            "0644",
            r#"config "mode": must be "write" or "diff", not "0644"; permissions are "perms""#,
        ),
        (
            "command",
            "reload app",
            r#"config "command": must be the name of one of commands"#,
        ),
        (
            "delimiters",
            "{{",
            r#"config "delimiters": must be two pairs of characters such as "[[ ]]", not "{{""#,
        ),
        ("delimiters", "{% %}", r#"config "delimiters": must be two pairs"#),
        (
            "tempalte",
            "/t",
            r#"config has "tempalte", which means nothing here; there are template, "#,
        ),
        ("mode.a", "diff", r#"config has "mode.a", which means nothing here"#),
        (
            "perms.a",
            "0600",
            r#"config has "perms.a" and no "dest.a" that it could be about"#,
        ),
        (
            "dest.a",
            "/out/a",
            r#"config needs one of "template.a" and "template_text.a""#,
        ),
        ("template.a", "/t", r#"config has no "dest.a""#),
    ] {
        let said = told(key, value);
        assert!(said.contains(words), "{key}={value}: {said}");
        assert_eq!(said.lines().count(), 1, "{key}={value}: {said}");
    }
    let twice = Host::new()
        .config("template.a", "/t")
        .config("template.b", "/t")
        .config("dest.a", "/out/x")
        .config("dest.b", "/out/x")
        .config("perms", "x");
    let said = problems(twice);
    assert_eq!(said.len(), 2, "what is for all is told once: {said:?}");
    assert!(
        said.iter().any(|line| line.contains(r#"two templates for "/out/x""#)),
        "{said:?}"
    );
    // A run says the same.
    let failure = Host::new().run(on_change, "1").unwrap_err().to_string();
    assert!(failure.contains("config has no \"dest\"; "), "{failure}");
}
