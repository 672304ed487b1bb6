//! Single znodes read and written on request: what a failure lets the caller conclude is what really happened.

use std::time::Duration;

use bytes::Bytes;
use twitcher_model::WatchType::{Data, Tree};
use twitcher_source::zookeeper::Auth;
use twitcher_source::{Denial, ZnodeError, ZnodeRefusal, Znodes};

use super::*;
use crate::support::proxy::{Proxy, op};
use crate::support::zookeeper::{Setup, ZooKeeperServer, unique_path};

fn path(path: impl AsRef<str>) -> ZnodePath {
    ZnodePath::new(path.as_ref()).unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A source of which only the requests are of interest.
struct Asker {
    znodes: Znodes,
    stats: Arc<Counters>,
    _source: Source,
}

impl Asker {
    fn new(options: ZooKeeperOptions) -> Self {
        let stats = options.stats.clone();
        let source = spawn(options);
        Self {
            znodes: source.znodes.clone(),
            stats,
            _source: source,
        }
    }

    /// Data of a znode, however long it takes to get a session.
    async fn text(&self, of: &ZnodePath) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.znodes.get(of).await {
                Ok((data, _)) => return String::from_utf8(data.to_vec()).unwrap(),
                Err(ZnodeError::SessionLost(_)) if Instant::now() < deadline => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test]
async fn znodes_are_read_and_written() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = path(unique_path("requests"));
    let child = path(format!("{root}/b"));
    let asker = Asker::new(options(&server.address()));
    assert_eq!(asker.stats.sessions(), 0, "no session before it is needed");
    let znodes = &asker.znodes;

    assert_eq!(znodes.get(&root).await, Err(ZnodeError::NoNode(root.clone())));
    assert_eq!(znodes.children(&root).await, Err(ZnodeError::NoNode(root.clone())));
    assert_eq!(
        znodes.set(&root, bytes("x"), None).await,
        Err(ZnodeError::NoNode(root.clone()))
    );
    // Of a znode that cannot be created it is the parent that is missing.
    assert_eq!(
        znodes.create(&child, bytes("x")).await,
        Err(ZnodeError::NoNode(root.clone()))
    );
    znodes.create(&root, bytes("1")).await.unwrap();
    assert_eq!(
        znodes.create(&root, bytes("2")).await,
        Err(ZnodeError::NodeExists(root.clone()))
    );
    assert_eq!(
        znodes.create(&path("/"), bytes("2")).await,
        Err(ZnodeError::NodeExists(path("/")))
    );
    for name in ["b", "c", "a"] {
        znodes.create(&path(format!("{root}/{name}")), bytes("")).await.unwrap();
    }
    assert_eq!(znodes.children(&root).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(znodes.children(&child).await.unwrap(), [""; 0]);

    let (data, first) = znodes.get(&root).await.unwrap();
    assert_eq!((&*data, first.version), (&b"1"[..], 0));
    let second = znodes.set(&root, bytes("2"), Some(first.version)).await.unwrap();
    assert_eq!((second.version, second.czxid), (1, first.czxid));
    assert_eq!(
        znodes.get(&root).await.unwrap(),
        (bytes("2"), second),
        "what was set is what is read"
    );
    for old in [0, 7, -1] {
        assert_eq!(
            znodes.set(&root, bytes("3"), Some(old)).await,
            Err(ZnodeError::BadVersion(root.clone()))
        );
    }
    znodes.set(&root, bytes("3"), None).await.unwrap();
    let (data, stat) = client.get_data(root.as_str()).await.unwrap();
    assert_eq!((&*data, stat.version), (&b"3"[..], 2));
    assert_eq!(asker.stats.sessions(), 1, "all by one session");
}

#[tokio::test]
async fn znodes_are_below_the_chroot() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let chroot = unique_path("chroot");
    create(&client, &chroot, "").await;
    let asker = Asker::new(options(&format!("{}{chroot}", server.address())));
    asker.znodes.create(&path("/a"), bytes("1")).await.unwrap();
    assert_eq!(asker.text(&path("/a")).await, "1");
    assert_eq!(asker.znodes.children(&path("/")).await.unwrap(), ["a"]);
    asker.znodes.set(&path("/a"), bytes("2"), Some(0)).await.unwrap();
    assert_eq!(client.get_data(&format!("{chroot}/a")).await.unwrap().0, b"2");
    let missing = asker.znodes.get(&path("/b")).await;
    assert_eq!(missing, Err(ZnodeError::NoNode(path("/b"))), "without the chroot");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_has_an_unknown_outcome_and_is_not_repeated() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let root = path(unique_path("unknown"));
    create(&client, root.as_str(), "1").await;
    let asker = Asker::new(options(&proxy.address()));
    assert_eq!(asker.text(&root).await, "1");

    proxy.rules(|rules| rules.cut_reply_to = Some(op::SET_DATA));
    let set = asker.znodes.set(&root, bytes("2"), Some(0)).await;
    assert_eq!(set, Err(ZnodeError::UnknownOutcome(root.clone())));
    assert_eq!((proxy.cut(), proxy.requests(op::SET_DATA)), (1, 1));
    let (data, stat) = client.get_data(root.as_str()).await.unwrap();
    assert_eq!((&*data, stat.version), (&b"2"[..], 1), "it was carried out, once");

    let child = path(format!("{root}/a"));
    proxy.rules(|rules| rules.cut_reply_to = Some(op::CREATE));
    let created = asker.znodes.create(&child, bytes("3")).await;
    assert_eq!(created, Err(ZnodeError::UnknownOutcome(child.clone())));
    assert_eq!(client.get_data(child.as_str()).await.unwrap().0, b"3");
    assert_eq!(proxy.requests(op::CREATE), 1);

    // The caller can find out.
    assert_eq!(asker.text(&child).await, "3");
    assert_eq!(asker.stats.sessions(), 1, "the session was kept");
}

#[tokio::test]
async fn a_read_whose_answer_is_lost_is_made_again() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let root = path(unique_path("reread"));
    create(&client, root.as_str(), "1").await;
    let asker = Asker::new(options(&proxy.address()));
    proxy.rules(|rules| rules.cut_reply_to = Some(op::GET_DATA));
    assert_eq!(asker.text(&root).await, "1");
    assert_eq!((proxy.cut(), proxy.requests(op::GET_DATA)), (1, 2));
}

#[tokio::test]
async fn a_write_that_meets_no_server_was_not_carried_out() {
    let mut server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    create(&client, "/a", "1").await;
    let mut impatient = options(&server.address());
    impatient.patience = Duration::from_secs(2);
    impatient.session_timeout = Duration::from_secs(60);
    let asker = Asker::new(impatient.clone());
    assert_eq!(asker.text(&path("/a")).await, "1");
    server.kill();
    eventually("the loss was noticed", || asker.stats.lost() == 1).await;
    // One of a session that waits for its server, one that never had a session.
    impatient.stats = Arc::default();
    let never = Asker::new(impatient);
    let (a, b) = (path("/a"), path("/b"));
    let ask = async |znodes: &Znodes| {
        let set = znodes.set(&a, bytes("2"), None);
        let created = znodes.create(&b, bytes("2"));
        let failures = tokio::join!(set, created, znodes.get(&a), znodes.children(&b));
        (
            failures.0.unwrap_err(),
            failures.1.unwrap_err(),
            failures.2.unwrap_err(),
            failures.3.unwrap_err(),
        )
    };
    let lost = |znode: &ZnodePath| ZnodeError::SessionLost(znode.clone());
    let all_lost = (lost(&a), lost(&b), lost(&a), lost(&b));
    let (had, had_not) = tokio::join!(ask(&asker.znodes), ask(&never.znodes));
    assert_eq!(had, all_lost);
    assert_eq!(had_not, all_lost);
    server.restart();
    assert_eq!(asker.text(&a).await, "1");
    // Nothing was kept to be sent later: a write that is answered now is the first since.
    let stat = asker.znodes.set(&path("/a"), bytes("3"), None).await.unwrap();
    assert_eq!(stat.version, 1);
    assert_eq!(asker.znodes.children(&path("/")).await.unwrap(), ["a", "zookeeper"]);
}

#[tokio::test]
async fn a_write_that_gets_no_answer_in_time_has_an_unknown_outcome() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let root = path(unique_path("hanging"));
    create(&client, root.as_str(), "1").await;
    let mut impatient = options(&proxy.address());
    impatient.patience = Duration::from_secs(1);
    impatient.session_timeout = Duration::from_secs(60);
    let asker = Asker::new(impatient);
    assert_eq!(asker.text(&root).await, "1");
    proxy.rules(|rules| rules.blackhole = true);
    let set = asker.znodes.set(&root, bytes("2"), None).await;
    assert_eq!(set, Err(ZnodeError::UnknownOutcome(root.clone())));
    let got = asker.znodes.get(&root).await;
    assert_eq!(got, Err(ZnodeError::SessionLost(root.clone())));
    // And indeed it may be carried out afterwards.
    proxy.rules(|rules| rules.blackhole = false);
    let deadline = Instant::now() + DEADLINE;
    while client.get_data(root.as_str()).await.unwrap().0 != b"2" {
        assert!(Instant::now() < deadline, "the write is gone");
    }
}

#[tokio::test]
async fn requests_go_on_in_a_new_session_when_one_expires() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let root = path(unique_path("expiry"));
    create(&client, root.as_str(), "1").await;
    let mut short = options(&proxy.address());
    short.session_timeout = Duration::from_secs(2);
    let asker = Asker::new(short);
    assert_eq!(asker.text(&root).await, "1");
    for _ in 0..2 {
        let (sessions, ended) = (asker.stats.sessions(), asker.stats.ended());
        proxy.rules(|rules| rules.blackhole = true);
        eventually("the session is over", || asker.stats.ended() > ended).await;
        proxy.rules(|rules| rules.blackhole = false);
        proxy.sever();
        asker.znodes.set(&root, bytes("2"), None).await.unwrap();
        assert_eq!(asker.text(&root).await, "2");
        assert!(asker.stats.sessions() > sessions);
    }
}

#[tokio::test]
async fn what_a_server_would_not_take_is_not_sent() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let root = path(unique_path("oversize"));
    let asker = Asker::new(options(&proxy.address()));
    let most = (1 << 20) - 1024 - root.as_str().len();
    let data = |len: usize| Bytes::from(vec![b'x'; len]);
    let too_large = ZnodeError::TooLarge {
        znode: root.clone(),
        most: 1 << 20,
    };
    assert_eq!(asker.znodes.create(&root, data(most + 1)).await, Err(too_large.clone()));
    // The server takes all that is not refused.
    asker.znodes.create(&root, data(most)).await.unwrap();
    assert_eq!(
        asker.znodes.set(&root, data(most + 1), None).await,
        Err(too_large.clone())
    );
    asker.znodes.set(&root, data(most), None).await.unwrap();
    assert_eq!(asker.znodes.get(&root).await.unwrap().0.len(), most);
    assert_eq!((asker.stats.sessions(), asker.stats.lost()), (1, 0), "nothing broke");
}

#[tokio::test]
async fn answers_that_are_too_large_are_refused() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let root = path(unique_path("answers"));
    create(&client, root.as_str(), &"x".repeat(5000)).await;
    for i in 0..70 {
        create(&client, &format!("{root}/{}{i}", "n".repeat(80)), "").await;
    }
    let mut strict = options(&proxy.address());
    strict.max_data = 4999;
    let asker = Asker::new(strict);
    let too_large = ZnodeError::TooLarge {
        znode: root.clone(),
        most: 4999,
    };
    assert_eq!(asker.znodes.get(&root).await, Err(too_large.clone()));
    assert_eq!(proxy.requests(op::GET_DATA), 0, "its size is looked at first");
    assert_eq!(asker.znodes.children(&root).await, Err(too_large));
    set(&client, root.as_str(), &"x".repeat(4999)).await;
    assert_eq!(asker.znodes.get(&root).await.unwrap().0.len(), 4999);
}

/// A server that takes less than we think: the connection is lost over it, but it is not that of the watches.
#[tokio::test]
async fn a_request_that_breaks_its_connection_disturbs_no_watch() {
    let server = ZooKeeperServer::start_with(Setup {
        max_buffer: Some(10_000),
        ..Setup::default()
    });
    let client = writer(&server.address()).await;
    for znode in ["/a", "/t", "/t/b"] {
        create(&client, znode, "1").await;
    }
    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, "/a", Data), (2, "/t", Tree)]).await;
    let (sessions, lost) = (observer.stats.sessions(), observer.stats.lost());
    let znodes = observer.source.znodes.clone();
    let large = Bytes::from(vec![b'x'; 20_000]);
    assert_eq!(
        znodes.set(&path("/a"), large, None).await,
        Err(ZnodeError::UnknownOutcome(path("/a")))
    );
    eventually("the connection was lost", || observer.stats.lost() == lost + 1).await;
    znodes.set(&path("/a"), bytes("2"), Some(0)).await.unwrap();
    observer.until_text(1, "2").await;
    znodes.create(&path("/t/c"), bytes("")).await.unwrap();
    observer.until_text(2, "/t/c\n").await;
    assert_eq!(observer.stats.lost(), lost + 1, "that of the requests alone");
    assert_eq!(observer.stats.sessions(), sessions + 1);
}

#[tokio::test]
async fn access_control_lists_are_obeyed_and_made() {
    let server = ZooKeeperServer::shared();
    let stranger = Asker::new(options(&server.address()));
    let mut with = options(&server.address());
    with.auth = vec!["digest:owner:secret".parse::<Auth>().unwrap()];
    let owner = Asker::new(with);
    let (open, private) = (path(unique_path("open")), path(unique_path("private")));

    // What is made without credentials is everybody's.
    stranger.znodes.create(&open, bytes("1")).await.unwrap();
    assert_eq!(owner.text(&open).await, "1");
    owner.znodes.set(&open, bytes("2"), None).await.unwrap();
    // With credentials it is theirs.
    owner.znodes.create(&private, bytes("1")).await.unwrap();
    assert_eq!(owner.text(&private).await, "1");
    let denied = |znode: &ZnodePath| ZnodeError::Denied {
        znode: znode.clone(),
        why: Denial::Acl,
    };
    let below = path(format!("{private}/a"));
    assert_eq!(stranger.znodes.get(&private).await, Err(denied(&private)));
    assert_eq!(stranger.znodes.children(&private).await, Err(denied(&private)));
    assert_eq!(
        stranger.znodes.set(&private, bytes("2"), None).await,
        Err(denied(&private))
    );
    assert_eq!(stranger.znodes.create(&below, bytes("2")).await, Err(denied(&below)));
    owner.znodes.create(&below, bytes("2")).await.unwrap();
}

#[tokio::test]
async fn an_ephemeral_znode_has_no_children() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = unique_path("ephemeral");
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    client.create(&root, b"", &ephemeral).await.unwrap();
    let asker = Asker::new(options(&server.address()));
    let below = path(format!("{root}/a"));
    let refused = ZnodeError::Failed {
        znode: below.clone(),
        why: ZnodeRefusal::ZooKeeper(Error::NoChildrenForEphemerals),
    };
    assert_eq!(asker.znodes.create(&below, bytes("")).await, Err(refused));
}

/// An action that ends while the daemon stops may still say so in a znode.
#[tokio::test]
async fn requests_outlive_the_source_until_nobody_can_make_any() {
    let server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    create(&client, "/a", "1").await;
    let sessions = || server.four_letters("cons").unwrap().matches("sid=").count();
    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, "/a", Data)]).await;
    let znodes = observer.source.znodes.clone();
    znodes.set(&path("/a"), bytes("2"), None).await.unwrap();
    assert_eq!(sessions(), 3, "writer, watch, requests");
    drop(observer);
    eventually("the watch's session is closed", || sessions() == 2).await;
    znodes.set(&path("/a"), bytes("3"), None).await.unwrap();
    drop(znodes);
    eventually("that of the requests too", || sessions() == 1).await;
}

#[tokio::test]
async fn a_session_without_requests_is_closed_and_comes_back() {
    let server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    create(&client, "/a", "1").await;
    let sessions = || server.four_letters("cons").unwrap().matches("sid=").count();
    let mut impatient = options(&server.address());
    impatient.patience = Duration::from_millis(500);
    let asker = Asker::new(impatient);
    for round in 1..=2 {
        assert_eq!(asker.text(&path("/a")).await, "1");
        assert_eq!(asker.stats.sessions(), round);
        eventually("the session is closed", || sessions() == 1).await;
    }
    assert_eq!((asker.stats.lost(), asker.stats.ended()), (0, 0), "which is no trouble");
}

#[tokio::test]
async fn more_requests_than_places_are_all_answered() {
    let server = ZooKeeperServer::shared();
    let root = path(unique_path("many"));
    let asker = Asker::new(options(&server.address()));
    asker.znodes.create(&root, bytes("")).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let (znodes, root) = (asker.znodes.clone(), root.clone());
        tasks.spawn(async move { znodes.set(&root, bytes("x"), None).await.unwrap().version });
    }
    let mut versions = tasks.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=500).collect::<Vec<i32>>());
}
