//! The network: what is granted works, on real sockets and with real TLS, and nothing else does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{open_out, outcome, said, watch};
use crate::support::daemon::{Daemon, Site};
use crate::support::guests::guest;
use crate::support::until;
use crate::support::zookeeper::make_certificates;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A server on a port of its own that keeps what each client says first.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers with `answer`; without one it never does, and waits until the client goes.
    fn start(answer: Option<String>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                match &tls {
                    None => serve(client, answer.as_deref(), &kept),
                    Some(config) => {
                        let session = ServerConnection::new(Arc::clone(config)).unwrap();
                        serve(StreamOwned::new(session, client), answer.as_deref(), &kept);
                    }
                }
            }
        });
        Self { address, heard }
    }

    fn http(answer: &str) -> Self {
        Self::start(Some(answer.to_owned()), None)
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// A client that breaks off is no failure of the server.
fn serve(mut client: impl Read + Write, answer: Option<&str>, heard: &Mutex<Vec<String>>) {
    let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
    let mut kept = false;
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        said.extend_from_slice(&buffer[..length]);
        if kept || !said.ends_with(b"\r\n\r\n") && said != b"hello" {
            continue;
        }
        heard.lock().unwrap().push(String::from_utf8_lossy(&said).into_owned());
        kept = true;
        if let Some(answer) = answer {
            let _ = client.write_all(answer.as_bytes()).and_then(|()| client.flush());
            return;
        }
    }
    if kept {
        heard.lock().unwrap().push("gone".to_owned());
    }
}

fn run_in(name: &str, grants: &str, fields: &str, env: &[(&str, &Path)]) -> (Site, Daemon) {
    let site = Site::new();
    open_out(&site);
    watch(&site, &guest(name), grants, fields);
    site.set("/x", "data");
    let daemon = site.start_in(env);
    (site, daemon)
}

/// Runs a guest to its end; gives the outcome.
fn run(name: &str, grants: &str) -> (Daemon, String) {
    let (_site, daemon) = run_in(name, grants, "uid='nobody', timeout=20", &[]);
    let outcome = outcome(&daemon.wait_runs("w", 1)[0]).to_owned();
    (daemon, outcome)
}

fn request(scheme: &str, authority: &str, http: &str) -> String {
    format!("config={{'scheme': '{scheme}', 'authority': '{authority}'}}, http={http}")
}

/// Waits for the line that says what to add to the configuration.
fn denied(daemon: &Daemon, what: &str) {
    said(daemon, &format!("denied: {what}"));
}

#[test]
fn a_granted_origin_is_reached_by_its_name_and_by_its_address() {
    let server = Server::http(OK);
    for host in ["localhost", "127.0.0.1"] {
        let authority = format!("{host}:{}", server.port());
        let (daemon, outcome) = run(
            "requests",
            &request("http", &authority, &format!("['http://{authority}']")),
        );
        assert_eq!(outcome, "success", "{}", daemon.text());
        said(&daemon, "status 200");
        let head = server.heard().pop().unwrap().to_lowercase();
        assert!(head.starts_with("get /from-a-guest http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nhost: {authority}\r\n")), "{head}");
    }
}

#[test]
fn another_origin_is_denied_and_the_log_says_what_to_add() {
    let server = Server::http(OK);
    let here = format!("localhost:{}", server.port());
    for (scheme, authority, granted) in [
        ("http", here.clone(), "[]".to_owned()),
        ("http", here.clone(), format!("['https://{here}']")),
        ("https", here.clone(), format!("['http://{here}']")),
        ("http", here.clone(), "['http://localhost']".to_owned()),
        (
            "http",
            format!("127.0.0.1:{}", server.port()),
            format!("['http://{here}']"),
        ),
    ] {
        let (daemon, outcome) = run("requests", &request(scheme, &authority, &granted));
        assert!(outcome.contains("HttpRequestDenied"), "{outcome}");
        let origin = format!("{scheme}://{authority}");
        denied(
            &daemon,
            &format!(r#"a request to {origin}; to allow it, add http = ["{origin}"] to its Wasm(...)"#),
        );
    }
    let userinfo = format!("{here}@evil.example");
    let (_daemon, outcome) = run("requests", &request("http", &userinfo, &format!("['http://{here}']")));
    assert!(outcome.contains("HttpRequestUriInvalid"), "{outcome}");
    assert_eq!(server.heard(), Vec::<String>::new());
}

#[test]
fn an_absolute_name_is_the_same_name_and_what_is_advised_is_accepted() {
    let server = Server::http(OK);
    let absolute = format!("localhost.:{}", server.port());
    let (daemon, outcome) = run("requests", &request("http", &absolute, "[]"));
    assert!(outcome.contains("HttpRequestDenied"), "{outcome}");
    let advised = format!("[\"http://localhost:{}\"]", server.port());
    denied(
        &daemon,
        &format!(
            "a request to http://localhost:{}; to allow it, add http = {advised}",
            server.port()
        ),
    );
    let (daemon, outcome) = run("requests", &request("http", &absolute, &advised));
    assert_eq!(outcome, "success", "{}", daemon.text());
    let (_daemon, outcome) = run("resolves", "config={'name': 'localhost.'}, net=['localhost:1']");
    assert_eq!(outcome, "success");
}

#[test]
fn a_redirect_leads_nowhere_by_itself() {
    let target = Server::http(OK);
    let location = format!("http://localhost:{}/", target.port());
    let server = Server::http(&format!(
        "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    ));
    let authority = format!("localhost:{}", server.port());
    let (daemon, outcome) = run(
        "requests",
        &request("http", &authority, &format!("['http://{authority}']")),
    );
    assert_eq!(outcome, "success");
    said(&daemon, "status 302");
    assert_eq!((server.heard().len(), target.heard().len()), (1, 0));
}

#[test]
fn an_endless_head_of_a_response_is_refused() {
    let server = Server::http(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(200_000)));
    let authority = format!("localhost:{}", server.port());
    let (_daemon, outcome) = run(
        "requests",
        &request("http", &authority, &format!("['http://{authority}']")),
    );
    assert!(outcome.contains("HttpResponseHeaderSectionSize"), "{outcome}");
}

#[test]
fn https_trusts_whom_the_machine_trusts_and_only_by_name() {
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let pem = std::fs::read(dir.path().join("server.pem")).unwrap();
    let chain = CertificateDer::pem_slice_iter(&pem).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let server = Server::start(Some(OK.to_owned()), Some(Arc::new(config)));
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ours = dir.path().join("ca.pem");
    for (host, trusted, expected) in [
        ("localhost", Some(&ours), "success"),
        ("127.0.0.1", Some(&ours), "TlsCertificateError"),
        ("localhost", None, "TlsCertificateError"),
    ] {
        let authority = format!("{host}:{}", server.port());
        let grants = request("https", &authority, &format!("['https://{authority}']"));
        let env: Vec<_> = trusted
            .map(|file| ("SSL_CERT_FILE", file.as_path()))
            .into_iter()
            .collect();
        let (_site, daemon) = run_in("requests", &grants, "uid='nobody', timeout=20", &env);
        let end = daemon.wait_runs("w", 1).remove(0);
        assert!(outcome(&end).contains(expected), "{}", daemon.text());
        match expected {
            "success" => said(&daemon, "status 200"),
            _ => said(&daemon, &format!("https://{authority}: invalid peer certificate")),
        };
    }
    assert_eq!(server.heard().len(), 1);
}

#[test]
fn only_granted_names_resolve() {
    let (daemon, outcome) = run("resolves", "config={'name': 'localhost'}, net=['localhost:1']");
    assert_eq!(outcome, "success");
    said(&daemon, "127.0.0.1:80");
    let (daemon, outcome) = run("resolves", "config={'name': 'localhost'}, net=['other.invalid:1']");
    assert!(outcome.contains("refused"), "{outcome}");
    denied(
        &daemon,
        r#"resolving localhost; to allow it, add net = ["localhost:PORT"] to its Wasm(...)"#,
    );
    said(&daemon, "granted name");
}

#[test]
fn tcp_reaches_granted_ports_of_granted_hosts() {
    let (server, other) = (Server::start(None, None), Server::start(None, None));
    let connect = |address: &str, net: &str| run("connects", &format!("config={{'address': '{address}'}}, net={net}"));
    let granted = format!("['localhost:{}']", server.port());
    for host in ["localhost", "127.0.0.1"] {
        let (daemon, outcome) = connect(&format!("{host}:{}", server.port()), &granted);
        assert_eq!(outcome, "success", "{}", daemon.text());
    }
    until("both came", || {
        server.heard().iter().filter(|said| *said == "hello").count() == 2
    });

    let (daemon, outcome) = connect(&other.address.to_string(), &granted);
    assert!(outcome.contains("refused"), "{outcome}");
    let add = format!("localhost:{}", other.port());
    denied(
        &daemon,
        &format!(r#"connecting to {add}; to allow it, add net = ["{add}"] to its Wasm(...)"#),
    );
    let (daemon, outcome) = connect("192.0.2.1:80", &granted);
    assert!(outcome.contains("refused"), "{outcome}");
    denied(&daemon, "connecting to 192.0.2.1:80;");
    let (daemon, outcome) = connect(&other.address.to_string(), "[]");
    assert!(outcome.contains("refused"), "{outcome}");
    denied(&daemon, r#"making a TCP socket; to allow it, add net = ["HOST:PORT"]"#);
    assert_eq!(other.heard(), Vec::<String>::new());
}

#[test]
fn nothing_lets_a_component_listen_or_send_datagrams() {
    let (daemon, outcome) = run("listens", "net=['127.0.0.1:80']");
    assert!(outcome.contains("refused"), "{outcome}");
    denied(&daemon, "listening on 127.0.0.1:0; nothing allows it");
    let (daemon, outcome) = run("sends_udp", "config={'address': '127.0.0.1:80'}, net=['127.0.0.1:80']");
    assert!(outcome.contains("refused"), "{outcome}");
    denied(&daemon, "making a UDP socket; nothing allows it");
}

#[test]
fn a_server_that_never_answers_holds_nothing_up() {
    let server = Server::start(None, None);
    let authority = format!("127.0.0.1:{}", server.port());
    let grants = request("http", &authority, &format!("['http://{authority}']"));
    let (site, daemon) = run_in("requests", &grants, "timeout=1, kill_after=1", &[]);
    site.config(
        "other.twc",
        "RegisterWatch(znode='/y', name='other', action=Exec('true'))\n",
    );
    site.set("/y", "1");
    daemon.wait_runs("other", 1);
    let runs = daemon.wait_runs("w", 1);
    assert_eq!(outcome(&runs[0]), "timed out");
    until("the connection is closed", || {
        server.heard().last().is_some_and(|last| last == "gone")
    });
    // And it can be ended for a newer update.
    let (site, daemon) = run_in("requests", &grants, "run_mode=RESTART, kill_after=1", &[]);
    until("it waits", || server.heard().len() == 3);
    site.set("/x", "newer");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "terminated");
    until("the newer one waits", || server.heard().len() >= 5);
}

#[test]
fn nobody_there_is_an_error_of_the_request() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(TcpStream::connect(closed).is_err());
    let grants = request("http", &closed.to_string(), &format!("['http://{closed}']"));
    let (_daemon, outcome) = run("requests", &grants);
    assert!(outcome.contains("ConnectionRefused"), "{outcome}");
    let grants = request("http", "no-such-host.invalid", "['http://no-such-host.invalid']");
    let (daemon, outcome) = run("requests", &grants);
    assert!(outcome.contains("DnsError"), "{outcome}");
    said(&daemon, "granted name");
}
