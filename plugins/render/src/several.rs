//! What a watch of several znodes is told: the document on stdin, which the SDK has in types for a watch of one alone.

use std::collections::BTreeMap;

use ct_codecs::{Base64, Decoder};
use serde_json::Value as Json;
use twitcher_sdk::Change;

/// The data of every znode by its path; none of what cannot be read, and no znode at all if none exists. It is none for a watch of one.
pub fn nodes(change: &Change) -> Option<BTreeMap<String, Option<Vec<u8>>>> {
    let document: Json = serde_json::from_slice(change.data()).ok()?;
    // What a znode holds cannot know the run that it will be read for.
    let is_of_this_run = document["run"] == change.run_id() && document["watch"] == change.watch_name();
    let znodes = document["znodes"].as_array().filter(|_| is_of_this_run)?;
    let mut all = BTreeMap::new();
    for znode in znodes.iter().filter(|znode| !znode["stat"].is_null()) {
        let path = znode["znode"].as_str().unwrap_or_default();
        if let Some(nodes) = znode["nodes"].as_object() {
            all.extend(nodes.iter().map(|(path, node)| (path.clone(), data(node))));
        } else if let Some(names) = znode["children"]["names"].as_array() {
            all.insert(path.to_owned(), Some(Vec::new()));
            let names = names.iter().filter_map(Json::as_str);
            all.extend(names.map(|name| (format!("{}/{name}", path.trim_end_matches('/')), Some(Vec::new()))));
        } else {
            all.insert(path.to_owned(), data(znode));
        }
    }
    Some(all)
}

fn data(node: &Json) -> Option<Vec<u8>> {
    if let Some(text) = node["data"].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    Base64::decode_to_vec(node["data_base64"].as_str()?, None).ok()
}
