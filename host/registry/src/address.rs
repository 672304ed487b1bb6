//! `oci://REGISTRY/REPOSITORY:TAG`: where in which registry.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use twitcher_bundle::parse_digest;
use twitcher_model::Digest;
use twitcher_model::deployment::{is_registry, is_repository, registry_host};

/// Longest tag, in bytes.
const TAG_MAX: usize = 128;

/// A place in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// `HOST` or `HOST:PORT`.
    pub registry: String,
    /// Name of the repository, such as `tools/hello`.
    pub repository: String,
    /// Which of the versions that are there.
    pub selector: Selector,
}

/// Which version is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// What has this tag now.
    Tag(String),
    /// The one with this digest, for ever.
    Digest(Digest),
}

/// A text that names no place in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// It does not begin with `oci://`.
    #[error("{0:?} is not a place in a registry: write oci://REGISTRY/REPOSITORY:TAG")]
    Scheme(String),
    /// The registry cannot be.
    #[error("{0:?} is not a registry: expected HOST or HOST:PORT")]
    Registry(String),
    /// The repository cannot be.
    #[error(
        "{0:?} is not the name of a repository: lower-case letters and digits, with . _ or - between them, in parts separated by /"
    )]
    Repository(String),
    /// It does not say which version.
    #[error("it does not say which version: add :TAG or @sha256:DIGEST to {0:?}")]
    Which(String),
    /// The tag cannot be.
    #[error("{0:?} is not a tag: up to {TAG_MAX} letters, digits, . _ and -, not beginning with . or -")]
    Tag(String),
    /// The digest cannot be.
    #[error("{0:?} is not a digest: expected sha256: and 64 lower-case hexadecimal digits")]
    Digest(String),
    /// Both a tag and a digest.
    #[error("{0:?} has both a tag and a digest: the digest alone says which version")]
    Both(String),
}

impl Remote {
    /// The host to connect to, with the port if it is not the usual one.
    pub fn address(&self) -> &str {
        match self.registry.as_str() {
            // The one registry whose name is not its address.
            "docker.io" => "registry-1.docker.io",
            registry => registry,
        }
    }

    /// Whether it is on this machine, as its name says.
    pub fn is_loopback(&self) -> bool {
        let host = registry_host(&self.registry);
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// The same repository, and there the manifest with this digest.
    pub fn at(&self, digest: Digest) -> Self {
        Self {
            selector: Selector::Digest(digest),
            ..self.clone()
        }
    }
}

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let Some(place) = text.strip_prefix("oci://") else {
            return Err(RemoteError::Scheme(text.to_owned()));
        };
        let (registry, rest) = place.split_once('/').unwrap_or((place, ""));
        if !is_registry(registry) {
            return Err(RemoteError::Registry(registry.to_owned()));
        }
        let (named, digest) = match rest.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (rest, None),
        };
        let (repository, tag) = match named.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (named, None),
        };
        if !is_repository(repository) {
            return Err(RemoteError::Repository(repository.to_owned()));
        }
        let selector = match (tag, digest) {
            (None, None) => return Err(RemoteError::Which(text.to_owned())),
            (Some(_), Some(_)) => return Err(RemoteError::Both(text.to_owned())),
            (Some(tag), None) => {
                check_tag(tag).ok_or_else(|| RemoteError::Tag(tag.to_owned()))?;
                Selector::Tag(tag.to_owned())
            }
            (None, Some(digest)) => {
                let parsed = digest.strip_prefix("sha256:").and_then(parse_digest);
                Selector::Digest(parsed.ok_or_else(|| RemoteError::Digest(digest.to_owned()))?)
            }
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            selector,
        })
    }
}

fn check_tag(tag: &str) -> Option<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let begins = !tag.starts_with(['.', '-']);
    (begins && (1..=TAG_MAX).contains(&tag.len()) && tag.bytes().all(good)).then_some(())
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.registry, self.repository)?;
        match &self.selector {
            Selector::Tag(tag) => write!(f, ":{tag}"),
            Selector::Digest(digest) => write!(f, "@sha256:{digest}"),
        }
    }
}

impl fmt::Display for Selector {
    /// As it stands in the addresses of a registry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn why(text: &str) -> String {
        text.parse::<Remote>().unwrap_err().to_string()
    }

    #[test]
    fn places_are_read_and_shown() {
        for (text, registry, repository) in [
            (
                "oci://127.0.0.1:5000/tools/hello:1.0.0",
                "127.0.0.1:5000",
                "tools/hello",
            ),
            ("oci://ghcr.io/me/a_b-c.d:V1", "ghcr.io", "me/a_b-c.d"),
            ("oci://localhost/hello:_x", "localhost", "hello"),
            ("oci://[::1]:5000/hello:1", "[::1]:5000", "hello"),
            ("oci://[::1]/hello:1", "[::1]", "hello"),
            (&format!("oci://r.example/x@sha256:{DIGEST}"), "r.example", "x"),
        ] {
            let remote: Remote = text.parse().unwrap();
            assert_eq!(
                (remote.registry.as_str(), remote.repository.as_str()),
                (registry, repository)
            );
            assert_eq!(remote.to_string(), text);
        }
        let remote: Remote = format!("oci://r.example/x@sha256:{DIGEST}").parse().unwrap();
        assert_eq!(remote.selector, Selector::Digest(parse_digest(DIGEST).unwrap()));
        let remote: Remote = "oci://r.example/x:1".parse().unwrap();
        assert_eq!(
            remote.at(parse_digest(DIGEST).unwrap()).to_string(),
            format!("oci://r.example/x@sha256:{DIGEST}")
        );
    }

    #[test]
    fn what_names_no_place_is_refused_in_words() {
        for (text, words) in [
            ("ghcr.io/me/x:1", "write oci://REGISTRY/REPOSITORY:TAG"),
            ("https://ghcr.io/me/x:1", "write oci://"),
            ("oci://", "\"\" is not a registry"),
            ("oci:///x:1", "\"\" is not a registry"),
            ("oci://host:0/x:1", "\"host:0\" is not a registry"),
            ("oci://host:70000/x:1", "is not a registry"),
            ("oci://host:/x:1", "is not a registry"),
            ("oci://user@host/x:1", "\"user@host\" is not a registry"),
            ("oci://ho st/x:1", "is not a registry"),
            ("oci://-h/x:1", "is not a registry"),
            ("oci://h\u{e4}/x:1", "is not a registry"),
            ("oci://[::1/x:1", "is not a registry"),
            ("oci://[zz]/x:1", "is not a registry"),
            ("oci://host", "\"\" is not the name of a repository"),
            ("oci://host/Upper:1", "is not the name of a repository"),
            ("oci://host/../x:1", "is not the name of a repository"),
            ("oci://host/a//b:1", "is not the name of a repository"),
            ("oci://host/a?x=1:1", "is not the name of a repository"),
            ("oci://host/x", "add :TAG or @sha256:DIGEST"),
            ("oci://host/x:", "\"\" is not a tag"),
            ("oci://host/x:-1", "\"-1\" is not a tag"),
            ("oci://host/x:a/b", "\"a/b\" is not a tag"),
            ("oci://host/x@sha512:00", "\"sha512:00\" is not a digest"),
            ("oci://host/x@sha256:ABC", "is not a digest"),
            (&format!("oci://host/x:1@sha256:{DIGEST}"), "both a tag and a digest"),
        ] {
            assert!(why(text).contains(words), "{text}: {}", why(text));
        }
        assert!(why(&format!("oci://h/{}:1", "a".repeat(256))).contains("repository"));
        assert!(why(&format!("oci://h/a:{}", "a".repeat(129))).contains("is not a tag"));
    }

    #[test]
    fn loopback_is_told_by_the_name_alone() {
        for (registry, loopback) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("10.0.0.1", false),
        ] {
            let remote: Remote = format!("oci://{registry}/x:1").parse().unwrap();
            assert_eq!(remote.is_loopback(), loopback, "{registry}");
        }
    }
}
