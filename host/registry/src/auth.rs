//! What a registry's challenge is answered with: a password, or a token that is fetched with it.

use std::fmt;

use docker_credential::DockerCredential;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use http_auth::{ChallengeRef, parse_challenges};
use reqwest::Url;
use reqwest::blocking::RequestBuilder;
use serde::Deserialize;

use super::address::Remote;
use super::client::{bounded, said};
use super::credentials::Credentials;
use super::error::RegistryProblem;
use super::transport::{Request, Transport};

/// Largest answer with a token, in bytes.
const TOKEN_MAX: u64 = 256 << 10;
/// Longest word of a scope that is passed on, in bytes.
const SCOPE_MAX: usize = 256;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Pull,
    Push,
}

impl Access {
    fn scope(self, remote: &Remote) -> String {
        let actions = match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        };
        format!("repository:{}:{actions}", remote.repository)
    }
}

/// What goes with each request to the registry. It shows nothing of itself.
pub(super) enum Authorization {
    Password(String, String),
    Token(String),
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization")
    }
}

impl Authorization {
    pub fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Password(user, password) => request.basic_auth(user, Some(password)),
            Self::Token(token) => request.bearer_auth(token),
        }
    }
}

/// Answers the challenges of a registry that answered 401. None if it wants what is not there.
pub(super) fn answer(
    transport: &mut Transport,
    remote: &Remote,
    access: Access,
    challenges: &HeaderMap,
    credentials: &Credentials,
    secure: bool,
) -> Result<Option<Authorization>, RegistryProblem> {
    let headers = challenges.get_all(WWW_AUTHENTICATE).iter();
    let headers: Vec<&str> = headers.filter_map(|header| header.to_str().ok()).collect();
    let parsed = headers
        .iter()
        .filter_map(|header| parse_challenges(header).ok())
        .flatten();
    let parsed: Vec<ChallengeRef<'_>> = parsed.collect();
    let of = |scheme: &str| {
        parsed
            .iter()
            .find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme))
    };
    if let Some(challenge) = of("Bearer") {
        return token(transport, remote, access, challenge, credentials, secure).map(Some);
    }
    Ok(match (of("Basic"), &credentials.found) {
        (Some(_), Some(DockerCredential::UsernamePassword(user, password))) => {
            Some(Authorization::Password(user.clone(), password.clone()))
        }
        _ => None,
    })
}

/// Fetches a token from where the challenge says.
fn token(
    transport: &mut Transport,
    remote: &Remote,
    access: Access,
    challenge: &ChallengeRef<'_>,
    credentials: &Credentials,
    secure: bool,
) -> Result<Authorization, RegistryProblem> {
    let what = "a token";
    let malformed = |why: &str| RegistryProblem::Malformed {
        what: what.to_owned(),
        why: why.to_owned(),
    };
    let parameter = |name: &str| {
        let mut parameters = challenge.params.iter();
        let found = parameters.find(|(there, _)| there.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    let realm = parameter("realm").and_then(|realm| Url::parse(&realm).ok());
    let mut realm = realm.ok_or_else(|| malformed("it does not say where to get one"))?;
    // The credentials go there.
    match realm.scheme() {
        "https" => {}
        "http" if !secure => {}
        _ => {
            return Err(malformed(
                "it comes from where there is no TLS, and the password would have to go there",
            ));
        }
    }
    let mut query = vec![("scope", access.scope(remote))];
    // What is not of the form KIND:NAME:ACTIONS means something to the registry alone, such as `aws`.
    let asked = parameter("scope").unwrap_or_default();
    let opaque = asked
        .split_whitespace()
        .filter(|word| !word.contains(':') && word.len() <= SCOPE_MAX);
    query.extend(opaque.map(|word| ("scope", word.to_owned())));
    query.extend(parameter("service").map(|service| ("service", service)));
    let mut method = Method::GET;
    let mut form = None;
    let mut password = None;
    match &credentials.found {
        Some(DockerCredential::IdentityToken(token)) => {
            let fixed = [
                ("grant_type", "refresh_token"),
                ("client_id", "twitcher"),
                ("refresh_token", token),
            ];
            query.extend(fixed.map(|(name, value)| (name, value.to_owned())));
            // A query is written as a form is. With several words, a scope is one text there.
            let scopes: Vec<String> = query
                .extract_if(.., |(name, _)| *name == "scope")
                .map(|(_, word)| word)
                .collect();
            query.push(("scope", scopes.join(" ")));
            let mut written = realm.clone();
            written.query_pairs_mut().clear().extend_pairs(&query);
            form = Some(written.query().unwrap_or_default().to_owned());
            method = Method::POST;
        }
        found => {
            realm.query_pairs_mut().extend_pairs(&query);
            if let Some(DockerCredential::UsernamePassword(user, secret)) = found {
                password = Some(Authorization::Password(user.clone(), secret.clone()));
            }
        }
    }
    let fill = |request: RequestBuilder| match &form {
        Some(form) => request
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.clone()),
        None => request,
    };
    let response = transport
        .send(&Request {
            method,
            url: &realm,
            authorization: password.as_ref(),
            fill: &fill,
            secret: form.is_some(),
            patient: true,
        })?
        .response;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            return Err(RegistryProblem::Denied {
                said: said(response),
                credentials: credentials.advice(),
            });
        }
        _ => {
            return Err(RegistryProblem::Status {
                what: what.to_owned(),
                said: said(response),
            });
        }
    }
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let bytes = bounded(response, what, TOKEN_MAX)?;
    // The error of the parser could have the token in it.
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| malformed("it is not the JSON of one"))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token.ok_or_else(|| malformed("there is none in it"))?;
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Authorization::Token(token)),
        false => Err(malformed("it cannot be one")),
    }
}
