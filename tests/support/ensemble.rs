//! Three real ZooKeeper servers that form an ensemble on loopback.

use std::net::TcpListener;
use std::path::PathBuf;

use super::until;
use super::zookeeper::{Member, ZooKeeperServer};

/// How many servers there are: one may fail, two may not.
pub const SERVERS: usize = 3;

/// A running ensemble. Its servers are killed when it is dropped.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<ZooKeeperServer>,
}

impl Ensemble {
    /// Starts the servers and waits until all of them serve.
    pub fn start() -> Self {
        let ports = free_ports(SERVERS * 3);
        let (clients, rest) = ports.split_at(SERVERS);
        let (quorum, election) = rest.split_at(SERVERS);
        let peers: Vec<(u16, u16)> = quorum.iter().copied().zip(election.iter().copied()).collect();
        let member = |index| Member {
            client: clients[index],
            index,
            peers: peers.clone(),
        };
        let servers = (0..SERVERS).map(|index| ZooKeeperServer::start_member(member(index)));
        let mut ensemble = Self {
            servers: servers.collect(),
        };
        ensemble.heal();
        ensemble
    }

    /// `host:port` of every server, as clients want them.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> = self.servers.iter().map(ZooKeeperServer::address).collect();
        addresses.join(",")
    }

    /// Where the servers have their data.
    pub fn data(&self) -> Vec<PathBuf> {
        self.servers.iter().map(ZooKeeperServer::data).collect()
    }

    /// One of the servers.
    pub fn server(&self, index: usize) -> &ZooKeeperServer {
        &self.servers[index]
    }

    /// One of the servers, to be killed or restarted.
    pub fn server_mut(&mut self, index: usize) -> &mut ZooKeeperServer {
        &mut self.servers[index]
    }

    /// Lets stopped servers go on, starts killed ones again, and waits until all of them serve.
    pub fn heal(&mut self) {
        for server in &mut self.servers {
            match server.runs() {
                true => server.pause(false),
                false => server.restart(),
            }
        }
        until("every server of the ensemble serves", || {
            self.servers.iter().all(ZooKeeperServer::serves)
        });
    }

    /// Kills all servers, removes what they have, and starts them with nothing.
    pub fn wipe(&mut self) {
        for server in &mut self.servers {
            server.wipe();
        }
        std::thread::scope(|scope| {
            for server in &mut self.servers {
                scope.spawn(|| server.restart());
            }
        });
        self.heal();
    }

    /// The answers of all servers to a four-letter word; empty ones of those that do not answer.
    pub fn four_letters(&self, word: &str) -> Vec<String> {
        let answer = |server: &ZooKeeperServer| server.four_letters(word).unwrap_or_default();
        self.servers.iter().map(answer).collect()
    }
}

/// Ports that nobody listens on, below those that the kernel gives to outgoing connections: a server that is restarted must find its port
/// free again.
fn free_ports(count: usize) -> Vec<u16> {
    let mut ports: Vec<u16> = Vec::new();
    while ports.len() < count {
        let port = fastrand::u16(10_000..32_000);
        if !ports.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}
