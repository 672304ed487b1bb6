//! Who may come in: what is asked of a connection, and of each request on the TCP port.
//!
//! The TCP port only looks, and shows an outline unless it is told otherwise; nothing can be changed there. Browsers reach it, and with
//! them every page that anybody opens on this machine. A page from elsewhere may send requests here but not read the answers, as long
//! as nobody tells its browser otherwise, so no header for that is ever sent. What is left is DNS rebinding: a name of the attacker's
//! that suddenly means this machine, for which the browser takes the page to be ours. Such a request carries that name in `Host`.

use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use nix::unistd::{Gid, Uid, User, getgrouplist};
use tokio::net::unix::UCred;

use super::disclosure::Shown;
use super::refusal::RequestRefusal;

/// What whoever is refused lacks.
pub const GROUP_NEEDED: &str = "it is for root, the daemon's own user, and members of the group twitcher";

/// The way in.
#[derive(Debug, Clone)]
pub enum Access {
    /// The Unix socket: for operators.
    Socket,
    /// The TCP port.
    Http {
        /// Its own names, in lower case.
        names: Vec<String>,
        /// What whoever reaches it is shown.
        shown: Shown,
    },
}

impl Access {
    /// How much is shown to whoever comes in.
    pub fn shown(&self) -> Shown {
        match self {
            Access::Socket => Shown::Everything,
            Access::Http { shown, .. } => *shown,
        }
    }

    /// Whether a request may come in.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), RequestRefusal> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match self {
            // A port may be forwarded to the socket (`ssh -L`), and then browsers reach it too: a page from elsewhere must not have its
            // way with an operator's rights. Other clients call this machine what they like.
            Access::Socket => {
                let by_browser =
                    request.headers().contains_key(header::ORIGIN) || request.headers().contains_key("sec-fetch-site");
                match host(request) {
                    // A name that somebody else may have pointed here has a dot.
                    Ok(host) if host_name(host).contains('.') && !is_ours(host_name(host), &[]) => Err(not_ours(host)),
                    Ok(host) if by_browser && reads => from_here(request, host),
                    _ if by_browser => Err(foreign()),
                    _ => Ok(()),
                }
            }
            Access::Http { .. } if !reads => {
                let error = format!("{} is not possible here: this port only looks", request.method());
                let help = "use the Unix socket, as the commands of twitcher do";
                Err(RequestRefusal::method("GET, HEAD", error).help(help))
            }
            Access::Http { names, .. } => match host(request)? {
                host if is_ours(host_name(host), names) => from_here(request, host),
                host => Err(not_ours(host)),
            },
        }
    }
}

/// Whether a browser, if it is one, asks on behalf of our own page.
fn from_here<B>(request: &Request<B>, host: &str) -> Result<(), RequestRefusal> {
    let headers = request.headers();
    if let Some(origin) = headers.get(header::ORIGIN)
        && origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) != Some(host)
    {
        return Err(foreign());
    }
    match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        // Somebody follows a link to the page: there is nothing to be read by the one who put it there.
        Some(_) if request.uri().path() == "/" && is_navigation(headers) => Ok(()),
        Some(_) => Err(foreign()),
    }
}

fn foreign() -> RequestRefusal {
    RequestRefusal::new(StatusCode::FORBIDDEN, "requests from pages of other sites are refused")
}

fn not_ours(host: &str) -> RequestRefusal {
    let error = format!("this is not {host:?}");
    let help = "use an address, localhost, or the name given with --http";
    RequestRefusal::new(StatusCode::MISDIRECTED_REQUEST, error).help(help)
}

fn is_navigation(headers: &HeaderMap) -> bool {
    let is = |name, value: &[u8]| headers.get(name).is_some_and(|header| header.as_bytes() == value);
    is("sec-fetch-mode", b"navigate") && is("sec-fetch-dest", b"document")
}

/// The host that a request is for, with its port. A request line that has one of its own must agree.
fn host<B>(request: &Request<B>) -> Result<&str, RequestRefusal> {
    let bad = |error| RequestRefusal::new(StatusCode::BAD_REQUEST, error);
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(bad("there must be exactly one Host header"));
    };
    let host = host.to_str().map_err(|_| bad("the Host header is not text"))?;
    match request.uri().authority() {
        Some(authority) if !authority.as_str().eq_ignore_ascii_case(host) => {
            Err(bad("the host of the request line is not that of the Host header"))
        }
        _ => Ok(host),
    }
}

/// Without the port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || port.starts_with(':') => address,
            _ => "",
        },
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// An address cannot be rebound; of names only those that nobody else can have.
fn is_ours(name: &str, names: &[String]) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok() || names.contains(&name)
}

/// The process at the other end of the Unix socket, as the kernel knew it when it connected.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub UCred);

impl Peer {
    /// Who that is, for people: the user, and before it who logged in if that was somebody else, as with sudo. May take long.
    pub fn name(self) -> String {
        let uid = self.0.uid();
        let user = user_name(uid);
        match self.login() {
            Some(login) if login != uid => format!("{} as {user}", user_name(login)),
            _ => user,
        }
    }

    /// Whose session it belongs to, if that is known.
    #[allow(clippy::disallowed_methods, reason = "the kernel answers by itself")]
    fn login(self) -> Option<u32> {
        let login = std::fs::read_to_string(format!("/proc/{}/loginuid", self.0.pid()?)).ok()?;
        login.trim().parse().ok().filter(|login| *login != u32::MAX)
    }
}

fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

/// Whether a process may use the Unix socket: root, the daemon's own user, and members of the group. May take long: the user database
/// may be remote.
pub fn may_operate(peer: UCred, group: Option<Gid>) -> bool {
    let (uid, gid) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
    if uid.is_root() || uid == Uid::effective() {
        return true;
    }
    let Some(group) = group else { return false };
    gid == group || supplementary(uid, gid).contains(&group)
}

fn supplementary(uid: Uid, gid: Gid) -> Vec<Gid> {
    let Ok(Some(user)) = User::from_uid(uid) else {
        return Vec::new();
    };
    let Ok(name) = std::ffi::CString::new(user.name) else {
        return Vec::new();
    };
    getgrouplist(&name, gid).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let access = Access::Http {
            names: vec!["box.example".to_owned()],
            shown: Shown::Outline,
        };
        status_of(&access, method, uri, headers)
    }

    fn status_of(access: &Access, method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match access.check(&request.body(()).unwrap()) {
            Ok(()) => 200,
            Err(refusal) => refusal.status().as_u16(),
        }
    }

    #[test]
    fn hosts() {
        for (host, expected) in [
            ("127.0.0.1:9464", 200),
            ("[::1]:9464", 200),
            ("[::1]", 200),
            ("10.1.2.3", 200),
            ("localhost:9464", 200),
            ("LOCALHOST.", 200),
            ("box.example:9464", 200),
            ("Box.Example", 200),
            ("evil.example", 421),
            ("evil.example:9464", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("[::1].evil.example", 421),
            ("", 421),
            ("[", 421),
            ("::1", 421),
        ] {
            assert_eq!(status("GET", "/", &[("host", host)]), expected, "{host:?}");
        }
        assert_eq!(status("GET", "/", &[]), 400);
        assert_eq!(status("GET", "/", &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(status("GET", "http://evil.example/", &[("host", "localhost")]), 400);
        assert_eq!(status("GET", "http://localhost/", &[("host", "localhost")]), 200);
    }

    /// The socket may be where a forwarded port ends, behind which a browser is.
    #[test]
    fn no_page_of_another_site_operates() {
        for (method, headers, expected) in [
            ("POST", &[][..], 200),
            ("POST", &[("host", "twitcher")], 200),
            ("POST", &[("host", "localhost")], 200),
            (
                "GET",
                &[("host", "127.0.0.1:9464"), ("sec-fetch-site", "same-origin")],
                200,
            ),
            (
                "GET",
                &[("host", "localhost:9464"), ("sec-fetch-site", "cross-site")],
                403,
            ),
            ("GET", &[("host", "evil.example:9464")], 421),
            ("POST", &[("host", "evil.example:9464")], 421),
            (
                "POST",
                &[("host", "localhost:9464"), ("origin", "http://evil.example")],
                403,
            ),
            (
                "POST",
                &[("host", "localhost:9464"), ("origin", "http://localhost:9464")],
                403,
            ),
            ("POST", &[("host", "localhost:9464"), ("sec-fetch-site", "none")], 403),
            ("POST", &[("origin", "http://evil.example")], 403),
        ] {
            let path = "/v1/watches/a/run";
            assert_eq!(
                status_of(&Access::Socket, method, path, headers),
                expected,
                "{method} {headers:?}"
            );
        }
    }

    #[test]
    fn only_looking_and_only_from_here() {
        let host = ("host", "localhost:9464");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
            assert_eq!(status(method, "/v1/status", &[host]), 405, "{method}");
        }
        assert_eq!(status("HEAD", "/v1/status", &[host]), 200);
        for (headers, expected) in [
            (&[("origin", "http://localhost:9464")][..], 200),
            (&[("origin", "http://localhost:80")], 403),
            (&[("origin", "https://localhost:9464")], 403),
            (&[("origin", "null")], 403),
            (&[("origin", "http://evil.example")], 403),
            (&[("sec-fetch-site", "same-origin")], 200),
            (&[("sec-fetch-site", "none")], 200),
            (&[("sec-fetch-site", "same-site")], 403),
            (&[("sec-fetch-site", "cross-site")], 403),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                ],
                403,
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                403,
            ),
        ] {
            assert_eq!(
                status("GET", "/v1/watches", &[&[host], headers].concat()),
                expected,
                "{headers:?}"
            );
        }
        let link = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(status("GET", "/", &link), 200);
    }
}
