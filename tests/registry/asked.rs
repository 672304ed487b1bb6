//! Whether what comes is what was asked for: the name of the repository, the version that the tag says.

use std::fs;

use super::fake::Fake;
use super::{Sample, Scene, by_digest};
use crate::support::guests::guest;

/// A registry that gives `hello` 1.0.0 for whatever is asked.
fn scene() -> (Fake, Scene) {
    let (fake, scene) = (Fake::start(), Scene::new());
    scene.push(&format!("oci://{}/tools/hello:1.0.0", fake.address()));
    fake.misunderstand(|request| {
        if let Some((before, tag)) = request.path.rsplit_once("/manifests/")
            && request.method == "GET"
            && !tag.starts_with("sha256")
        {
            request.path = format!("{before}/manifests/1.0.0");
        }
    });
    let key = Sample::get().public_key();
    scene.ok(&format!("key trust {} --native --keys keys", key.display()));
    (fake, scene)
}

const INSTALL: &str = "--install --store store --keys keys --require-signed";

#[test]
fn a_tag_that_is_a_version_is_that_version() {
    let (fake, scene) = scene();
    for tag in ["3.0.0", "v3.0.0", "V3.0.0", "1.1", "2", "v2", "1.0.0-rc.1", "1.0.0_b2"] {
        let remote = format!("oci://{}/tools/hello:{tag}", fake.address());
        let why = scene.fails(&format!("bundle pull {remote} {INSTALL}"));
        assert!(
            why.contains(&remote)
                && why.contains(&format!("the tag says {tag}, and the bundle there is hello 1.0.0"))
                && why.contains("@sha256:"),
            "{why}"
        );
        assert!(!scene.path("store").exists());
        // Whoever pushes is told.
        let why = scene.fails(&format!("bundle push {} {remote}", Sample::get().bundle().display()));
        assert!(
            why.contains("push it to :1.0.0, or to a tag that is no version"),
            "{why}"
        );
    }
    for tag in ["1.0.0", "V1.0.0", "1.0", "1", "v1", "latest", "build-57"] {
        let remote = format!("oci://{}/tools/hello:{tag}", fake.address());
        scene.ok(&format!("bundle pull {remote} {INSTALL}"));
    }
}

#[test]
fn a_bundle_of_another_name_is_another_bundle() {
    let (fake, scene) = scene();
    let remote = format!("oci://{}/tools/other:1.0.0", fake.address());
    let why = scene.fails(&format!("bundle pull {remote} {INSTALL}"));
    assert!(
        why.contains("the bundle there is called hello, not other") && why.contains("--name hello"),
        "{why}"
    );
    assert!(!scene.path("store").exists());
    // Also by a digest, and where it is meant.
    let pushed = scene.push(&remote.replace(":1.0.0", ":latest"));
    assert!(
        pushed.contains("note: the repository is not called hello, so pulling it needs --name hello"),
        "{pushed}"
    );
    assert!(
        scene
            .fails(&format!("bundle pull {} {INSTALL}", by_digest(&pushed)))
            .contains("not other")
    );
    scene.ok(&format!("bundle pull {remote} {INSTALL} --name hello"));
}

#[test]
fn going_back_takes_a_flag() {
    let (fake, scene) = scene();
    scene.ok(&format!(
        "bundle build {} --name hello --version 2.0.0 --portable",
        guest("logs").display()
    ));
    scene.ok("bundle install hello-2.0.0.twb --store store --keys keys");
    let pull = format!("bundle pull oci://{}/tools/hello:latest {INSTALL}", fake.address());
    let why = scene.fails(&pull);
    assert!(
        why.contains("hello 1.0.0, and the current version here is the newer 2.0.0")
            && why.contains("--allow-downgrade"),
        "{why}"
    );
    let current = || fs::read_link(scene.path("store/hello/current")).unwrap();
    let before = current();
    assert!(scene.ok("bundle list --store store --keys keys").contains("2.0.0"));
    let said = scene.ok(&format!("{pull} --allow-downgrade"));
    assert!(said.contains("a DOWNGRADE from 2.0.0"), "{said}");
    assert_ne!(current(), before);
}
