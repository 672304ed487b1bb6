//! How to reach the ensemble: servers, credentials, certificates, and the intervals tests shorten.
//!
//! Parsing and checking only: this module must not know about sessions or watches. Secrets never appear in `Debug` output.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use zookeeper_client::{TlsCa, TlsCerts, TlsIdentity, TlsOptions};

use super::counters::Counters;
use super::kerberos::Kerberos;
use twitcher_model::{ZnodePath, ZnodePathError};

const DEFAULT_PORT: u16 = 2181;

/// The servers of an ensemble and the subtree of it that is ours, as written `host:port,host:port[/chroot]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    servers: Vec<(String, u16)>,
    chroot: Option<ZnodePath>,
}

/// Why a text does not name servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServersError {
    /// Nothing between two commas, or nothing at all.
    #[error("server {position} of {text:?} is empty: write host:port,host:port[/chroot]")]
    Empty {
        /// The whole text.
        text: String,
        /// The position of the empty server in the text, counted from 1.
        position: usize,
    },
    /// It begins as a URL does.
    #[error(
        "servers are written host:port,host:port[/chroot], without {scheme:?} before them; where they speak TLS, \
         the options for TLS say so (--zk-tls, --zk-ca)"
    )]
    Scheme {
        /// What it begins with.
        scheme: String,
    },
    /// Something before an `@`. Not repeated: it may be a password.
    #[error(
        "servers are written host:port,host:port[/chroot], without a user or password before an \"@\"; credentials \
         are in files of their own (--zk-digest-file, --zk-sasl-file)"
    )]
    Credentials,
    /// A port that is not 1 to 65535.
    #[error("server {server:?} has port {port:?}: a port is a number from 1 to 65535")]
    Port {
        /// The server as written.
        server: String,
        /// The port as written.
        port: String,
    },
    /// A character that no host name or address has.
    #[error(
        "server {server:?} has the character {character:?}, which cannot be in a host name or address; servers are \
         separated by commas"
    )]
    Character {
        /// The server as written.
        server: String,
        /// The first such character.
        character: char,
    },
    /// An IPv6 address without brackets, or with only one of them.
    #[error("server {server:?} is ambiguous: write an IPv6 address in brackets, as in [::1]:2181")]
    Brackets {
        /// The server as written.
        server: String,
    },
    /// A slash before the last server.
    #[error("{text:?} has a chroot before its last server: it comes once, at the very end")]
    ChrootInside {
        /// The whole text.
        text: String,
    },
    /// The chroot is not the path of a znode.
    #[error("chroot: {0}")]
    Chroot(#[from] ZnodePathError),
}

impl FromStr for Servers {
    type Err = ServersError;

    /// Blanks around servers, a comma after the last and a slash after the chroot are of no account.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(scheme) = scheme(text) {
            return Err(ServersError::Scheme { scheme });
        }
        let (list, chroot) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let (list, chroot) = (without_comma(list), without_comma(chroot));
        // A chroot may have an "@". If what stands before it are no servers, it is none: there may be a slash in a password.
        let are_servers = || list.split(',').all(|server| parse_server(server.trim()).is_ok());
        if list.contains('@') || (chroot.contains('@') && !are_servers()) {
            return Err(ServersError::Credentials);
        }
        if chroot.contains(',') {
            return Err(ServersError::ChrootInside { text: text.to_owned() });
        }
        let servers = list
            .split(',')
            .enumerate()
            .map(|(index, server)| match server.trim() {
                "" => Err(ServersError::Empty {
                    text: text.to_owned(),
                    position: index + 1,
                }),
                server => parse_server(server),
            })
            .collect::<Result<_, _>>()?;
        let chroot = match chroot.strip_suffix('/').unwrap_or(chroot) {
            "" => None,
            path => Some(ZnodePath::new(path)?),
        };
        Ok(Self { servers, chroot })
    }
}

/// What stands before servers that are written as in a URL.
fn scheme(text: &str) -> Option<String> {
    let (before, _) = text.split_once("://")?;
    let scheme = before.rsplit(',').next()?.trim();
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    scheme.chars().all(is_scheme).then(|| format!("{scheme}://"))
}

fn without_comma(list: &str) -> &str {
    let list = list.trim_end();
    list.strip_suffix(',').unwrap_or(list).trim_end()
}

fn parse_server(server: &str) -> Result<(String, u16), ServersError> {
    let brackets = || ServersError::Brackets {
        server: server.to_owned(),
    };
    let (host, port) = if let Some(rest) = server.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(brackets)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(brackets()),
        }
    } else {
        match server.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(brackets()),
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        }
    };
    if host.is_empty() {
        return Err(ServersError::Empty {
            text: server.to_owned(),
            position: 1,
        });
    }
    let allowed = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if let Some(character) = host.chars().find(|c| !allowed(c)) {
        return Err(ServersError::Character {
            server: server.to_owned(),
            character,
        });
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port != 0 => port,
            _ => {
                return Err(ServersError::Port {
                    server: server.to_owned(),
                    port: text.to_owned(),
                });
            }
        },
    };
    Ok((host.to_owned(), port))
}

impl Servers {
    /// Host and port of every server, in the order given.
    pub fn servers(&self) -> &[(String, u16)] {
        &self.servers
    }

    /// The subtree that paths are relative to; none is the whole tree.
    pub fn chroot(&self) -> Option<&ZnodePath> {
        self.chroot.as_ref()
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (host, port)) in self.servers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if host.contains(':') {
                write!(f, "{comma}[{host}]:{port}")?;
            } else {
                write!(f, "{comma}{host}:{port}")?;
            }
        }
        self.chroot.iter().try_for_each(|chroot| chroot.fmt(f))
    }
}

/// Credentials of ZooKeeper's `addauth`, as written `scheme:credentials`, for example `digest:user:password`.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// The scheme, for example `digest`.
    pub scheme: String,
    /// What the scheme calls credentials; for `digest`, `user:password`.
    pub credentials: Vec<u8>,
}

/// Why a text is not credentials. Does not repeat the text: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No scheme, or no credentials after it.
    #[error("credentials must be written scheme:credentials, for example digest:user:password")]
    Shape,
}

impl Auth {
    /// The user's name, where the scheme has one: never the password.
    pub(super) fn user(&self) -> Option<&str> {
        let (user, _) = std::str::from_utf8(&self.credentials).ok()?.split_once(':')?;
        (self.scheme == "digest").then_some(user)
    }
}

impl FromStr for Auth {
    type Err = AuthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((scheme, credentials)) if !scheme.is_empty() && !credentials.is_empty() => Ok(Self {
                scheme: scheme.to_owned(),
                credentials: credentials.as_bytes().to_vec(),
            }),
            _ => Err(AuthError::Shape),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// User and password of SASL DIGEST-MD5.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslDigest {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
}

impl fmt::Debug for SaslDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslDigest")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Files for TLS, in PEM. They are read again for every new session, so that renewed ones are picked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that may vouch for a server. The server's name is always checked.
    pub ca: PathBuf,
    /// Our own certificate chain and its key, for servers that ask who we are.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why the files for TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file that cannot be read.
        path: PathBuf,
        /// The error of opening or reading it.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is not usable: {source}")]
    Content {
        /// The file with the certificate or key.
        path: PathBuf,
        /// What the ZooKeeper client finds wrong with its contents.
        source: zookeeper_client::Error,
    },
}

/// More than any chain of certificates needs.
const PEM_LIMIT: u64 = 1 << 20;

impl Tls {
    /// Reads the files. An error names the file.
    pub fn load(&self) -> Result<TlsOptions, TlsError> {
        let content = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::Content { path, source }
        };
        let ca = TlsCa::from_pem(&read_pem(&self.ca)?).map_err(content(&self.ca))?;
        let mut certs = TlsCerts::builder().with_ca(ca);
        if let Some((chain, key)) = &self.identity {
            let identity = TlsIdentity::from_pem(&read_pem(chain)?, &read_pem(key)?).map_err(content(chain))?;
            certs = certs.with_identity(identity);
        }
        Ok(TlsOptions::new().with_certs(certs.build().map_err(content(&self.ca))?))
    }
}

fn read_pem(path: &Path) -> Result<String, TlsError> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PEM_LIMIT).read_to_string(&mut text))
        .map_err(|source| TlsError::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(text)
}

/// How the source reaches ZooKeeper and how often it checks what it knows.
#[derive(Debug, Clone)]
pub struct ZooKeeperOptions {
    /// The servers of the ensemble, and the chroot.
    pub servers: Servers,
    /// Session timeout asked for; the server may grant another. Default 10 s.
    pub session_timeout: Duration,
    /// Credentials for `addauth`. Default none.
    pub auth: Vec<Auth>,
    /// User and password for SASL DIGEST-MD5. Default none.
    pub sasl: Option<SaslDigest>,
    /// Tickets for SASL GSSAPI. Default none; at most one of this and `sasl`.
    pub kerberos: Option<Kerberos>,
    /// Certificates and key for TLS. Default none: plain TCP.
    pub tls: Option<Tls>,
    /// Time between two sweeps that compare everything known with the server, give or take a tenth; zero for none but those after a
    /// reconnect. Default 10 min.
    pub sweep_interval: Duration,
    /// Time between two attempts at a znode that may not be read or is too large. Default 30 s.
    pub retry_interval: Duration,
    /// Time between two readings of a subtree on a server older than 3.6, which cannot watch one. Default 5 s.
    pub tree_poll_interval: Duration,
    /// Most bytes of a znode's data that are read; a larger znode is reported as one that cannot be read. Default 1 MiB: larger ones
    /// only exist where the servers' `jute.maxbuffer` was raised.
    pub max_data: usize,
    /// Most time that a request for a single znode waits for a session, and a write then for its answer. Six
    /// times that without a request, and their session is closed. Default 10 s.
    pub patience: Duration,
    /// What the source counts, for whoever wants to read it.
    pub stats: Arc<Counters>,
}

impl ZooKeeperOptions {
    /// Whether a session says who it is, so that what it creates can be its own. A certificate may say so, too, but not to every server.
    pub fn has_credentials(&self) -> bool {
        self.sasl.is_some() || self.kerberos.is_some() || !self.auth.is_empty()
    }

    /// The default options for these servers.
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            session_timeout: Duration::from_secs(10),
            auth: Vec::new(),
            sasl: None,
            kerberos: None,
            tls: None,
            sweep_interval: Duration::from_secs(600),
            retry_interval: Duration::from_secs(30),
            tree_poll_interval: Duration::from_secs(5),
            max_data: 1 << 20,
            patience: Duration::from_secs(10),
            stats: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Servers, String> {
        text.parse::<Servers>().map_err(|error| error.to_string())
    }

    #[test]
    fn servers_are_shown_as_the_client_needs_them() {
        for (written, shown) in [
            ("zk1", "zk1:2181"),
            ("zk1:1, zk2:2", "zk1:1,zk2:2"),
            ("[::1]:2182/app", "[::1]:2182/app"),
            ("[fe80::1%eth0]", "[fe80::1%eth0]:2181"),
            ("127.0.0.1:2181/", "127.0.0.1:2181"),
            ("a,b/x/y", "a:2181,b:2181/x/y"),
            ("zk1:1,zk2:2,", "zk1:1,zk2:2"),
            ("zk1, /app", "zk1:2181/app"),
            ("zk1/app,", "zk1:2181/app"),
            ("zk1/app/", "zk1:2181/app"),
            ("zk1/,", "zk1:2181"),
            (" zk1:1 , zk2:2 \n", "zk1:1,zk2:2"),
            ("zk1:1 , zk2:2 /app \t", "zk1:1,zk2:2/app"),
            ("zk1/user@home", "zk1:2181/user@home"),
        ] {
            assert_eq!(
                parse(written).map(|servers| servers.to_string()),
                Ok(shown.to_owned()),
                "{written:?}"
            );
        }
    }

    #[test]
    fn bad_servers_are_refused_in_words() {
        for (written, words) in [
            ("", "server 1 of \"\" is empty"),
            ("zk1,,zk2", "server 2 of"),
            (":2181", "is empty"),
            ("zk1:", "port \"\""),
            ("zk1:0", "port \"0\""),
            ("zk1:65536", "1 to 65535"),
            ("zk1:http", "port \"http\""),
            ("::1", "in brackets"),
            ("[::1", "in brackets"),
            ("[::1]x", "in brackets"),
            ("a b:1", "' '"),
            ("zk1/app,zk2", "chroot before"),
            (",", "server 1 of"),
            ("zk1,,", "server 2 of"),
            (",zk1", "server 1 of"),
            (" , zk1", "server 1 of"),
            ("  ", "is empty"),
            ("zk1/app//", "must not end"),
            ("zk1/a,zk2/a", "chroot before"),
            ("zk1 zk2", "separated by commas"),
            ("zk1;zk2", "separated by commas"),
            ("zk1: 2181", "port \" 2181\""),
            ("tls://zk1:2281", "without \"tls://\" before them; where they speak TLS"),
            ("zk1,tls://zk2", "without \"tls://\""),
            ("zookeeper://user:secret@zk1", "without \"zookeeper://\""),
            ("user:secret@zk1:2181", "--zk-digest-file"),
            ("user@zk1", "without a user"),
            ("zk1,user:secret@zk2/app", "without a user"),
            ("user:se/cret@zk1", "without a user"),
            ("user:secret://@zk1", "without a user"),
            ("zk1//app", "empty name"),
        ] {
            let error = parse(written).unwrap_err();
            assert!(error.contains(words), "{written:?}: {error}");
            assert!(!error.contains("cret"), "{written:?}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth: Auth = "digest:user:secret".parse().unwrap();
        assert_eq!(auth.credentials, b"user:secret");
        let sasl = SaslDigest {
            user: "user".into(),
            password: "secret".into(),
        };
        assert!(!format!("{auth:?} {sasl:?}").contains("secret"));
        assert!("digest".parse::<Auth>().is_err() && ":x".parse::<Auth>().is_err() && "x:".parse::<Auth>().is_err());
    }

    #[test]
    fn a_missing_or_wrong_pem_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls {
            ca: dir.path().join("ca.pem"),
            identity: None,
        };
        assert!(tls.load().unwrap_err().to_string().contains("ca.pem"));
        std::fs::write(&tls.ca, "no certificate").unwrap();
        assert!(tls.load().unwrap_err().to_string().contains("ca.pem is not usable"));
    }
}
