//! A daemon that only has a control interface, and answers as a test says.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What is answered to a request, given as `GET /v1/status`.
type Answers = dyn Fn(&str) -> Answer + Send + Sync;

pub enum Answer {
    /// 200 with this JSON.
    Json(Value),
    /// 404 with these words.
    Missing(&'static str),
    /// Events, after which the connection stays open until the fake is dropped.
    Events(Vec<Value>),
    /// The daemon ends: nobody listens any more.
    Gone,
}

pub struct Fake {
    dir: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub fn new(answers: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let (path, noted, answers) = (dir.path().join("s"), Arc::clone(&asked), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (noted, answers, path) = (Arc::clone(&noted), Arc::clone(&answers), path.clone());
                std::thread::spawn(move || serve(stream, &noted, &*answers, &path));
            }
        });
        Self { dir, asked }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: UnixStream, asked: &Mutex<Vec<String>>, answers: &Answers, path: &std::path::Path) {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    let Some(first) = lines.next() else {
        return;
    };
    let request = first.trim_end_matches(" HTTP/1.1").to_owned();
    // To the end of the head; there never is a body.
    lines.by_ref().take_while(|line| !line.is_empty()).count();
    asked.lock().unwrap().push(request.clone());
    let (status, body) = match answers(&request) {
        Answer::Json(body) => ("200 OK", body.to_string()),
        Answer::Missing(words) => ("404 Not Found", json!({"error": words, "help": null}).to_string()),
        Answer::Gone => {
            let _ = std::fs::remove_file(path);
            return;
        }
        Answer::Events(events) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hello\n\n";
            let _ = stream.write_all(head.as_bytes());
            for event in events {
                let _ = stream.write_all(format!("id: {}\ndata: {event}\n\n", event["seq"]).as_bytes());
            }
            // Until the other side has seen enough.
            lines.for_each(drop);
            return;
        }
    };
    let length = body.len();
    let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes());
}

pub fn status(running: u64) -> Value {
    json!({
        "version": "2.0.0", "pid": 1, "started": "2026-07-01T03:00:00Z", "phase": "ready",
        "source": {"kind": "tree", "target": "/srv/tree", "connected": true, "since": "2026-07-01T03:00:00Z", "problem": null},
        "config": {"paths": ["/etc/twitcher"], "loaded": "2026-07-01T03:00:00Z", "errors": [], "notes": []},
        "watches": [{"state": "armed", "count": 1}, {"state": "parked", "count": 1}],
        "running": running, "waiting": 0, "max_running": 8, "launcher_restarts": 0,
        "a member of a later version": 1.50,
    })
}

pub fn watch(name: &str, state: &str) -> Value {
    json!({
        "name": name, "znode": "/a", "watch_type": "data", "run_mode": "QUEUE", "action": "shell", "origin": "/etc/a.twc:1",
        "state": state, "why": null,
        "seen": {"exists": true, "version": 3, "zxid": 17, "at": "2026-07-01T03:00:00Z"}, "handled": null, "behind_since": null, "next_attempt": null, "running": [],
        "last_run": null, "command": "true", "settings": [], "runs": [],
    })
}

pub fn watches() -> Value {
    json!({"watches": [watch("pull the repo", "parked"), watch("web-1", "armed")]})
}

pub fn run(id: &str, outcome: Option<&str>, started: &str) -> Value {
    json!({
        "run": id, "watch": "web-1", "event": "data", "attempt": 1, "outcome": outcome, "words": outcome, "exit_code": null,
        "signal": null, "pid": null, "started": started, "ended": outcome.map(|_| started), "duration": outcome.map(|_| 0.5),
        "max_rss_kib": null, "output_bytes": 3, "output": "abc", "truncated": false,
    })
}

pub fn event(seq: u64, kind: &str, run: Value) -> Value {
    json!({"seq": seq, "at": "2026-07-01T03:00:00Z", "kind": kind, "message": "it \u{1b}[2Jhappened", "watch": null, "run": run})
}
