//! What of the network is granted: decisions on names, addresses and origins, and nothing that does I/O.

use std::net::{IpAddr, SocketAddr};

use ::http::Uri;
use ::http::uri::Scheme;

use twitcher_model::{Grants, HostPort, HttpOrigin};

/// The grants with the addresses that names stand for.
#[derive(Debug)]
pub struct Rules {
    net: Vec<(HostPort, Vec<IpAddr>)>,
    http: Vec<(HttpOrigin, Vec<IpAddr>)>,
}

impl Rules {
    /// `found` are the addresses of names; a name that is not among them has none.
    pub fn new(grants: &Grants, found: &[(String, Vec<IpAddr>)]) -> Self {
        let addresses = |at: &HostPort| match at.host.parse::<IpAddr>() {
            Ok(address) => vec![address.to_canonical()],
            Err(_) => found
                .iter()
                .find(|(name, _)| *name == at.host)
                .map_or_else(Vec::new, |(_, addresses)| addresses.clone()),
        };
        Self {
            net: grants.net.iter().map(|at| (at.clone(), addresses(at))).collect(),
            http: grants
                .http
                .iter()
                .map(|origin| (origin.clone(), addresses(&origin.at)))
                .collect(),
        }
    }

    /// Whether a TCP socket can be of any use. With origins alone it is not, but then the address that it is denied can be named.
    pub fn may_make_sockets(&self) -> bool {
        !self.net.is_empty() || !self.http.is_empty()
    }

    /// Whether a socket may be connected to an address.
    pub fn may_connect(&self, to: SocketAddr) -> bool {
        self.net
            .iter()
            .any(|(at, addresses)| at.port == to.port() && addresses.contains(&to.ip().to_canonical()))
    }

    /// An address as the operator would write it: by the name that the component most likely had it from.
    pub fn named(&self, address: SocketAddr) -> HostPort {
        let ip = address.ip().to_canonical();
        let name = self.net.iter().find(|(_, addresses)| addresses.contains(&ip));
        HostPort {
            host: name.map_or_else(|| ip.to_string(), |(at, _)| at.host.clone()),
            port: address.port(),
        }
    }

    /// The addresses of a name, if it is granted as a host to connect to. An address stands for itself: nobody is asked for it.
    pub fn resolve(&self, name: &str) -> Option<Vec<IpAddr>> {
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse::<IpAddr>() {
            return Some(vec![address]);
        }
        let name = canonical(name);
        let granted = self.net.iter().find(|(at, _)| at.host == name);
        granted.map(|(_, addresses)| addresses.clone())
    }

    /// The addresses of an origin, if it is granted.
    pub fn origin(&self, origin: &HttpOrigin) -> Option<&[IpAddr]> {
        let granted = self.http.iter().find(|(granted, _)| granted == origin);
        granted.map(|(_, addresses)| &addresses[..])
    }
}

/// A name as grants are written: in small letters, without the dot that ends an absolute name, and in the form that is asked of servers
/// if it has letters beyond ASCII.
pub fn canonical(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    // What cannot be put so is no name, and granted to nobody.
    idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_ascii_lowercase())
}

/// The origin that a request is for, as grants are written; none if that is not beyond doubt.
pub fn origin(uri: &Uri) -> Option<HttpOrigin> {
    let tls = match uri.scheme()? {
        scheme if *scheme == Scheme::HTTPS => true,
        scheme if *scheme == Scheme::HTTP => false,
        _ => return None,
    };
    let authority = uri.authority()?;
    // User and password, which some take for the host.
    if authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let host = match host.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => canonical(host),
    };
    let default = if tls { 443 } else { 80 };
    let port = match authority.as_str().rsplit_once(':') {
        // The last colon of `[::1]` is not before a port.
        Some((_, digits)) if !digits.ends_with(']') => digits.parse().ok().filter(|port| *port > 0)?,
        _ => default,
    };
    Some(HttpOrigin {
        tls,
        at: HostPort { host, port },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use twitcher_model::MissingGrant;
    use twitcher_model::grant_syntax::{host_port, http_origin};

    fn at(host: &str, port: u16) -> HostPort {
        HostPort {
            host: host.to_owned(),
            port,
        }
    }

    fn rules() -> Rules {
        let grants = Grants {
            net: vec![
                at("db.example.com", 5432),
                at("10.0.0.9", 53),
                at("gone.example.com", 1),
            ],
            http: vec![HttpOrigin {
                tls: true,
                at: at("api.example.com", 443),
            }],
            ..Grants::default()
        };
        let found = |name: &str, address: &str| (name.to_owned(), vec![address.parse().unwrap()]);
        Rules::new(
            &grants,
            &[
                found("db.example.com", "10.0.0.1"),
                found("api.example.com", "2001:db8::1"),
            ],
        )
    }

    #[test]
    fn addresses_of_granted_names_and_ports_are_allowed() {
        let rules = rules();
        let allowed = |address: &str| rules.may_connect(address.parse().unwrap());
        assert!(allowed("10.0.0.1:5432"));
        assert!(allowed("[::ffff:10.0.0.1]:5432"));
        assert!(allowed("10.0.0.9:53"));
        assert!(!allowed("10.0.0.1:53"), "the port of another");
        assert!(!allowed("10.0.0.2:5432"));
        assert!(!allowed("[2001:db8::1]:443"), "an origin is for requests only");
        assert_eq!(rules.named("10.0.0.1:80".parse().unwrap()), at("db.example.com", 80));
        assert_eq!(
            rules.named("[2001:db8::2]:80".parse().unwrap()).to_string(),
            "[2001:db8::2]:80"
        );
    }

    #[test]
    fn only_granted_names_resolve() {
        let rules = rules();
        let one = |address: &str| Some(vec![address.parse().unwrap()]);
        assert_eq!(rules.resolve("db.example.com"), one("10.0.0.1"));
        assert_eq!(rules.resolve("DB.example.COM"), one("10.0.0.1"));
        assert_eq!(rules.resolve("db.example.com."), one("10.0.0.1"));
        assert_eq!(rules.resolve("gone.example.com"), Some(vec![]));
        assert_eq!(rules.resolve("192.0.2.1"), one("192.0.2.1"));
        assert_eq!(rules.resolve("[2001:db8::7]"), one("2001:db8::7"));
        for name in [
            "api.example.com",
            "example.com",
            "db.example.com..",
            "x.db.example.com",
            "",
        ] {
            assert_eq!(rules.resolve(name), None, "{name}");
        }
    }

    #[test]
    fn an_origin_is_its_scheme_host_and_port() {
        let shown = |uri: &str| origin(&uri.parse().unwrap()).map(|origin| origin.to_string());
        let same = |uri: &str, origin: &str| assert_eq!(shown(uri).as_deref(), Some(origin), "{uri}");
        same("https://api.example.com/x?y", "https://api.example.com");
        same("https://API.example.com:443/", "https://api.example.com");
        same("http://api.example.com:443/", "http://api.example.com:443");
        same("http://[2001:0db8::1]/", "http://[2001:db8::1]");
        same("http://[::1]:8080/", "http://[::1]:8080");
        same("http://localhost.:5801/", "http://localhost:5801");
        same("http://127.1/", "http://127.1");
        for uri in [
            "ftp://api.example.com/",
            "https://api.example.com@evil.example/",
            "https://evil@api.example.com/",
            "https://api.example.com:99999/",
            "https://api.example.com:0/",
            "https://api.example.com:/",
            "/x",
        ] {
            assert_eq!(uri.parse::<Uri>().ok().and_then(|uri| origin(&uri)), None, "{uri}");
        }
    }

    #[test]
    fn a_name_is_the_same_however_it_is_written() {
        assert_eq!(canonical("Bücher.Example."), "xn--bcher-kva.example");
        assert_eq!(canonical("under_score.example"), "under_score.example");
        assert_eq!(canonical(""), "");
    }

    proptest::proptest! {
        /// What is advised after a denial is accepted by configurations, and then nothing is denied.
        #[test]
        fn what_is_advised_works(name in "[a-zü0-9_.-]{0,12}", tls: bool, port in 1_u16..) {
            let scheme = if tls { "https" } else { "http" };
            if let Some(origin) = format!("{scheme}://{name}:{port}/").parse().ok().and_then(|uri| origin(&uri))
                && MissingGrant::http(&origin.to_string()).is_some()
            {
                let grants = Grants { http: vec![http_origin(&origin.to_string()).unwrap()], ..Grants::default() };
                proptest::prop_assert!(Rules::new(&grants, &[]).origin(&origin).is_some());
            }
            let told = canonical(&name);
            if MissingGrant::name(&told).is_some() {
                let grants = Grants { net: vec![host_port(&format!("{told}:{port}")).unwrap()], ..Grants::default() };
                proptest::prop_assert!(Rules::new(&grants, &[]).resolve(&name).is_some());
            }
            let address = HostPort { host: told, port }.to_string();
            proptest::prop_assert_eq!(MissingGrant::net(&address).is_some(), host_port(&address).is_ok());
        }
    }

    #[test]
    fn an_origin_is_granted_as_a_whole() {
        let rules = rules();
        let granted = |uri: &str| rules.origin(&origin(&uri.parse().unwrap()).unwrap()).map(<[_]>::len);
        assert_eq!(granted("https://api.example.com/a"), Some(1));
        assert_eq!(granted("http://api.example.com/a"), None);
        assert_eq!(granted("https://api.example.com:8443/a"), None);
        assert_eq!(granted("https://api.example.com.evil.example/a"), None);
        assert_eq!(granted("https://db.example.com:5432/a"), None);
    }
}
