//! Makes requests of a registry, and of wherever it leads. What is secret goes to the origin that it is for and to no other; nobody is led
//! to this machine from elsewhere; a registry that is busy is asked again.
//!
//! This module must not know what is asked for.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use http::header::LOCATION;
use http::{Method, StatusCode};
use reqwest::Url;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::redirect::Policy;

use super::address::Remote;
use super::auth::Authorization;
use super::client::said;
use super::error::RegistryProblem;
use super::internal_address::is_inner;
use super::patience::{Patience, Verdict};

/// How long a connection may take, and how long a registry may be silent.
const CONNECT: Duration = Duration::from_secs(15);
pub(super) const SILENCE: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 5;

/// Speaks to a registry, and to where it leads.
#[derive(Debug)]
pub(super) struct Transport {
    registry: Url,
    /// Whether the registry is on this machine's loopback, so that it may lead there.
    near: bool,
    own: Client,
    /// For each other host: bound to the addresses that were found good, so that its name cannot mean others a moment later.
    others: HashMap<String, Client>,
    /// Hosts whose names were not found, and why.
    unknown: HashMap<String, String>,
    patience: Patience,
}

/// What is asked, and of whom.
pub(super) struct Request<'a> {
    pub method: Method,
    pub url: &'a Url,
    /// Goes to the origin of `url` alone.
    pub authorization: Option<&'a Authorization>,
    /// Adds headers and the body, for each attempt anew.
    pub fill: &'a dyn Fn(RequestBuilder) -> RequestBuilder,
    /// Whether the body is secret too: then it goes to no other origin either.
    pub secret: bool,
    /// Whether to wait where the answer is to ask later.
    pub patient: bool,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// What came back, and from where.
#[derive(Debug)]
pub(super) struct Answer {
    pub response: Response,
    /// The origin that it is from, if it is another than the one that was asked.
    pub elsewhere: Option<String>,
}

impl Transport {
    /// Connects to nothing yet.
    pub fn new(remote: &Remote, registry: &Url) -> Result<Self, RegistryProblem> {
        let near = remote.is_loopback();
        Ok(Self {
            registry: registry.clone(),
            near,
            own: client(near, None)?,
            others: HashMap::new(),
            unknown: HashMap::new(),
            patience: Patience::new(),
        })
    }

    /// Makes a request, and goes where the answer leads.
    pub fn send(&mut self, request: &Request<'_>) -> Result<Answer, RegistryProblem> {
        let mut url = bare(request.url.clone());
        let mut authorization = request.authorization;
        let mut elsewhere = None;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.attempt(request, &url, authorization)?;
            let Some(next) = next(&request.method, &response, &url) else {
                return Ok(Answer { response, elsewhere });
            };
            if next.origin() != url.origin() {
                if request.secret {
                    return Ok(Answer { response, elsewhere });
                }
                // Also when it leads back: where to was for somebody else to say.
                authorization = None;
            }
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(led(&next, "there is no TLS"));
            }
            elsewhere = (next.origin() != request.url.origin()).then(|| next.origin().ascii_serialization());
            url = next;
        }
        Err(led(&url, "it redirects without end"))
    }

    /// Asks one server, again if it wants to be asked later.
    fn attempt(
        &mut self,
        request: &Request<'_>,
        url: &Url,
        authorization: Option<&Authorization>,
    ) -> Result<Response, RegistryProblem> {
        let client = self.client(url)?;
        let mut attempt = 1;
        loop {
            let filled = (request.fill)(client.request(request.method.clone(), url.clone()));
            let filled = match authorization {
                Some(authorization) => authorization.apply(filled),
                None => filled,
            };
            let response = filled.send().map_err(|error| self.unreachable(url, &error))?;
            let verdict = match request.patient {
                true => self.patience.judge(response.status(), response.headers(), attempt),
                false => Verdict::Answer,
            };
            match verdict {
                Verdict::Answer => return Ok(response),
                Verdict::Again(time) => {
                    let status = response.status();
                    drop(response);
                    self.patience.wait(time, url.host_str().unwrap_or_default(), status);
                }
                Verdict::Enough(why) => {
                    return Err(RegistryProblem::Busy {
                        said: said(response),
                        why,
                    });
                }
            }
            attempt += 1;
        }
    }

    fn unreachable(&self, url: &Url, error: &reqwest::Error) -> RegistryProblem {
        let host = url.host_str().unwrap_or_default();
        match self.unknown.get(host) {
            Some(why) if error.is_connect() => RegistryProblem::Unreachable {
                why: format!("it leads to {host}: {why}"),
                hint: "",
            },
            _ => RegistryProblem::unreachable(error),
        }
    }

    /// The client for where an address leads, if anybody may be led there.
    fn client(&mut self, url: &Url) -> Result<Client, RegistryProblem> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(led(url, "only http and https are spoken here"));
        }
        if self.near || url.origin() == self.registry.origin() {
            return Ok(self.own.clone());
        }
        let inner = "that is an address of this machine, of its link or of its cloud's metadata, where only a registry on loopback may lead";
        let host = url.host_str().unwrap_or_default();
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return match is_inner(address) {
                true => Err(led(url, inner)),
                false => Ok(self.own.clone()),
            };
        }
        if let Some(client) = self.others.get(host) {
            return Ok(client.clone());
        }
        let found: Vec<SocketAddr> = match (host, 0).to_socket_addrs() {
            Ok(found) => found.collect(),
            // Where only a proxy finds names, it is no error yet.
            Err(error) => {
                self.unknown.insert(host.to_owned(), error.to_string());
                Vec::new()
            }
        };
        let name = host.trim_end_matches('.');
        if name == "localhost" || name.ends_with(".localhost") || found.iter().any(|found| is_inner(found.ip())) {
            return Err(led(url, inner));
        }
        let client = client(false, Some((host, &found)))?;
        self.others.insert(host.to_owned(), client.clone());
        Ok(client)
    }
}

fn client(near: bool, addresses: Option<(&str, &[SocketAddr])>) -> Result<Client, RegistryProblem> {
    let mut builder = Client::builder()
        .user_agent(concat!("twitcher/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(SILENCE)
        .referer(false)
        .redirect(Policy::none());
    if near {
        builder = builder.no_proxy();
    }
    if let Some((host, addresses)) = addresses {
        builder = builder.resolve_to_addrs(host, addresses);
    }
    builder.build().map_err(|error| RegistryProblem::unreachable(&error))
}

/// Where an answer leads to. What has a body goes on only where it is to be sent again as it was.
fn next(method: &Method, response: &Response, url: &Url) -> Option<Url> {
    let leads = match response.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            matches!(*method, Method::GET | Method::HEAD)
        }
        _ => false,
    };
    let location = leads.then(|| response.headers().get(LOCATION))??;
    url.join(location.to_str().ok()?).ok().map(bare)
}

/// Without a user and a password, which would be sent as if they were ours.
fn bare(mut url: Url) -> Url {
    // Only what has no host refuses; it is not asked for anything.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

fn led(url: &Url, why: &'static str) -> RegistryProblem {
    let to = match url.host_str() {
        Some(_) => url.origin().ascii_serialization(),
        None => format!("{}:", url.scheme()),
    };
    RegistryProblem::Led { to, why }
}
