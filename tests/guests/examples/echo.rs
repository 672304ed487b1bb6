//! Writes everything it is told to `/out/echo`, one fact a line: what the tests of context, configuration and grants read.

use std::fmt::Write;

guests::action!(|data| {
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name}: {value}").expect("a String takes everything");
    line("data", String::from_utf8_lossy(&data).into_owned());
    line("path", context::path());
    line("event", format!("{:?}", context::event()));
    line("stat", format!("{:?}", context::node_stat()));
    line("children", format!("{:?}", context::children()));
    line("changed", format!("{:?}", context::changed_paths()));
    line("attempt", context::attempt().to_string());
    line("run", context::run_id());
    line("watch", context::watch_name());
    line("deadline", format!("{:?}", context::deadline_ms().is_some()));
    line("cancel", format!("{:?}", cancel::requested()));
    line("since", format!("{:?}", change::since()));
    line("content", format!("{:?}", change::data().map(|data| String::from_utf8(data))));
    line("difference", format!("{:?}", change::children().map(|found| (found.added, found.removed))));
    let nodes = change::tree().map(|nodes| nodes.into_iter().map(|node| (node.path, node.data)));
    line("nodes", format!("{:?}", nodes.map(|nodes| nodes.collect::<Vec<_>>())));
    line("fates", format!("{:?}", change::changed()));
    line("config", format!("{:?}", config::all()));
    line("args", format!("{:?}", std::env::args().skip(1).collect::<Vec<_>>()));
    line("env", format!("{:?}", std::env::vars().collect::<Vec<_>>()));
    line("stdin", std::io::read_to_string(std::io::stdin()).unwrap_or_default());
    std::fs::write("/out/echo", text).map_err(|error| Failure::Permanent(error.to_string()))
});
