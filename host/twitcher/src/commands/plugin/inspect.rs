//! What a component is and needs, found without running it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use wasmparser::{KnownCustom, Parser};
use wit_component::DecodedWasm;
use wit_parser::{Resolve, WorldId, WorldItem, WorldKey};

use twitcher_interfaces::decode;

/// Why a component cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It cannot be read.
    #[error("cannot read {file}: {error}")]
    Read {
        /// The file.
        file: String,
        /// The error of the system call.
        error: io::Error,
    },
    /// It is something else, or damaged.
    #[error("{file}: {why}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong, in words.
        why: String,
    },
}

/// What an import may need from the operator: its beginning, the argument of `Wasm(...)` to paste, and when it is needed.
const GRANTS: [(&str, &str, &str); 7] = [
    (
        "twitcher:action/config@",
        "config = {\"KEY\": \"VALUE\"}",
        "if it is configured",
    ),
    (
        "twitcher:action/commands@",
        "commands = {\"NAME\": [\"/path/of/program\"]}",
        "each command it runs",
    ),
    (
        "twitcher:action/znodes@",
        "znodes = {\"/path\": \"r\"}",
        "each znode it reads (\"r\") or also writes (\"rw\")",
    ),
    (
        "wasi:http/outgoing-handler@",
        "http = [\"https://host\"]",
        "each origin it sends requests to",
    ),
    ("wasi:sockets/", "net = [\"host:port\"]", "each address it connects to"),
    (
        "wasi:filesystem/",
        "dirs = {\"/guest\": \"/host/dir:ro\"}",
        "if it opens files",
    ),
    (
        "wasi:cli/environment@",
        "env = {\"NAME\": \"VALUE\"}",
        "if it reads its environment",
    ),
];

/// Describes a component in text.
pub fn inspect(file: &Path) -> Result<String, InspectError> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| InspectError::Read {
        file: name.clone(),
        error,
    })?;
    let invalid = |why: String| InspectError::Invalid {
        file: name.clone(),
        why,
    };
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name}: {} bytes", bytes.len());
    if Parser::is_core_wasm(&bytes) {
        let _ = writeln!(
            text,
            "a core module: it is adapted to a component when it is compiled\n"
        );
    } else if !Parser::is_component(&bytes) {
        return Err(invalid("it is neither a component nor a core module".to_owned()));
    } else {
        let decoded = decode(&bytes).map_err(invalid)?;
        let DecodedWasm::Component(resolve, world) = decoded else {
            return Err(invalid(
                "it is a package of interfaces, not a component: there is nothing to run".to_owned(),
            ));
        };
        describe(&mut text, &resolve, world, file);
    }
    made_with(&mut text, &bytes);
    Ok(text)
}

fn describe(text: &mut String, resolve: &Resolve, world: WorldId, file: &Path) {
    let world = &resolve.worlds[world];
    let names = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| -> BTreeSet<String> {
        items.map(|(key, _)| resolve.name_world_key(key)).collect()
    };
    let exports = names(&mut world.exports.iter());
    let imports = names(&mut world.imports.iter());
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let kind = if has("twitcher:action/check@") {
        "twitcher:action/action-checked: called at each change, and to check its configuration"
    } else if has("twitcher:action/handler@") {
        "twitcher:action/action: called at each change"
    } else if has("wasi:cli/run@") {
        "wasi:cli/command: a program; the data is on its stdin, its exit code is the outcome"
    } else {
        "none that twitcher can run"
    };
    let _ = writeln!(text, "world {kind}\n\nexports");
    for name in &exports {
        let _ = writeln!(text, "  {name}");
    }
    let _ = writeln!(text, "\nimports");
    for name in &imports {
        let _ = writeln!(text, "  {name}");
    }
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let _ = writeln!(text, "\nto paste (leave out what it does not need)\n");
    let _ = writeln!(text, "    RegisterWatch(\n        znode = \"/path/of/znode\",");
    let _ = writeln!(
        text,
        "        action = Wasm(\n            {:?},",
        file.display().to_string()
    );
    for (prefix, argument, when) in GRANTS {
        if imports.iter().any(|name| name.starts_with(prefix)) {
            let _ = writeln!(text, "            {:<50} # {when}", format!("{argument},"));
        }
    }
    let _ = writeln!(
        text,
        "        ),\n        uid = \"nobody\",\n        timeout = 60,\n    )"
    );
}

/// What compilers and binding generators say of themselves, in the component and in the modules within.
fn made_with(text: &mut String, bytes: &[u8]) {
    let mut tools = BTreeSet::new();
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        let wasmparser::Payload::CustomSection(section) = payload else {
            continue;
        };
        if section.name() == "twitcher-sdk" {
            tools.insert(format!("twitcher-sdk {}", String::from_utf8_lossy(section.data())));
        }
        let KnownCustom::Producers(fields) = section.as_known() else {
            continue;
        };
        for field in fields.into_iter().flatten() {
            let values = field.values.into_iter().flatten();
            tools.extend(values.map(|value| format!("{} {}", value.name, value.version).trim().to_owned()));
        }
    }
    if !tools.is_empty() {
        let tools: Vec<String> = tools.into_iter().collect();
        let _ = writeln!(text, "\nmade with {}", tools.join(", "));
    }
}
