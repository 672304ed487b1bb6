//! What can be asked for.

use super::*;

const HERE: &str = "host: localhost\r\n";

#[test]
fn everything_there_is_to_see() {
    let stage = Stage::new();
    let status = stage.operate("GET", "/v1/status").json();
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["pid"], std::process::id());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(status["host"], host.trim());
    assert_eq!(status["watches"], serde_json::json!([{"state": "unread", "count": 3}]));

    let watches = stage.operate("GET", "/v1/watches").json();
    let names: Vec<_> = watches["watches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|watch| watch["name"].clone())
        .collect();
    assert_eq!(names, ["a", "b", "odd/näme"]);
    let count = |query: &str| {
        stage.operate("GET", &format!("/v1/watches?{query}")).json()["watches"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("state=unread"), 3);
    assert_eq!(count("state=parked"), 0);
    assert_eq!(count("search=N%C3%84"), 1);

    let watch = stage.operate("GET", "/v1/watches/odd%2Fn%C3%A4me").json();
    assert_eq!(watch["name"], "odd/näme");
    assert_eq!(watch["command"], "true");
    assert_eq!(watch["why"], "the node has not been read yet");
    assert_eq!(
        stage.operate("GET", "/v1/watches/a").json()["runs"][0]["run"],
        RUNNING.to_string()
    );

    let run = stage.operate("GET", &format!("/v1/runs/{RUNNING}")).json();
    assert_eq!(
        (&run["output"], &run["truncated"]),
        (&"so far <b>\u{fffd}".into(), &true.into())
    );
    assert_eq!((&run["pid"], &run["outcome"]), (&77.into(), &Value::Null));
    let runs = |query: &str| {
        stage.operate("GET", &format!("/v1/runs?{query}")).json()["runs"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        (
            runs(""),
            runs("outcome=running"),
            runs("outcome=success"),
            runs("watch=b")
        ),
        (1, 1, 0, 0)
    );
    assert_eq!(runs(&format!("before={RUNNING}")), 0);
    assert_eq!(runs(&format!("before={}", RunId(RUNNING.0 + 1))), 1);

    assert_eq!(stage.operate("GET", "/healthz").body, "ok\n");
    let unready = stage.operate("GET", "/readyz");
    assert_eq!(
        (unready.status, unready.problem()),
        (503, "not every watch is armed yet".to_owned())
    );
    let metrics = stage.operate("GET", "/metrics");
    assert!(
        metrics.head.contains("content-type: text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    assert!(
        metrics.body.contains("twitcher_watches{state=\"unread\"} 3"),
        "{}",
        metrics.body
    );
    assert_eq!(stage.operate("GET", "/v1/openapi.json").json()["openapi"], "3.1.0");
}

#[test]
fn the_page_and_every_answer_have_their_headers() {
    let stage = Stage::new();
    for (path, policy) in [
        ("/", "default-src 'none'; script-src 'sha256-"),
        ("/v1/status", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        let head = stage.browse("GET", path, HERE).head;
        for header in [
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            &format!("content-security-policy: {policy}"),
        ] {
            assert!(head.contains(header), "{path}: {header}: {head}");
        }
        assert!(!head.contains("access-control"), "{head}");
    }
    let head = stage.browse("HEAD", "/", HERE);
    assert_eq!((head.status, &*head.body), (200, ""));
}

#[test]
fn orders() {
    let stage = Stage::new();
    let started = stage.operate("POST", "/v1/watches/b/run").json();
    assert_eq!(
        (&started["run"], &started["watch"]["name"]),
        (&RUNNING.to_string().into(), &"b".into())
    );
    let refused = stage.operate("POST", "/v1/watches/a/run");
    assert_eq!(refused.status, 409);
    assert!(refused.problem().contains("DISCARD"), "{refused:?}");
    assert_eq!(
        stage
            .operate("POST", "/v1/watches/odd%2fn%C3%A4me/pause?reason=the%20release")
            .json()["name"],
        "odd/näme"
    );
    assert_eq!(stage.operate("POST", "/v1/watches/a/resume").status, 200);
    assert_eq!(stage.operate("POST", "/v1/watches/c/resume").status, 404);
    let forgotten = stage.operate("POST", "/v1/fleet/hosts/web%2D2/forget").json();
    assert_eq!(forgotten["znodes"], 3);
    let by = forgotten["host"].as_str().unwrap().strip_prefix("web-2 by ");
    assert!(by.is_some_and(|by| !by.is_empty()), "{forgotten}");
    for verb in ["pause", "resume", "abort", "retry", "rollback", "release?host=web%2D2"] {
        let done = stage.operate("POST", &format!("/v1/fleet/rollouts/repo/{verb}")).json();
        let why = done["why"].as_str().unwrap().to_lowercase();
        assert!(why.starts_with(&verb[..5]) && !why.ends_with("by "), "{done}");
    }
    assert_eq!(stage.operate("GET", "/v1/fleet/rollouts/repo").json()["serial"], 41);
    let reloaded = stage.operate("POST", "/v1/reload").json();
    assert_eq!(
        (&reloaded["watches"], &reloaded["errors"][0]),
        (&3.into(), &"a.twc:1:1: no".into())
    );
    assert_eq!(stage.operate("POST", "/v1/drain").json()["max_running"], 9);
    let orders: Vec<_> = stage.orders.lock().unwrap().clone();
    let order = |name: &str, order| (name.to_owned(), order);
    // With who logged in before it, where somebody did.
    let Order::Pause { by: Some(me), .. } = &orders[2].1 else {
        panic!("{orders:?}")
    };
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name;
    assert!(me.ends_with(&user), "{me}");
    assert_eq!(
        orders,
        [
            order("b", Order::Run { ungoverned: false }),
            order("a", Order::Run { ungoverned: false }),
            order(
                "odd/näme",
                Order::Pause {
                    by: Some(me.clone()),
                    reason: Some("the release".to_owned())
                }
            ),
            order("a", Order::Resume),
            order("c", Order::Resume),
        ]
    );
}

#[test]
fn nothing_can_be_changed_on_the_port() {
    let stage = Stage::new();
    for path in [
        "/v1/watches/b/run",
        "/v1/watches/b/pause",
        "/v1/watches/b/resume",
        "/v1/fleet/hosts/web-2/forget",
        "/v1/fleet/rollouts/repo/pause",
        "/v1/fleet/rollouts/repo/release?host=web-2",
        "/v1/reload",
        "/v1/drain",
        "/",
        "/nothing",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "BREW"] {
            let answer = stage.browse(method, path, HERE);
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
        }
        // A method that only looks does not do anything either.
        assert_ne!(
            stage.browse("GET", path, HERE).status,
            if path == "/" { 0 } else { 200 },
            "{path}"
        );
    }
    let rewritten = format!("{HERE}x-http-method-override: POST\r\n");
    assert_eq!(stage.browse("GET", "/v1/drain", &rewritten).status, 405);
    assert!(stage.orders.lock().unwrap().is_empty());
}

#[test]
fn definitions_are_told_to_operators_alone() {
    let stage = Stage::new();
    let told = stage.operate("GET", "/v1/definitions").json();
    let watches = told["watches"].as_array().unwrap();
    assert!(
        !watches.is_empty()
            && watches
                .iter()
                .all(|watch| watch["digest"].as_str().unwrap().len() == 64),
        "{told}"
    );
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    let answer = stage.browse("GET", "/v1/definitions", HERE);
    assert_eq!(
        (answer.status, answer.problem().contains("secrets")),
        (403, true),
        "{answer:?}"
    );
}

#[test]
fn other_sites_are_refused() {
    let stage = Stage::new();
    for (headers, expected) in [
        (HERE, 200),
        ("host: 127.0.0.1:9464\r\n", 200),
        ("host: evil.example\r\n", 421),
        ("", 400),
        ("host: localhost\r\norigin: http://evil.example\r\n", 403),
        ("host: localhost\r\nsec-fetch-site: cross-site\r\n", 403),
    ] {
        for path in ["/v1/status", "/metrics", "/healthz", "/v1/events"] {
            if (path, expected) != ("/v1/events", 200) {
                let answer = stage.browse("GET", path, headers);
                assert_eq!(answer.status, expected, "{path} {headers:?}: {answer:?}");
            }
        }
    }
}

#[test]
fn what_is_not_there_and_what_makes_no_sense() {
    let stage = Stage::new();
    for (method, path, expected) in [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/fleet/laggards?of=nothing", 404),
        ("GET", "/v1/fleet/laggards?watch=a", 400),
        ("POST", "/v1/fleet", 405),
        ("GET", "/v1/fleet/hosts/web-2/forget", 405),
        ("POST", "/v1/fleet/hosts/none/forget", 404),
        ("GET", "/v1/fleet/rollouts/none", 404),
        ("POST", "/v1/fleet/rollouts/repo", 405),
        ("GET", "/v1/fleet/rollouts/repo/pause", 405),
        ("POST", "/v1/fleet/rollouts/repo/promote", 409),
        ("POST", "/v1/fleet/rollouts/repo/release", 400),
        ("POST", "/v1/fleet/hosts/web-1/forget", 409),
        ("GET", "/v1/watches/none", 404),
        ("GET", "/v1/watches/", 404),
        ("GET", "/v1/watches/%2e%2e/status", 404),
        ("GET", "/v1/watches/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/v1/../v1/status", 404),
        ("GET", "//v1/status", 404),
        ("GET", "/v1/watches/%00", 404),
        ("GET", "/v1/watches/%ff", 400),
        ("GET", "/v1/watches?state=nonsense", 400),
        ("GET", "/v1/watches?colour=red", 400),
        ("GET", "/v1/watches?state=armed&state=armed", 400),
        ("GET", "/v1/runs?limit=0", 400),
        ("GET", "/v1/runs?limit=1001", 400),
        ("GET", "/v1/runs?limit=-1", 400),
        ("GET", "/v1/runs?limit=99999999999999999999", 400),
        ("GET", "/v1/runs?outcome=perhaps", 400),
        ("GET", "/v1/runs?before=yesterday", 400),
        ("POST", "/v1/watches/a/pause?why=x", 400),
        ("POST", &format!("/v1/watches/a/pause?reason={}", "x".repeat(1001)), 400),
        ("GET", "/v1/runs/0", 400),
        ("GET", "/v1/runs/0000000000000", 404),
        ("GET", "/v1/runs/%F0%9F%92%A9", 400),
        ("POST", "/v1/status", 405),
        ("DELETE", "/v1/watches/a", 405),
        ("GET", "/v1/reload", 405),
        ("GET", "/v1/watches/a/run", 405),
        ("HEAD", "/v1/watches/a/run", 405),
    ] {
        let answer = stage.operate(method, path);
        assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
        if method != "HEAD" {
            assert!(!answer.problem().is_empty(), "{method} {path}");
        }
        assert_eq!(expected == 405, answer.head.contains("\r\nallow: "), "{answer:?}");
    }
    assert!(stage.orders.lock().unwrap().is_empty());
}
