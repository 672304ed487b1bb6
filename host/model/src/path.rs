//! Paths of znodes, by ZooKeeper's own rules.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The absolute path of a znode, checked by ZooKeeper's own rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct ZnodePath(Arc<str>);

/// Why a text is not the path of a znode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZnodePathError {
    /// The path does not begin with `/`.
    #[error("znode path {0:?} is not absolute: it must begin with \"/\"")]
    Relative(String),
    /// The path ends with `/` but is not the root.
    #[error("znode path {0:?} must not end with \"/\"")]
    TrailingSlash(String),
    /// Two slashes in a row.
    #[error("znode path {0:?} has an empty name between two slashes")]
    EmptyName(String),
    /// A name that is `.` or `..`.
    #[error("znode path {0:?} must not have {1:?} as a name: ZooKeeper has no relative paths")]
    Dots(String, String),
    /// A character that ZooKeeper refuses.
    #[error("znode path {0:?} has the character {1:?}, which ZooKeeper does not allow")]
    Character(String, char),
}

impl ZnodePath {
    /// Checks `path` by the rules of ZooKeeper's `PathUtils.validatePath`.
    pub fn new(path: impl Into<Arc<str>>) -> Result<Self, ZnodePathError> {
        let path = path.into();
        let owned = || path.to_string();
        let Some(names) = path.strip_prefix('/') else {
            return Err(ZnodePathError::Relative(owned()));
        };
        if names.is_empty() {
            return Ok(Self(path));
        }
        if names.ends_with('/') {
            return Err(ZnodePathError::TrailingSlash(owned()));
        }
        for name in names.split('/') {
            match name {
                "" => return Err(ZnodePathError::EmptyName(owned())),
                "." | ".." => return Err(ZnodePathError::Dots(owned(), name.to_owned())),
                _ => {}
            }
        }
        let refused = |c: &char| matches!(*c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}');
        if let Some(c) = path.chars().find(refused) {
            return Err(ZnodePathError::Character(owned(), c));
        }
        Ok(Self(path))
    }

    /// The path of the root.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path one level up; none for the root.
    pub fn parent(&self) -> Option<ZnodePath> {
        match self.0.rfind('/')? {
            0 if self.0.len() == 1 => None,
            0 => Some(Self("/".into())),
            at => Some(Self(self.0[..at].into())),
        }
    }

    /// Whether `self` is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &ZnodePath) -> bool {
        match self.0.strip_prefix(&*ancestor.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || &*ancestor.0 == "/",
            None => false,
        }
    }
}

impl fmt::Display for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<Arc<str>> for ZnodePath {
    type Error = ZnodePathError;
    fn try_from(path: Arc<str>) -> Result<Self, Self::Error> {
        Self::new(path)
    }
}

impl From<ZnodePath> for Arc<str> {
    fn from(path: ZnodePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn znode_paths_follow_zookeepers_rules() {
        for good in ["/", "/a", "/a/b.c", "/a/...", "/ü", "/a b"] {
            assert!(ZnodePath::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "/a//b",
            "/a/./b",
            "/..",
            "/a\0",
            "/a\n",
            "/\u{e000}",
        ] {
            assert!(ZnodePath::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ancestors_are_whole_names() {
        let path = |p: &str| ZnodePath::new(p).unwrap();
        assert!(path("/a/b").is_within(&path("/a")));
        assert!(path("/a").is_within(&path("/")));
        assert!(path("/a").is_within(&path("/a")));
        assert!(!path("/ab").is_within(&path("/a")));
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(path("/")));
        assert_eq!(path("/").parent(), None);
    }
}
