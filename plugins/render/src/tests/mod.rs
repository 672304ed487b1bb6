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

    fn dest(&self) -> PathBuf {
        self.dir.path().join("app.conf")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.dest()).unwrap()
    }

    fn reloads(&self) -> usize {
        self.host.commands().len()
    }
}

#[test]
fn writes_and_reloads_only_what_changed() {
    let scene = Scene::new("# {{ path }} {{ version }}\nport = {{ data.port }}\n");
    assert_eq!(scene.host.run(on_change, r#"{"port": 80}"#), Ok(()));
    assert_eq!(scene.text(), "# /app/config 1\nport = 80\n");
    assert_eq!(scene.reloads(), 1);

    assert_eq!(scene.host.run(on_change, r#"{ "port" : 80 }"#), Ok(()));
    assert_eq!(scene.reloads(), 1, "the file is the same");

    assert_eq!(scene.host.run(on_change, r#"{"port": 81}"#), Ok(()));
    assert_eq!(scene.text(), "# /app/config 1\nport = 81\n");
    assert_eq!(scene.reloads(), 2);

    let left = fs::read_dir(scene.dir.path()).unwrap().count();
    assert_eq!(left, 2, "the template and the file");
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
    assert_eq!(scene.host.run(on_change, r#"{"port": 80}"#), Ok(()));
    for data in ["", "{", r#"{"prot": 81}"#, "null"] {
        let failure = scene.host.run(on_change, data).unwrap_err();
        assert!(matches!(failure, Failure::Permanent { .. }), "{data}: {failure:?}");
    }
    fs::write(scene.dir.path().join("template"), "{% if %}").unwrap();
    assert!(scene.host.run(on_change, "1").is_err());
    assert_eq!((scene.text().as_str(), scene.reloads()), ("80", 1));
}

#[test]
fn a_znode_that_is_gone_leaves_the_file() {
    let scene = Scene::new("{{ data }}");
    assert_eq!(scene.host.run(on_change, "1"), Ok(()));
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
    let problems = |host: Host| host.enter(validate).err().unwrap_or_default();
    assert_eq!(problems(Host::new()).len(), 2);
    let inline = |text| problems(Host::new().config("dest", "/out/x").config("template_text", text));
    assert!(inline("{{ data }}").is_empty());
    assert!(
        inline("{% if %}")[0].contains("template_text"),
        "{:?}",
        inline("{% if %}")
    );
    let both = Host::new()
        .config("dest", "/x")
        .config("template", "/t")
        .config("template_text", "x");
    assert_eq!(problems(both).len(), 1);
}
