//! HTTP over the daemon's Unix socket: a connection for each request, everything bounded in time and size.
//!
//! It must not know why something is asked, nor how answers are shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio_stream::StreamExt;

use super::error::OperateError;
use super::server_sent_events::{SseMessage, SseParser};
use twitcher_control::api::{Run, RunDetail, Setting, WatchDetail};

/// How long a request may take. The daemon answers from memory, or from a database on a disk that may be slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for what loads the configuration: files of hundreds of watches, components to be compiled.
pub(super) const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// Largest answer, in bytes: 100,000 watches with long names.
const ANSWER_MAX: usize = 256 << 20;
/// Largest answer that refuses.
const PROBLEM_MAX: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
#[error("it has more than {} MiB", ANSWER_MAX >> 20)]
struct TooLarge;

/// A way to a daemon.
pub(super) struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

/// An answer: the JSON as it came, to be printed or understood.
#[derive(Debug)]
pub(super) struct Answer {
    pub bytes: Bytes,
    what: String,
}

impl Answer {
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, OperateError> {
        self.parse_borrowed()
    }

    /// What refers to the answer's text rather than copy it.
    pub fn parse_borrowed<'a, T: Deserialize<'a>>(&'a self) -> Result<T, OperateError> {
        serde_json::from_slice(&self.bytes).map_err(|error| OperateError::NotUnderstood {
            what: self.what.clone(),
            error,
        })
    }

    // With serde_json's feature arbitrary_precision, which a dependency enables, members that are flattened cannot hold numbers when
    // they are read. So these two types are read as the two objects that they are made of.

    pub fn watch(&self) -> Result<WatchDetail, OperateError> {
        #[derive(Deserialize)]
        struct More {
            command: String,
            settings: Vec<Setting>,
            runs: Vec<Run>,
        }
        let More {
            command,
            settings,
            runs,
        } = self.parse()?;
        Ok(WatchDetail {
            watch: self.parse()?,
            command,
            settings,
            runs,
            withheld: false,
        })
    }

    pub fn run(&self) -> Result<RunDetail, OperateError> {
        #[derive(Deserialize)]
        struct More {
            output: String,
            truncated: bool,
        }
        let More { output, truncated } = self.parse()?;
        Ok(RunDetail {
            run: self.parse()?,
            output,
            truncated,
            withheld: false,
        })
    }
}

impl Client {
    /// Of the daemon that listens there; whether one does is found out with the first request.
    pub fn new(socket: &Path) -> Result<Self, OperateError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(OperateError::Runtime)?;
        Ok(Self {
            socket: socket.to_owned(),
            runtime,
        })
    }

    pub fn get(&self, path: &str) -> Result<Answer, OperateError> {
        self.runtime.block_on(self.ask(Method::GET, path, PATIENCE))
    }

    pub fn post(&self, path: &str, patience: Duration) -> Result<Answer, OperateError> {
        self.runtime.block_on(self.ask(Method::POST, path, patience))
    }

    /// The stream of events: of those to come, or of those that the daemon remembers and those to come.
    pub fn follow(&self, path: &str, past: bool) -> Result<Events<'_>, OperateError> {
        let what = format!("GET {path}");
        let opened = async {
            let response = self.send(Method::GET, path, past.then_some("0")).await?;
            accepted(response, &what).await
        };
        let opened = async {
            let expired = |_| expired(&what, PATIENCE);
            tokio::time::timeout(PATIENCE, opened).await.map_err(expired)?
        };
        let response = self.runtime.block_on(opened)?;
        Ok(Events {
            runtime: &self.runtime,
            body: Body::new(response.into_body()).into_data_stream(),
            frames: SseParser::default(),
            ready: Vec::new().into_iter(),
            what,
        })
    }

    async fn ask(&self, method: Method, path: &str, patience: Duration) -> Result<Answer, OperateError> {
        let what = format!("{method} {path}");
        let answered = async {
            let response = self.send(method, path, None).await?;
            let response = accepted(response, &what).await?;
            let mut parts = Body::new(response.into_body()).into_data_stream();
            let mut bytes = Vec::new();
            while let Some(part) = parts.next().await {
                let cut_off = |error| OperateError::CutOff {
                    what: what.clone(),
                    error,
                };
                let part = part.map_err(cut_off)?;
                if bytes.len() + part.len() > ANSWER_MAX {
                    return Err(cut_off(axum::Error::new(TooLarge)));
                }
                bytes.extend_from_slice(&part);
            }
            Ok(Bytes::from(bytes))
        };
        let bytes = tokio::time::timeout(patience, answered)
            .await
            .map_err(|_| expired(&what, patience))??;
        Ok(Answer { bytes, what })
    }

    async fn send(&self, method: Method, path: &str, last: Option<&str>) -> Result<Response<Incoming>, OperateError> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::HOST, "localhost");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).map_err(|error| OperateError::Request {
            what: format!("{method} {path}"),
            error,
        })?;
        let connected = UnixStream::connect(&self.socket).await;
        let stream = connected.map_err(|error| OperateError::connect(&self.socket, error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(OperateError::Broken)?;
        // It ends with the answer's body; what goes wrong with it is told there.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(OperateError::Broken)
    }
}

fn expired(what: &str, patience: Duration) -> OperateError {
    OperateError::TimedOut {
        what: what.to_owned(),
        patience,
    }
}

/// The response, unless it refuses.
async fn accepted(response: Response<Incoming>, what: &str) -> Result<Response<Incoming>, OperateError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = axum::body::to_bytes(Body::new(response.into_body()), PROBLEM_MAX).await;
    let body = body.map_err(|error| OperateError::CutOff {
        what: what.to_owned(),
        error,
    })?;
    Err(OperateError::Refused {
        status,
        problem: serde_json::from_slice(&body).ok(),
        suggestions: Vec::new(),
    })
}

/// Events as they come.
pub(super) struct Events<'a> {
    runtime: &'a Runtime,
    body: axum::body::BodyDataStream,
    frames: SseParser,
    ready: std::vec::IntoIter<SseMessage>,
    what: String,
}

/// What came of waiting for an event.
#[derive(Debug)]
pub(super) enum Next {
    /// Its JSON.
    Event(String),
    /// Nothing came in time.
    Quiet,
    /// The stream has ended.
    End,
}

impl Events<'_> {
    /// The next event; waits for it so long, or for ever.
    pub fn next(&mut self, patience: Option<Duration>) -> Result<Next, OperateError> {
        loop {
            match self.ready.next() {
                Some(SseMessage::Message(data)) => return Ok(Next::Event(data)),
                Some(SseMessage::Comment) => {}
                None => match self.read(patience)? {
                    Some(said) => self.ready = said.into_iter(),
                    None => return Ok(if patience.is_some() { Next::Quiet } else { Next::End }),
                },
            }
        }
    }

    fn read(&mut self, patience: Option<Duration>) -> Result<Option<Vec<SseMessage>>, OperateError> {
        let body = &mut self.body;
        let read = self.runtime.block_on(async {
            match patience {
                Some(patience) => tokio::time::timeout(patience, body.next()).await.unwrap_or(None),
                None => body.next().await,
            }
        });
        match read {
            None => Ok(None),
            Some(Ok(bytes)) => match self.frames.push(&bytes) {
                Ok(said) => Ok(Some(said)),
                Err(_) => Err(OperateError::Events("one is too large")),
            },
            Some(Err(error)) => Err(OperateError::CutOff {
                what: self.what.clone(),
                error,
            }),
        }
    }
}

/// The path of a watch, or of a run. Also a dot is written in hexadecimal, because `/../` means something.
pub(super) fn path(collection: &str, name: &str, more: &str) -> String {
    let mut path = format!("/v1/{collection}/");
    percent(name, &mut path);
    path.push_str(more);
    path
}

/// A path with a query of those parameters that have a value.
pub(super) fn query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut whole = path.to_owned();
    let mut separator = '?';
    for (name, value) in parameters {
        if let Some(value) = value {
            whole.push(separator);
            whole.push_str(name);
            whole.push('=');
            percent(value, &mut whole);
            separator = '&';
        }
    }
    whole
}

fn percent(text: &str, to: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            to.push(byte.into());
        } else {
            to.push('%');
            to.push(HEX[usize::from(byte >> 4)].into());
            to.push(HEX[usize::from(byte & 15)].into());
        }
    }
}

#[cfg(test)]
mod tests;
