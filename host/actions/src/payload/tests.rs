//! What documents say, against what was observed.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use twitcher_model::{Action, Origin, Policy, ProcessSettings, Stamp, Version, ZnodePath};

fn watch(watch_type: WatchType) -> Watch {
    Watch {
        name: "w".into(),
        description: "w".into(),
        znode: ZnodePath::new("/a").unwrap(),
        more: Arc::default(),
        watch_type,
        payload: Payload::Json,
        publish: true,
        rollout: None,
        action: Action::Shell("true".into()),
        policy: Arc::new(Policy::default()),
        process: Arc::new(ProcessSettings::default()),
        origin: Origin {
            file: Path::new("a.twc").into(),
            line: 1,
            column: 1,
        },
    }
}

fn start(run: u64, event: Trigger, observation: Observation) -> Start {
    Start {
        run: RunId(run),
        event,
        attempt: 1,
        observation,
    }
}

const STAT: Stat = Stat {
    czxid: 1,
    mzxid: 2,
    version: 3,
};

fn seen(stdin: &[u8]) -> Observation {
    Observation {
        version: Version::Data {
            czxid: 1,
            mzxid: 2,
            stamp: Stamp::default(),
        },
        stat: Some(STAT),
        stdin: Bytes::copy_from_slice(stdin),
        nodes: None,
        znodes: 0,
        several: None,
    }
}

fn tree(nodes: &[(&str, i64, i64, Option<&'static [u8]>)]) -> Observation {
    let node = |(path, czxid, mzxid, data): &(&str, i64, i64, Option<&'static [u8]>)| {
        let (stat, data) = (
            Stat {
                czxid: *czxid,
                mzxid: *mzxid,
                version: 0,
            },
            data.map(Bytes::from_static),
        );
        ((*path).into(), TreeNode { stat, data })
    };
    Observation {
        nodes: Some(Arc::new(nodes.iter().map(node).collect())),
        ..seen(b"/a\n")
    }
}

fn document(watch: &Watch, start: &Start, before: Option<&Told>) -> (Value, Option<Told>) {
    let (bytes, told) = stdin(watch, start, before).unwrap();
    (serde_json::from_slice(&bytes).unwrap(), told)
}

#[test]
fn data_is_text_or_base64_or_absent() {
    let watch = watch(WatchType::Data);
    let of = |observation| document(&watch, &start(1, Trigger::Data, observation), None).0;
    assert_eq!(
        of(seen("x\"\n".as_bytes())),
        json!({
            "version": 1, "run": "0000000000001", "watch": "w", "znode": "/a", "watch_type": "data", "event": "data", "attempt": 1,
            "stat": {"czxid": 1, "mzxid": 2, "version": 3}, "since": null, "data": "x\"\n",
        })
    );
    let binary = of(seen(b"\xff\x00"));
    assert_eq!(
        (&binary["data"], &binary["data_base64"]),
        (&Value::Null, &json!("/wA="))
    );
    assert_eq!(of(seen(b""))["data"], "");
    let absent = of(Observation::absent());
    assert_eq!((absent.get("data"), &absent["stat"]), (None, &Value::Null));
}

#[test]
fn children_are_compared_with_the_run_before() {
    let watch = watch(WatchType::Children);
    let (first, told) = document(&watch, &start(1, Trigger::Load, seen(b"a\nb\n")), None);
    assert_eq!(
        first["children"],
        json!({"names": ["a", "b"], "added": ["a", "b"], "removed": []})
    );
    let second = start(2, Trigger::Children, seen(b"b\nc\n"));
    let (second, _) = document(&watch, &second, told.as_ref());
    assert_eq!(
        second["children"],
        json!({"names": ["b", "c"], "added": ["c"], "removed": ["a"]})
    );
    assert_eq!(second["since"], "0000000000001");
    let (gone, _) = document(
        &watch,
        &start(3, Trigger::Deleted, Observation::absent()),
        told.as_ref(),
    );
    assert_eq!(
        gone["children"],
        json!({"names": [], "added": [], "removed": ["a", "b"]})
    );
}

#[test]
fn a_tree_has_every_node_and_what_became_of_it() {
    let watch = watch(WatchType::Tree);
    let first = tree(&[
        ("/a", 1, 1, Some(b"")),
        ("/a/b", 2, 2, Some(b"x")),
        ("/a/c", 3, 3, Some(b"y")),
        ("/a/d", 4, 4, None),
    ]);
    let (first, told) = document(&watch, &start(1, Trigger::Load, first), None);
    assert_eq!(
        first["nodes"]["/a/b"],
        json!({"stat": {"czxid": 2, "mzxid": 2, "version": 0}, "data": "x"})
    );
    assert_eq!(first["nodes"]["/a/d"]["unreadable"], true);
    assert_eq!(first["changed"]["/a/c"], "created");
    let second = tree(&[
        ("/a", 1, 1, Some(b"")),
        ("/a/b", 2, 5, Some(b"z")),
        ("/a/d", 6, 6, Some(b"")),
        ("/a/e", 7, 7, Some(b"")),
    ]);
    let (second, _) = document(&watch, &start(2, Trigger::Tree, second), told.as_ref());
    assert_eq!(
        second["changed"],
        json!({"/a/b": "set", "/a/c": "deleted", "/a/d": "created", "/a/e": "created"})
    );
    let (gone, _) = document(
        &watch,
        &start(3, Trigger::Deleted, Observation::absent()),
        told.as_ref(),
    );
    assert_eq!(gone["nodes"], json!({}));
    assert_eq!(gone["changed"].as_object().unwrap().len(), 4);
}

#[test]
fn other_data_of_the_same_transactions_has_changed() {
    let watch = watch(WatchType::Tree);
    let at = |data| tree(&[("/a", 1, 2, data), ("/a/b", 1, 3, Some(b"same"))]);
    let told = |run, data, before: Option<&Told>| document(&watch, &start(run, Trigger::Tree, at(data)), before);
    let (_, first) = told(1, Some(b"one"), None);
    // As after servers were wiped and set up anew by the same steps.
    let (other, second) = told(2, Some(b"two"), first.as_ref());
    assert_eq!(other["changed"], json!({"/a": "set"}));
    let (unread, third) = told(3, None, second.as_ref());
    assert_eq!(unread["changed"], json!({}));
    let (read, _) = told(4, Some(b"two"), third.as_ref());
    assert_eq!(read["changed"], json!({"/a": "set"}), "to whom it could not be shown");
}

#[test]
fn more_than_the_bound_is_refused() {
    let watch = watch(WatchType::Data);
    // As JSON, each of these bytes is six.
    let large = start(1, Trigger::Data, seen(&vec![1; PAYLOAD_MAX / 6]));
    assert_eq!(stdin(&watch, &large, None).unwrap_err(), TooLarge);
    let plain = Watch {
        payload: Payload::Data,
        ..watch
    };
    assert_eq!(stdin(&plain, &large, None).unwrap().0.len(), PAYLOAD_MAX / 6);
    let words = TooLarge.outcome().to_string();
    assert!(
        words.contains("16 MiB") && words.contains("leave payload out"),
        "{words}"
    );
    assert_eq!(PAYLOAD_MAX, 16 << 20);
}

#[test]
fn the_schema_has_every_field() {
    let schema = schema();
    let properties = schema["properties"].as_object().unwrap();
    let of_tree = tree(&[("/a", 1, 1, Some(b""))]);
    for (watch_type, observation) in [
        (WatchType::Data, seen(b"x")),
        (WatchType::Data, seen(b"\xff")),
        (WatchType::Children, seen(b"x\n")),
        (WatchType::Tree, of_tree),
    ] {
        let (document, _) = document(&watch(watch_type), &start(1, Trigger::Load, observation), None);
        for name in document.as_object().unwrap().keys() {
            assert!(properties[name]["description"].is_string(), "{name}: {schema:#}");
        }
        for required in schema["required"].as_array().unwrap() {
            assert!(document.get(required.as_str().unwrap()).is_some(), "{required}");
        }
    }
    assert_eq!(properties["version"]["const"], 1);
}
