//! What an `Exec` may ask to be kept from, besides its command.
//!
//! This module must not know commands, nor where a value stands in a file.

use std::path::Path;
use std::sync::Arc;

use schemars::SchemaGenerator;
use serde_json::{Map, Value as Json, json};

use super::collections::List;
use super::forms::{Called, Either, Form, OneOf, Seen, Text, Truth, called};
use super::mismatch::{Mismatch, Refusal};
use super::process::absolute;
use crate::error::did_you_mean;
use crate::value::quoted;
use twitcher_model::grant_syntax::PATH_MAX;
use twitcher_model::{Capabilities, Hardening};

/// The names, in the order of the documentation.
pub(crate) const NAMES: [&str; 4] = ["no_new_privs", "private_tmp", "read_only", "capabilities"];

/// Most directories that are read-only: each is a few system calls on the way of a run.
const DIRS_MAX: usize = 64;
/// Most capabilities that are named.
const CAPABILITIES_MAX: usize = 64;

/// Directories, or all there are.
const READ_ONLY: Either<Truth, Called<List<Text<Arc<Path>>>>> = Either(
    Truth,
    called(
        "a list of absolute paths",
        List {
            items: Text::new(absolute).most(PATH_MAX).pattern("^/"),
            least: 0,
            most: DIRS_MAX,
        },
    ),
);

/// Capabilities by name.
const CAPABILITIES: Called<List<Text<Capabilities>>> = called(
    "a list of capabilities, such as [\"CAP_NET_BIND_SERVICE\"]",
    List {
        items: Text::new(capability).pattern("^CAP_[A-Z_]+$"),
        least: 0,
        most: CAPABILITIES_MAX,
    },
);

fn capability(name: &str) -> Result<Capabilities, Refusal> {
    Capabilities::named(name).ok_or_else(|| {
        let names: Vec<String> = Capabilities::all_names().collect();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let with_prefix = format!("CAP_{}", name.to_uppercase());
        let hint = known
            .contains(&&*with_prefix)
            .then(|| format!("did you mean {with_prefix:?}?"))
            .or_else(|| did_you_mean(name, known))
            .or_else(|| Some("capabilities(7) has all names, such as CAP_NET_BIND_SERVICE".to_owned()));
        let mismatch = Mismatch::new(format!(
            "must not name the capability {}: there is none of that name",
            quoted(name)
        ));
        Refusal::from(Mismatch { hint, ..mismatch })
    })
}

/// Reads one of [`NAMES`].
pub(crate) fn set(hardening: &mut Hardening, name: &str, seen: Seen<'_>) -> Result<(), Mismatch> {
    let told = |refusal: Refusal, words: String| refusal.told(seen, |got| format!("must have {words}, not {got}"));
    let truth = || Truth.read(seen).map_err(|refusal| told(refusal, Truth.words_for(name)));
    match name {
        "no_new_privs" => hardening.no_new_privs = truth()?,
        "private_tmp" => hardening.private_tmp = truth()?,
        "read_only" => {
            hardening.read_only = match READ_ONLY
                .read(seen)
                .map_err(|refusal| told(refusal, READ_ONLY.words_for(name)))?
            {
                OneOf::First(true) => vec![Path::new("/").into()],
                OneOf::First(false) => Vec::new(),
                OneOf::Second(dirs) => dirs,
            }
        }
        _ => {
            let read = CAPABILITIES
                .read(seen)
                .map_err(|refusal| told(refusal, CAPABILITIES.words_for(name)))?;
            hardening.capabilities = Some(Capabilities(read.into_iter().fold(0, |all, one| all | one.0)));
        }
    }
    Ok(())
}

/// A command with what it is kept from, as it is written in JSON.
pub(crate) fn written(command: Json, hardening: &Hardening) -> Json {
    let mut exec = json!({"exec": command});
    if hardening.no_new_privs {
        exec["no_new_privs"] = json!(true);
    }
    if hardening.private_tmp {
        exec["private_tmp"] = json!(true);
    }
    if !hardening.read_only.is_empty() {
        exec["read_only"] = json!(hardening.read_only);
    }
    if let Some(capabilities) = hardening.capabilities {
        exec["capabilities"] = json!(capabilities.names().collect::<Vec<_>>());
    }
    exec
}

/// The schema of each.
pub(crate) fn properties(generator: &mut SchemaGenerator) -> Map<String, Json> {
    let mut properties = Map::new();
    let mut add = |name: &str, doc: &str, mut schema: schemars::Schema| {
        schema.insert("description".to_owned(), doc.into());
        properties.insert(name.to_owned(), schema.to_value());
    };
    let [no_new_privs, private_tmp, read_only, capabilities] = NAMES;
    add(
        no_new_privs,
        "Whether no program that the command executes gets more rights than it has. Default: false.",
        Truth.schema(generator),
    );
    add(
        private_tmp,
        "Whether /tmp and /var/tmp are empty, and the run's own. Takes root. Default: false.",
        Truth.schema(generator),
    );
    add(
        read_only,
        "Directories below which nothing can be changed; true for all there are. Takes root. Default: none.",
        READ_ONLY.schema(generator),
    );
    add(
        capabilities,
        "All the capabilities that the command and what it executes can have: a user that is not root has these. Takes root. Default: \
         what the user has.",
        CAPABILITIES.schema(generator),
    );
    properties
}
