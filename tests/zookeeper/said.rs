//! What the log says. Operators search it: a message that is missing, repeated without end, or tells a secret is a defect.

use std::sync::Mutex;
use std::time::Duration;

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use twitcher_model::WatchType::{Children, Data, Tree};
use twitcher_source::zookeeper::SaslDigest;

use super::*;
use crate::support::proxy::Proxy;
use crate::support::zookeeper::{Setup, ZooKeeperServer, free_port, unique_path};

/// The lines logged on this thread, where the tasks of the test's runtime run too.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> (Self, DefaultGuard) {
        Self::capture_from("info")
    }

    fn capture_from(level: &str) -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(format!("twitcher={level}")))
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self, part: &str) -> Vec<String> {
        self.text()
            .lines()
            .filter(|line| line.contains(part))
            .map(String::from)
            .collect()
    }

    async fn until(&self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines(part).pop() {
                Some(line) => return line,
                None => assert!(Instant::now() < deadline, "nothing says {part:?}:\n{}", self.text()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

#[tokio::test]
async fn a_missing_server_is_named_with_the_reason_once() {
    let (log, _guard) = Log::capture();
    let port = free_port();
    let mut observer = Observer::new(options(&format!("127.0.0.1:{port}")));
    observer.change(&[], &[(1, "/a", Data), (2, "/b", Tree)]);
    let line = log.until("no ZooKeeper session").await;
    assert!(
        line.contains("WARN") && line.contains(&format!("127.0.0.1:{port}: Connection refused")),
        "{line}"
    );
    observer.settle(Duration::from_secs(2)).await;
    assert_eq!(log.lines("no ZooKeeper session").len(), 1, "{}", log.text());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let (log, _guard) = Log::capture();
    let observer = Observer::new(options("zookeeper.invalid:2181"));
    observer.change(&[], &[(1, "/a", Data)]);
    let line = log.until("no ZooKeeper session").await;
    assert!(
        line.contains("zookeeper.invalid:2181: failed to lookup address"),
        "{line}"
    );
}

#[tokio::test]
async fn a_port_where_something_else_listens_is_told_apart() {
    let (log, _guard) = Log::capture();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        use std::io::Write;
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let observer = Observer::new(options(&address));
    observer.change(&[], &[(1, "/a", Data)]);
    let line = log.until("no ZooKeeper session").await;
    assert!(line.contains("does not answer as a ZooKeeper server"), "{line}");
}

#[tokio::test]
async fn refused_credentials_are_told_apart_from_a_missing_server() {
    let server = ZooKeeperServer::start_with(Setup {
        sasl: Some(("twitcher", "secret")),
        require_sasl: true,
        ..Setup::default()
    });
    for (password, given) in [(Some("guess"), "sasl=given"), (None, "sasl=none given")] {
        let (log, _guard) = Log::capture();
        let mut wrong = options(&server.address());
        wrong.sasl = password.map(|password| SaslDigest {
            user: "twitcher".into(),
            password: password.into(),
        });
        let mut observer = Observer::new(wrong);
        observer.change(&[], &[(1, "/a", Data)]);
        let line = log.until("refused our credentials").await;
        assert!(line.contains("ERROR") && line.contains(given), "{line}");
        observer.settle(Duration::from_secs(2)).await;
        assert_eq!(log.lines("refused our credentials").len(), 1, "{}", log.text());
        assert!(!log.text().contains("guess"));
    }
}

#[tokio::test]
async fn a_session_s_life_is_told() {
    let (log, _guard) = Log::capture_from("debug");
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let path = unique_path("told");
    create(&client, &path, "contents").await;
    let absent = format!("{path}/absent");
    let mut short = options(&proxy.address());
    short.session_timeout = Duration::from_secs(1);
    let mut observer = Observer::new(short);
    observer.watch(&[(1, &path, Data), (2, &absent, Children)]).await;
    let line = log.until("connected").await;
    assert!(
        line.contains("INFO") && line.contains("session=0x") && line.contains("seconds="),
        "{line}"
    );
    let line = log.until("watch armed watch=").await;
    assert!(line.contains("DEBUG"), "for any number of watches: {line}");
    assert!(
        line.contains(&format!("watch=\"watch 1\" znode=\"{path}\" version=0x")),
        "{line}"
    );
    let line = log.until("watch armed, znode absent").await;
    assert!(
        line.contains(&format!("watch=\"watch 2\" znode=\"{absent}\"")),
        "{line}"
    );

    proxy.sever();
    assert!(log.until("connection lost").await.contains("WARN"));
    log.until("connected again").await;
    proxy.rules(|rules| rules.blackhole = true);
    assert!(log.until("session expired").await.contains("WARN"));
    proxy.rules(|rules| rules.blackhole = false);
    proxy.sever();
    set(&client, &path, "other contents").await;
    observer.until_text(1, "other contents").await;
    assert_eq!(
        log.lines("watch armed").len(),
        2,
        "armed is told once a watch: {}",
        log.text()
    );
    assert!(!log.text().contains("contents"), "what is in a znode is not logged");
}

#[tokio::test]
async fn a_troubled_znode_is_told_once_with_what_is_wrong() {
    let (log, _guard) = Log::capture();
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    client.auth("digest", b"owner:secret").await.unwrap();
    let (hidden, large) = (unique_path("hidden"), unique_path("large"));
    client
        .create(&hidden, b"", &CreateMode::Persistent.with_acls(Acls::creator_all()))
        .await
        .unwrap();
    create(&client, &large, &"x".repeat(5000)).await;
    let mut strict = options(&server.address());
    strict.max_data = 4999;
    strict.retry_interval = Duration::from_millis(100);
    let mut observer = Observer::new(strict);
    observer.watch(&[(1, &hidden, Data), (2, &large, Data)]).await;
    observer.settle(Duration::from_secs(1)).await;
    let lines = log.lines(&hidden);
    assert!(
        lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains("no permission"),
        "{lines:?}"
    );
    let lines = log.lines(&large);
    assert!(
        lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains("5000 bytes"),
        "{lines:?}"
    );
    set(&client, &large, "small").await;
    observer.until_text(2, "small").await;
    assert!(log.lines(&large).pop().unwrap().contains("can be read again"));
}
