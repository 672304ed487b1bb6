//! A URL, in the parts that `wasi:http` wants.

use std::fmt;

/// Where to post.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the scheme is `https`, not `http`.
    pub tls: bool,
    /// Host, and port if there is one.
    pub authority: String,
    /// Path and query; at least `/`.
    pub path: String,
}

/// What is wrong with a URL.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    Scheme,
    Authority,
    Character(char),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Scheme => f.write_str("must begin with https:// or http://"),
            Malformed::Authority => f.write_str("has no host, or a user name"),
            Malformed::Character(bad) => write!(f, "contains {bad:?}"),
        }
    }
}

impl std::error::Error for Malformed {}

impl Endpoint {
    pub fn parse(url: &str) -> Result<Self, Malformed> {
        let (tls, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(Malformed::Scheme),
        };
        if let Some(bad) = rest.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            return Err(Malformed::Character(bad));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || authority.starts_with(':') || authority.contains('@') {
            return Err(Malformed::Authority);
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            tls,
            authority: authority.to_owned(),
            path: format!("{slash}{path}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let parts = |url| Endpoint::parse(url).map(|url| (url.tls, url.authority, url.path));
        let expected = |tls, authority: &str, path: &str| Ok((tls, authority.to_owned(), path.to_owned()));
        assert_eq!(parts("https://a.example"), expected(true, "a.example", "/"));
        assert_eq!(
            parts("http://[::1]:8080/x/y?z=1"),
            expected(false, "[::1]:8080", "/x/y?z=1")
        );
        assert_eq!(parts("http://a?b"), expected(false, "a", "/?b"));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        assert_eq!(Endpoint::parse("ftp://a/"), Err(Malformed::Scheme));
        assert_eq!(Endpoint::parse("a.example/"), Err(Malformed::Scheme));
        for url in ["https://", "https:///x", "https://:80/", "https://user@host/"] {
            assert_eq!(Endpoint::parse(url), Err(Malformed::Authority), "{url}");
        }
        assert_eq!(Endpoint::parse("https://a/ b"), Err(Malformed::Character(' ')));
        assert_eq!(Endpoint::parse("https://a/#b"), Err(Malformed::Character('#')));
        assert_eq!(Endpoint::parse("https://a/\r\nx: y"), Err(Malformed::Character('\r')));
    }
}
