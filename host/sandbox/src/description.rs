//! What the document of a watch with `payload = JSON` says, for the components that ask for it in types.
//!
//! It must not know what a component may see of it: all of it is also in the data that the component is given.

use std::collections::BTreeMap;

use ct_codecs::{Base64, Decoder as _};
use serde::Deserialize;

use twitcher_model::Stat;

/// Why a document says nothing.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// It is something else.
    #[error("the data is no description of a change: {0}")]
    Json(#[from] serde_json::Error),
    /// What should be data is none.
    #[error("the description of the change has a data_base64 that is no base64")]
    Base64,
}

/// What changed, as far as it is not in the facts of the change.
#[derive(Debug, Deserialize)]
pub struct Description {
    /// The run that changes are counted from.
    pub since: Option<String>,
    #[serde(flatten)]
    data: Data,
    /// The children.
    pub children: Option<Children>,
    /// The nodes of the subtree, by their paths.
    pub nodes: Option<BTreeMap<String, Node>>,
    /// What became of them, by their paths.
    pub changed: Option<BTreeMap<String, Fate>>,
}

/// As text or in base64.
#[derive(Debug, Deserialize)]
struct Data {
    data: Option<String>,
    data_base64: Option<String>,
}

/// The names of children, each list sorted.
#[derive(Debug, Deserialize)]
pub struct Children {
    /// All that there are.
    pub names: Vec<String>,
    /// Those that were not there before.
    pub added: Vec<String>,
    /// Those that were.
    pub removed: Vec<String>,
}

/// A node of the subtree.
#[derive(Debug, Deserialize)]
pub struct Node {
    /// Its stat.
    pub stat: Stat,
    #[serde(flatten)]
    data: Data,
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It came into being.
    Created,
    /// Its data was set.
    Set,
    /// It went away.
    Deleted,
}

impl Description {
    /// Reads a document.
    pub fn of(document: &[u8]) -> Result<Self, DescriptionError> {
        Ok(serde_json::from_slice(document)?)
    }

    /// The data of the node; none if there is none.
    pub fn data(&self) -> Result<Option<Vec<u8>>, DescriptionError> {
        self.data.bytes()
    }
}

impl Node {
    /// Its data; none if it cannot be read.
    pub fn data(&self) -> Result<Option<Vec<u8>>, DescriptionError> {
        self.data.bytes()
    }
}

impl Data {
    fn bytes(&self) -> Result<Option<Vec<u8>>, DescriptionError> {
        match (&self.data, &self.data_base64) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(encoded)) => Base64::decode_to_vec(encoded, None)
                .map(Some)
                .map_err(|_| DescriptionError::Base64),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtree_is_read_with_data_of_every_kind() {
        let text = r#"{"version": 1, "since": "r", "stat": null, "new": {},
            "nodes": {
                "/a": {"stat": {"czxid": 1, "mzxid": 2, "version": 3}, "data": "x"},
                "/a/b": {"stat": {"czxid": 1, "mzxid": 2, "version": 3}, "data_base64": "/wA="},
                "/a/c": {"stat": {"czxid": 1, "mzxid": 2, "version": 3}, "unreadable": true}},
            "changed": {"/a/b": "set"}}"#;
        let description = Description::of(text.as_bytes()).unwrap();
        let nodes = description.nodes.as_ref().unwrap();
        let data: Vec<_> = nodes.values().map(|node| node.data().unwrap()).collect();
        assert_eq!(data, [Some(b"x".to_vec()), Some(b"\xff\0".to_vec()), None]);
        assert_eq!(nodes["/a"].stat.version, 3);
        assert_eq!(description.changed.as_ref().unwrap()["/a/b"], Fate::Set);
        assert_eq!(
            (description.since.as_deref(), description.data().unwrap()),
            (Some("r"), None)
        );
        assert!(description.children.is_none());
    }

    #[test]
    fn what_is_none_is_refused() {
        assert!(Description::of(b"/a/b\n").is_err());
        let text = br#"{"since": null, "data_base64": "?"}"#;
        assert!(Description::of(text).unwrap().data().is_err());
    }
}
