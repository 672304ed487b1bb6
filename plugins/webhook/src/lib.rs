//! Posts each change as JSON to an HTTP server.
//!
//! ```python
//! RegisterWatch(
//!     znode = "/app/config",
//!     action = Wasm("/usr/lib/twitcher/webhook.wasm",
//!                   config = {"url": "https://hooks.example.org/zookeeper", "header.authorization": "Bearer 1234"},
//!                   http = ["https://hooks.example.org"]),
//!     uid = "nobody",
//!     timeout = 30,
//! )
//! ```
//!
//! | config | meaning | default |
//! | --- | --- | --- |
//! | `url` | where to post; its origin must be granted with `http` | required |
//! | `timeout` | most seconds to wait for a connection, and for the answer | 10 |
//! | `header.NAME` | a header to send | none |
//!
//! What is posted (`data_base64` instead of `data` when the data is not UTF-8):
//!
//! ```json
//! {"path": "/app/config", "event": "data", "exists": true, "version": 7, "mzxid": 4294967311, "data": "…",
//!  "watch": "app config", "run_id": "1m82xp1tf0001", "attempt": 1}
//! ```
//!
//! | answer | outcome |
//! | --- | --- |
//! | 2xx | done |
//! | 408, 425, 429, 5xx | failed, to be retried as `on_failure` says; in `Retry-After` seconds, if the server says so |
//! | no connection, no answer in time | failed, to be retried |
//! | everything else; redirections, too, are not followed | failed for good |
//!
//! A state can be posted more than once, after a restart of the daemon or when an answer was lost: a server tells by `path` and
//! `mzxid` that it knows it already.

mod endpoint;
mod http;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use twitcher_sdk::{Change, Failure, action, config, log};

use crate::endpoint::Endpoint;
use crate::http::{Answer, Error, Request};

action!(on_change, check = validate);

fn on_change(change: Change) -> Result<(), Failure> {
    deliver(&change, http::post)
}

fn validate() -> Result<(), Vec<String>> {
    let url = config::require("url").map_err(|error| vec![error.to_string()])?;
    let problems = [
        Endpoint::parse(&url)
            .err()
            .map(|error| format!("config \"url\": {error}")),
        config::parse::<u32>("timeout").err().map(|error| error.to_string()),
    ];
    let problems: Vec<_> = problems.into_iter().flatten().collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn deliver(change: &Change, post: impl FnOnce(&Request) -> Result<Answer, Error>) -> Result<(), Failure> {
    let url = config::require("url")?;
    let limit = Duration::from_secs(config::parse::<u32>("timeout")?.unwrap_or(10).into());
    let request = Request {
        endpoint: Endpoint::parse(&url)?,
        headers: headers(),
        body: body(change).to_string(),
        timeout: change.time_left().map_or(limit, |left| left.min(limit)),
    };
    let answer = post(&request).map_err(|error| match error.passing {
        true => Failure::retry(format!("{url}: {}", error.message)),
        false => Failure::permanent(format!("{url}: {}", error.message)),
    })?;
    let status = answer.status;
    match status {
        200..=299 => {
            log::info!("posted", url = url, status = status, bytes = request.body.len());
            Ok(())
        }
        408 | 425 | 429 | 500..=599 => Err(Failure::Retry {
            message: format!("{url}: status {status}"),
            after: answer.retry_after,
        }),
        _ => Err(Failure::permanent(format!("{url}: status {status}"))),
    }
}

fn headers() -> Vec<(String, String)> {
    let own = [("content-type", "application/json"), ("user-agent", "twitcher-webhook")];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let configured = config::all().into_iter().filter_map(|(key, value)| {
        let name = key.strip_prefix("header.")?;
        Some((name.to_ascii_lowercase(), value))
    });
    own.into_iter().chain(configured).collect()
}

fn body(change: &Change) -> Value {
    let stat = change.stat();
    let mut body = json!({
        "path": change.path(),
        "event": change.event().as_str(),
        "exists": change.exists(),
        "version": stat.map(|stat| stat.version),
        "mzxid": stat.map(|stat| stat.mzxid),
        "watch": change.watch_name(),
        "run_id": change.run_id(),
        "attempt": change.attempt(),
    });
    match change.text() {
        Ok(text) => body["data"] = text.into(),
        Err(_) => body["data_base64"] = STANDARD.encode(change.data()).into(),
    }
    body
}

#[cfg(test)]
mod tests;
