//! One POST through `wasi:http`. It knows nothing of what is posted, nor what an answer means.

use std::io::Write;
use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};

use crate::endpoint::Endpoint;

/// What to post.
pub struct Request {
    pub endpoint: Endpoint,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// For connecting, and for the answer to begin.
    pub timeout: Duration,
}

/// What the server says.
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Error {
    pub message: String,
    /// Whether it may be otherwise in a while.
    pub passing: bool,
}

impl Error {
    fn malformed(what: &str) -> Self {
        Self {
            message: format!("{what} is malformed"),
            passing: false,
        }
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        let passing = !matches!(
            code,
            ErrorCode::HttpRequestDenied
                | ErrorCode::DestinationIpProhibited
                | ErrorCode::HttpRequestMethodInvalid
                | ErrorCode::HttpRequestUriInvalid
                | ErrorCode::HttpRequestUriTooLong
                | ErrorCode::HttpRequestBodySize(_)
                | ErrorCode::HttpRequestHeaderSectionSize(_)
                | ErrorCode::HttpRequestHeaderSize(_)
        );
        let message = match code {
            ErrorCode::HttpRequestDenied => "denied: its origin is not in http = [...] of Wasm(...)".to_owned(),
            ErrorCode::InternalError(Some(text)) => text,
            code => format!("{code:?}"),
        };
        Self { message, passing }
    }
}

pub fn post(request: &Request) -> Result<Answer, Error> {
    let response = send(request)?;
    response.subscribe().block();
    let response = match response.get() {
        Some(Ok(response)) => response?,
        _ => {
            return Err(Error {
                message: "no answer".to_owned(),
                passing: true,
            });
        }
    };
    // Seconds; the other form, a date, leaves it to the watch's policy.
    let retry_after = response.headers().get("retry-after").into_iter().next();
    let seconds = retry_after.and_then(|value| String::from_utf8(value).ok()?.trim().parse().ok());
    Ok(Answer {
        status: response.status(),
        retry_after: seconds.map(Duration::from_secs),
    })
}

fn send(request: &Request) -> Result<FutureIncomingResponse, Error> {
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .chain([("content-length".to_owned(), request.body.len().to_string().into_bytes())])
        .collect();
    let headers = Fields::from_list(&headers).map_err(|_| Error::malformed("a header"))?;

    let endpoint = &request.endpoint;
    let scheme = if endpoint.tls { Scheme::Https } else { Scheme::Http };
    let message = OutgoingRequest::new(headers);
    message
        .set_method(&Method::Post)
        .and(message.set_scheme(Some(&scheme)))
        .and(message.set_authority(Some(&endpoint.authority)))
        .and(message.set_path_with_query(Some(&endpoint.path)))
        .map_err(|()| Error::malformed("the url"))?;
    let body = message.body().map_err(|()| Error::malformed("the body"))?;

    let nanoseconds = u64::try_from(request.timeout.as_nanos()).ok();
    let options = RequestOptions::new();
    // A host that does not do timeouts says so here; the watch's own timeout is left then.
    let _ = options.set_connect_timeout(nanoseconds);
    let _ = options.set_first_byte_timeout(nanoseconds);

    // Before the body is written: the host takes it only while it sends.
    let response = outgoing_handler::handle(message, Some(options))?;
    if let Ok(mut stream) = body.write() {
        // What goes wrong here is told better by the response.
        let _ = stream.write_all(request.body.as_bytes());
        let _ = stream.blocking_flush();
    }
    let _ = OutgoingBody::finish(body, None);
    Ok(response)
}
