//! The client against servers that are well, slow, broken or absent.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::*;

/// Answers connections with these bytes, one after the other, and gives what it was sent.
fn server(dir: &Path, answers: Vec<Vec<u8>>) -> (Client, JoinHandle<Vec<String>>) {
    let socket = dir.join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let thread = std::thread::spawn(move || {
        let answer = |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            stream.write_all(&answer).unwrap();
            String::from_utf8(request).unwrap()
        };
        answers.into_iter().map(answer).collect()
    });
    (Client::new(&socket).unwrap(), thread)
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\ncontent-type: application/json\r\n\r\n{body}")
        .into_bytes()
}

fn told(error: &OperateError) -> String {
    format!("{error}\n{}\n", error.hints().join("\n"))
}

#[test]
fn requests_and_answers_are_plain_http() {
    let dir = tempfile::tempdir().unwrap();
    let (client, thread) = server(
        dir.path(),
        vec![http("200 OK", "{\"a\": 1}\n"), http("202 Accepted", "[]")],
    );
    let answer = client
        .get(&query(
            &path("watches", "a/../ü", ""),
            &[("x", Some("&?")), ("y", None)],
        ))
        .unwrap();
    assert_eq!(answer.bytes, "{\"a\": 1}\n");
    assert_eq!(answer.parse::<Value>().unwrap(), json!({"a": 1}));
    assert_eq!(client.post("/v1/drain", PATIENCE).unwrap().bytes, "[]");
    let requests = thread.join().unwrap();
    assert!(
        requests[0].starts_with("GET /v1/watches/a%2F%2E%2E%2F%C3%BC?x=%26%3F HTTP/1.1\r\nhost: localhost\r\n"),
        "{requests:?}"
    );
    // A server must not wait for a body that never comes.
    assert!(requests[1].starts_with("POST /v1/drain "), "{requests:?}");
    assert!(!requests[1].contains("chunked"), "{requests:?}");
}

#[test]
fn a_refusal_is_told_in_the_daemons_words() {
    let dir = tempfile::tempdir().unwrap();
    let problem = r#"{"error": "no watch \"x\u001b[2J\"", "help": "see all"}"#;
    let (client, _thread) = server(
        dir.path(),
        vec![http("404 Not Found", problem), http("500 Oops", "<html>")],
    );
    let error = client.get("/v1/watches/x").unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.exit_code(), crate::args::exit::FAILURE);
    let error = error.suggesting(["did you mean \"y\"?".to_owned()]);
    assert_eq!(told(&error), "no watch \"x\\u{1b}[2J\"\nsee all\ndid you mean \"y\"?\n");
    let error = client.get("/").unwrap_err();
    assert_eq!(
        told(&error),
        "the daemon answers with status 500 Internal Server Error, and does not say why\n\n"
    );
}

#[test]
fn what_is_not_an_answer_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"a\":".to_vec();
    let answers = vec![
        cut,
        b"220 smtp.example\r\n".to_vec(),
        Vec::new(),
        http("200 OK", "{\"a\": tru"),
    ];
    let (client, _thread) = server(dir.path(), answers);
    let error = client.get("/v1/status").unwrap_err();
    assert!(matches!(error, OperateError::CutOff { .. }), "{error:?}");
    for _ in 0..2 {
        let error = client.get("/v1/status").unwrap_err();
        assert!(matches!(error, OperateError::Broken(_)), "{error:?}");
        assert_eq!(error.exit_code(), crate::args::exit::UNREACHABLE);
    }
    let error = client.get("/v1/status").unwrap().parse::<Value>().unwrap_err();
    insta::assert_snapshot!(told(&error), @r"
    the daemon's answer to GET /v1/status makes no sense: EOF while parsing a value at line 1 column 9
    do daemon and command have the same version? `twitcher --version`; restart the daemon after an upgrade
    ");
}

#[test]
fn a_daemon_that_does_not_answer_is_not_waited_for_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    // The kernel takes the connection; nobody ever reads from it.
    let _listener = UnixListener::bind(&socket).unwrap();
    let client = Client::new(&socket).unwrap();
    let error = client.post("/v1/reload", Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, OperateError::TimedOut { .. }), "{error:?}");
    assert!(told(&error).contains("overloaded"), "{}", told(&error));
}

#[test]
fn each_way_not_to_reach_a_daemon_has_its_advice() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let of = |name: &str| {
        let error = Client::new(&at(name)).unwrap().get("/v1/status").unwrap_err();
        assert_eq!(error.exit_code(), crate::args::exit::UNREACHABLE);
        told(&error).replace(dir.path().to_str().unwrap(), "DIR")
    };
    drop(UnixListener::bind(at("stale")).unwrap());
    std::fs::write(at("file"), "").unwrap();
    insta::assert_snapshot!(of("none") + &of("stale"), @r"
    no daemon has a control socket at DIR/none
    is the daemon running? `systemctl status twitcher`
    if it runs with another --control, name that one: --control SOCKET, or TWITCHER_CONTROL
    nobody listens on the control socket DIR/stale
    a daemon that was killed has left it; is the next one running? `systemctl status twitcher`
    if it runs with another --control, name that one: --control SOCKET, or TWITCHER_CONTROL
    ");
    assert!(of("file").contains("nobody listens"), "{}", of("file"));
    let denied = OperateError::connect(&at("s"), std::io::ErrorKind::PermissionDenied.into());
    assert!(told(&denied).contains("root and members of the group twitcher"));
    // Root is let through everywhere.
    if !nix::unistd::geteuid().is_root() {
        let _listener = UnixListener::bind(at("closed")).unwrap();
        std::fs::set_permissions(at("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
        assert!(of("closed").contains("not allowed"), "{}", of("closed"));
    }
    let long = "x".repeat(200);
    assert!(of(&long).contains("cannot connect"), "{}", of(&long));
}

#[test]
fn events_come_one_by_one_until_the_stream_ends() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hello\n\nid: 1\ndata: {\"a\":1}\n\ndata: 2\n\n";
    let (client, thread) = server(dir.path(), vec![text.into(); 2]);
    let mut events = client.follow("/v1/events", true).unwrap();
    for expected in ["{\"a\":1}", "2"] {
        let Next::Event(data) = events.next(None).unwrap() else {
            panic!("no event");
        };
        assert_eq!(data, expected);
    }
    assert!(matches!(events.next(None).unwrap(), Next::End));
    drop(events);
    client.follow("/v1/events", false).unwrap();
    let requests = thread.join().unwrap();
    assert!(requests[0].contains("last-event-id: 0\r\n"), "{requests:?}");
    assert!(!requests[1].contains("last-event-id"), "{requests:?}");
}
