//! A bundle's requests as an operator would grant them: what to paste into a configuration.

use std::fmt::Write as _;

use super::manifest::Manifest;
use super::requested_grants::{ANY, DirAccess, ZnodeAccess};

/// A watch with everything that the bundle requests, to be filled in.
pub fn stanza(manifest: &Manifest) -> String {
    let requests = &manifest.requests;
    let mut text = String::from("RegisterWatch(\n    znode = \"/path/of/znode\",\n    action = Wasm(\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "        {},", quoted(&manifest.name));
    let mut dict = |name: &str, entries: Vec<(String, String)>| {
        if !entries.is_empty() {
            let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
            let _ = writeln!(text, "        {name} = {{{}}},", entries.join(", "));
        }
    };
    let named = |name: &String, any: &str| match name == ANY {
        true => any.to_owned(),
        false => quoted(name),
    };
    let value = || "\"VALUE\"".to_owned();
    dict(
        "config",
        manifest.config.iter().map(|key| (quoted(key), value())).collect(),
    );
    dict(
        "env",
        requests
            .env
            .iter()
            .map(|name| (named(name, "\"NAME\""), value()))
            .collect(),
    );
    let dir = |(guest, access): (&String, &DirAccess)| {
        let host = match access {
            DirAccess::Ro => "\"/host/dir:ro\"",
            DirAccess::Rw => "\"/host/dir:rw\"",
        };
        (named(guest, "\"/guest\""), host.to_owned())
    };
    dict("dirs", requests.dirs.iter().map(dir).collect());
    let command = |name: &String| (named(name, "\"NAME\""), "[\"/path/of/program\"]".to_owned());
    dict("commands", requests.commands.iter().map(command).collect());
    let znode = |(pattern, access): (&String, &ZnodeAccess)| {
        let access = match access {
            ZnodeAccess::R => "\"r\"",
            ZnodeAccess::Rw => "\"rw\"",
        };
        (named(pattern, "\"/path/**\""), access.to_owned())
    };
    dict("znodes", requests.znodes.iter().map(znode).collect());
    let mut list = |name: &str, entries: Vec<String>| {
        if !entries.is_empty() {
            let _ = writeln!(text, "        {name} = [{}],", entries.join(", "));
        }
    };
    list(
        "http",
        requests
            .http
            .iter()
            .map(|origin| named(origin, "\"https://host\""))
            .collect(),
    );
    list(
        "net",
        requests.net.iter().map(|host| named(host, "\"host:port\"")).collect(),
    );
    if requests.args {
        list("args", vec!["\"ARGUMENT\"".to_owned()]);
    }
    if let Some(memory) = requests.memory {
        let _ = writeln!(text, "        memory = {memory},");
    }
    text.push_str("    ),\n    uid = \"nobody\",\n    timeout = 60,\n)\n");
    text
}

/// A text in quotes that Starlark and JSON read alike.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{FORMAT, FileFacts, World};

    #[test]
    fn requests_become_grants_to_fill_in() {
        let requests = r#"{"dirs": {"/out": "rw", "*": "ro"}, "commands": ["reload"], "znodes": {"/app/**": "rw"},
            "http": ["*"], "net": ["db:1"], "env": ["A"], "args": true, "memory": 1048576}"#;
        let manifest = Manifest {
            format: FORMAT,
            name: "render".to_owned(),
            version: semver::Version::new(1, 0, 0),
            world: World::Action,
            sdk: None,
            config: vec!["dest".to_owned()],
            requests: serde_json::from_str(requests).unwrap(),
            component: FileFacts::of(b""),
            native: vec![],
        };
        assert_eq!(
            stanza(&manifest),
            r#"RegisterWatch(
    znode = "/path/of/znode",
    action = Wasm(
        "render",
        config = {"dest": "VALUE"},
        env = {"A": "VALUE"},
        dirs = {"/guest": "/host/dir:ro", "/out": "/host/dir:rw"},
        commands = {"reload": ["/path/of/program"]},
        znodes = {"/app/**": "rw"},
        http = ["https://host"],
        net = ["db:1"],
        args = ["ARGUMENT"],
        memory = 1048576,
    ),
    uid = "nobody",
    timeout = 60,
)
"#
        );
    }
}
