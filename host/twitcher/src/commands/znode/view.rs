//! What was read becomes text for people, or JSON for programs. Pure. The same names mean the same in all of it.

use std::time::SystemTime;

use ct_codecs::{Base64, Encoder as _};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use twitcher_model::sanitize;
use twitcher_model::{Observation, Stat, Trigger, WatchType, ZnodePath};
use twitcher_source::{AclEntry, ZnodeStat};

/// Characters of a znode's data that are shown in a line for people.
const SHOWN: usize = 80;

/// What `watch` tells of: a state that was found, or a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It is not there at the start.
    Absent,
    /// The same as what an action is told.
    Seen(Trigger),
}

impl Event {
    fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Seen(trigger) => trigger.as_str(),
        }
    }
}

/// JSON on a line.
pub(super) fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// Names, one a line. They have no line ends, but to a terminal they may have other letters that do something.
pub(super) fn names(names: &[String], terminal: bool) -> String {
    let shown = |name: &String| match terminal {
        true => sanitize::escaped(name) + "\n",
        false => format!("{name}\n"),
    };
    names.iter().map(shown).collect()
}

/// Data under the name that says how it is written: `data` as text, or `data_base64` where it is not UTF-8.
fn add_data(to: &mut Map<String, Value>, data: &[u8]) {
    match std::str::from_utf8(data) {
        Ok(text) => to.insert("data".to_owned(), text.into()),
        // It fails only for more than memory can hold.
        Err(_) => to.insert(
            "data_base64".to_owned(),
            Base64::encode_to_string(data).unwrap_or_default().into(),
        ),
    };
}

fn object(path: &ZnodePath) -> Map<String, Value> {
    Map::from_iter([("znode".to_owned(), json!(path))])
}

fn add_stat(to: &mut Map<String, Value>, stat: &Stat) {
    to.insert("version".to_owned(), stat.version.into());
    to.insert("czxid".to_owned(), stat.czxid.into());
    to.insert("mzxid".to_owned(), stat.mzxid.into());
}

/// A znode with its data.
pub(super) fn contents(path: &ZnodePath, data: &[u8], stat: &Stat) -> Value {
    let mut object = object(path);
    add_stat(&mut object, stat);
    add_data(&mut object, data);
    object.into()
}

/// A znode that was set or created.
pub(super) fn written(path: &ZnodePath, stat: &Stat) -> Value {
    let mut object = object(path);
    add_stat(&mut object, stat);
    object.into()
}

fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "out of range".to_owned(), |time| format!("{time:.3}"))
}

/// A znode's stat; what a directory cannot tell is left out.
pub(super) fn whole_stat(path: &ZnodePath, stat: &ZnodeStat, acl: Option<&[AclEntry]>) -> Value {
    let mut object = object(path);
    add_stat(&mut object, &stat.stat);
    object.insert("data_length".to_owned(), stat.data_length.into());
    object.insert("num_children".to_owned(), stat.num_children.into());
    let more = [
        ("mtime", stat.mtime.map(|at| json!(time(at)))),
        ("ctime", stat.ctime.map(|at| json!(time(at)))),
        ("pzxid", stat.pzxid.map(|n| json!(n))),
        ("cversion", stat.cversion.map(|n| json!(n))),
        ("aversion", stat.aversion.map(|n| json!(n))),
        ("ephemeral_owner", stat.ephemeral_owner.map(|n| json!(n))),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    }
    if let Some(acl) = acl {
        let entry =
            |entry: &AclEntry| json!({"scheme": entry.scheme, "id": entry.id, "permissions": entry.permissions});
        object.insert("acl".to_owned(), acl.iter().map(entry).collect());
    }
    object.into()
}

/// The same for people: transactions and sessions as ZooKeeper's log writes them.
pub(super) fn stat_table(stat: &ZnodeStat, acl: Option<&[AclEntry]>) -> String {
    let hex = |n: i64| format!("{n:#x}");
    let rows = [
        ("version", Some(stat.stat.version.to_string())),
        ("data_length", Some(stat.data_length.to_string())),
        ("num_children", Some(stat.num_children.to_string())),
        ("mtime", stat.mtime.map(time)),
        ("ctime", stat.ctime.map(time)),
        ("mzxid", Some(hex(stat.stat.mzxid))),
        ("czxid", stat.ctime.map(|_| hex(stat.stat.czxid))),
        ("pzxid", stat.pzxid.map(hex)),
        ("cversion", stat.cversion.map(|n| n.to_string())),
        ("aversion", stat.aversion.map(|n| n.to_string())),
        ("ephemeral_owner", stat.ephemeral_owner.map(hex)),
    ];
    let row = |name: &str, value: &str| format!("{name:16} {value}\n");
    let mut table: String = rows
        .iter()
        .filter_map(|(name, value)| Some(row(name, value.as_ref()?)))
        .collect();
    for AclEntry {
        scheme,
        id,
        permissions,
    } in acl.into_iter().flatten()
    {
        table += &row("acl", &sanitize::line(&format!("{scheme}:{id}:{permissions}")));
    }
    table
}

/// What happened to a watched znode, as JSON.
pub(super) fn change(at: Timestamp, event: Event, path: &ZnodePath, kind: WatchType, seen: &Observation) -> Value {
    let mut object = object(path);
    object.insert("time".to_owned(), format!("{at:.3}").into());
    object.insert("event".to_owned(), event.as_str().into());
    object.insert("exists".to_owned(), seen.exists().into());
    if let Some(stat) = &seen.stat {
        add_stat(&mut object, stat);
    }
    match kind {
        WatchType::Data if seen.exists() => add_data(&mut object, &seen.stdin),
        WatchType::Data => {}
        WatchType::Children => drop(object.insert("children".to_owned(), lines(&seen.stdin).into())),
        WatchType::Tree => drop(object.insert("changed".to_owned(), lines(&seen.stdin).into())),
    }
    object.into()
}

/// The same as a line for people.
pub(super) fn change_text(at: &str, event: Event, path: &ZnodePath, kind: WatchType, seen: &Observation) -> String {
    let mut text = format!("{at} {:8} {}", event.as_str(), sanitize::line(path.as_str()));
    if let Some(stat) = &seen.stat {
        text += &format!(" version={}", stat.version);
    }
    match kind {
        WatchType::Data if seen.exists() => {
            text += &format!(" bytes={}", seen.stdin.len());
            match excerpt(&seen.stdin) {
                Some(data) if !data.is_empty() => text += &format!(" {data}"),
                Some(_) => {}
                None => text += " (not text)",
            }
        }
        WatchType::Data => {}
        WatchType::Children => {
            let names = lines(&seen.stdin);
            text += &format!(" children={} {}", names.len(), cut(&names.join(" ")));
        }
        WatchType::Tree => {
            let paths = lines(&seen.stdin);
            text += &format!(" changed={} {}", paths.len(), cut(&paths.join(" ")));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn lines(stdin: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(stdin).lines().map(str::to_owned).collect()
}

fn excerpt(data: &[u8]) -> Option<String> {
    std::str::from_utf8(data).ok().map(cut)
}

/// The beginning of a text, on one line.
fn cut(text: &str) -> String {
    let begin: String = text.chars().take(SHOWN).collect();
    let line = sanitize::line(&begin);
    match begin.len() < text.len() {
        true => format!("{line}…"),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use twitcher_model::{Stamp, Version};

    fn seen(data: &[u8]) -> Observation {
        let (czxid, mzxid) = (1, 2);
        Observation {
            version: Version::Data {
                czxid,
                mzxid,
                stamp: Stamp::default(),
            },
            stat: Some(Stat {
                czxid,
                mzxid,
                version: 3,
            }),
            stdin: Bytes::copy_from_slice(data),
            nodes: None,
            znodes: 0,
            several: None,
        }
    }

    fn shown(event: Event, kind: WatchType, seen: &Observation) -> (String, String) {
        let path = ZnodePath::new("/a").unwrap();
        let json = change(Timestamp::UNIX_EPOCH, event, &path, kind, seen);
        (json.to_string(), change_text("T", event, &path, kind, seen))
    }

    #[test]
    fn changes_are_told_to_people_and_to_programs() {
        let data = Event::Seen(Trigger::Data);
        let (json, text) = shown(data, WatchType::Data, &seen(b"one\x1b[2J\ntwo\n"));
        assert_eq!(
            json,
            r#"{"czxid":1,"data":"one\u001b[2J\ntwo\n","event":"data","exists":true,"mzxid":2,"time":"1970-01-01T00:00:00.000Z","version":3,"znode":"/a"}"#
        );
        assert_eq!(text, "T data     /a version=3 bytes=12 one\\u{1b}[2J two\n");
        let (json, text) = shown(data, WatchType::Data, &seen(b"\xff\0"));
        assert!(json.contains(r#""data_base64":"/wA=""#), "{json}");
        assert_eq!(text, "T data     /a version=3 bytes=2 (not text)\n");
        let (_, text) = shown(data, WatchType::Data, &seen("ü".repeat(100).as_bytes()));
        assert!(text.ends_with(&format!("{}…\n", "ü".repeat(80))), "{text}");
        let (json, text) = shown(Event::Absent, WatchType::Data, &Observation::absent());
        assert!(
            json.contains(r#""event":"absent","exists":false"#) && !json.contains("data"),
            "{json}"
        );
        assert_eq!(text, "T absent   /a\n");
        let (json, text) = shown(Event::Seen(Trigger::Children), WatchType::Children, &seen(b"b\nc\n"));
        assert!(json.contains(r#""children":["b","c"]"#), "{json}");
        assert_eq!(text, "T children /a version=3 children=2 b c\n");
        let (json, _) = shown(Event::Seen(Trigger::Tree), WatchType::Tree, &seen(b"/a/b\n"));
        assert!(json.contains(r#""changed":["/a/b"]"#), "{json}");
    }
}
