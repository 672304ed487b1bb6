//! The server: connections, how many and how long, and what is asked of every request before it is looked at.
//!
//! It has a thread and a runtime of its own, of lower priority than the daemon's, so that whoever hammers it does not slow actions.
//! Every bound is in [`ServerLimits`]: a client can make neither memory nor the number of open files grow, nor hold a place for ever without
//! doing anything.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::UCred;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};
use twitcher_process::threads::{FOR_EVER, fill_pool};

use super::access_control::{Access, GROUP_NEEDED, Peer, may_operate};
use super::disclosure::Shown;
use super::listeners::{Http, Listeners, Socket};
use super::places::{Activity, BusyBody, Places};
use super::rate_limit::RateLimit;
use super::refusal::RequestRefusal;
use super::routes;
use super::write_timeout::WriteTimeout;
use super::{App, host_name};

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Connections at once, each way in by itself. One more takes the place of one that asks nothing, or else is told so and closed.
    pub connections: usize,
    /// Time for a request's head, from when the connection is ready for it: also how long an idle one stays open.
    pub head: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Headers.
    pub headers: usize,
    /// Bytes of a path with its query.
    pub path: usize,
    /// Bytes of a body. None is needed; what comes is read and ignored.
    pub body: usize,
    /// Time for a body.
    pub body_time: Duration,
    /// Time for an answer to be ready.
    pub answer: Duration,
    /// Time that a client may take nothing of an answer.
    pub stall: Duration,
    /// Time that what is under way is given at the end.
    pub goodbye: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 96,
            head: Duration::from_secs(5),
            head_bytes: 32 * 1024,
            headers: 64,
            path: 8 * 1024,
            body: 64 * 1024,
            body_time: Duration::from_secs(5),
            // Loading the configuration may take minutes; everything else has bounds of its own that are shorter.
            answer: Duration::from_secs(610),
            stall: Duration::from_secs(20),
            goodbye: Duration::from_millis(300),
        }
    }
}

/// Threads that read what the disk has to tell. They exist from the start: who asks what goes on asks above all when there are none to be had.
const BLOCKING_THREADS: usize = 4;

/// A server at work.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts its thread.
    ///
    /// # Errors
    /// If the thread or its runtime cannot be started.
    pub fn start(listeners: Listeners, app: Arc<App>, limits: ServerLimits) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("twitcher-history")
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(FOR_EVER)
            .build()?;
        fill_pool(BLOCKING_THREADS, |job| drop(runtime.spawn_blocking(job)))?;
        if let Some(socket) = &listeners.socket {
            info!(socket = %socket.path.display(), "control interface");
        }
        if let Some(http) = &listeners.http {
            let details = http.shown == Shown::Everything;
            info!(address = %http.address, details, "status page and metrics");
        }
        let served = Arc::clone(&app);
        let work = move || {
            twitcher_process::lower_priority();
            runtime.block_on(serve(listeners, served, limits));
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("twitcher-control".to_owned())
            .spawn(work)?;
        Ok(Self { app, thread })
    }

    /// Ends streams of events, lets other answers be finished for a moment, and gives up what is listened on.
    pub fn stop(self) {
        self.app.closing.send_replace(true);
        if self.thread.join().is_err() {
            error!("the thread of the control interface has failed");
        }
    }
}

async fn serve(listeners: Listeners, app: Arc<App>, limits: ServerLimits) {
    let router = routes::router(Arc::clone(&app));
    let mut ways = JoinSet::new();
    // Whatever is wrong with one, the other goes on.
    if let Some(socket) = &listeners.socket {
        match socket.listener.try_clone().and_then(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        }) {
            Ok(listener) => drop(ways.spawn(way_in(
                Way::socket(socket, listener),
                router.clone(),
                app.clone(),
                limits,
            ))),
            Err(error) => error!("cannot listen on the control socket: {error}"),
        }
    }
    if let Some(http) = &listeners.http {
        match http.listener.try_clone().and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        }) {
            Ok(listener) => drop(ways.spawn(way_in(Way::http(http, listener), router, app, limits))),
            Err(error) => error!("cannot listen on {}: {error}", http.address),
        }
    }
    while ways.join_next().await.is_some() {}
}

/// Waits until the server ends.
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    // What it gives is a lock, which must not be kept.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// A way in.
#[derive(Debug)]
struct Way {
    listener: Listener,
    access: Access,
    group: Option<nix::unistd::Gid>,
}

#[derive(Debug)]
enum Listener {
    Socket(UnixListener),
    Http(TcpListener),
}

impl Way {
    fn socket(socket: &Socket, listener: UnixListener) -> Self {
        Self {
            listener: Listener::Socket(listener),
            access: Access::Socket,
            group: socket.group,
        }
    }

    fn http(http: &Http, listener: TcpListener) -> Self {
        let host = host_name();
        let names = http.name.as_deref().into_iter().chain([&*host]);
        Self {
            listener: Listener::Http(listener),
            access: Access::Http {
                names: names.map(str::to_ascii_lowercase).collect(),
                shown: http.shown,
            },
            group: None,
        }
    }
}

/// What the connections of one way in share.
#[derive(Debug)]
struct Common {
    access: Access,
    group: Option<nix::unistd::Gid>,
    router: Router,
    app: Arc<App>,
    limits: ServerLimits,
    pace: RateLimit,
}

async fn way_in(way: Way, router: Router, app: Arc<App>, limits: ServerLimits) {
    let mut closing = app.closing.subscribe();
    let mut places = Places::new(limits.connections);
    let common = Arc::new(Common {
        access: way.access,
        group: way.group,
        router,
        app,
        limits,
        pace: RateLimit::new(),
    });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = way.listener.accept() => accepted,
            Some(ended) = connections.join_next_with_id() => {
                places.leave(ended.map_or_else(|error| error.id(), |(id, ())| id));
                continue;
            }
            () = closed(&mut closing) => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely: they come back as others end.
                debug!("cannot take a connection: {error}");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if !places.make_room() {
            stream.turn_away();
            continue;
        }
        let (common, activity) = (Arc::clone(&common), Activity::new());
        let noted = Arc::clone(&activity);
        let task = connections.spawn(async move {
            match stream {
                Accepted::Socket(stream) => {
                    let peer = stream.peer_cred().ok();
                    let refused = common.refuses(peer).await;
                    connection(stream, common, activity, peer.map(Peer), refused).await;
                }
                Accepted::Http(stream) => {
                    // Small answers are to go out at once.
                    let _ = stream.set_nodelay(true);
                    connection(stream, common, activity, None, false).await;
                }
            }
        });
        places.take(task, noted);
    }
    drop(way.listener);
    let _ = timeout(limits.goodbye, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

enum Accepted {
    Socket(UnixStream),
    Http(tokio::net::TcpStream),
}

impl Accepted {
    /// Says that there is no place, if the client's end takes it at once.
    fn turn_away(self) {
        const FULL: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 33\r\n\
            connection: close\r\n\r\n{\"error\":\"too many connections\"}\n";
        let _ = match &self {
            Accepted::Socket(stream) => stream.try_write(FULL),
            Accepted::Http(stream) => stream.try_write(FULL),
        };
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Socket(listener) => Ok(Accepted::Socket(listener.accept().await?.0)),
            Listener::Http(listener) => Ok(Accepted::Http(listener.accept().await?.0)),
        }
    }
}

impl Common {
    /// Whether the process at the other end may not use the socket. The kernel says who it was when it connected.
    async fn refuses(&self, peer: Option<UCred>) -> bool {
        let Some(peer) = peer else { return true };
        let group = self.group;
        let allowed = spawn_blocking(move || may_operate(peer, group)).await.unwrap_or(false);
        if !allowed {
            warn!(
                uid = peer.uid(),
                gid = peer.gid(),
                pid = peer.pid(),
                "a process that may not use the control socket was refused"
            );
        }
        !allowed
    }

    async fn answer(&self, request: Request<Incoming>, peer: Option<Peer>, refused: bool) -> Response<Body> {
        self.pace.turn().await;
        let response = match self.admit(request, refused).await {
            Ok(mut request) => {
                request.extensions_mut().insert(self.access.shown());
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                let service = TowerToHyperService::new(self.router.clone());
                match timeout(self.limits.answer, service.call(request)).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => {
                        RequestRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long").into_response()
                    }
                }
            }
            Err(refusal) => refusal.into_response(),
        };
        self.pace.count(response.body().size_hint().exact().unwrap_or(0));
        with_headers(response)
    }

    /// A request whose body has been read and that may come in.
    async fn admit(&self, request: Request<Incoming>, refused: bool) -> Result<Request<Body>, RequestRefusal> {
        if refused {
            return Err(RequestRefusal::new(StatusCode::FORBIDDEN, "this socket is for operators").help(GROUP_NEEDED));
        }
        self.access.check(&request)?;
        let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        if path > self.limits.path {
            return Err(RequestRefusal::new(
                StatusCode::URI_TOO_LONG,
                format!("the path is longer than {} bytes", self.limits.path),
            ));
        }
        let most = self.limits.body;
        let too_large = || {
            RequestRefusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {most} bytes; none is needed"),
            )
        };
        if request.body().size_hint().lower() > most as u64 {
            return Err(too_large());
        }
        let (head, body) = request.into_parts();
        if !matches!(head.method, Method::GET | Method::HEAD) {
            match timeout(self.limits.body_time, to_bytes(Body::new(body), most)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(too_large()),
                Err(_) => {
                    return Err(RequestRefusal::new(
                        StatusCode::REQUEST_TIMEOUT,
                        "the body did not come in time",
                    ));
                }
            }
        }
        Ok(Request::from_parts(head, Body::empty()))
    }
}

/// What holds for every answer: it is of this moment, and not to be taken for anything else than it says.
fn with_headers(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
    response
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    common: Arc<Common>,
    activity: Arc<Activity>,
    peer: Option<Peer>,
    refused: bool,
) {
    let limits = common.limits;
    let mut closing = common.app.closing.subscribe();
    let service = service_fn(move |request| {
        let (common, busy) = (Arc::clone(&common), activity.begin());
        async move {
            let answer = common.answer(request, peer, refused).await;
            Ok::<_, Infallible>(answer.map(|body| BusyBody::new(body, busy)))
        }
    });
    let io = TokioIo::new(WriteTimeout::new(stream, limits.stall));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.headers);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients go, or send nonsense, which was answered.
        debug!("a connection to the control interface ended: {error}");
    }
}
