use std::cell::RefCell;

use twitcher_sdk::testing::Host;
use twitcher_sdk::{Event, Stat};

use super::*;

fn host() -> Host {
    Host::new()
        .path("/app/config")
        .config("url", "https://hooks.example.org/zookeeper?a=b")
}

fn status(status: u16) -> Result<Answer, Error> {
    Ok(Answer {
        status,
        retry_after: None,
    })
}

fn answered(answer: Result<Answer, Error>) -> Result<(), Failure> {
    host().run(|change| deliver(&change, |_| answer), "x")
}

/// What is posted.
fn posted(host: &Host, data: &[u8]) -> Request {
    let posted = RefCell::new(None);
    let post = |request: &Request| {
        posted.replace(Some(Request {
            endpoint: Endpoint::parse("https://hooks.example.org/zookeeper?a=b").unwrap(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            timeout: request.timeout,
        }));
        assert_eq!(
            request.endpoint,
            Endpoint::parse("https://hooks.example.org/zookeeper?a=b").unwrap()
        );
        status(204)
    };
    assert_eq!(host.run(|change| deliver(&change, post), data), Ok(()));
    posted.into_inner().unwrap()
}

#[test]
fn posts_the_change() {
    let stat = Stat {
        czxid: 1,
        mzxid: 0x1_0000_000f,
        version: 7,
    };
    let host = host().watch_name("app config").stat(Some(stat)).attempt(2);
    let request = posted(&host.clone().config("header.Authorization", "Bearer 1"), "ü".as_bytes());
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let expected = json!({
        "path": "/app/config", "event": "data", "exists": true, "version": 7, "mzxid": 4_294_967_311_u64, "data": "ü",
        "watch": "app config", "run_id": body["run_id"], "attempt": 2,
    });
    assert_eq!(body, expected);
    let header = |name: &str| {
        request
            .headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| &**value)
    };
    assert_eq!(header("authorization"), Some("Bearer 1"));
    assert_eq!(header("content-type"), Some("application/json"));
}

#[test]
fn data_that_is_no_text_and_no_data() {
    let body = |host: &Host, data| -> Value { serde_json::from_str(&posted(host, data).body).unwrap() };
    let binary = body(&host(), &[0xff, 0]);
    assert_eq!((&binary["data_base64"], binary.get("data")), (&json!("/wA="), None));
    let deleted = body(&host().event(Event::Deleted), b"");
    assert_eq!((&deleted["exists"], &deleted["mzxid"]), (&json!(false), &Value::Null));
}

#[test]
fn waits_no_longer_than_the_run_may_last() {
    let timeout = |host: Host| posted(&host, b"").timeout;
    assert_eq!(timeout(host()), Duration::from_secs(10));
    assert_eq!(timeout(host().config("timeout", "3")), Duration::from_secs(3));
    assert_eq!(
        timeout(host().time_left(Duration::from_millis(1500))),
        Duration::from_millis(1500)
    );
}

#[test]
fn what_may_pass_is_retried() {
    for code in [408, 425, 429, 500, 503, 599] {
        assert!(
            matches!(answered(status(code)), Err(Failure::Retry { after: None, .. })),
            "{code}"
        );
    }
    for code in [301, 400, 401, 404, 413, 600] {
        assert!(
            matches!(answered(status(code)), Err(Failure::Permanent { .. })),
            "{code}"
        );
    }
    let wait = Some(Duration::from_secs(120));
    let busy = answered(Ok(Answer {
        status: 503,
        retry_after: wait,
    }));
    assert!(
        matches!(busy, Err(Failure::Retry { after, .. }) if after == wait),
        "{busy:?}"
    );
}

#[test]
fn no_connection_is_retried_and_a_denial_is_not() {
    use wasip2::http::types::ErrorCode;
    let refused = answered(Err(ErrorCode::ConnectionRefused.into())).unwrap_err();
    assert!(matches!(refused, Failure::Retry { .. }), "{refused:?}");
    let denied = answered(Err(ErrorCode::HttpRequestDenied.into())).unwrap_err();
    assert!(matches!(denied, Failure::Permanent { .. }), "{denied:?}");
    assert!(denied.to_string().contains("http = "), "{denied}");
}

#[test]
fn the_check_reads_the_configuration() {
    assert_eq!(host().enter(validate), Ok(()));
    assert!(Host::new().enter(validate).is_err());
    let problems = host()
        .config("url", "hooks")
        .config("timeout", "soon")
        .enter(validate)
        .unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
}
