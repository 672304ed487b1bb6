//! The file that a component comes from.

use std::fs::{self, File};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Scene, hostile, message, site};
use crate::support::guests::{guest, instance_bomb};

#[test]
fn what_is_no_component_is_an_error_of_the_configuration() {
    let scene = Scene::start(site());
    let path = |name: &str| scene.site.path("out").join(name);
    let whole = fs::read(guest("echo")).unwrap();
    fs::write(path("text"), "#!/bin/sh\n").unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("truncated"), &whole[..whole.len() * 9 / 10]).unwrap();
    let header = [&whole[..8], &[0xff; 4096]].concat();
    fs::write(path("damaged"), header).unwrap();
    fs::create_dir(path("directory")).unwrap();
    mkfifo(&path("pipe"), Mode::S_IRUSR).unwrap();
    File::create(path("large")).unwrap().set_len(200 << 20).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("device")).unwrap();
    fs::copy(instance_bomb(2000), path("instances")).unwrap();
    for (name, reason) in [
        ("instances", "instances count exceeds limit of 1000"),
        ("text", "it is not WebAssembly"),
        ("empty", "it is empty"),
        ("truncated", "it does not compile"),
        ("damaged", "it does not compile"),
        ("directory", "it is not a regular file"),
        ("pipe", "it is not a regular file"),
        ("large", "it is larger than 64 MiB"),
        ("device", "it is not a regular file"),
        ("none", "No such file"),
    ] {
        hostile(&scene.site, name, &path(name), "", "");
        scene.daemon.wait(reason, |line| {
            line["level"] == "ERROR"
                && message(line).contains(&format!("{name}.twc:1:"))
                && message(line).contains(reason)
        });
        scene.others_react();
    }
    assert_eq!(scene.daemon.count(|line| line["znode"] == "/x"), 0, "nobody watches it");
    scene.is_unharmed();
}

#[test]
fn a_check_has_nothing_but_the_configuration() {
    let site = site();
    site.set("/secret", "s");
    let scene = Scene::start(site);
    let grants = "config={'name': 'touch'}, dirs={'/out': 'OUT:rw'}, znodes={'/**': 'rw'}, \
                  commands={'touch': ['touch', 'OUT/touched']}";
    hostile(&scene.site, "acts", &guest("acts_in_check"), grants, "");
    // One line each for the command, the znode and the file.
    let refused = scene.daemon.wait_for(3, "its findings", |line| {
        line["level"] == "ERROR" && message(line).contains("acts.twc:1:")
    });
    for line in &refused {
        assert!(message(line).contains("Err("), "{line}");
    }
    let bare = "nothing but the configuration is at hand while it is checked";
    assert_eq!(refused.iter().filter(|line| message(line).contains(bare)).count(), 2);
    let made = fs::read_dir(scene.site.path("out")).unwrap().count();
    assert_eq!(made, 0);
    scene.is_unharmed();
}
