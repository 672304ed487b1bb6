//! A registry in the test itself: it keeps what is pushed, knows the API for referrers, and lies on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// By lower-case names.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Sends the body again and again, for as long as somebody reads it.
    pub endless: bool,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            endless: false,
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
    }
}

type Lie = dyn Fn(&Request) -> Option<Answer> + Send;
type Misunderstanding = dyn Fn(&mut Request) + Send;

#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By tag and by digest.
    manifests: BTreeMap<String, Vec<u8>>,
    seen: Vec<Request>,
    lie: Option<Box<Lie>>,
    misunderstanding: Option<Box<Misunderstanding>>,
    /// Takes no note of what manifests refer to, as registries before OCI 1.1.
    old: bool,
}

/// The registry. Its thread ends with the test.
pub struct Fake {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                thread::spawn(move || serve(&stream.unwrap(), &shared));
            }
        });
        Self { port, state }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The same registry by a name that is not known to be on this machine.
    pub fn far_address(&self) -> String {
        format!("0.0.0.0:{}", self.port)
    }

    /// From now on it does not know what a subject is.
    pub fn grow_old(&self) {
        self.state.lock().unwrap().old = true;
    }

    /// From now on it takes requests for others.
    pub fn misunderstand(&self, misunderstanding: impl Fn(&mut Request) + Send + 'static) {
        self.state.lock().unwrap().misunderstanding = Some(Box::new(misunderstanding));
    }

    /// Keeps a blob that nobody pushed.
    pub fn keep_blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut state = self.state.lock().unwrap();
        state.blobs.insert(digest.clone(), bytes.to_owned());
        digest
    }

    /// Keeps a manifest that nobody pushed.
    pub fn keep_manifest(&self, tag: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut state = self.state.lock().unwrap();
        for at in [tag, &digest] {
            state.manifests.insert(at.to_owned(), bytes.to_owned());
        }
        digest
    }

    /// From now on it answers so, where that answers anything.
    pub fn lie(&self, lie: impl Fn(&Request) -> Option<Answer> + Send + 'static) {
        self.state.lock().unwrap().lie = Some(Box::new(lie));
    }

    /// What it was asked since the last time, or the beginning.
    pub fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    /// Its manifests, by tag and by digest.
    pub fn manifests(&self) -> BTreeMap<String, Vec<u8>> {
        self.state.lock().unwrap().manifests.clone()
    }
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) {
    let Some(request) = read(stream) else {
        return;
    };
    let answer = {
        let mut state = state.lock().unwrap();
        state.seen.push(request.clone());
        let lie = state.lie.as_ref().and_then(|lie| lie(&request));
        let mut understood = request.clone();
        if let Some(misunderstand) = &state.misunderstanding {
            misunderstand(&mut understood);
        }
        lie.unwrap_or_else(|| honest(&mut state, &understood))
    };
    let mut head = format!("HTTP/1.1 {} Whatever\r\nconnection: close\r\n", answer.status);
    let given = |name: &str| answer.headers.iter().any(|(there, _)| *there == name);
    if !answer.endless && !given("content-length") {
        head += &format!("content-length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    // The client may hang up at any time.
    let mut sent = stream.write_all(format!("{head}\r\n").as_bytes());
    if request.method != "HEAD" {
        sent = sent.and_then(|()| stream.write_all(&answer.body));
        while answer.endless && sent.is_ok() {
            sent = stream.write_all(&answer.body);
        }
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn honest(state: &mut State, request: &Request) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let last = path.rsplit('/').next().unwrap().to_owned();
    let found = |there: Option<&Vec<u8>>| match there {
        Some(bytes) => Answer::new(200, bytes.clone()),
        None => Answer::new(404, r#"{"errors": [{"code": "UNKNOWN", "message": "there is none"}]}"#),
    };
    let body = request.body.clone();
    match request.method.as_str() {
        "GET" | "HEAD" if path.contains("/blobs/") => found(state.blobs.get(&last)),
        "GET" if path.contains("/manifests/") => found(state.manifests.get(&last)),
        "GET" if path.contains("/referrers/") && state.old => found(None),
        "GET" if path.contains("/referrers/") => {
            let entries: Vec<Value> = state
                .manifests
                .iter()
                .filter_map(|(at, bytes)| entry(at, bytes, &last))
                .collect();
            let index = json!({"schemaVersion": 2, "manifests": entries});
            Answer::new(200, index.to_string())
        }
        "POST" => Answer::new(202, "").with("location", "upload?state=x"),
        "PUT" if path.contains("/manifests/") => {
            let manifest: Value = serde_json::from_slice(&body).unwrap();
            state.manifests.insert(last, body.clone());
            state.manifests.insert(digest(&body), body);
            let answer = Answer::new(201, "");
            match manifest["subject"]["digest"].as_str() {
                Some(subject) if !state.old => answer.with("oci-subject", subject),
                _ => answer,
            }
        }
        "PUT" => {
            let named = query.rsplit("digest=").next().unwrap().replace("%3A", ":");
            assert_eq!((named, query.starts_with("state=x&")), (digest(&body), true));
            state.blobs.insert(digest(&body), body);
            Answer::new(201, "")
        }
        _ => Answer::new(405, ""),
    }
}

/// As it stands in a list of referrers.
fn entry(at: &str, bytes: &[u8], subject: &str) -> Option<Value> {
    let manifest: Value = serde_json::from_slice(bytes).ok()?;
    let refers = at.starts_with("sha256:") && manifest["subject"]["digest"] == subject;
    refers.then(|| {
        json!({
            "mediaType": manifest["mediaType"],
            "digest": at,
            "size": bytes.len(),
            "artifactType": manifest["artifactType"],
        })
    })
}
