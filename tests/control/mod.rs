//! The control interface of a real daemon: what operators see and do, who may, and what the service manager and Prometheus are told.

mod access;
mod looking;
mod operating;
mod service;
mod tools;

use std::path::PathBuf;

use serde_json::Value;

use crate::support::daemon::{Daemon, Site};
use crate::support::http::{self, Answer};
use crate::support::until;

/// A daemon that is listened to on a socket of its own and on a port.
pub struct Controlled {
    pub daemon: Daemon,
    pub socket: PathBuf,
    pub http: String,
}

impl Controlled {
    pub fn start(site: &Site) -> Self {
        Self::start_in(site, &[])
    }

    pub fn start_in(site: &Site, env: &[(&str, &std::path::Path)]) -> Self {
        Self::start_with(site, &[], env)
    }

    pub fn start_with(site: &Site, more: &[&str], env: &[(&str, &std::path::Path)]) -> Self {
        let socket = site.path("control.sock");
        let (tree, state) = (site.path("tree"), site.path("state"));
        let paths = [&tree, &state, &socket].map(|path| path.to_string_lossy());
        let [tree, state, control] = &paths;
        let mut arguments = vec![
            "--tree",
            tree,
            "--state-dir",
            state,
            "--control",
            control,
            "--http",
            "127.0.0.1:0",
        ];
        arguments.extend(more);
        let daemon = Daemon::start_in(&site.path("conf"), &arguments, env);
        let listening = daemon.wait("listening", |line| line["message"] == "status page and metrics");
        let http = listening["address"].as_str().unwrap().to_owned();
        Self { daemon, socket, http }
    }

    pub fn get(&self, path: &str) -> Answer {
        http::operate(&self.socket, "GET", path)
    }

    pub fn post(&self, path: &str) -> Answer {
        http::operate(&self.socket, "POST", path)
    }

    pub fn watch(&self, name: &str) -> Value {
        self.get(&format!("/v1/watches/{name}")).json()
    }

    /// Waits until a watch is in a state.
    pub fn until_state(&self, name: &str, state: &str) -> Value {
        let mut watch = Value::Null;
        until(&format!("{name} is {state}"), || {
            watch = self.watch(name);
            watch["state"] == state
        });
        watch
    }
}
