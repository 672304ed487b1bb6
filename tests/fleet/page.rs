//! The status page of a daemon in a fleet, in a browser.

use std::net::TcpListener;

use super::Stage;
use crate::support::zookeeper::ZooKeeperServer;
use crate::support::{http, until};

const ROLLOUT: &str = r#"RegisterWatch(znode = "ZNODE", name = "repo", timeout = 60, action = Exec("read v; test $v != bad"),
    rollout = Rollout("repo", at_once = 1, waves = [Wave(labels = {"canary": "yes"}), Wave(percent = 100)]))"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_a_real_rollout() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "page").await;
    // The kernel does not give a port away again so soon.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let first = stage.host_with("web-1", ROLLOUT, &["--http", &address]);
    let canary = stage.host_with("web-2", ROLLOUT, &["--label", "canary=yes"]);
    let status = || http::operate(&first.socket, "GET", "/v1/fleet/rollouts/repo").json();
    let is = |state: &str, hosts: usize| {
        let status = status();
        let there = status["hosts"].as_array().map_or(0, Vec::len);
        status["state"] == state && there == hosts && status["goal"] == status["newest"]
    };
    until("both have the change", || is("done", 2));
    stage.change("bad").await;
    until("the canary has failed", || is("halted", 2));
    let status = status();
    assert_eq!(status["plan"][0]["labels"]["canary"], "yes");
    assert_eq!(
        (&status["hosts"][0]["wave"], &status["hosts"][1]["wave"]),
        (&2.into(), &1.into())
    );
    crate::page::check(&[
        "--url",
        &format!("http://{address}/#/fleet"),
        "--fleet",
        "web-2, Failed, exit code 1, attempt 1",
    ]);
    drop(canary);
}
