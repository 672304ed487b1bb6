//! Following what happens.

use std::io::{BufRead as _, BufReader};

use super::*;
use crate::Occurrence;
use crate::api::EventKind;

/// Somebody who follows.
struct Follower(BufReader<UnixStream>);

impl Follower {
    fn new(stage: &Stage, query: &str, last: Option<u64>) -> Self {
        let mut stream = stage.operator();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        write!(stream, "GET /v1/events{query} HTTP/1.1\r\nhost: x\r\n{last}\r\n").unwrap();
        let mut follower = Self(BufReader::new(stream));
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            follower.0.read_line(&mut line).unwrap();
        }
        follower
    }

    /// The next event's id and data.
    fn next(&mut self) -> (u64, Value) {
        let mut id = None;
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream ended");
            if let Some(number) = line.strip_prefix("id: ") {
                id = Some(number.trim().parse().unwrap());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (id.unwrap(), serde_json::from_str(data).unwrap());
            }
        }
    }
}

fn happen(stage: &Stage, name: &str, message: &str) {
    stage.events.happened(Occurrence {
        kind: EventKind::Changed,
        message: message.to_owned(),
        watch: Some(watched(name)),
        run: None,
    });
}

#[test]
fn what_happens_is_told_at_once_and_in_order() {
    let stage = Stage::new();
    happen(&stage, "a", "nobody listens yet");
    let mut all = Follower::new(&stage, "", None);
    let mut some = Follower::new(&stage, "?watch=b", None);
    happen(&stage, "a", "one\ntwo");
    happen(&stage, "b", "three");
    let (id, event) = all.next();
    assert_eq!((id, &event["seq"]), (2, &2.into()));
    assert_eq!(
        (&event["kind"], &event["message"], &event["watch"]["name"]),
        (&"changed".into(), &"one\ntwo".into(), &"a".into())
    );
    assert_eq!(all.next().1["message"], "three");
    assert_eq!(some.next().1["message"], "three");
}

#[test]
fn the_last_thousand_are_there_for_whoever_asks_first() {
    let stage = Stage::new();
    for number in 1..=3000 {
        happen(&stage, "a", &number.to_string());
    }
    let mut late = Follower::new(&stage, "", Some(0));
    assert_eq!(late.next().1["kind"], "lost");
    for number in 3001 - crate::events::KEPT..=3000 {
        assert_eq!(late.next().1["message"], number.to_string());
    }
}

#[test]
fn who_comes_back_misses_nothing_or_is_told() {
    let stage = Stage::new();
    let mut first = Follower::new(&stage, "", None);
    for number in 1..=5 {
        happen(&stage, "a", &number.to_string());
    }
    assert_eq!(first.next().1["message"], "1");
    drop(first);
    happen(&stage, "a", "6");
    let mut again = Follower::new(&stage, "", Some(1));
    let messages: Vec<_> = (0..5).map(|_| again.next().1["message"].clone()).collect();
    assert_eq!(messages, ["2", "3", "4", "5", "6"]);

    for number in 0..2000 {
        happen(&stage, "a", &number.to_string());
    }
    let mut late = Follower::new(&stage, "", Some(2));
    let (id, lost) = late.next();
    assert_eq!(lost["kind"], "lost");
    let (next, event) = late.next();
    assert_eq!((next, &event["kind"]), (id + 1, &"changed".into()));

    let mut stranger = Follower::new(&stage, "", Some(1_000_000));
    assert_eq!(stranger.next().1["kind"], "lost", "a number of another daemon's");
    let nonsense = b"GET /v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\nlast-event-id: x\r\n\r\n";
    assert_eq!(exchange(stage.operator(), nonsense).status, 400);
}

#[test]
fn a_slow_reader_holds_nothing_up_and_knows_what_it_lost() {
    let stage = Stage::new();
    let mut slow = Follower::new(&stage, "", None);
    let text = "x".repeat(4000);
    for _ in 0..5000 {
        happen(&stage, "a", &text);
    }
    let mut last = 0;
    let mut lost = 0;
    while last < 5000 {
        let (id, event) = slow.next();
        if event["kind"] == "lost" {
            lost += 1;
        } else {
            assert!(id == last + 1 || lost > 0, "{id} after {last}");
        }
        last = id;
    }
    assert!(lost > 0);
}

#[test]
fn followers_are_bounded() {
    let stage = Stage::new();
    let followers: Vec<_> = (0..super::super::STREAMS)
        .map(|_| Follower::new(&stage, "", None))
        .collect();
    assert_eq!(stage.operate("GET", "/v1/events").status, 503);
    drop(followers);
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let mut stream = stage.operator();
        write!(stream, "GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        if &first == b"HTTP/1.1 200" {
            break;
        }
        assert!(std::time::Instant::now() < deadline);
    }
}
