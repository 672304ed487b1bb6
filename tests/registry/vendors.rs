//! Registries of all vendors, each with its own way.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::fake::{Answer, Fake, Request};
use super::{Sample, Scene, printed};

fn original() -> Vec<u8> {
    fs::read(Sample::get().bundle()).unwrap()
}

fn is_list(request: &Request) -> bool {
    request.path.contains("/referrers/")
}

#[test]
fn whatever_is_no_list_of_referrers_leads_to_the_tag() {
    let limited = Fake::start();
    limited.lie(|_| Some(Answer::new(429, "").with("retry-after", "3600")));
    let elsewhere = format!("http://{}/v2/packages", limited.address());
    let html = Answer::new(200, "<!doctype html><title>Sign in</title>").with("content-type", "text/html");
    let quay = r#"{"errors": [{"code": "MANIFEST_INVALID", "message": "manifest invalid"}]}"#;
    for (vendor, answer) in [
        ("zot of long ago", Answer::new(404, "404 page not found")),
        ("Quay", Answer::new(400, quay)),
        (
            "Harbor",
            Answer::new(401, r#"{"errors": [{"code": "UNAUTHORIZED", "message": ""}]}"#),
        ),
        ("Artifactory", Answer::new(406, "")),
        ("others", Answer::new(405, "")),
        ("others", Answer::new(501, "")),
        ("others", Answer::new(403, "")),
        ("others", Answer::new(500, "")),
        ("others", html.clone()),
        ("others", Answer::new(200, "{}")),
        ("others", Answer::new(200, "[]")),
        ("others", html.endless()),
        ("GHCR", Answer::new(303, "").with("location", elsewhere)),
        ("GHCR", Answer::new(429, "").with("retry-after", "3600")),
        ("others", Answer::new(302, "").with("location", "file:///etc/passwd")),
        ("others", Answer::new(302, "").with("location", "?again")),
        ("others", Answer::new(302, "")),
    ] {
        let (fake, scene) = (Fake::start(), Scene::new());
        let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
        fake.grow_old();
        let lie = answer.clone();
        fake.lie(move |request| is_list(request).then(|| lie.clone()));
        scene.push(&remote);
        assert!(scene.pull(&remote) == original(), "{vendor}: {answer:?}");
    }
}

#[test]
fn a_list_that_is_not_there_yet_is_waited_for_only_if_no_tag_has_it() {
    let (fake, scene) = (Fake::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    scene.push(&remote);
    let left = Mutex::new(2);
    fake.lie(move |request| {
        let mut left = left.lock().unwrap();
        let busy = is_list(request) && *left > 0;
        *left -= u32::from(busy);
        busy.then(|| Answer::new(429, "").with("retry-after", "0"))
    });
    let line = format!("bundle pull {remote} --out out --keys none");
    let output = scene.command(&line).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is busy (429 Too Many Requests)"));
    // What the registry says is told to whom it has nothing for.
    fake.lie(|request| is_list(request).then(|| Answer::new(400, "")));
    let why = scene.fails(&line);
    assert!(
        why.contains("copied without its referrers")
            && why.contains("400 Bad Request when asked for list of referrers"),
        "{why}"
    );
}

/// Whether a path ends in a tag that is written as a digest could be, with `-` in place of `:`.
fn resembles_digest(path: &str) -> bool {
    let tag = path.rsplit('/').next().unwrap();
    tag.strip_prefix("sha256-")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[test]
fn a_registry_that_takes_the_tag_for_a_digest_gets_another() {
    for refuses in [false, true] {
        let (fake, scene) = (Fake::start(), Scene::new());
        let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
        fake.grow_old();
        // GitLab: the subject comes back where the index should be.
        fake.misunderstand(|request| {
            if resembles_digest(&request.path) && request.method == "GET" {
                request.path = request.path.replace("/sha256-", "/sha256:");
            }
        });
        fake.lie(move |request| {
            let put = request.method == "PUT" && resembles_digest(&request.path);
            (put && refuses).then(|| Answer::new(400, ""))
        });
        scene.push(&remote);
        assert!(scene.pull(&remote) == original());
        // Again, and with another signature: both are there.
        scene.push(&remote);
        fs::copy(Sample::get().bundle(), scene.path("again.twb")).unwrap();
        scene.ok("key generate other");
        scene.ok("bundle sign again.twb --key other");
        let latest = remote.replace(":1.0.0", ":latest");
        scene.ok(&format!("bundle push again.twb {latest}"));
        assert!(scene.pull(&remote) == original());
        assert!(scene.pull(&latest) == fs::read(scene.path("again.twb")).unwrap());
    }
}

#[test]
fn what_cannot_be_found_again_is_no_success() {
    let (fake, scene) = (Fake::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    fake.grow_old();
    fake.lie(|request| {
        let tag = request.path.contains("/manifests/sha256-");
        (tag && request.method == "GET").then(|| Answer::new(404, ""))
    });
    let why = scene.fails(&format!("bundle push {} {remote}", Sample::get().bundle().display()));
    assert!(why.contains("nobody could pull the bundle"), "{why}");
    assert!(!fake.manifests().contains_key("1.0.0"));
}

#[test]
fn entries_of_others_are_kept_also_when_they_come_at_the_same_time() {
    let (fake, scene) = (Fake::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    fake.grow_old();
    scene.push(&remote);
    let index = |fake: &Fake| {
        let mut all = fake.manifests().into_iter();
        let (tag, bytes) = all.find(|(at, _)| at.starts_with("sha256-")).unwrap();
        (tag, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    // Somebody else has put theirs in place of ours, and it is no descriptor that we know.
    let (tag, mut theirs) = index(&fake);
    theirs["manifests"] = json!([{"digest": "sha256:theirs", "odd": {}}]);
    fake.keep_manifest(&tag, theirs.to_string().as_bytes());
    scene.push(&remote);
    let (_, both) = index(&fake);
    assert_eq!(both["manifests"].as_array().unwrap().len(), 2, "{both}");
    assert_eq!(both["manifests"][0], theirs["manifests"][0]);
    assert!(scene.pull(&remote) == original());
}

/// Answers each request so the first time.
fn busy_once(fake: &Fake, status: u16) {
    let seen = Arc::<Mutex<BTreeSet<(String, String)>>>::default();
    fake.lie(move |request| {
        let first = seen
            .lock()
            .unwrap()
            .insert((request.method.clone(), request.path.clone()));
        first.then(|| Answer::new(status, "").with("retry-after", "0"))
    });
}

#[test]
fn a_registry_that_is_busy_is_asked_again_and_that_is_said() {
    for status in [429, 503] {
        let (fake, scene) = (Fake::start(), Scene::new());
        let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
        busy_once(&fake, status);
        for line in [
            format!("bundle push {} {remote}", Sample::get().bundle().display()),
            format!("bundle pull {remote} --out out --keys none"),
        ] {
            let output = scene.command(&line).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            assert!(
                said.contains(&format!("twitcher: 127.0.0.1 is busy ({status}"))
                    && said.contains("trying again in 0 s"),
                "{said}"
            );
        }
        assert!(fs::read(scene.path("out/hello-1.0.0.twb")).unwrap() == original());
    }
}

#[test]
fn nobody_waits_for_ever() {
    let (fake, scene) = (Fake::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    let line = format!("bundle pull {remote}");
    for (after, requests, words) in [("0", 5, "it was asked 5 times"), ("86400", 1, "in 86400 s")] {
        fake.lie(move |_| Some(Answer::new(429, "").with("retry-after", after)));
        let output = scene.command(&line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("the registry is busy") && said.contains(words), "{said}");
        assert_eq!(fake.seen().len(), requests);
    }
    // Without a time it is an error like others.
    fake.lie(|_| Some(Answer::new(503, "")));
    assert!(scene.fails(&line).contains("answers 503"));
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn a_scope_that_only_the_registry_understands_is_passed_on() {
    let (fake, scene) = (Fake::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    scene.push(&remote);
    let tokens = Fake::start();
    // Public ECR gives no token for any other scope.
    tokens.lie(|request| {
        let good = request.path.contains("scope=aws");
        Some(match good {
            true => Answer::new(200, r#"{"token": "t0ken"}"#),
            false => Answer::new(400, ""),
        })
    });
    let challenge = format!(
        "Bearer realm=\"http://{}/token/\",service=\"public.ecr.aws\",scope=\"aws\"",
        tokens.address()
    );
    fake.lie(move |request| {
        let authorized = request.headers.get("authorization").map(String::as_str) == Some("Bearer t0ken");
        (!authorized).then(|| Answer::new(401, "").with("www-authenticate", challenge.clone()))
    });
    assert!(scene.pull(&remote) == original());
    let asked = &tokens.seen()[0].path;
    assert!(
        asked.contains("scope=repository%3Atools%2Fhello%3Apull&scope=aws&service=public.ecr.aws"),
        "{asked}"
    );
}

#[test]
fn a_blob_that_nobody_may_look_for_is_uploaded() {
    for status in [403, 405, 400, 501] {
        let (fake, scene) = (Fake::start(), Scene::new());
        let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
        fake.lie(move |request| (request.method == "HEAD").then(|| Answer::new(status, "")));
        assert!(scene.push(&remote).contains("7 files sent"));
        assert!(scene.pull(&remote) == original());
    }
    // But not where the registry is out of order.
    let (fake, scene) = (Fake::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    fake.lie(|request| (request.method == "HEAD").then(|| Answer::new(500, "")));
    let why = scene.fails(&format!("bundle push {} {remote}", Sample::get().bundle().display()));
    assert!(why.contains("answers 500"), "{why}");
}

#[test]
fn a_component_that_oras_pushed_is_pulled() {
    let (fake, scene) = (Fake::start(), Scene::new());
    let wasm = Sample::get().part("component.wasm");
    let other = b"readme";
    let layer = |media_type: &str, title: Option<&str>, bytes: &[u8]| {
        json!({
            "mediaType": media_type,
            "digest": fake.keep_blob(bytes),
            "size": bytes.len(),
            "annotations": title.map(|title| json!({"org.opencontainers.image.title": title})),
        })
    };
    let manifest = |config: &str, layers: &[Value]| {
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.unknown.artifact.v1",
            "config": {"mediaType": config, "digest": fake.keep_blob(b"{}"), "size": 2},
            "layers": layers,
        })
        .to_string()
    };
    let empty = "application/vnd.oci.empty.v1+json";
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let good = [
        // `oras push R hello.wasm`, `oras push R hello.wasm:application/wasm`, and what else may lie beside it.
        manifest(empty, &[layer(tar, Some("hello.wasm"), &wasm)]),
        manifest(empty, &[layer("application/wasm", Some("hello.wasm"), &wasm)]),
        manifest(
            empty,
            &[
                layer(tar, Some("README.md"), other),
                layer(tar, Some("hello.wasm"), &wasm),
            ],
        ),
        // Of oras before 1.1, wasm-to-oci, and what runs WebAssembly as containers.
        manifest(
            "application/vnd.unknown.config.v1+json",
            &[layer("application/wasm", None, &wasm)],
        ),
        manifest(
            "application/vnd.wasm.config.v1+json",
            &[layer("application/vnd.wasm.content.layer.v1+wasm", None, &wasm)],
        ),
        manifest(
            "application/vnd.oci.image.config.v1+json",
            &[layer("application/wasm", None, &wasm)],
        ),
    ];
    let pull = |tag: &str| {
        format!(
            "bundle pull oci://{}/tools/hello:{tag} --component --out out",
            fake.address()
        )
    };
    for manifest in &good {
        let digest = fake.keep_manifest("latest", manifest.as_bytes());
        let said = scene.ok(&pull("latest"));
        assert!(said.contains(&digest), "{said}");
        assert!(fs::read(scene.path("out/hello.wasm")).unwrap() == wasm);
        fs::remove_file(scene.path("out/hello.wasm")).unwrap();
        // Without the flag it is told what to do.
        let why = scene.fails(&format!("bundle pull oci://{}/tools/hello:latest", fake.address()));
        assert!(why.contains("pull it with --component"), "{why}");
    }
    // An index of one.
    let digest = fake.keep_manifest("one", good[0].as_bytes());
    let entry =
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": good[0].len()});
    let index = |entries: &[&Value]| {
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": entries,
        })
        .to_string()
    };
    fake.keep_manifest("index", index(&[&entry]).as_bytes());
    let said = scene.ok(&pull("index"));
    assert!(said.contains(&digest), "{said}");
    assert!(fs::read(scene.path("out/hello.wasm")).unwrap() == wasm);
    fs::remove_file(scene.path("out/hello.wasm")).unwrap();
    for (bad, words) in [
        (
            index(&[&entry, &entry]),
            "an index of 2 images: name one of them by its digest",
        ),
        (
            manifest(empty, &[layer(tar, Some("README.md"), other)]),
            "its layer is of type application/vnd.oci.image.layer.v1.tar",
        ),
        (
            manifest(empty, &[layer(tar, Some("hello.wasm"), other)]),
            "does not begin as WebAssembly does",
        ),
        (
            manifest(
                empty,
                &[layer(tar, Some("a.wasm"), &wasm), layer(tar, Some("b.wasm"), &wasm)],
            ),
            "2 of its layers are WebAssembly",
        ),
        (manifest(empty, &[]), "none of its 0 layers"),
    ] {
        fake.keep_manifest("bad", bad.as_bytes());
        let why = scene.fails(&pull("bad"));
        assert!(why.contains(words), "{why}");
        assert!(!scene.path("out/hello.wasm").exists());
    }
}

#[test]
fn credentials_of_podman_are_found() {
    let (fake, scene) = (Fake::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    scene.push(&remote);
    // `user:secret`
    let good = "Basic dXNlcjpzZWNyZXQ=";
    fake.lie(move |request| {
        let authorized = request.headers.get("authorization").map(String::as_str) == Some(good);
        (!authorized).then(|| Answer::new(401, "").with("www-authenticate", "Basic realm=\"test\""))
    });
    let auths = |key: &str| format!(r#"{{"auths": {{"{key}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#);
    let line = format!("bundle pull {remote} --out out --keys none");
    let address = fake.address();
    for (file, variable, key) in [
        ("docker/config.json", None, format!("{address}/")),
        ("docker/config.json", None, format!("https://{address}/v2/")),
        ("run/containers/auth.json", None, address.clone()),
        ("run/containers/auth.json", None, format!("{address}/tools")),
        ("home/.config/containers/auth.json", None, address.clone()),
        ("elsewhere.json", Some("REGISTRY_AUTH_FILE"), address.clone()),
    ] {
        let path = scene.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, auths(&key)).unwrap();
        let mut command = scene.command(&line);
        command.envs(variable.map(|variable| (variable, &path)));
        printed(&line, command.output().unwrap());
        fs::remove_file(&path).unwrap();
        let why = scene.fails(&line);
        assert!(
            why.contains(&format!("no credentials for {address} in "))
                && why.contains("run/containers/auth.json")
                && why.contains("home/.config/containers/auth.json"),
            "{why}"
        );
    }
    // A part of the registry that is somebody else's.
    fs::write(scene.path("docker/config.json"), auths(&format!("{address}/others"))).unwrap();
    assert!(scene.fails(&line).contains("no credentials for"));
    // A helper that is not there.
    fs::write(scene.path("docker/config.json"), r#"{"credsStore": "desktop"}"#).unwrap();
    let why = scene.fails(&line);
    assert!(
        why.contains("docker/config.json names does not work: docker-credential-desktop cannot be run"),
        "{why}"
    );
}
