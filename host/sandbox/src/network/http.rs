//! `wasi:http` requests: to granted origins, at their pinned addresses.
//!
//! A connection a request, HTTP/1.1. Redirects are not followed: a component that does sends another request, which is judged anew.

use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::http::{HeaderValue, Method, Request, Response, Uri, header};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{NetworkGrants, SAID_MAX, errors, rules, say_warning};
use crate::channel::{Denied, Speaker, cut};
use twitcher_model::HttpOrigin;

/// Longest head of a response, in bytes.
const HEAD_MAX: usize = 64 << 10;
/// Most header fields of a response.
const HEADERS_MAX: usize = 128;
/// What a request may take where neither it nor the run has a limit.
const PATIENCE: Duration = Duration::from_secs(600);
/// How much longer a request may take than the run: that the run's time is up is for its supervisor to find, which may be late, and not for the
/// request, whose error would then be the outcome.
const AFTER_RUN: Duration = Duration::from_secs(5);

type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for NetworkGrants {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _fut: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let left = self
            .ends
            .map(|end| end.saturating_duration_since(Instant::now()) + AFTER_RUN);
        let timeouts = Timeouts::new(options.unwrap_or_default(), left);
        match self.admit(&request) {
            Ok(server) => Box::new(exchange(request, server, timeouts)),
            Err(error) => Box::new(std::future::ready(Err(error))),
        }
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        errors::exchange(error, HEAD_MAX)
    }
}

/// A server that may be talked to.
struct Server {
    origin: HttpOrigin,
    addresses: Vec<IpAddr>,
    tls: Option<TlsConnector>,
    speaker: Speaker,
}

impl NetworkGrants {
    fn admit(&mut self, request: &Request<WasiBody>) -> Result<Server, Error> {
        // Asks for a tunnel to somewhere else.
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let origin = rules::origin(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let Some(addresses) = self.rules.origin(&origin) else {
            self.denied(Denied::Http(cut(origin.to_string(), SAID_MAX)));
            return Err(Error::HttpRequestDenied);
        };
        if addresses.is_empty() {
            return Err(Error::DnsError {
                rcode: Some(format!("{} could not be resolved", origin.at.host)),
                info_code: None,
            });
        }
        let addresses = addresses.to_vec();
        let connector = || {
            self.trust.connector().map_err(|why| {
                super::say_warning(&self.speaker, format!("{origin}: {why}"));
                Error::ConfigurationError
            })
        };
        let tls = origin.tls.then(connector).transpose()?;
        let speaker = self.speaker.clone();
        Ok(Server {
            origin,
            addresses,
            tls,
            speaker,
        })
    }
}

/// How long each part of an exchange may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timeouts {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Timeouts {
    /// What the component asks for, but not longer than what is left of its run.
    fn new(asked: RequestOptions, left: Option<Duration>) -> Self {
        let limit = |asked: Option<Duration>| match (asked, left) {
            (Some(asked), Some(left)) => asked.min(left),
            (one, other) => one.or(other).unwrap_or(PATIENCE),
        };
        Self {
            connect: limit(asked.connect_timeout),
            first_byte: limit(asked.first_byte_timeout),
            between_bytes: limit(asked.between_bytes_timeout),
        }
    }
}

async fn exchange(request: Request<WasiBody>, server: Server, timeouts: Timeouts) -> Result<Sent, Error> {
    let connected = Instant::now() + timeouts.connect;
    let stream = connect(&server, connected).await?;
    let Some(tls) = &server.tls else {
        return converse(request, &server.origin, stream, timeouts).await;
    };
    let host = &server.origin.at.host;
    let name = ServerName::try_from(host.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let handshake = tls.connect(name.to_owned(), stream);
    let left = connected.saturating_duration_since(Instant::now());
    let stream = timeout(left, handshake).await.map_err(|_| Error::ConnectionTimeout)?;
    let stream = stream.map_err(|error| {
        say_warning(&server.speaker, format!("{}: {error}", server.origin));
        errors::tls(&error)
    })?;
    converse(request, &server.origin, stream, timeouts).await
}

/// Tries each address. None may take the time of those behind it.
async fn connect(server: &Server, end: Instant) -> Result<TcpStream, Error> {
    let mut why = Error::ConnectionTimeout;
    for (index, ip) in server.addresses.iter().enumerate() {
        let untried = (server.addresses.len() - index) as u32;
        let share = end.saturating_duration_since(Instant::now()) / untried;
        let attempt = TcpStream::connect(SocketAddr::new(*ip, server.origin.at.port));
        match timeout(share, attempt).await {
            Ok(Ok(stream)) => {
                // It is written in large pieces anyway; only a delay is left of Nagle's algorithm.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => why = errors::connect(&error),
            Err(_) => why = Error::ConnectionTimeout,
        }
    }
    Err(why)
}

async fn converse<S>(
    mut request: Request<WasiBody>,
    origin: &HttpOrigin,
    stream: S,
    timeouts: Timeouts,
) -> Result<Sent, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    address(&mut request, origin)?;
    let mut client = http1::Builder::new();
    let client = client.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await?;
    // Ends with the response, whose owner holds it.
    let connection = spawn(connection);
    let response = timeout(timeouts.first_byte, sender.send_request(request)).await;
    let response = response.map_err(|_| Error::ConnectionReadTimeout)??;
    let response = response.map(|body| WasiBody::new(ResponseBody::new(body, timeouts.between_bytes)));
    let finished = async move { connection.await.map_err(Error::from) };
    Ok((response, Box::new(finished)))
}

/// On the wire a request has only the path, and the host as it was granted, whatever else the component wrote.
fn address(request: &mut Request<WasiBody>, origin: &HttpOrigin) -> Result<(), Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::builder()
        .path_and_query(path)
        .build()
        .map_err(|_| Error::HttpRequestUriInvalid)?;
    let shown = origin.to_string();
    let host = shown.split_once("://").map_or(&*shown, |(_, host)| host);
    let host = HeaderValue::from_str(host).map_err(|_| Error::HttpRequestUriInvalid)?;
    request.headers_mut().insert(header::HOST, host);
    Ok(())
}

/// The body of a response, that may not pause for too long.
struct ResponseBody {
    incoming: Incoming,
    between_bytes: Duration,
    /// Of the pause that is going on.
    pause: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    fn new(incoming: Incoming, between_bytes: Duration) -> Self {
        Self {
            incoming,
            between_bytes,
            pause: None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = pin!(&mut self.incoming).poll_frame(cx) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let between_bytes = self.between_bytes;
        let pause = self
            .pause
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(between_bytes)));
        pause
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_part_takes_longer_than_the_run_has_left() {
        let asked = RequestOptions {
            connect_timeout: Some(SECOND),
            first_byte_timeout: Some(SECOND * 1_000),
            between_bytes_timeout: None,
        };
        let limits = |connect, first_byte, between_bytes| Timeouts {
            connect,
            first_byte,
            between_bytes,
        };
        assert_eq!(
            Timeouts::new(asked, Some(SECOND * 5)),
            limits(SECOND, SECOND * 5, SECOND * 5)
        );
        assert_eq!(Timeouts::new(asked, None), limits(SECOND, SECOND * 1_000, PATIENCE));
    }

    #[test]
    fn the_wire_says_what_was_granted() {
        let body = || WasiBody::new(Nothing);
        let sent = |uri: &str| {
            let request = Request::builder().uri(uri).header(header::HOST, "evil.example");
            let mut request = request.body(body()).unwrap();
            let origin = rules::origin(request.uri()).unwrap();
            address(&mut request, &origin).unwrap();
            let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().cloned().collect();
            (request.uri().to_string(), hosts)
        };
        assert_eq!(
            sent("http://API.example.com:80/a?b"),
            ("/a?b".to_owned(), vec!["api.example.com".parse().unwrap()])
        );
        assert_eq!(
            sent("https://[::1]:8443"),
            ("/".to_owned(), vec!["[::1]:8443".parse().unwrap()])
        );
    }

    struct Nothing;

    impl Body for Nothing {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            Poll::Ready(None)
        }
    }
}
