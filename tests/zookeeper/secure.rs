//! TLS and SASL, against a server that insists on them.

use std::time::Duration;

use twitcher_model::WatchType::{Data, Tree};
use twitcher_source::zookeeper::{SaslDigest, Tls};

use super::*;
use crate::support::proxy::Proxy;
use crate::support::zookeeper::{Setup, ZooKeeperServer};

fn sasl(password: &str) -> Option<SaslDigest> {
    Some(SaslDigest {
        user: "twitcher".into(),
        password: password.into(),
    })
}

fn sasl_server() -> ZooKeeperServer {
    ZooKeeperServer::start_with(Setup {
        sasl: Some(("twitcher", "secret")),
        require_sasl: true,
        ..Setup::default()
    })
}

async fn sasl_writer(server: &ZooKeeperServer) -> Client {
    let sasl = zookeeper_client::SaslOptions::digest_md5("twitcher", "secret");
    let connector = Client::connector()
        .with_session_timeout(Duration::from_secs(60))
        .with_sasl(sasl);
    connector.connect(&server.address()).await.unwrap()
}

#[tokio::test]
async fn tls_with_a_certificate_of_our_own() {
    let server = ZooKeeperServer::start_with(Setup {
        tls: true,
        ..Setup::default()
    });
    let client = writer(&server.address()).await;
    create(&client, "/a", "1").await;
    let tls = Tls {
        ca: server.file("ca.pem"),
        identity: Some((server.file("client.pem"), server.file("client.key"))),
    };
    let mut secure = options(&format!("localhost:{}", server.secure_port()));
    secure.tls = Some(tls.clone());
    let mut observer = Observer::new(secure.clone());
    observer.watch(&[(1, "/a", Data), (2, "/a", Tree)]).await;
    set(&client, "/a", "2").await;
    observer.until_text(1, "2").await;

    // The server's certificate is for localhost: another name for the same address is not good enough.
    let mut misnamed = options(&format!("127.0.0.1:{}", server.secure_port()));
    misnamed.tls = Some(tls.clone());
    // The server wants to know who we are.
    let mut anonymous = secure.clone();
    anonymous.tls = Some(Tls {
        identity: None,
        ..tls.clone()
    });
    // And we want to know who it is.
    let mut distrusting = secure.clone();
    distrusting.tls = Some(Tls {
        ca: server.file("client.pem"),
        ..tls
    });
    for options in [misnamed, anonymous, distrusting] {
        let stats: Arc<Counters> = Arc::default();
        let mut refused = Observer::new(ZooKeeperOptions {
            stats: stats.clone(),
            ..options
        });
        refused.change(&[], &[(1, "/a", Data)]);
        refused.settle(Duration::from_secs(1)).await;
        assert_eq!((stats.sessions(), refused.count(1)), (0, 0));
    }
}

#[tokio::test]
async fn sasl_digest_md5() {
    let server = sasl_server();
    let client = sasl_writer(&server).await;
    create(&client, "/a", "1").await;
    let mut with = options(&server.address());
    with.sasl = sasl("secret");
    let mut observer = Observer::new(with);
    observer.watch(&[(1, "/a", Data), (2, "/a", Tree)]).await;
    set(&client, "/a", "2").await;
    observer.until_text(1, "2").await;
    observer.until_text(2, "/a\n").await;

    for password in [Some("guess"), None] {
        let mut without = options(&server.address());
        without.stats = Arc::default();
        without.sasl = password.and_then(sasl);
        let mut refused = Observer::new(without);
        refused.change(&[], &[(1, "/a", Data)]);
        refused.settle(Duration::from_secs(2)).await;
        assert_eq!(refused.count(1), 0);
    }
}

/// 3: where SASL is required, a reconnect with live watches ends in AuthFailed.
#[tokio::test]
async fn a_reconnect_is_survived_where_sasl_is_required() {
    let server = sasl_server();
    let proxy = Proxy::to(server.port());
    let client = sasl_writer(&server).await;
    for path in ["/a", "/t"] {
        create(&client, path, "0").await;
    }
    let mut with = options(&proxy.address());
    with.sasl = sasl("secret");
    let mut observer = Observer::new(with);
    observer.watch(&[(1, "/a", Data), (2, "/t", Tree)]).await;
    for round in 1..=3 {
        proxy.sever();
        set(&client, "/a", &round.to_string()).await;
        create(&client, &format!("/t/{round}"), "").await;
        observer.until_text(1, &round.to_string()).await;
        observer
            .until("the subtree", |o| {
                o.last(2).unwrap().stdin.ends_with(format!("/t/{round}\n").as_bytes())
            })
            .await;
    }
    assert!(proxy.connections() < 60, "{} connections", proxy.connections());
}
