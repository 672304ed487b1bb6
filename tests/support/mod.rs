//! What the tests share.
#![allow(clippy::unwrap_used, reason = "in tests")]
#![allow(dead_code, reason = "a toolbox: not every tool is in use at all times")]

pub mod daemon;
pub mod ensemble;
pub mod guests;
pub mod http;
pub mod kdc;
pub mod members;
pub mod proxy;
pub mod registry;
pub mod rollout_oracle;
pub mod schema;
pub mod txnlog;
pub mod writer;
pub mod zookeeper;

use std::time::{Duration, Instant};

/// Long enough for anything that should happen at all on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for `condition`; fails the test with `what` when it does not become true in time.
pub fn eventually(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for `condition` as long as anything may take.
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    eventually(what, DEADLINE, condition);
}
