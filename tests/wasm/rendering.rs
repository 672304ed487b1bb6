//! The plugin `render` on the daemon: the examples beside it as they are, and what it needs of the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::plugins::plugin;
use super::{open_out, outcome, said, watch};
use crate::support::daemon::Site;

/// Where the examples are.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/render/examples")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => _ = fs::copy(entry.path(), target).unwrap(),
        }
    }
}

/// Every file below a directory, by its path from there.
fn files(dir: &Path, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let path = Path::new(below).join(entry.unwrap().file_name());
        let name = path.to_str().unwrap().to_owned();
        match dir.join(&path).is_dir() {
            true => found.extend(files(dir, &name)),
            false => found.push(name),
        }
    }
    found.sort();
    found
}

/// A program that writes down who calls it with what, and looks whether the files are there.
fn stand_in(site: &Site, name: &str) {
    let (out, etc) = (site.path("out"), site.path("etc"));
    let script = format!(
        "#!/bin/sh\necho {name} $(id -un) \"$@\" >> {}/calls.$(id -u)\nfor a; do case $a in {}/*) test -s \"$a\" || exit 3;; esac; done\n",
        out.display(),
        etc.display()
    );
    site.write(&format!("bin/{name}"), &script);
    fs::set_permissions(site.path(&format!("bin/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_examples_do_what_they_say() {
    let all: Vec<_> = fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(all.len() >= 5, "{all:?}");
    // One daemon for all: a component that is compiled once for it.
    let site = Site::new();
    open_out(&site);
    for program in ["haproxy", "nginx", "systemctl", "telegraf", "mysql"] {
        stand_in(&site, program);
    }
    let mut watches = Vec::new();
    for example in &all {
        copy(&example.join("tree"), &site.path("tree"));
        copy(&example.join("templates"), &site.path("etc/twitcher/templates"));
        for file in files(&example.join("expected"), "") {
            let dir = site.path(&file).parent().unwrap().to_owned();
            fs::create_dir_all(&dir).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let name = example.file_name().unwrap().to_str().unwrap();
        let text = as_on_the_site(&fs::read_to_string(example.join("watch.twc")).unwrap(), &site);
        site.config(&format!("{name}.twc"), &text);
        watches.push(
            text.split("name = \"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .to_owned(),
        );
    }
    let daemon = site.start();
    for (example, name) in all.iter().zip(&watches) {
        let run = &daemon.wait_runs(name, 1)[0];
        assert_eq!(outcome(run), "success", "{name}: {}", daemon.text());
        for file in files(&example.join("expected"), "") {
            let wanted = fs::read_to_string(example.join("expected").join(&file)).unwrap();
            assert_eq!(site.read(&file), wanted, "{name}: {file}");
        }
    }
    for (file, mode) in [
        ("etc/redis/redis.conf", 0o600),
        ("etc/telegraf/telegraf.conf", 0o640),
        ("etc/nginx/nginx.conf", 0o644),
    ] {
        let found = fs::metadata(site.path(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
    let root = site.lines("out/calls.0");
    for call in [
        "systemctl root reload haproxy",
        "systemctl root reload pgbouncer",
        "systemctl root restart redis-server",
        "systemctl root kill --signal=HUP telegraf",
        "nginx root -s reload",
    ] {
        assert!(root.iter().any(|line| line == call), "{call}: {root:?}");
    }
    let etc = site.path("etc");
    let nobody = site.read("out/calls.65534");
    let checked = format!("haproxy nobody -c -f {}/haproxy/.haproxy.cfg.new\n", etc.display());
    assert!(
        nobody.contains(&checked) && nobody.contains("mysql nobody --defaults-file="),
        "{nobody}"
    );
}

/// What is the machine's is the site's, and users that it may not have are one that every machine has.
fn as_on_the_site(text: &str, site: &Site) -> String {
    let (etc, bin) = (site.path("etc"), site.path("bin"));
    let mut text = text
        .replace("/usr/lib/twitcher/render.wasm", &plugin("render").display().to_string())
        .replace("\"/etc/", &format!("\"{}/", etc.display()))
        .replace("\"/usr/bin/", &format!("\"{}/", bin.display()))
        .replace("\"/usr/sbin/", &format!("\"{}/", bin.display()))
        .replace("splay = 30", "splay = 0");
    for user in ["postgres", "redis", "telegraf", "proxysql"] {
        text = text.replace(&format!("uid = \"{user}\""), "uid = \"nobody\"");
    }
    text
}

/// A watch of `/x` by `render`, in the site's directory `out`, as nobody.
fn rendering(site: &Site, config: &str, commands: &str) {
    open_out(site);
    site.write("templates/app.conf", "port = {{ data.port }}\n");
    let templates = site.path("templates");
    let grants = format!(
        "config={{'template': '/templates/app.conf', 'dest': '/out/app.conf', {config}}}, \
         dirs={{'/templates': {:?}, '/out': 'OUT:rw'}}, commands={{{commands}}}",
        templates.display().to_string()
    );
    watch(site, &plugin("render"), &grants, "uid='nobody', timeout=60");
}

#[test]
fn a_new_file_is_checked_on_the_host_before_it_replaces_the_old_one() {
    let site = Site::new();
    let check =
        "'check': ['sh', '-c', 'grep -q 80 \"$1\" || { echo line 1: no port of ours >&2; exit 7; }', 'sh', '{file}']";
    let reload = "'reload': Exec(['sh', '-c', 'id -u >> OUT/reloads'], uid='root')";
    rendering(
        &site,
        "'check': 'check', 'perms': '0640', 'backup': 'true'",
        &format!("{check}, {reload}"),
    );
    site.set("/x", r#"{"port": 80}"#);
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success", "{}", daemon.text());
    assert_eq!(site.lines("out/reloads"), ["0"]);
    assert_eq!(
        fs::metadata(site.path("out/app.conf")).unwrap().permissions().mode() & 0o777,
        0o640
    );

    site.set("/x", r#"{"port": 9}"#);
    let ended = outcome(&daemon.wait_runs("w", 2)[1]).to_owned();
    assert!(
        ended.contains("/out/app.conf: the new file is refused, and the old one stays: command check: exit code 7: line 1: no port of ours"),
        "{ended}"
    );
    assert_eq!(site.read("out/app.conf"), "port = 80\n");
    assert_eq!(site.lines("out/reloads").len(), 1);
    assert!(!site.path("out/.app.conf.new").exists());

    site.set("/x", r#"{"port": 8080}"#);
    assert_eq!(outcome(&daemon.wait_runs("w", 3)[2]), "success");
    assert_eq!(
        (site.read("out/app.conf"), site.read("out/app.conf.bak")),
        ("port = 8080\n".into(), "port = 80\n".into())
    );
    assert_eq!(site.lines("out/reloads").len(), 2);
    // What changed is in the log for those who want to know more.
    said(&daemon, "-port = 80");
    said(&daemon, "+port = 8080");
}

#[test]
fn with_mode_diff_the_log_says_what_would_be_written() {
    let site = Site::new();
    rendering(
        &site,
        "'mode': 'diff'",
        "'reload': ['sh', '-c', 'echo x >> OUT/reloads']",
    );
    site.set("/x", r#"{"port": 80}"#);
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    said(&daemon, "+port = 80");
    assert!(!site.path("out/app.conf").exists() && !site.path("out/reloads").exists());
}

#[test]
fn what_is_wrong_is_said_with_template_line_and_expression() {
    let site = Site::new();
    rendering(&site, "", "");
    site.set("/x", r#"{"prot": 80}"#);
    let daemon = site.start();
    let ended = outcome(&daemon.wait_runs("w", 1)[0]).to_owned();
    assert!(
        ended.contains("/templates/app.conf:1: undefined value: `data.port` is undefined"),
        "{ended}"
    );
}

#[test]
fn a_watch_of_several_znodes_makes_one_file() {
    let site = Site::new();
    open_out(&site);
    site.set("/nginx/domain", "example.com");
    site.set("/app/upstream/a", "10.0.0.1");
    let template = "{{ getv('/nginx/domain') }} {{ getvs('/app/upstream/*') | join(',') }}";
    let component = plugin("render");
    site.config(
        "w.twc",
        &format!(
            "RegisterWatch(znode=['/nginx', '/app/upstream'], watch_type=WATCH_TREE, payload=JSON, name='w', uid='nobody', timeout=60, \
             action=Wasm({:?}, config={{'template_text': {template:?}, 'dest': '/out/f', 'command': ''}}, dirs={{'/out': 'OUT:rw'}}))\n",
            component.display().to_string()
        ),
    );
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success", "{}", daemon.text());
    assert_eq!(site.read("out/f"), "example.com 10.0.0.1");
    site.set("/app/upstream/b", "10.0.0.2");
    assert_eq!(outcome(&daemon.wait_runs("w", 2)[1]), "success");
    assert_eq!(site.read("out/f"), "example.com 10.0.0.1,10.0.0.2");
}
