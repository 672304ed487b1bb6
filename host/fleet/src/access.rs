//! Who may do what in a fleet. Pure.
//!
//! Nothing of it is stored but where ZooKeeper itself looks: in access control lists. That of the root says whether access is strict, and
//! who the stewards are; what is made below takes it from there. So one look with any client shows who may do what.
//!
//! ```text
//! open     anybody: all
//! strict   stewards: all      anybody: read      the host, on its own znode: write, create and delete what is below
//! ```
//!
//! A host may not administer its own znode: its list stays as it was enrolled, and nothing that the host makes below it can keep a steward
//! from deleting it.

use std::fmt;
use std::str::FromStr;

use ct_codecs::{Base64, Decoder as _, Encoder as _};
use sha1::{Digest as _, Sha1};
use zookeeper_client::{Acl, AuthId, Permission};

use twitcher_source::zookeeper::Credentials;

/// Longest identity, in bytes.
const IDENTITY_MAX: usize = 1024;
/// How long the digest of a user and password is, in base64.
const DIGEST_LENGTH: usize = 28;

/// Somebody whom ZooKeeper can tell from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    scheme: Scheme,
    id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    X509,
    Sasl,
    Digest,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Sasl => "sasl",
            Self::Digest => "digest",
        }
    }
}

/// Why a text is not an identity. What may be a password is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No scheme that is known.
    #[error("expected x509:SUBJECT, sasl:USER, digest:USER:HASH or digest:@FILE")]
    Scheme,
    /// Nobody in particular.
    #[error("{0}: anybody can be that; expected x509:SUBJECT, sasl:USER, digest:USER:HASH or digest:@FILE")]
    Anybody(&'static str),
    /// No name, a very long one, or one with control characters.
    #[error("{0}: expected a name of 1 to {IDENTITY_MAX} bytes without control characters behind it")]
    Name(&'static str),
    /// A subject that no server would write so.
    #[error(
        "x509: {0:?} is no subject as the servers write it: expected attributes such as CN=web-01,O=Example, the most specific first, \
         without spaces after the commas; `openssl x509 -noout -subject -nameopt RFC2253 -in FILE` shows it"
    )]
    Subject(String),
    /// Perhaps a password.
    #[error(
        "digest: expected USER:HASH, where the hash is the {DIGEST_LENGTH} characters that ZooKeeper has for the password; for a password \
         write digest:@FILE, with USER:PASSWORD in the first line of the file"
    )]
    Digest,
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, id) = text.split_once(':').ok_or(IdentityError::Scheme)?;
        let scheme = match scheme {
            "x509" => Scheme::X509,
            "sasl" => Scheme::Sasl,
            "digest" => Scheme::Digest,
            "world" => return Err(IdentityError::Anybody("world")),
            "ip" => return Err(IdentityError::Anybody("ip")),
            _ => return Err(IdentityError::Scheme),
        };
        if id.is_empty() || id.len() > IDENTITY_MAX || id.chars().any(char::is_control) {
            return Err(IdentityError::Name(scheme.as_str()));
        }
        match scheme {
            Scheme::X509 if !is_subject(id) => return Err(IdentityError::Subject(id.to_owned())),
            Scheme::Digest if !is_digest(id) => return Err(IdentityError::Digest),
            _ => {}
        }
        Ok(Self {
            scheme,
            id: id.to_owned(),
        })
    }
}

/// Whether it can be what a server makes of a certificate's subject, which is compared letter by letter.
fn is_subject(id: &str) -> bool {
    let spaced = |at: usize| id[..at].ends_with(',') && !id[..at].ends_with("\\,");
    id.contains('=') && !id.starts_with('/') && !id.match_indices(' ').any(|(at, _)| spaced(at))
}

fn is_digest(id: &str) -> bool {
    let decoded = |hash: &str| Base64::decode_to_vec(hash, None).is_ok_and(|hash| hash.len() == 20);
    id.split_once(':')
        .is_some_and(|(user, hash)| !user.is_empty() && hash.len() == DIGEST_LENGTH && decoded(hash))
}

impl Identity {
    /// That of a user of the scheme `digest`, as ZooKeeper has it.
    pub fn digest(user: &str, password: &str) -> Result<Self, IdentityError> {
        let hash: [u8; 20] = Sha1::digest(format!("{user}:{password}")).into();
        let hash = Base64::encode_to_string(hash).map_err(|_| IdentityError::Digest)?;
        format!("digest:{user}:{hash}").parse()
    }

    fn auth_id(&self) -> AuthId {
        AuthId::new(self.scheme.as_str(), &self.id)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(&self.auth_id()))
    }
}

/// As whom a host would have to be enrolled, as the option `--as` has it.
pub(crate) fn enrolled_as(credentials: &Credentials) -> Option<String> {
    match credentials {
        Credentials { sasl: Some(user), .. } => Some(format!("sasl:{user}")),
        Credentials { digest: Some(_), .. } => Some("digest:@FILE".to_owned()),
        Credentials { certificate: true, .. } => Some("x509:SUBJECT".to_owned()),
        _ => None,
    }
}

/// Somebody as he is told of: without the digest of a password.
pub(crate) fn name(auth: &AuthId) -> String {
    match (auth.scheme(), auth.id().split_once(':')) {
        ("digest", Some((user, _))) => format!("digest:{user}"),
        (scheme, _) => format!("{scheme}:{}", auth.id()),
    }
}

/// Whether a server has left out a digest, because who asks may not administer the znode.
pub(crate) fn is_masked(acl: &[Acl]) -> bool {
    acl.iter()
        .any(|entry| entry.scheme() == "digest" && entry.id().ends_with(":x"))
}

fn is_anybody(entry: &Acl) -> bool {
    matches!(entry.scheme(), "world" | "ip")
}

/// Whether anybody may do more than read.
pub(crate) fn is_open(acl: &[Acl]) -> bool {
    acl.iter()
        .any(|entry| is_anybody(entry) && entry.permission() & Permission::READ != entry.permission())
}

/// The list of a znode that holds what not everybody may know: that of its parent without those who may only read. Where access is open
/// it is the same.
pub(crate) fn private(acl: &[Acl]) -> Vec<Acl> {
    let stewards = acl.iter().filter(|entry| !is_anybody(entry)).cloned();
    match is_open(acl) {
        true => acl.to_vec(),
        false => stewards.collect(),
    }
}

/// Those who may do everything in a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stewards(Vec<AuthId>);

impl Stewards {
    /// Who may do everything with a znode, without those who are anybody.
    pub fn of(acl: &[Acl]) -> Self {
        let all = acl
            .iter()
            .filter(|entry| !is_anybody(entry) && entry.permission().has(Permission::ALL));
        Self(all.map(|entry| entry.auth_id().clone()).collect())
    }

    /// With these, and whoever the session is.
    pub fn and(mut self, others: &[Identity], session: bool) -> Self {
        let session = session.then(AuthId::authed);
        for other in others.iter().map(Identity::auth_id).chain(session) {
            if !self.0.contains(&other) {
                self.0.push(other);
            }
        }
        self
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().map(name).collect();
        names.sort();
        names
    }

    /// The list of what is nobody's but theirs.
    pub fn list(&self) -> Vec<Acl> {
        let all = self.0.iter().map(|steward| Acl::new(Permission::ALL, steward.clone()));
        all.chain([Acl::new(Permission::READ, AuthId::anyone())]).collect()
    }

    /// The list of a host's znode, and of what is below it.
    pub fn list_of_host(&self, host: &Identity) -> Vec<Acl> {
        let mut list = self.list();
        let host = host.auth_id();
        if !self.0.contains(&host) {
            let own = Permission::READ | Permission::WRITE | Permission::CREATE | Permission::DELETE;
            list.insert(self.0.len(), Acl::new(own, host));
        }
        list
    }

    /// The list that a znode with this one is to have: its own entries, with the stewards as they are now.
    pub fn list_like(&self, acl: &[Acl]) -> Vec<Acl> {
        let mut list = self.list();
        let is_other = |entry: &&Acl| !is_anybody(entry) && !self.0.contains(entry.auth_id());
        list.splice(self.0.len()..self.0.len(), acl.iter().filter(is_other).cloned());
        list
    }

    /// Whether a list has an entry for this host beside those of stewards.
    pub fn gives_own(&self, acl: &[Acl], host: &Identity) -> bool {
        let host = host.auth_id();
        !self.0.contains(&host) && acl.iter().any(|entry| *entry.auth_id() == host)
    }

    /// Whether a list gives nobody else more than to read, and the host what it needs. A digest may be left out.
    pub fn is_confined(&self, acl: &[Acl], host: &Identity) -> bool {
        let needed = Permission::READ | Permission::WRITE | Permission::CREATE | Permission::DELETE;
        let masked = AuthId::new(
            "digest",
            &format!("{}:x", host.id.split(':').next().unwrap_or_default()),
        );
        let is_host = |auth: &AuthId| *auth == host.auth_id() || (host.scheme == Scheme::Digest && *auth == masked);
        let fits = |entry: &Acl| {
            is_host(entry.auth_id())
                || self.0.contains(entry.auth_id())
                || (is_anybody(entry) && entry.permission() == Permission::READ)
        };
        let reads = acl
            .iter()
            .any(|entry| is_anybody(entry) && entry.permission().has(Permission::READ));
        reads
            && acl.iter().all(fits)
            && acl.iter().any(|entry| {
                (is_host(entry.auth_id()) || self.0.contains(&host.auth_id())) && entry.permission().has(needed)
            })
    }
}

/// Whether two lists say the same.
pub(crate) fn same(a: &[Acl], b: &[Acl]) -> bool {
    a.len() == b.len() && a.iter().all(|entry| b.contains(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(permission: Permission, scheme: &str, id: &str) -> Acl {
        Acl::new(permission, AuthId::new(scheme, id))
    }

    #[test]
    fn identities_are_written_as_zookeeper_has_them() {
        // As `org.apache.zookeeper.server.auth.DigestAuthenticationProvider super:test` prints it.
        let digest = Identity::digest("super", "test").unwrap();
        assert_eq!(digest.id, "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert_eq!(digest.to_string(), "digest:super");
        for good in [
            "x509:CN=web-01",
            "x509:CN=web-01,O=Example GmbH,C=DE",
            "x509:CN=a\\, b",
            "sasl:web-01",
            "sasl:twitcher/web-01@EXAMPLE",
            "digest:super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
        ] {
            assert!(good.parse::<Identity>().is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_no_identity_gets_words_and_no_password_is_repeated() {
        for (bad, words) in [
            ("", "expected x509:SUBJECT"),
            ("web-01", "expected x509:SUBJECT"),
            ("kerberos:web-01", "expected x509:SUBJECT"),
            ("auth:", "expected x509:SUBJECT"),
            ("world:anyone", "anybody can be that"),
            ("ip:10.0.0.1", "anybody can be that"),
            ("sasl:", "1 to 1024 bytes"),
            ("sasl:a\nb", "without control characters"),
            ("x509:web-01", "openssl x509"),
            ("x509:CN=web-01, O=Example", "without spaces"),
            ("x509:/CN=web-01", "openssl x509"),
            ("digest:web-01", "digest:@FILE"),
            ("digest:web-01:secret", "digest:@FILE"),
            ("digest::D/InIHSb7yEEbrWz8b9l71RjZJU=", "USER:HASH"),
        ] {
            let error = bad.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("secret"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn open_is_where_anybody_may_do_more_than_read() {
        let read = acl(Permission::READ, "world", "anyone");
        assert!(is_open(&[acl(Permission::ALL, "world", "anyone")]));
        assert!(is_open(&[read.clone(), acl(Permission::CREATE, "ip", "10.0.0.0/8")]));
        assert!(!is_open(&[read.clone(), acl(Permission::ALL, "sasl", "ops")]));
        assert!(!is_open(&[read]));
    }

    #[test]
    fn a_host_gets_its_own_znode_and_not_its_list() {
        let stewards = Stewards::of(&[
            acl(Permission::ALL, "sasl", "ops"),
            acl(Permission::READ, "sasl", "audit"),
            acl(Permission::READ, "world", "anyone"),
        ]);
        let host: Identity = "sasl:web-01".parse().unwrap();
        let list = stewards.list_of_host(&host);
        let own = list.iter().find(|entry| entry.id() == "web-01").unwrap();
        assert!(own.permission().has(Permission::DELETE) && !own.permission().has(Permission::ADMIN));
        assert!(!is_open(&list) && stewards.is_confined(&list, &host));
        assert_eq!(list.len(), 3, "{list:?}");
        assert!(stewards.gives_own(&list, &host) && !stewards.gives_own(&stewards.list(), &host));
        assert!(!stewards.gives_own(&list, &"sasl:web-02".parse().unwrap()));
        // A steward's host has no entry beside that.
        assert_eq!(stewards.list_of_host(&"sasl:ops".parse().unwrap()).len(), 2);
        assert!(!stewards.is_confined(&list, &"sasl:web-02".parse().unwrap()));
        assert!(!stewards.is_confined(&stewards.list(), &host));
        assert!(!stewards.is_confined(&[acl(Permission::ALL, "world", "anyone")], &host));
    }

    #[test]
    fn others_stay_in_a_list_and_anybody_does_not() {
        let before = Stewards(vec![AuthId::new("sasl", "ops")]);
        let now = before.clone().and(&["sasl:eve".parse().unwrap()], false);
        let list = now.list_like(&before.list_of_host(&"sasl:web-01".parse().unwrap()));
        let expected = [
            acl(Permission::ALL, "sasl", "ops"),
            acl(Permission::ALL, "sasl", "eve"),
            acl(Permission::READ, "world", "anyone"),
        ];
        assert!(
            expected.iter().all(|entry| list.contains(entry)) && list.len() == 4,
            "{list:?}"
        );
        assert!(!is_open(&now.list_like(&[acl(Permission::ALL, "world", "anyone")])));
    }
}
