//! End-to-end tests: the real program, real processes, a real ZooKeeper.

mod support;
mod zookeeper;
