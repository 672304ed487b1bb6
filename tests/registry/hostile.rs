//! Registries that lie, and what becomes of passwords.

use std::fs;

use super::fake::{Answer, Fake, Request};
use super::{Sample, Scene};

/// A registry that has the sample, and a bundle of the same name that is there already.
fn scene() -> (Fake, Scene, String) {
    let (fake, scene) = (Fake::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    scene.push(&remote);
    fs::create_dir(scene.path("out")).unwrap();
    fs::write(scene.path("out/hello-1.0.0.twb"), "as it was").unwrap();
    fake.seen();
    (fake, scene, remote)
}

/// Pulling must fail, and change nothing.
fn refuses(
    fake: &Fake,
    scene: &Scene,
    remote: &str,
    lie: impl Fn(&Request) -> Option<Answer> + Send + 'static,
) -> String {
    fake.lie(lie);
    let why = scene.fails(&format!("bundle pull {remote} --out out --keys none"));
    assert!(why.contains(remote), "{why}");
    let left: Vec<_> = fs::read_dir(scene.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["hello-1.0.0.twb"]);
    assert_eq!(fs::read(scene.path("out/hello-1.0.0.twb")).unwrap(), b"as it was");
    why
}

fn is_blob(request: &Request) -> bool {
    request.method == "GET" && request.path.contains("/blobs/")
}

fn is_tag(request: &Request) -> bool {
    request.path.ends_with("/manifests/1.0.0")
}

#[test]
fn the_api_for_referrers_is_used_where_there_is_one() {
    let (fake, scene, remote) = scene();
    assert!(
        fake.manifests().keys().all(|at| !at.starts_with("sha256-")),
        "{:?}",
        fake.manifests().keys()
    );
    assert!(scene.pull(&remote) == fs::read(Sample::get().bundle()).unwrap());
    let seen = fake.seen();
    let asked = seen
        .iter()
        .find(|request| request.path.contains("/referrers/"))
        .unwrap();
    assert!(
        asked
            .path
            .ends_with("?artifactType=application%2Fvnd.twitcher.bundle.v1%2Bjson"),
        "{}",
        asked.path
    );
}

#[test]
fn what_has_another_digest_is_refused() {
    let (fake, scene, remote) = scene();
    let component = Sample::get().part("component.wasm");
    let other = vec![0; component.len()];
    let why = refuses(&fake, &scene, &remote, move |request| {
        let large = is_blob(request) && request.path.ends_with(&sha256(&component));
        large.then(|| Answer::new(200, other.clone()))
    });
    assert!(
        why.contains("sends another component.wasm than the one asked for"),
        "{why}"
    );
    // By a digest, the manifest too.
    let digest = fake
        .manifests()
        .into_iter()
        .find(|(at, bytes)| at.starts_with("sha256:") && is_component(bytes));
    let by_digest = remote.replace(":1.0.0", &format!("@{}", digest.unwrap().0));
    let why = refuses(&fake, &scene, &by_digest, |request| {
        request.path.contains("/manifests/").then(|| Answer::new(200, "{}"))
    });
    assert!(why.contains("sends another manifest with this digest"), "{why}");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_component(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains("application/vnd.wasm.config.v0+json") && !is_artifact(bytes)
}

fn is_artifact(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains("\"subject\"")
}

#[test]
fn sizes_are_believed_no_more_than_digests() {
    let (fake, scene, remote) = scene();
    // Without end.
    let why = refuses(&fake, &scene, &remote, |request| {
        is_blob(request).then(|| Answer::new(200, vec![b'x'; 65536]).endless())
    });
    assert!(why.contains("manifest.json is larger than"), "{why}");
    let why = refuses(&fake, &scene, &remote, |request| {
        is_tag(request).then(|| Answer::new(200, vec![b' '; 65536]).endless())
    });
    assert!(
        why.contains("manifest with the tag 1.0.0 is larger than 4194304 bytes"),
        "{why}"
    );
    // Large by its own account.
    let why = refuses(&fake, &scene, &remote, |request| {
        let claim = || Answer::new(200, "").with("content-length", "99999999999");
        is_tag(request).then(claim)
    });
    assert!(why.contains("is larger than 4194304 bytes"), "{why}");
    let why = refuses(&fake, &scene, &remote, |request| {
        let claim = || Answer::new(200, "").with("content-length", "99999999999");
        is_blob(request).then(claim)
    });
    assert!(why.contains("manifest.json is larger than"), "{why}");
    // Cut off.
    let why = refuses(&fake, &scene, &remote, |request| {
        is_blob(request).then(|| Answer::new(200, "{"))
    });
    assert!(why.contains("manifest.json is cut off"), "{why}");
    // An error that has a lot to say.
    let why = refuses(&fake, &scene, &remote, |request| {
        is_tag(request).then(|| Answer::new(500, vec![b'x'; 65536]).endless())
    });
    assert!(why.contains("the registry answers 500"), "{why}");
}

#[test]
fn large_files_are_bounded_by_what_was_signed() {
    let (fake, scene, remote) = scene();
    let component = sha256(&Sample::get().part("component.wasm"));
    let why = refuses(&fake, &scene, &remote, move |request| {
        let large = is_blob(request) && request.path.ends_with(&component);
        large.then(|| Answer::new(200, vec![b'x'; 65536]).endless())
    });
    let size = Sample::get().part("component.wasm").len();
    assert!(
        why.contains(&format!("component.wasm is larger than {size} bytes")),
        "{why}"
    );
}

#[test]
fn documents_that_make_no_sense_are_refused() {
    let (fake, scene, remote) = scene();
    for (manifest, words) in [
        ("", "is not right: EOF"),
        ("{\"a\": ", "is not right: EOF"),
        ("[]", "is not right: "),
        ("{}", "is not right: missing field"),
        ("\u{1b}[2J", "is not right: "),
        (r#"{"manifests": []}"#, "it is an index"),
    ] {
        let why = refuses(&fake, &scene, &remote, move |request| {
            is_tag(request).then(|| Answer::new(200, manifest))
        });
        assert!(why.contains(words) && !why.contains('\u{1b}'), "{manifest}: {why}");
    }
    let why = refuses(&fake, &scene, &remote, |request| {
        request.path.contains("/referrers/").then(|| Answer::new(200, "{}"))
    });
    assert!(why.contains("list of referrers is not right"), "{why}");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let (fake, scene, remote) = scene();
    let component = fake.manifests().remove("1.0.0").unwrap();
    let edited = |from: &str, to: &str| {
        let text = String::from_utf8(component.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        text.replace(from, to)
    };
    let manifest = format!("sha256:{}", sha256(&Sample::get().part("manifest.json")));
    let zeros = format!("sha256:{}", "0".repeat(64));
    for (manifest, words) in [
        // Another bundle of the same component: nothing refers to that.
        (
            edited(&manifest, &zeros),
            "nothing of type application/vnd.twitcher.bundle.v1+json refers to it",
        ),
        // As if it had not been signed.
        (edited("vnd.twitcher.bundle.signature", "other"), "nothing of type"),
        (
            edited(&manifest, "sha256:zz"),
            "the annotation vnd.twitcher.bundle.manifest of the component is not a digest",
        ),
        (
            edited("vnd.twitcher.bundle.manifest", "other"),
            "a component, not a bundle",
        ),
        (
            edited("application/wasm", "text/plain"),
            "its layer is of type text/plain",
        ),
    ] {
        let why = refuses(&fake, &scene, &remote, move |request| {
            is_tag(request).then(|| Answer::new(200, manifest.clone()))
        });
        assert!(why.contains(words), "{why}");
    }
    let why = refuses(&fake, &scene, &remote, |request| {
        request
            .path
            .contains("/referrers/")
            .then(|| Answer::new(200, r#"{"manifests": []}"#))
    });
    assert!(why.contains("copied without its referrers"), "{why}");
}

#[test]
fn whose_key_is_not_trusted_gets_no_further_than_the_signature() {
    let (fake, scene, remote) = scene();
    scene.ok("key generate other");
    scene.ok("key trust other.pub --native --keys keys");
    let why = scene.fails(&format!("bundle pull {remote} --out more --keys keys"));
    assert!(why.contains("not trusted"), "{why}");
    let fetched: Vec<String> = fake
        .seen()
        .into_iter()
        .filter(is_blob)
        .map(|request| request.path)
        .collect();
    let parts = ["manifest.json", "manifest.json.minisig"].map(|part| sha256(&Sample::get().part(part)));
    assert_eq!(fetched.len(), 2);
    assert!(
        fetched.iter().zip(parts).all(|(path, part)| path.ends_with(&part)),
        "{fetched:?}"
    );
}

fn log_in(scene: &Scene, registry: &str, entry: &str) {
    let config = format!(r#"{{"auths": {{"{registry}": {entry}}}}}"#);
    fs::write(scene.path("docker/config.json"), config).unwrap();
}

/// `user:secret`
const AUTH: &str = "dXNlcjpzZWNyZXQ=";

#[test]
fn a_password_does_not_follow_a_redirect() {
    let (fake, scene, remote) = scene();
    let elsewhere = Fake::start();
    scene.push(&remote.replace(&fake.address(), &elsewhere.address()));
    elsewhere.seen();
    log_in(&scene, &fake.address(), &format!(r#"{{"auth": "{AUTH}"}}"#));
    let to = elsewhere.address();
    let lie = move |request: &Request| {
        let authorized = request.headers.get("authorization") == Some(&format!("Basic {AUTH}"));
        match (authorized, is_blob(request)) {
            (false, _) => Some(Answer::new(401, "").with("www-authenticate", "Basic realm=\"test\"")),
            (true, true) => Some(Answer::new(307, "").with("location", format!("http://{to}{}", request.path))),
            (true, false) => None,
        }
    };
    fake.lie(lie.clone());
    assert!(scene.pull(&remote) == fs::read(Sample::get().bundle()).unwrap());
    let seen = elsewhere.seen();
    assert!(
        seen.len() >= 5
            && seen
                .iter()
                .all(|request| !request.headers.contains_key("authorization"))
    );
    // And where it leads to something else, that is noticed.
    elsewhere.lie(|request| is_blob(request).then(|| Answer::new(200, "{}")));
    fs::write(scene.path("out/hello-1.0.0.twb"), "as it was").unwrap();
    assert!(refuses(&fake, &scene, &remote, lie).contains("manifest.json is cut off"));
    let around = format!("http://{}", fake.address());
    let why = refuses(&fake, &scene, &remote, move |request| {
        Some(Answer::new(307, "").with("location", format!("{around}{}", request.path)))
    });
    assert!(why.contains("it redirects without end"), "{why}");
}

#[test]
fn tokens_are_fetched_where_the_registry_says() {
    let (fake, scene, remote) = scene();
    let tokens = Fake::start();
    tokens.lie(|_| Some(Answer::new(200, r#"{"token": "t0ken", "expires_in": 60}"#)));
    let realm = format!("http://{}/token", tokens.address());
    let challenge = format!("Bearer realm=\"{realm}\",service=\"the registry\",scope=\"repository:tools/hello:pull\"");
    let lie = move |request: &Request| {
        let authorized = request
            .headers
            .get("authorization")
            .is_some_and(|token| token == "Bearer t0ken");
        (!authorized).then(|| Answer::new(401, "").with("www-authenticate", challenge.clone()))
    };
    fake.lie(lie.clone());
    // Anybody may pull; a token is needed all the same.
    assert!(scene.pull(&remote) == fs::read(Sample::get().bundle()).unwrap());
    let [asked] = &tokens.seen()[..] else { panic!() };
    assert_eq!(
        asked.path,
        "/token?scope=repository%3Atools%2Fhello%3Apull&service=the+registry"
    );
    assert!(!asked.headers.contains_key("authorization"));
    // With a password, and to push.
    log_in(&scene, &fake.address(), &format!(r#"{{"auth": "{AUTH}"}}"#));
    scene.push(&remote);
    let [asked] = &tokens.seen()[..] else { panic!() };
    assert!(
        asked.path.contains("scope=repository%3Atools%2Fhello%3Apull%2Cpush"),
        "{}",
        asked.path
    );
    assert_eq!(asked.headers["authorization"], format!("Basic {AUTH}"));
    // With a token that gets tokens.
    log_in(
        &scene,
        &fake.address(),
        r#"{"auth": "dTo=", "identitytoken": "refre sh"}"#,
    );
    scene.pull(&remote);
    let [asked] = &tokens.seen()[..] else { panic!() };
    let form = String::from_utf8_lossy(&asked.body);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/token"));
    assert!(
        form.contains("grant_type=refresh_token") && form.contains("refresh_token=refre+sh"),
        "{form}"
    );
    fs::write(scene.path("out/hello-1.0.0.twb"), "as it was").unwrap();
    for (status, answer, words) in [
        (401, "{}", "the credentials are the token for"),
        (200, "{}", "there is none in it"),
        (200, r#"{"token": "a\nb"}"#, "it cannot be one"),
        (200, "secret-and-no-json", "it is not the JSON of one"),
        (500, "", "answers 500"),
    ] {
        tokens.lie(move |_| Some(Answer::new(status, answer)));
        let why = refuses(&fake, &scene, &remote, lie.clone());
        assert!(why.contains(words) && !why.contains("secret"), "{why}");
    }
    tokens.lie(|_| Some(Answer::new(200, vec![b' '; 65536]).endless()));
    assert!(refuses(&fake, &scene, &remote, lie).contains("a token is larger than"));
}

#[test]
fn a_registry_that_says_no_is_quoted_safely() {
    let (fake, scene, remote) = scene();
    let denied = r#"{"errors": [{"code": "DENIED", "message": "requested access is\u001b[2J denied"}]}"#;
    let why = refuses(&fake, &scene, &remote, move |_| Some(Answer::new(403, denied)));
    assert!(
        why.contains("403") && why.contains(r"DENIED: requested access is\u{1b}[2J denied"),
        "{why}"
    );
    assert!(why.contains("no credentials for"), "{why}");
}

#[test]
fn a_registry_that_does_not_take_a_bundle_is_no_success() {
    let (fake, scene) = (Fake::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    let push = format!("bundle push {} {remote}", Sample::get().bundle().display());
    type Is = fn(&Request) -> bool;
    let is_upload: Is = |request| request.method == "PUT" && request.path.contains("/blobs/");
    let is_manifest: Is = |request| request.method == "PUT" && request.path.contains("/manifests/");
    let is_begin: Is = |request| request.method == "POST";
    let zeros = format!("sha256:{}", "0".repeat(64));
    for (is, answer, words) in [
        (is_begin, Answer::new(202, ""), "it does not say where to upload to"),
        (
            is_begin,
            Answer::new(202, "").with("location", "ftp://x/"),
            "it does not say where to upload to",
        ),
        (is_begin, Answer::new(405, ""), "the registry answers 405"),
        (
            is_upload,
            Answer::new(413, ""),
            "the registry answers 413 Payload Too Large when asked for component.wasm",
        ),
        (is_manifest, Answer::new(400, ""), "the registry answers 400"),
        (
            is_manifest,
            Answer::new(201, "").with("docker-content-digest", zeros),
            "sends another manifest",
        ),
    ] {
        fake.lie(move |request| is(request).then(|| answer.clone()));
        let why = scene.fails(&push);
        assert!(why.contains(&remote) && why.contains(words), "{why}");
        assert!(!fake.manifests().contains_key("1.0.0"));
    }
}
