//! The watched subtree, as a template sees it: a map from paths to data, and the functions that confd has for its keys.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use twitcher_sdk::TreeNode;

/// Every znode of the subtree.
#[derive(Debug)]
pub struct Nodes {
    /// The watched znode.
    root: String,
    /// Data by whole path; none of what cannot be read.
    data: BTreeMap<String, Option<Vec<u8>>>,
}

impl Nodes {
    pub fn new(root: &str, nodes: &[TreeNode]) -> Self {
        let pair = |node: &TreeNode| (node.path.clone(), node.data.clone());
        Self {
            root: root.to_owned(),
            data: nodes.iter().map(pair).collect(),
        }
    }

    /// Those of several subtrees, each by its whole path.
    pub fn of_several(data: BTreeMap<String, Option<Vec<u8>>>) -> Self {
        let root = "/".to_owned();
        Self { root, data }
    }

    /// The watched znode's data.
    pub fn top(&self) -> Option<&[u8]> {
        self.data.get(&self.root)?.as_deref()
    }

    /// What a template means by a path: as watches name it if it begins with the watched znode's, else below that. So templates can be
    /// written without knowing what is watched.
    fn whole(&self, path: &str) -> String {
        let path = path.trim_end_matches('/');
        let root = self.root.trim_end_matches('/');
        let is_whole = path
            .strip_prefix(root)
            .is_some_and(|rest| rest.starts_with('/') || rest.is_empty());
        match path.trim_start_matches('/') {
            "" => self.root.clone(),
            _ if path.starts_with('/') && is_whole => path.to_owned(),
            below => format!("{root}/{below}"),
        }
    }

    /// The data of a znode as text; none if there is no such znode.
    fn text(&self, path: &str) -> Result<Option<&str>, Error> {
        match self.data.get(path) {
            None => Ok(None),
            Some(None) => Err(wrong(format!("the znode {path} cannot be read"))),
            Some(Some(data)) => std::str::from_utf8(data)
                .map(Some)
                .map_err(|_| wrong(format!("the data of {path} is not UTF-8"))),
        }
    }

    fn value(&self, path: &str) -> Option<Value> {
        match self.text(path) {
            Ok(text) => text.map(Value::from),
            Err(error) => Some(error.into()),
        }
    }

    /// The path of everything below a znode, with what it is called from there.
    fn below<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let from = self.data.range(prefix.clone()..);
        from.map_while(move |(path, _)| Some((path.as_str(), path.strip_prefix(&prefix)?)))
            // The root itself, if it is "/".
            .filter(|(_, name)| !name.is_empty())
    }

    /// Whether it is one that says something: a znode above others mostly does not.
    fn is_key(&self, path: &str) -> bool {
        let has_data = self
            .data
            .get(path)
            .is_some_and(|data| data.as_ref().is_none_or(|data| !data.is_empty()));
        has_data || self.below(path).next().is_none()
    }

    /// The keys that a pattern means, sorted.
    fn matching(&self, pattern: &str) -> Vec<&str> {
        let pattern: Vec<_> = self.whole(pattern).split('/').map(str::to_owned).collect();
        let matches = |path: &str| {
            let names: Vec<_> = path.split('/').collect();
            names.len() == pattern.len() && pattern.iter().zip(names).all(|(pattern, name)| glob(pattern, name))
        };
        let paths = self.data.keys().map(String::as_str);
        paths.filter(|path| matches(path) && self.is_key(path)).collect()
    }

    /// The names of the children that fulfil a condition, sorted.
    fn children(&self, path: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let path = self.whole(path);
        let names: BTreeSet<_> = self
            .below(&path)
            .filter_map(|(_, name)| name.split('/').next())
            .collect();
        let child = |name: &&str| wanted(&format!("{}/{name}", path.trim_end_matches('/')));
        names.into_iter().filter(child).map(str::to_owned).collect()
    }

    fn missing(&self, path: &str) -> Error {
        wrong(format!("there is no znode {path}"))
    }
}

pub(crate) fn wrong(words: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, words)
}

/// Whether a name is what a pattern with `*` and `?` says.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut here) = (0, 0);
    // Where to go on should the last star have to take one character more.
    let mut again = None;
    while here < name.len() {
        match pattern.get(at) {
            Some('*') => {
                again = Some((at, here));
                at += 1;
            }
            Some(c) if *c == '?' || *c == name[here] => {
                at += 1;
                here += 1;
            }
            _ => match again {
                Some((star, taken)) => {
                    again = Some((star, taken + 1));
                    (at, here) = (star + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// The part of the tree below a znode, as a map. Called with a path, it is the part below that.
#[derive(Debug)]
pub struct Tree {
    nodes: Arc<Nodes>,
    base: String,
}

impl Tree {
    pub fn new(nodes: Arc<Nodes>) -> Self {
        let base = nodes.root.clone();
        Self { nodes, base }
    }
}

impl Object for Tree {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let path = key.as_str()?;
        let whole = match self.base == self.nodes.root {
            true => self.nodes.whole(path),
            false => format!("{}/{}", self.base, path.trim_matches('/')),
        };
        self.nodes.value(&whole)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let below = self.nodes.below(&self.base);
        let keys = below.filter(|(path, _)| self.nodes.is_key(path));
        Enumerator::Values(keys.map(|(_, name)| Value::from(name)).collect())
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (path,): (&str,) = from_args(args)?;
        Ok(Value::from_object(Self {
            nodes: self.nodes.clone(),
            base: self.nodes.whole(path),
        }))
    }
}

/// Functions over the subtree; each is an error if there is none, which says why.
pub fn add_to(environment: &mut Environment<'_>, nodes: Result<Arc<Nodes>, String>) {
    /// The functions, by name: what is done with the nodes, a path and a default.
    type Function = fn(&Nodes, &str, Option<Value>) -> Result<Value, Error>;
    let functions: [(&str, bool, Function); 7] = [
        ("get", false, |nodes, path, _| {
            let path = nodes.whole(path);
            nodes.text(&path)?.ok_or_else(|| nodes.missing(&path))?;
            Ok(key_and_value(nodes, &path))
        }),
        ("getv", true, |nodes, path, default| {
            let path = nodes.whole(path);
            match (nodes.text(&path)?, default) {
                (Some(text), _) => Ok(text.into()),
                (None, Some(default)) => Ok(default),
                (None, None) => Err(nodes.missing(&path)),
            }
        }),
        ("gets", false, |nodes, pattern, _| {
            let found = nodes.matching(pattern).into_iter();
            Ok(found.map(|path| key_and_value(nodes, path)).collect())
        }),
        ("getvs", false, |nodes, pattern, _| {
            let found = nodes.matching(pattern).into_iter();
            Ok(found.filter_map(|path| nodes.value(path)).collect())
        }),
        ("exists", false, |nodes, path, _| {
            Ok(nodes.data.contains_key(&nodes.whole(path)).into())
        }),
        ("ls", false, |nodes, path, _| {
            Ok(nodes.children(path, |_| true).into_iter().collect())
        }),
        ("lsdir", false, |nodes, path, _| {
            let has_children = |child: &str| nodes.below(child).next().is_some();
            Ok(nodes.children(path, has_children).into_iter().collect())
        }),
    ];
    for (name, has_default, function) in functions {
        let nodes = nodes.clone();
        environment.add_function(name, move |path: Cow<'_, str>, default: Option<Value>| {
            if default.is_some() && !has_default {
                return Err(Error::from(ErrorKind::TooManyArguments));
            }
            match &nodes {
                Ok(nodes) => function(nodes, &path, default),
                Err(why) => Err(wrong(why.clone())),
            }
        });
    }
}

/// As confd has them.
fn key_and_value(nodes: &Nodes, path: &str) -> Value {
    let value = nodes.value(path).unwrap_or_default();
    Value::from_pairs([("key", Value::from(path)), ("value", value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_matched_name_by_name() {
        for (pattern, name, expected) in [
            ("*", "app1", true),
            ("*", "", true),
            ("app?", "app1", true),
            ("app?", "app", false),
            ("a*p*1", "app-x1", true),
            ("a*p*1", "app-x2", false),
            ("*x", "axbx", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_path_is_whole_or_below_the_watched_znode() {
        let nodes = |root: &str| Nodes {
            root: root.to_owned(),
            data: BTreeMap::new(),
        };
        let app = nodes("/app");
        for (path, whole) in [
            ("db/host", "/app/db/host"),
            ("/db/host", "/app/db/host"),
            ("/app/db/host", "/app/db/host"),
            ("/app", "/app"),
            ("app", "/app/app"),
            ("/application", "/app/application"),
            ("", "/app"),
            ("/", "/app"),
            ("/db/", "/app/db"),
        ] {
            assert_eq!(app.whole(path), whole, "{path}");
        }
        let root = nodes("/");
        assert_eq!(
            (root.whole("a"), root.whole("/a/b"), root.whole("/")),
            ("/a".into(), "/a/b".into(), "/".into())
        );
    }
}
