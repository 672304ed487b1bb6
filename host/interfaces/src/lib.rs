//! Reads what a component imports and exports, without running or compiling it. The decoders take much for granted that a hostile file
//! need not have; here their panics become errors. It must not know what any interface is for, nor who is granted it.

#![forbid(unsafe_code)]

mod proposals;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmparser::{Parser, Payload, Validator, WasmFeatures};
pub use wit_component::DecodedWasm;
use wit_parser::{Resolve, WorldId, WorldKey};

pub use proposals::{PREVIEW0, Unsupported, WASI_0_3, unsupported};

/// What a component has to do with the world, by the names of the interfaces.
#[derive(Debug, Default)]
pub struct Interfaces {
    /// What it needs.
    pub imports: BTreeSet<String>,
    /// What it offers.
    pub exports: BTreeSet<String>,
}

/// What stands in a component, or in a package of interfaces; an error is in words.
pub fn decode(bytes: &[u8]) -> Result<DecodedWasm, String> {
    by_wit_component(bytes, || wit_component::decode(bytes))
}

/// Whether a core module is one that binding generators make, a component but for its frame: it names interfaces.
pub fn speaks_interfaces(module: &[u8]) -> bool {
    // Names of interfaces have a colon after their namespace; those of preview 1, and of functions in C, do not.
    let is_interface = |name: &str| name.contains(':');
    Parser::new(0)
        .parse_all(module)
        .map_while(Result::ok)
        .any(|part| match part {
            Payload::ImportSection(imports) => {
                let mut imports = imports.into_imports().map_while(Result::ok);
                imports.any(|import| is_interface(import.module))
            }
            Payload::ExportSection(exports) => {
                let mut exports = exports.into_iter().map_while(Result::ok);
                exports.any(|export| is_interface(export.name))
            }
            _ => false,
        })
}

/// The world of a core module that [`speaks_interfaces`], as its binding generator left it there; an error is in words.
pub fn world_of_module(module: &[u8]) -> Result<(Resolve, WorldId), String> {
    by_wit_component(module, || {
        wit_component::metadata::decode(module).map(|(_, bindings)| (bindings.resolve, bindings.world))
    })
}

/// The interfaces of a component; none if it is no component.
pub fn interfaces(bytes: &[u8]) -> Option<Interfaces> {
    // Of a module too there is something to be decoded.
    let decoded = Parser::is_component(bytes).then(|| decode(bytes).ok())??;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return None;
    };
    let names = |items: &mut dyn Iterator<Item = &WorldKey>| items.map(|key| resolve.name_world_key(key)).collect();
    let world = &resolve.worlds[world];
    Some(Interfaces {
        imports: names(&mut world.imports.keys()),
        exports: names(&mut world.exports.keys()),
    })
}

/// The names of the interfaces that a component imports; none if it is no component.
pub fn imports(bytes: &[u8]) -> BTreeSet<String> {
    interfaces(bytes).unwrap_or_default().imports
}

/// What wit-component makes of a file. It takes much for granted that a hostile one need not have, and panics without it.
pub fn by_wit_component<T, E: Display>(wasm: &[u8], work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    let validated = Validator::new_with_features(WasmFeatures::all()).validate_all(wasm);
    validated.map_err(|error| error.to_string())?;
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(made) => made.map_err(|error| format!("{error:#}")),
        Err(_) => Err("it has what wit-component does not know how to read".to_owned()),
    }
}
