//! Several daemons on one real ZooKeeper that tell each other what they have handled.

mod access;
mod deploying;
mod forgetting;
mod healing;
mod hostile;
mod hostile_rollouts;
mod pace;
mod page;
mod replayed;
mod rollouts;
mod telling;
mod verify_once;
mod verifying;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::support::daemon::{Daemon, PROGRAM, Site};
use crate::support::{http, until};

const WATCH: &str =
    r#"RegisterWatch(znode = "ZNODE", name = "repo", action = Exec("test ! -e OUT/bad || exit 3; cat >> OUT/ran"))"#;

/// A fleet's znodes in a server.
struct Stage {
    address: String,
    root: String,
    znode: String,
    client: Client,
}

impl Stage {
    async fn new(address: &str, test: &str) -> Self {
        let root = crate::support::zookeeper::unique_path(test);
        let stage = Self {
            address: address.to_owned(),
            znode: format!("{root}-watched"),
            client: Client::connect(address).await.unwrap(),
            root,
        };
        stage.create(&stage.znode, "1").await;
        stage
    }

    async fn create(&self, path: &str, data: &str) {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        self.client.create(path, data.as_bytes(), &options).await.unwrap();
    }

    async fn change(&self, data: &str) {
        self.client.set_data(&self.znode, data.as_bytes(), None).await.unwrap();
    }

    /// What a znode of the fleet holds.
    async fn record(&self, path: &str) -> Value {
        let (data, _) = self.client.get_data(&format!("{}{path}", self.root)).await.unwrap();
        serde_json::from_slice(&data).unwrap()
    }

    async fn children(&self, path: &str) -> Vec<String> {
        let path = format!("{}{path}", self.root);
        let mut names = self.client.list_children(&path).await.unwrap_or_default();
        names.sort();
        names
    }

    fn host(&self, name: &str) -> Host {
        self.host_with(name, WATCH, &[])
    }

    fn host_with(&self, name: &str, config: &str, more: &[&str]) -> Host {
        let site = Site::new();
        site.config("a.twc", &config.replace("ZNODE", &self.znode));
        self.start(name, site, more)
    }

    fn start(&self, name: &str, site: Site, more: &[&str]) -> Host {
        let fleet = ["--fleet", &self.root, "--fleet-name", name];
        self.start_alone(site, &[&fleet[..], more].concat())
    }

    /// A daemon that is in no fleet, unless it is told so.
    fn start_alone(&self, site: Site, more: &[&str]) -> Host {
        let socket = site.path("control.sock");
        let control = socket.to_string_lossy().into_owned();
        let own = [
            "--zk",
            &self.address,
            "--zk-session-timeout",
            "4",
            "--control",
            &control,
        ];
        let daemon = site.start_with(&[&own[..], more].concat());
        Host { daemon, site, socket }
    }
}

/// A daemon of the fleet.
struct Host {
    daemon: Daemon,
    site: Site,
    socket: PathBuf,
}

impl Host {
    /// How it stands with the fleet.
    fn membership(&self) -> Value {
        http::operate(&self.socket, "GET", "/v1/status").json()["fleet"].clone()
    }

    /// Waits until the fleet knows all that this host has to tell.
    fn until_published(&self) {
        until("all is published", || {
            let fleet = self.membership();
            !fleet["since"].is_null() && fleet["unpublished"] == 0
        });
    }

    /// Waits until it says why it is not in the fleet.
    fn until_problem(&self, part: &str) {
        let mut problem = String::new();
        until(&format!("the fleet's problem is {part}"), || {
            problem = self.membership()["problem"].as_str().unwrap_or_default().to_owned();
            problem.contains(part)
        });
    }

    /// Exit code and output of a command.
    fn operate(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("--control").arg(&self.socket);
        let output = command.env_remove("COLUMNS").output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    /// Asks for laggards until the exit code is this one.
    fn until_laggards(&self, of: &str, code: i32, parts: &[&str]) -> String {
        let mut last = (0, String::new());
        until(&format!("laggards {of} end with {code} and say {parts:?}"), || {
            last = self.operate(&["fleet", "laggards", of]);
            last.0 == code && parts.iter().all(|part| last.1.contains(part))
        });
        last.1
    }
}
