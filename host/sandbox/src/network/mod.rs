//! The network, as far as it is granted: `wasi:sockets` and `wasi:http` for one call of a component.
//!
//! Names are never resolved here: the process has no resolver and is to need none. The daemon has found their addresses before the
//! launch ([`Reach`]), and only these are connected to, whatever a name server says later. What is granted is decided in [`rules`],
//! which knows no socket.

mod errors;
mod http;
mod rules;
mod sockets;
mod tls;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

use super::channel::{Denied, FromAction, Level, Speaker, cut};
use rules::Rules;
pub use sockets::replace_in;
use tls::TlsTrust;
use twitcher_files::system::ca_bundle;
use twitcher_model::Grants;

/// Longest part of a denial that the component chose, in bytes: more than any name or address has.
const SAID_MAX: usize = 300;

/// What the daemon finds out for a component that is granted something of the network. Empty for all others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The granted names with their addresses; none where a name has none.
    pub addresses: Vec<(String, Vec<IpAddr>)>,
    /// The certificates that TLS trusts: a PEM file.
    pub trusted: Option<PathBuf>,
}

impl Reach {
    /// What needs no looking up.
    pub fn of(grants: &Grants) -> Self {
        Self {
            addresses: Vec::new(),
            trusted: grants.http.iter().any(|origin| origin.tls).then(ca_bundle).flatten(),
        }
    }
}

/// The names that are granted, each once. An address is no name.
pub fn names(grants: &Grants) -> BTreeSet<&str> {
    let hosts = grants.net.iter().chain(grants.http.iter().map(|origin| &origin.at));
    hosts
        .map(|at| at.host.as_str())
        .filter(|host| host.parse::<IpAddr>().is_err())
        .collect()
}

/// What of the network a component reaches.
pub struct NetworkGrants {
    rules: Arc<Rules>,
    speaker: Speaker,
    trust: TlsTrust,
    /// When the run's time is up.
    ends: Option<Instant>,
}

impl NetworkGrants {
    /// Reads the certificates that TLS trusts, if it is granted: later this process can open no file.
    pub fn new(grants: &Grants, reach: &Reach, speaker: Speaker, ends: Option<Instant>) -> Self {
        Self {
            rules: Arc::new(Rules::new(grants, &reach.addresses)),
            speaker,
            trust: TlsTrust::read(reach.trusted.as_deref()),
            ends,
        }
    }

    /// Every address that a socket is used with is checked. That sockets can be made at all is for [`sockets`].
    pub fn configure(&self, wasi: &mut WasiCtxBuilder) {
        let (rules, speaker) = (Arc::clone(&self.rules), self.speaker.clone());
        wasi.allow_tcp(true)
            .allow_udp(true)
            .socket_addr_check(move |address, usage| {
                let allowed = check(&rules, address, usage).map_err(|denied| say_denied(&speaker, denied));
                Box::pin(std::future::ready(allowed.is_ok()))
            });
    }

    fn denied(&self, denied: Denied) {
        say_denied(&self.speaker, denied);
    }
}

fn check(rules: &Rules, address: SocketAddr, usage: SocketAddrUse) -> Result<(), Denied> {
    match usage {
        SocketAddrUse::TcpConnect if rules.may_connect(address) => Ok(()),
        SocketAddrUse::TcpConnect => Err(Denied::Net(rules.named(address).to_string())),
        // The kernel's choice, as before every connect.
        SocketAddrUse::TcpBind if address.ip().is_unspecified() && address.port() == 0 => Ok(()),
        SocketAddrUse::TcpBind | SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => {
            Err(Denied::Listen(address.to_string()))
        }
        SocketAddrUse::UdpBind | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => Err(Denied::Datagrams),
    }
}

fn say_denied(speaker: &Speaker, denied: Denied) {
    // The request is refused whether or not someone hears of it.
    let _ = speaker.say(&FromAction::Denied(denied));
}

/// Says more of a failure than the error codes of WASI can.
fn say_warning(speaker: &Speaker, message: String) {
    let _ = speaker.say(&FromAction::Log {
        level: Level::Warn,
        message: cut(message, super::channel::TEXT_MAX),
        fields: Vec::new(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use twitcher_model::{HostPort, HttpOrigin};

    fn at(host: &str, port: u16) -> HostPort {
        HostPort {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn names_are_looked_up_once_and_addresses_not_at_all() {
        let grants = Grants {
            net: vec![at("db", 1), at("10.0.0.1", 2), at("db", 3)],
            http: vec![
                HttpOrigin {
                    tls: false,
                    at: at("api.example.com", 80),
                },
                HttpOrigin {
                    tls: false,
                    at: at("::1", 80),
                },
            ],
            ..Grants::default()
        };
        assert_eq!(
            names(&grants).into_iter().collect::<Vec<_>>(),
            ["api.example.com", "db"]
        );
        assert_eq!(names(&Grants::default()).len(), 0);
        assert_eq!(Reach::of(&grants), Reach::default(), "nothing of TLS is granted");
    }

    #[test]
    fn sockets_connect_to_what_is_granted_and_never_listen() {
        let grants = Grants {
            net: vec![at("db", 5432)],
            ..Grants::default()
        };
        let rules = Rules::new(&grants, &[("db".to_owned(), vec!["10.0.0.1".parse().unwrap()])]);
        let check = |address: &str, usage| check(&rules, address.parse().unwrap(), usage);
        use SocketAddrUse::{TcpAccept, TcpBind, TcpConnect, TcpListen, UdpSend};
        assert_eq!(check("10.0.0.1:5432", TcpConnect), Ok(()));
        assert_eq!(check("10.0.0.1:22", TcpConnect), Err(Denied::Net("db:22".into())));
        assert_eq!(
            check("10.0.0.2:5432", TcpConnect),
            Err(Denied::Net("10.0.0.2:5432".into()))
        );
        assert_eq!(check("0.0.0.0:0", TcpBind), Ok(()));
        assert_eq!(check("[::]:0", TcpBind), Ok(()));
        for (address, usage) in [
            ("0.0.0.0:80", TcpBind),
            ("0.0.0.0:0", TcpListen),
            ("10.0.0.1:5432", TcpAccept),
        ] {
            assert_eq!(check(address, usage), Err(Denied::Listen(address.into())));
        }
        assert_eq!(check("10.0.0.1:5432", UdpSend), Err(Denied::Datagrams));
    }
}
