//! Writes the subtree that it is told of to `/out/tree`, a znode a line, and the rest to `/out/changed`. By means of the SDK.

use std::fmt::Write;

use twitcher_sdk::{Change, Failure, action};

action!(on_change);

fn on_change(change: Change) -> Result<(), Failure> {
    let tree = change.tree()?;
    let (mut nodes, mut changed) = (String::new(), String::new());
    for node in tree {
        let data = node.data.as_deref().map(String::from_utf8_lossy);
        writeln!(nodes, "{} {data:?}", node.path)?;
    }
    for (path, fate) in tree.changed() {
        writeln!(changed, "{path} {fate:?}")?;
    }
    let version = tree.get("").map_or(-1, |root| root.stat.version);
    let (host, since) = (tree.text("db/host")?, change.since().is_some());
    writeln!(changed, "version {version} host {host:?} since {since}")?;
    std::fs::write("/out/tree", nodes)?;
    Ok(std::fs::write("/out/changed", changed)?)
}
