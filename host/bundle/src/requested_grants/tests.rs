use std::path::Path;

use super::*;
use twitcher_model::{CommandGrant, Hardening, HostPort, HttpOrigin, Secret};

fn requested(json: &str) -> Requests {
    let requested: Requests = serde_json::from_str(json).unwrap();
    requested.check().unwrap();
    requested
}

fn dir(guest: &str, writable: bool) -> DirGrant {
    DirGrant {
        guest: guest.to_owned(),
        host: Path::new("/srv").into(),
        writable,
    }
}

fn znode(pattern: &str, writable: bool) -> ZnodeGrant {
    let (path, below) = znode_pattern(pattern).unwrap();
    ZnodeGrant { path, below, writable }
}

fn origin(text: &str) -> HttpOrigin {
    http_origin(text).unwrap()
}

fn secret(place: SecretPlace, name: &str) -> Secret {
    Secret {
        place,
        name: name.to_owned(),
        file: Path::new("/etc/secret").into(),
    }
}

#[test]
fn what_is_not_asked_for_is_not_given_and_both_differences_are_named() {
    let granted = Grants {
        config: vec![("k".to_owned(), "v".to_owned())],
        args: vec!["-v".to_owned()],
        env: vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())],
        dirs: vec![dir("/in", true), dir("/out", false), dir("/etc", false)],
        net: vec![HostPort {
            host: "db".to_owned(),
            port: 5432,
        }],
        http: vec![origin("https://a.example"), origin("https://b.example:8443")],
        commands: vec![CommandGrant {
            name: "reload".to_owned(),
            argv: vec!["systemctl".to_owned()],
            arguments: false,
            identity: None,
            hardening: Hardening::default(),
        }],
        znodes: vec![znode("/app/**", true), znode("/other", false)],
        memory: 64 << 20,
        warm: Some(2),
        secrets: vec![
            secret(SecretPlace::Config, "token"),
            secret(SecretPlace::Env, "D"),
            secret(SecretPlace::Env, "E"),
        ],
    };
    let asked = requested(
        r#"{"env": ["A", "C", "D"], "dirs": {"/in": "ro", "/out": "rw", "/tmp": "rw"}, "http": ["https://a.example:443", "https://c.example"],
            "commands": ["stop"], "znodes": {"/app/state": "rw", "/all/**": "r"}, "memory": 134217728}"#,
    );
    let comparison = compare(&asked, &granted);
    assert_eq!(
        comparison.effective,
        Grants {
            config: granted.config.clone(),
            secrets: granted.secrets[..2].to_vec(),
            env: vec![("A".to_owned(), "1".to_owned())],
            dirs: vec![dir("/in", false), dir("/out", false)],
            http: vec![origin("https://a.example")],
            znodes: vec![znode("/app/state", true)],
            memory: 64 << 20,
            warm: Some(2),
            ..Grants::default()
        }
    );
    assert_eq!(
        comparison.not_granted,
        [
            r#"dirs "/out" to write"#,
            r#"dirs "/tmp""#,
            r#"znodes "/all/**": "r""#,
            r#"env "C""#,
            r#"commands "stop""#,
            r#"http "https://c.example""#,
            "memory of 134217728 bytes (it gets 67108864)",
        ]
    );
    assert_eq!(
        comparison.not_requested,
        [
            "args",
            r#"dirs "/in" to write"#,
            r#"dirs "/etc""#,
            r#"znodes "/app/**": "rw""#,
            r#"znodes "/other": "r""#,
            r#"env "B""#,
            r#"env "E""#,
            r#"commands "reload""#,
            r#"http "https://b.example:8443""#,
            r#"net "db:5432""#,
        ]
    );
}

#[test]
fn what_the_operator_names_is_given_to_who_asks_for_any() {
    let granted = Grants {
        args: vec!["x".to_owned()],
        dirs: vec![dir("/a", true), dir("/b", false)],
        http: vec![origin("https://a.example")],
        znodes: vec![znode("/app/**", true), znode("/x", false)],
        ..Grants::default()
    };
    let asked = requested(r#"{"args": true, "dirs": {"*": "rw"}, "http": ["*"], "znodes": {"*": "rw"}}"#);
    let comparison = compare(&asked, &granted);
    assert_eq!(comparison.effective, granted);
    assert_eq!((comparison.not_granted, comparison.not_requested), (vec![], vec![]));
    let nothing = compare(&asked, &Grants::default());
    assert_eq!(nothing.not_granted, ["dirs, any", "znodes, any", "http, any"]);
}

#[test]
fn nothing_is_given_to_who_asks_for_nothing() {
    let granted = Grants {
        dirs: vec![dir("/a", true)],
        znodes: vec![znode("/**", true)],
        memory: 1,
        ..Grants::default()
    };
    let comparison = compare(&Requests::default(), &granted);
    let nothing = Grants {
        memory: 1,
        ..Grants::default()
    };
    assert_eq!(comparison.effective, nothing);
    assert_eq!(comparison.not_requested.len(), 2);
}

#[test]
fn znodes_meet_where_both_allow() {
    for (one, other, both) in [
        (("/a/**", true), ("/a/b", true), Some(("/a/b", true))),
        (("/a/b/**", true), ("/a/**", false), Some(("/a/b/**", false))),
        (("/a", true), ("/a/**", true), Some(("/a", true))),
        (("/a", true), ("/a/b", true), None),
        (("/**", false), ("/**", true), Some(("/**", false))),
        (("/ab/**", true), ("/a/**", true), None),
    ] {
        let (one, other) = (znode(one.0, one.1), znode(other.0, other.1));
        let both = both.map(|(pattern, writable)| znode(pattern, writable));
        assert_eq!(common(&one, &other), both, "{one} {other}");
        assert_eq!(common(&other, &one), both, "{other} {one}");
    }
}

#[test]
fn requests_are_checked_as_grants_are() {
    for (json, word) in [
        (r#"{"dirs": {"../etc": "ro"}}"#, "dirs"),
        (r#"{"dirs": {"/a/../b": "ro"}}"#, "dirs"),
        (r#"{"http": ["ftp://x"]}"#, "http"),
        (r#"{"net": ["x"]}"#, "net"),
        (r#"{"znodes": {"a": "r"}}"#, "znodes"),
        (r#"{"commands": ["\u001b[2J"]}"#, "commands"),
        (r#"{"env": [""]}"#, "env"),
    ] {
        let requested: Requests = serde_json::from_str(json).unwrap();
        let error = requested.check().unwrap_err();
        assert!(error.contains(word), "{json}: {error}");
    }
    assert!(serde_json::from_str::<Requests>(r#"{"files": {}}"#).is_err());
    assert!(serde_json::from_str::<Requests>(r#"{"dirs": {"/a": "w"}}"#).is_err());
}
