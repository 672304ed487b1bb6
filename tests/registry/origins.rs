//! Who gets a password, and where a registry may lead.

use std::fs;
use std::sync::{Arc, Mutex};

use super::fake::{Answer, Fake, Request};
use super::{Sample, Scene};

/// `user:secret`
const AUTH: &str = "dXNlcjpzZWNyZXQ=";

fn log_in(scene: &Scene, registry: &str, entry: &str) {
    let config = format!(r#"{{"auths": {{"{registry}": {entry}}}}}"#);
    fs::write(scene.path("docker/config.json"), config).unwrap();
}

/// A server that asks for passwords in every way, and takes what it is given.
fn thief() -> Fake {
    let thief = Fake::start();
    let realm = format!("http://{}/token", thief.address());
    thief.lie(move |request| {
        Some(match request.path.starts_with("/token") {
            true => Answer::new(200, r#"{"token": "worthless"}"#),
            false => Answer::new(401, "")
                .with("www-authenticate", format!("Bearer realm=\"{realm}\""))
                .with("www-authenticate", "Basic realm=\"x\""),
        })
    });
    thief
}

/// That it was led to, and got nothing.
fn got_nothing(thief: &Fake, case: &str) {
    let seen = thief.seen();
    assert!(!seen.is_empty(), "{case}: it was not led there at all");
    for request in seen {
        assert!(!request.headers.contains_key("authorization"), "{case}: {request:?}");
        let form = String::from_utf8_lossy(&request.body);
        assert!(
            !form.contains("refresh") && !request.path.contains("refresh"),
            "{case}: {request:?}"
        );
    }
}

#[test]
fn whom_a_registry_leads_to_is_not_whom_a_password_is_for() {
    type Is = fn(&Request) -> bool;
    let cases: [(&str, Is); 5] = [
        ("GET of a manifest", |request| {
            request.method == "GET" && request.path.ends_with("/manifests/1.0.0")
        }),
        ("GET of a blob", |request| {
            request.method == "GET" && request.path.contains("/blobs/")
        }),
        ("HEAD", |request| request.method == "HEAD"),
        ("POST", |request| request.method == "POST"),
        ("PUT", |request| {
            request.method == "PUT" && request.path.contains("/manifests/")
        }),
    ];
    for (case, is) in cases {
        for status in [302, 307] {
            if status == 302 && matches!(case, "POST" | "PUT") {
                continue;
            }
            let (fake, scene, thief) = (Fake::start(), Scene::new(), thief());
            let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
            scene.push(&remote);
            log_in(&scene, &fake.address(), &format!(r#"{{"auth": "{AUTH}"}}"#));
            let to = thief.address();
            fake.lie(move |request| {
                let authorized = request.headers.get("authorization") == Some(&format!("Basic {AUTH}"));
                match (is(request), authorized) {
                    (true, _) => Some(Answer::new(status, "").with("location", format!("http://{to}{}", request.path))),
                    (false, true) => (request.method == "HEAD").then(|| Answer::new(404, "")),
                    (false, false) => Some(Answer::new(401, "").with("www-authenticate", "Basic realm=\"test\"")),
                }
            });
            let line = match case.starts_with("GET") {
                true => format!("bundle pull {remote} --out out --keys none"),
                false => format!("bundle push {} {remote}", Sample::get().bundle().display()),
            };
            let why = scene.fails(&line);
            assert!(
                why.contains(&format!("leads to http://{}", thief.address())) && why.contains("none was sent"),
                "{case}: {why}"
            );
            got_nothing(&thief, case);
        }
    }
}

#[test]
fn an_upload_elsewhere_is_without_a_password() {
    let (fake, scene, thief) = (Fake::start(), Scene::new(), thief());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    log_in(&scene, &fake.address(), &format!(r#"{{"auth": "{AUTH}"}}"#));
    let to = format!("http://user:secret@{}/upload", thief.address());
    fake.lie(move |request| {
        let authorized = request.headers.get("authorization") == Some(&format!("Basic {AUTH}"));
        match (authorized, request.method.as_str()) {
            (false, _) => Some(Answer::new(401, "").with("www-authenticate", "Basic realm=\"test\"")),
            (true, "POST") => Some(Answer::new(202, "").with("location", to.clone())),
            (true, _) => None,
        }
    });
    scene.fails(&format!("bundle push {} {remote}", Sample::get().bundle().display()));
    got_nothing(&thief, "upload");
}

#[test]
fn a_list_goes_on_where_it_began_and_nowhere_else() {
    let (fake, scene, thief) = (Fake::start(), Scene::new(), thief());
    let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
    scene.push(&remote);
    log_in(&scene, &fake.address(), &format!(r#"{{"auth": "{AUTH}"}}"#));
    let pull = format!("bundle pull {remote} --out out --keys none");
    // The first page is empty, and says that there is a second one here or there.
    let second_page = |origin: String| {
        fake.lie(move |request| {
            if request.headers.get("authorization") != Some(&format!("Basic {AUTH}")) {
                return Some(Answer::new(401, "").with("www-authenticate", "Basic realm=\"test\""));
            }
            let first = request.path.contains("/referrers/") && !request.path.contains("page=2");
            first.then(|| {
                Answer::new(200, r#"{"schemaVersion": 2, "manifests": []}"#)
                    .with("content-type", "application/vnd.oci.image.index.v1+json")
                    .with("link", format!("<{origin}{}&page=2>; rel=\"next\"", request.path))
            })
        });
    };
    for origin in [
        format!("http://{}", thief.address()),
        format!("//user:secret@{}", thief.address()),
    ] {
        second_page(origin.clone());
        scene.fails(&pull);
        assert!(thief.seen().is_empty(), "{origin}");
    }
    for origin in [String::new(), format!("http://{}", fake.address())] {
        second_page(origin);
        scene.ok(&pull);
        fs::remove_dir_all(scene.path("out")).unwrap();
    }
}

#[test]
fn a_token_service_that_leads_elsewhere_takes_nothing_along() {
    for (entry, status) in [
        (format!(r#"{{"auth": "{AUTH}"}}"#), 302),
        (format!(r#"{{"auth": "{AUTH}"}}"#), 307),
        (r#"{"auth": "dTo=", "identitytoken": "refresh-token"}"#.to_owned(), 307),
        (r#"{"auth": "dTo=", "identitytoken": "refresh-token"}"#.to_owned(), 308),
    ] {
        let (fake, scene, thief) = (Fake::start(), Scene::new(), thief());
        let remote = format!("oci://{}/tools/hello:1.0.0", fake.address());
        scene.push(&remote);
        log_in(&scene, &fake.address(), &entry);
        let to = thief.address();
        let realm = format!("http://{}/tokens", fake.address());
        let tokens = Arc::<Mutex<Vec<Request>>>::default();
        let asked = tokens.clone();
        fake.lie(move |request| {
            if request.path.starts_with("/tokens") {
                asked.lock().unwrap().push(request.clone());
                return Some(Answer::new(status, "").with("location", format!("http://{to}/token")));
            }
            Some(Answer::new(401, "").with("www-authenticate", format!("Bearer realm=\"{realm}\"")))
        });
        scene.fails(&format!("bundle pull {remote} --out out --keys none"));
        let asked = std::mem::take(&mut *tokens.lock().unwrap());
        // Its own service gets it, and is the only one.
        match entry.contains("identitytoken") {
            true => {
                assert!(String::from_utf8_lossy(&asked[0].body).contains("refresh_token=refresh-token"));
                assert_eq!(thief.seen().len(), 0);
            }
            false => {
                assert_eq!(asked[0].headers["authorization"], format!("Basic {AUTH}"));
                got_nothing(&thief, "token");
            }
        }
    }
}

#[test]
fn a_registry_elsewhere_leads_nobody_to_this_machine() {
    let (fake, scene, inner) = (Fake::start(), Scene::new(), Fake::start());
    let near = format!("oci://{}/tools/hello:1.0.0", fake.address());
    let far = near.replace(&fake.address(), &fake.far_address());
    scene.push(&near);
    scene.push(&near.replace(&fake.address(), &inner.address()));
    inner.seen();
    let port = inner.address().rsplit_once(':').unwrap().1.to_owned();
    let pull = format!("bundle pull {far} --plain-http --out out --keys none");
    for place in [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://localhost.:{port}"),
        format!("http://registry.localhost:{port}"),
        format!("http://[::1]:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://2130706433:{port}"),
        format!("http://0.0.0.0:{port}"),
        "http://169.254.169.254".to_owned(),
        "http://[fd00:ec2::254]".to_owned(),
        "file:///etc".to_owned(),
        "ftp://registry.example".to_owned(),
    ] {
        let to = place.clone();
        fake.lie(move |request| {
            let blob = request.path.contains("/blobs/");
            blob.then(|| Answer::new(307, "").with("location", format!("{to}{}", request.path)))
        });
        let why = scene.fails(&pull);
        assert!(
            why.contains("the registry leads to ") && why.contains("is not followed"),
            "{place}: {why}"
        );
        assert_eq!(inner.seen().len(), 0, "{place}");
    }
    // To where nobody is, it is said.
    fake.lie(|_| Some(Answer::new(302, "").with("location", "http://no-such-host.invalid/")));
    let why = scene.fails(&pull);
    assert!(why.contains("it leads to no-such-host.invalid: "), "{why}");
    // Nor to upload, nor for a token.
    let to = format!("http://127.0.0.1:{port}/upload?state=x");
    fake.lie(move |request| match request.method.as_str() {
        "HEAD" => Some(Answer::new(404, "")),
        "POST" => Some(Answer::new(202, "").with("location", to.clone())),
        _ => None,
    });
    let bundle = Sample::get().bundle();
    let why = scene.fails(&format!("bundle push {} {far} --plain-http", bundle.display()));
    assert!(why.contains("is not followed"), "{why}");
    let challenge = format!("Bearer realm=\"http://127.0.0.1:{port}/token\"");
    fake.lie(move |_| Some(Answer::new(401, "").with("www-authenticate", challenge.clone())));
    assert!(scene.fails(&pull).contains("is not followed"));
    assert_eq!(inner.seen().len(), 0);
    // One that is on this machine leads where it likes.
    let to = format!("http://127.0.0.1:{port}");
    fake.lie(move |request| {
        let blob = request.path.contains("/blobs/");
        blob.then(|| Answer::new(307, "").with("location", format!("{to}{}", request.path)))
    });
    assert!(scene.pull(&near) == fs::read(bundle).unwrap());
    assert_ne!(inner.seen().len(), 0);
}
