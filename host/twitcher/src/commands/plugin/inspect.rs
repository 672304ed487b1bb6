//! What a component is and needs, found without running it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use wasmparser::{KnownCustom, Parser, Payload};
use wit_component::DecodedWasm;
use wit_parser::{Resolve, World, WorldId, WorldItem, WorldKey};

use twitcher_interfaces::{PREVIEW0, Unsupported, WASI_0_3, decode, speaks_interfaces, unsupported, world_of_module};

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

/// What imports may need from the operator: how they begin, the argument of `Wasm(...)` to paste, and when it is needed.
const GRANTS: [(&[&str], &str, &str); 8] = [
    (
        &["twitcher:action/config@", "wasi:config/store@"],
        "config = {\"KEY\": \"VALUE\"}",
        "if it is configured",
    ),
    (
        &["twitcher:action/commands@"],
        "commands = {\"NAME\": [\"/path/of/program\"]}",
        "each command it runs",
    ),
    (
        &["twitcher:action/znodes@"],
        "znodes = {\"/path\": \"r\"}",
        "each znode it reads (\"r\") or also writes (\"rw\")",
    ),
    (
        &["wasi:keyvalue/"],
        "znodes = {\"/path/**\": \"rw\"}",
        "each bucket it opens, as \"/path\" or \"path\"; \"r\" if it only reads",
    ),
    (
        &["wasi:http/outgoing-handler@"],
        "http = [\"https://host\"]",
        "each origin it sends requests to",
    ),
    (
        &["wasi:sockets/"],
        "net = [\"host:port\"]",
        "each address it connects to",
    ),
    (
        &["wasi:filesystem/", "wasi_snapshot_preview1 path_"],
        "dirs = {\"/guest\": \"/host/dir:ro\"}",
        "if it opens files",
    ),
    (
        &["wasi:cli/environment@", "wasi_snapshot_preview1 environ_get"],
        "env = {\"NAME\": \"VALUE\"}",
        "if it reads its environment",
    ),
];

/// What a component, or a core module, is and needs.
#[derive(Debug, Default)]
struct Description {
    /// What it needs and twitcher has not, by its interfaces.
    unsupported: Option<Unsupported>,
    /// The world, and what that means.
    kind: String,
    exports: BTreeSet<String>,
    imports: BTreeSet<String>,
}

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
    let mut description = if Parser::is_component(&bytes) {
        let DecodedWasm::Component(resolve, world) = decode(&bytes).map_err(invalid)? else {
            return Err(invalid(
                "it is a package of interfaces, not a component: there is nothing to run".to_owned(),
            ));
        };
        of_world(&resolve, world)
    } else if !Parser::is_core_wasm(&bytes) {
        return Err(invalid("it is neither a component nor a core module".to_owned()));
    } else if speaks_interfaces(&bytes) {
        let (resolve, world) = world_of_module(&bytes).map_err(invalid)?;
        let _ = writeln!(text, "a core module that is made a component when it is compiled");
        of_world(&resolve, world)
    } else {
        of_module(&bytes).map_err(|error| invalid(error.to_string()))?
    };
    if let Some(Unsupported { what, instead }) = unsupported(&bytes).or(description.unsupported) {
        description.kind = format!("none that twitcher can run: it needs {what}; {instead}");
    }
    describe(&mut text, &description, file);
    made_with(&mut text, &bytes);
    Ok(text)
}

fn of_world(resolve: &Resolve, world: WorldId) -> Description {
    let world = &resolve.worlds[world];
    let names = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| -> BTreeSet<String> {
        items.map(|(key, _)| resolve.name_world_key(key)).collect()
    };
    let exports = names(&mut world.exports.iter());
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let kind = if has("twitcher:action/check@") {
        "twitcher:action/action-checked: called at each change, and to check its configuration"
    } else if has("twitcher:action/handler@") {
        "twitcher:action/action: called at each change"
    } else if has("wasi:cli/run@") && exits_with_code(resolve, world) {
        "wasi:cli/command: a program; the data is on its stdin, its exit code is the outcome"
    } else if has("wasi:cli/run@") {
        "wasi:cli/command: a program; the data is on its stdin, whether it succeeds is the outcome. Every exit code but 0 \
         arrives as 1: what has more to say of a failure is built from twitcher:action/action, whose Failure has it"
    } else {
        "none that twitcher can run"
    };
    let imports = names(&mut world.imports.iter());
    let is_newer = |name: &String| name.starts_with("wasi:") && name.contains("@0.3.");
    Description {
        unsupported: exports.iter().chain(&imports).any(is_newer).then_some(WASI_0_3),
        kind: kind.to_owned(),
        imports,
        exports,
    }
}

/// Whether a component can say more of its end than that it went well or not.
fn exits_with_code(resolve: &Resolve, world: &World) -> bool {
    world.imports.iter().any(|(key, item)| match item {
        WorldItem::Interface { id, .. } => {
            resolve.name_world_key(key).starts_with("wasi:cli/exit@")
                && resolve.interfaces[*id].functions.contains_key("exit-with-code")
        }
        _ => false,
    })
}

fn of_module(module: &[u8]) -> Result<Description, wasmparser::BinaryReaderError> {
    let mut description = Description::default();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    if import.module == "wasi_unstable" {
                        description.unsupported = Some(PREVIEW0);
                    }
                    description.imports.insert(format!("{} {}", import.module, import.name));
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    description.exports.insert(export?.name.to_owned());
                }
            }
            _ => {}
        }
    }
    description.kind = match description.exports.contains("_start") {
        true => "wasi_snapshot_preview1: a program; the data is on its stdin, its exit code is the outcome",
        false => "none that twitcher can run: a core module without _start is a library",
    }
    .to_owned();
    Ok(description)
}

fn describe(text: &mut String, description: &Description, file: &Path) {
    let Description {
        kind, exports, imports, ..
    } = description;
    let _ = writeln!(text, "world {kind}\n\nexports");
    for name in exports {
        let _ = writeln!(text, "  {name}");
    }
    let _ = writeln!(text, "\nimports");
    for name in imports {
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
    for (prefixes, argument, when) in GRANTS {
        let is_needed = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if imports.iter().any(is_needed) {
            let _ = writeln!(text, "            {:<50} # {when}", format!("{argument},"));
        }
    }
    let _ = writeln!(text, "        ),");
    if imports.iter().any(|name| name.starts_with("twitcher:action/change@")) {
        let _ = writeln!(text, "        {:<54} # what it asks of the change", "payload = JSON,");
    }
    let _ = writeln!(text, "        uid = \"nobody\",\n        timeout = 60,\n    )");
}

/// What compilers and binding generators say of themselves, in the component and in the modules within.
fn made_with(text: &mut String, bytes: &[u8]) {
    let mut tools = BTreeSet::new();
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        let Payload::CustomSection(section) = payload else {
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
