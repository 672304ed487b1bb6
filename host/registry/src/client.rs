//! Speaks to one repository of a registry, by OCI's distribution specification. What comes back is bounded, and has the digest that
//! was asked for.
//!
//! This module must not know what is in a bundle.

use std::io::Read;
use std::time::{Duration, Instant};

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LINK, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use reqwest::blocking::{Body, RequestBuilder, Response};
use serde::Deserialize;

use super::address::{Remote, Selector};
use super::auth::{self, Access, Authorization};
use super::blob::{Blob, broken};
use super::credentials::Credentials;
use super::documents::{Descriptor, IMAGE_INDEX, IMAGE_MANIFEST, Index, TaggedIndex, named, parse_named};
use super::error::{RegistryProblem, printable};
use super::progress::{Counted, Progress};
use super::transport::{Answer, Request, SILENCE, Transport};
use twitcher_bundle::{FileFacts, digest};
use twitcher_model::Digest;

/// Largest manifest or index, in bytes: what the specification wants every registry to take.
pub(super) const DOCUMENT_MAX: u64 = 4 << 20;
/// Most of what a registry says of an error that is read, in bytes.
const SAID_MAX: u64 = 64 << 10;
/// How long a document may take altogether.
const DOCUMENT_TIME: Duration = Duration::from_secs(120);
/// Slowest upload, in bytes a second.
const UPLOAD_RATE: u64 = 32 << 10;
/// Most pages of a list of referrers.
const PAGES_MAX: usize = 16;
/// What it is called in errors.
const REFERRERS: &str = "list of referrers";

/// One repository, and what is to be done there.
#[derive(Debug)]
pub(super) struct Client {
    transport: Transport,
    remote: Remote,
    access: Access,
    /// `https://HOST/v2/REPOSITORY/`
    base: Url,
    authorization: Option<Authorization>,
}

/// A manifest as it came.
pub(super) struct Document {
    pub bytes: Vec<u8>,
    pub digest: Digest,
}

impl Client {
    /// Connects to nothing yet.
    pub fn new(remote: &Remote, access: Access, plain_http: bool) -> Result<Self, RegistryProblem> {
        // As Docker does: nobody listens in on this machine's loopback, and nobody has a certificate for it.
        let scheme = match plain_http || remote.is_loopback() {
            true => "http",
            false => "https",
        };
        let base = format!("{scheme}://{}/v2/{}/", remote.address(), remote.repository);
        let malformed = |why: String| RegistryProblem::Malformed {
            what: "its address".to_owned(),
            why,
        };
        let base = Url::parse(&base).map_err(|error| malformed(error.to_string()))?;
        Ok(Self {
            transport: Transport::new(remote, &base)?,
            remote: remote.clone(),
            access,
            base,
            authorization: None,
        })
    }

    /// A manifest or index, by tag or digest. None if there is none.
    pub fn document(&mut self, which: &Selector, what: &str) -> Result<Option<Document>, RegistryProblem> {
        let url = self.url(&format!("manifests/{which}"), what)?;
        let accept = format!("{IMAGE_MANIFEST}, {IMAGE_INDEX}");
        let response = self.send(Method::GET, &url, |request| request.header(ACCEPT, &accept))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(unexpected(response, what)),
        }
        let bytes = bounded(response, what, DOCUMENT_MAX)?;
        let found = digest(&bytes);
        match which {
            Selector::Digest(expected) if *expected != found => Err(RegistryProblem::Digest {
                what: what.to_owned(),
                found,
                expected: *expected,
            }),
            _ => Ok(Some(Document { bytes, digest: found })),
        }
    }

    /// Puts a manifest or index. True if the registry has taken note of its subject.
    pub fn put_document(
        &mut self,
        which: &Selector,
        media_type: &str,
        bytes: &[u8],
        what: &str,
    ) -> Result<bool, RegistryProblem> {
        let url = self.url(&format!("manifests/{which}"), what)?;
        let put = |request: RequestBuilder| request.header(CONTENT_TYPE, media_type).body(bytes.to_vec());
        let response = self.send(Method::PUT, &url, put)?;
        if response.status() != StatusCode::CREATED {
            return Err(unexpected(response, what));
        }
        let stored = response.headers().get("docker-content-digest");
        let stored = stored.and_then(|stored| parse_named(stored.to_str().ok()?));
        let expected = digest(bytes);
        match stored {
            Some(found) if found != expected => Err(RegistryProblem::Digest {
                what: what.to_owned(),
                found,
                expected,
            }),
            _ => Ok(response.headers().contains_key("oci-subject")),
        }
    }

    /// What refers to a manifest and is of this type, by the API; what else is in the list is for the caller to leave out. Registries
    /// have many ways to say that there is no such API: whatever is no index is one of them.
    pub fn referrers(
        &mut self,
        subject: Digest,
        artifact_type: &str,
        patient: bool,
    ) -> Result<Result<Vec<Descriptor>, NoIndex>, RegistryProblem> {
        let mut url = self.url(&format!("referrers/{}", named(subject)), REFERRERS)?;
        url.query_pairs_mut().append_pair("artifactType", artifact_type);
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            match self.referrers_page(&url, patient) {
                Ok((page, next)) => {
                    all.extend(page.manifests);
                    match next {
                        Some(next) if next.origin() == self.base.origin() => url = next,
                        _ => break,
                    }
                }
                Err(problem @ (RegistryProblem::Unreachable { .. } | RegistryProblem::Credentials(_))) => {
                    return Err(problem);
                }
                Err(problem) => {
                    let busy = matches!(problem, RegistryProblem::Busy { .. });
                    let said = problem.to_string();
                    return Ok(Err(NoIndex { said, busy }));
                }
            }
        }
        Ok(Ok(all))
    }

    /// A page of that list, and where the next one is.
    fn referrers_page(&mut self, url: &Url, patient: bool) -> Result<(Index, Option<Url>), RegistryProblem> {
        let accept = |request: RequestBuilder| request.header(ACCEPT, IMAGE_INDEX);
        let response = self.ask(Method::GET, url, patient, &accept)?.0.response;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Err(RegistryProblem::Busy {
                    said: said(response),
                    why: format!("it has no {REFERRERS} now"),
                });
            }
            _ => return Err(unexpected(response, REFERRERS)),
        }
        let next = next_page(response.headers(), url);
        let bytes = bounded(response, REFERRERS, DOCUMENT_MAX)?;
        Ok((parse(&bytes, REFERRERS)?, next))
    }

    /// The index at a tag. What is there and is none, such as the subject itself, is none.
    pub fn index(&mut self, tag: &Selector) -> Result<Option<TaggedIndex>, RegistryProblem> {
        let document = self.document(tag, "index of referrers")?;
        Ok(document.and_then(|document| TaggedIndex::parse(document.bytes)))
    }

    /// A blob, to be read. It is what it should be only once [`Blob::finish`] says so.
    pub fn blob(&mut self, facts: FileFacts, what: &str) -> Result<Blob, RegistryProblem> {
        let url = self.url(&format!("blobs/{}", named(facts.sha256)), what)?;
        let response = self.send(Method::GET, &url, |request| request)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(RegistryProblem::NotFound(what.to_owned())),
            _ => return Err(unexpected(response, what)),
        }
        if length(response.headers()).is_some_and(|length| length > facts.size) {
            return Err(RegistryProblem::TooLarge {
                what: what.to_owned(),
                most: facts.size,
            });
        }
        Ok(Blob::new(response, facts, what))
    }

    /// A blob as a whole.
    pub fn small_blob(&mut self, facts: FileFacts, what: &str) -> Result<Vec<u8>, RegistryProblem> {
        let mut blob = self.blob(facts, what)?;
        let mut bytes = Vec::new();
        let read = Read::by_ref(&mut blob).take(facts.size).read_to_end(&mut bytes);
        blob.finish()?;
        read?;
        Ok(bytes)
    }

    /// Puts a blob, unless it is there. `open` gives its content from the start; true if it was needed.
    pub fn put_blob<R: Read + Send + 'static>(
        &mut self,
        facts: FileFacts,
        what: &str,
        open: impl Fn() -> R,
    ) -> Result<bool, RegistryProblem> {
        let url = self.url(&format!("blobs/{}", named(facts.sha256)), what)?;
        let there = self.ask(Method::HEAD, &url, true, &|request| request)?;
        match there.0.response.status() {
            StatusCode::OK => return Ok(false),
            // Not every registry lets everybody ask, or leads such a question to where it is understood. What is there already is then
            // sent once more.
            StatusCode::NOT_FOUND
            | StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_ACCEPTABLE
            | StatusCode::NOT_IMPLEMENTED => {}
            _ => {
                let response = self.allowed(there)?;
                return Err(unexpected(response, what));
            }
        }
        let url = self.url("blobs/uploads/", what)?;
        let begun = self.send(Method::POST, &url, |request| request.body(""))?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(unexpected(begun, what));
        }
        let mut to = self.location(&url, begun.headers(), what)?;
        to.query_pairs_mut().append_pair("digest", &named(facts.sha256));
        let time = SILENCE + Duration::from_secs(facts.size / UPLOAD_RATE);
        let put = |request: RequestBuilder| {
            let (reader, progress) = (open(), Progress::new(what, facts.size));
            let body = Body::sized(Counted { reader, progress }, facts.size);
            request
                .header(CONTENT_TYPE, "application/octet-stream")
                .timeout(time)
                .body(body)
        };
        let response = self.send(Method::PUT, &to, put)?;
        match response.status() {
            StatusCode::CREATED => Ok(true),
            _ => Err(unexpected(response, what)),
        }
    }

    /// Where an upload is to go. It can be elsewhere, but not where others can read along.
    fn location(&self, url: &Url, headers: &HeaderMap, what: &str) -> Result<Url, RegistryProblem> {
        let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.and_then(|location| url.join(location).ok());
        let good = |location: &Url| location.scheme() == "https" || location.scheme() == self.base.scheme();
        location.filter(good).ok_or_else(|| RegistryProblem::Malformed {
            what: what.to_owned(),
            why: "it does not say where to upload to".to_owned(),
        })
    }

    fn url(&self, path: &str, what: &str) -> Result<Url, RegistryProblem> {
        self.base.join(path).map_err(|error| RegistryProblem::Malformed {
            what: what.to_owned(),
            why: error.to_string(),
        })
    }

    /// Makes a request that the registry must not refuse.
    fn send(
        &mut self,
        method: Method,
        url: &Url,
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryProblem> {
        let answered = self.ask(method, url, true, &fill)?;
        self.allowed(answered)
    }

    /// Makes a request, and makes it again with authorization if the registry wants that. A challenge is the registry's own only if it
    /// comes from where the registry is: whoever else makes one gets nothing. Gives the credentials as well, if they were looked for.
    fn ask(
        &mut self,
        method: Method,
        url: &Url,
        patient: bool,
        fill: &dyn Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<(Answer, Option<Credentials>), RegistryProblem> {
        let ours = url.origin() == self.base.origin();
        let request = |authorization| Request {
            method: method.clone(),
            url,
            authorization,
            fill,
            secret: false,
            patient,
        };
        let authorization = self.authorization.as_ref().filter(|_| ours);
        let answer = self.transport.send(&request(authorization))?;
        if answer.response.status() != StatusCode::UNAUTHORIZED || !ours || answer.elsewhere.is_some() {
            return Ok((answer, None));
        }
        let credentials = Credentials::of(&self.remote)?;
        let secure = self.base.scheme() == "https";
        let headers = answer.response.headers();
        let authorization = auth::answer(
            &mut self.transport,
            &self.remote,
            self.access,
            headers,
            &credentials,
            secure,
        )?;
        let Some(authorization) = authorization else {
            return Ok((answer, Some(credentials)));
        };
        let answer = self.transport.send(&request(Some(&authorization)))?;
        self.authorization = Some(authorization);
        Ok((answer, Some(credentials)))
    }

    fn allowed(&self, (answer, credentials): (Answer, Option<Credentials>)) -> Result<Response, RegistryProblem> {
        let Answer { response, elsewhere } = answer;
        match (response.status(), elsewhere) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(origin)) => Err(RegistryProblem::Elsewhere {
                origin,
                said: said(response),
            }),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
                let advice = match credentials {
                    Some(credentials) => credentials.advice(),
                    None => Credentials::of(&self.remote)?.advice(),
                };
                Err(RegistryProblem::Denied {
                    said: said(response),
                    credentials: advice,
                })
            }
            _ => Ok(response),
        }
    }
}

/// Why there is no list of referrers.
#[derive(Debug)]
pub(super) struct NoIndex {
    /// What came instead, in words.
    pub said: String,
    /// Whether there may be one later.
    pub busy: bool,
}

/// Where the referrers of a manifest are listed in a registry that has no API for it: at the tag that the specification says, and, for
/// registries that take that one for the digest which it resembles, at one that cannot be taken for it.
pub(super) fn referrers_tags(subject: Digest) -> [Selector; 2] {
    let tag = named(subject).replace(':', "-");
    [Selector::Tag(tag.clone()), Selector::Tag(format!("{tag}.twitcher"))]
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn next_page(headers: &HeaderMap, url: &Url) -> Option<Url> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then(|| url.join(target).ok())?
}

/// Reads a document that is not larger than that.
pub(super) fn bounded(mut response: Response, what: &str, most: u64) -> Result<Vec<u8>, RegistryProblem> {
    let too_large = || RegistryProblem::TooLarge {
        what: what.to_owned(),
        most,
    };
    if length(response.headers()).is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let deadline = Instant::now() + DOCUMENT_TIME;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let length = response.read(&mut chunk).map_err(|error| broken(&error))?;
        if length == 0 {
            return Ok(bytes);
        }
        if bytes.len() as u64 + length as u64 > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk[..length]);
        if Instant::now() > deadline {
            return Err(RegistryProblem::Unreachable {
                why: format!("{what} takes longer than {} s", DOCUMENT_TIME.as_secs()),
                hint: "",
            });
        }
    }
}

/// Reads JSON; what does not fit is the registry's fault.
pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, RegistryProblem> {
    serde_json::from_slice(bytes).map_err(|error| RegistryProblem::Malformed {
        what: what.to_owned(),
        why: printable(&error.to_string()),
    })
}

fn unexpected(response: Response, what: &str) -> RegistryProblem {
    RegistryProblem::Status {
        what: what.to_owned(),
        said: said(response),
    }
}

/// The status of an answer, and what it says of it.
pub(super) fn said(response: Response) -> String {
    #[derive(Deserialize)]
    struct Said {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status().to_string();
    // That it cannot be read must not hide the status.
    let bytes = bounded(response, "", SAID_MAX).unwrap_or_default();
    let errors = serde_json::from_slice::<Said>(&bytes).map(|said| said.errors);
    let texts: Vec<String> = errors
        .unwrap_or_default()
        .iter()
        .map(|one| format!("{}: {}", one.code, one.message))
        .collect();
    match texts.is_empty() {
        true => status,
        false => format!("{status} ({})", printable(&texts.join(", "))),
    }
}
