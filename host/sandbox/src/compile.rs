//! From a WebAssembly file to native code, and what can be said of a component without running it.
//!
//! It runs in the helper process alone: the compiler is large, and the file may have been made to exploit it.

use wasmparser::{Parser, Payload};
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use wasmtime::{Engine, Module};
use wasmtime_wasi::p2::bindings::CommandPre;
use wit_component::ComponentEncoder;

use super::host_imports::ActionPre;
use super::preview1::{self, PREVIEW1};
use super::{INTERFACE, engine, host};
use twitcher_interfaces::{PREVIEW0, Unsupported, WASI_0_3, by_wit_component, speaks_interfaces, unsupported};
use twitcher_model::{Compiled, EntryPoint, Target};

/// What every WebAssembly file begins with.
const MAGIC: &[u8] = b"\0asm";
/// What follows in a core module, and in a component.
const MODULE: &[u8] = &[1, 0, 0, 0];
const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];

/// Why a file cannot be an action.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is something else.
    #[error("it is not WebAssembly: {0}")]
    NotWasm(&'static str),
    /// It is of a newer or older binary format.
    #[error("its binary format is not one that this version of twitcher reads (component model 1.0, or a core module)")]
    Format,
    /// A core module that cannot be made a component.
    #[error("the core module cannot be adapted to a component: {0}")]
    Adapt(String),
    /// It is damaged, or uses what the engine does not have.
    #[error("it does not compile: {0}")]
    Invalid(String),
    /// It exports no known entry.
    #[error(
        "it exports neither twitcher:action/handler@{INTERFACE} nor wasi:cli/run{found}; build it from the world \
         twitcher:action/action, or as a program for wasm32-wasip2"
    )]
    NoEntry {
        /// What it exports instead.
        found: String,
    },
    /// A core module that is nothing to start.
    #[error(
        "the core module {0}; build a program, for wasm32-wasip1 or wasm32-wasip2, or a component of the world twitcher:action/action"
    )]
    NoProgram(&'static str),
    /// It is built for another version of the interface.
    #[error("it needs {name}, and this version of twitcher has {INTERFACE}; build it against that, or update twitcher")]
    Interface {
        /// What it needs.
        name: String,
    },
    /// It imports what the host does not have.
    #[error("it needs what this version of twitcher does not have: {0}")]
    Import(String),
    /// It uses what the engine has not, or has turned off.
    #[error("it needs {}, which this version of twitcher does not have: {}", .0.what, .0.instead)]
    Unsupported(Unsupported),
    /// The engine does not start.
    #[error("cannot start the compiler: {0}")]
    Engine(String),
}

/// Compiles a component, or a core module: for this machine, or for all machines of a target.
pub fn compile(wasm: &[u8], target: Option<Target>) -> Result<Compiled, CompileError> {
    // What is said of it comes from code that this process can load.
    let elsewhere = target.filter(|target| !target.loads_here());
    let here = if elsewhere.is_some() { None } else { target };
    let engine = engine::compiling(here).map_err(of_engine)?;
    let compiled = match wasm {
        [] => Err(CompileError::NotWasm("it is empty")),
        _ if !wasm.starts_with(MAGIC) => Err(CompileError::NotWasm("it does not begin with the bytes \"\\0asm\"")),
        _ if wasm[4..].starts_with(COMPONENT) => component(&engine, wasm, elsewhere),
        _ if wasm[4..].starts_with(MODULE) && speaks_interfaces(wasm) => component(&engine, &adapt(wasm)?, elsewhere),
        _ if wasm[4..].starts_with(MODULE) => program(&engine, wasm, elsewhere),
        _ => Err(CompileError::Format),
    };
    compiled.map_err(|error| match error {
        // The engine says this of an instruction at some offset.
        CompileError::Adapt(_)
        | CompileError::Invalid(_)
        | CompileError::NoEntry { .. }
        | CompileError::NoProgram(_) => unsupported(wasm).map_or(error, CompileError::Unsupported),
        error => error,
    })
}

fn of_engine(error: wasmtime::Error) -> CompileError {
    CompileError::Engine(format!("{error:#}"))
}

fn invalid(error: wasmtime::Error) -> CompileError {
    CompileError::Invalid(format!("{error:#}"))
}

fn missing(error: wasmtime::Error) -> CompileError {
    CompileError::Import(format!("{error:#}"))
}

/// `elsewhere` is the target, if its code does not load here.
fn component(engine: &Engine, wasm: &[u8], elsewhere: Option<Target>) -> Result<Compiled, CompileError> {
    let component = Component::from_binary(engine, wasm).map_err(invalid)?;
    check_interface(engine, &component)?;
    let (entry, checked) = entry(engine, &component)?;
    let linker = host::linker(engine).map_err(of_engine)?;
    let pre = linker.instantiate_pre(&component).map_err(missing)?;
    match entry {
        EntryPoint::Handler => ActionPre::new(pre).map(drop),
        EntryPoint::Command | EntryPoint::Preview1 => CommandPre::new(pre).map(drop),
    }
    .map_err(missing)?;
    let native = match elsewhere {
        None => component.serialize(),
        Some(_) => engine::compiling(elsewhere)
            .map_err(of_engine)?
            .precompile_component(wasm),
    };
    Ok(Compiled {
        native: native.map_err(invalid)?,
        entry,
        checked,
    })
}

/// A core module that needs no more than WASI's first preview.
fn program(engine: &Engine, wasm: &[u8], elsewhere: Option<Target>) -> Result<Compiled, CompileError> {
    let module = Module::from_binary(engine, wasm).map_err(invalid)?;
    if module.imports().any(|import| import.module() == "wasi_unstable") {
        return Err(CompileError::Unsupported(PREVIEW0));
    }
    if let Some(why) = preview1::why_no_program(&module) {
        return Err(CompileError::NoProgram(why));
    }
    let linker = preview1::linker(engine).map_err(of_engine)?;
    linker.instantiate_pre(&module).map_err(missing)?;
    let native = match elsewhere {
        None => module.serialize(),
        Some(_) => engine::compiling(elsewhere).map_err(of_engine)?.precompile_module(wasm),
    };
    Ok(Compiled {
        native: native.map_err(invalid)?,
        entry: EntryPoint::Preview1,
        checked: false,
    })
}

/// Makes a component of a core module that is one but for its frame. Where it is for the first preview besides, an adapter translates.
fn adapt(module: &[u8]) -> Result<Vec<u8>, CompileError> {
    use wasi_preview1_component_adapter_provider::{
        WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let adapter = match exports_start(module) {
        true => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        false => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    by_wit_component(module, || {
        ComponentEncoder::default()
            .validate(true)
            .module(module)
            .and_then(|encoder| encoder.adapter(PREVIEW1, adapter))
            .and_then(|mut encoder| encoder.encode())
    })
    .map_err(CompileError::Adapt)
}

/// Whether the module is a program, rather than a library.
fn exports_start(module: &[u8]) -> bool {
    Parser::new(0).parse_all(module).any(|part| match part {
        Ok(Payload::ExportSection(exports)) => exports.into_iter().flatten().any(|export| export.name == "_start"),
        _ => false,
    })
}

fn check_interface(engine: &Engine, component: &Component) -> Result<(), CompileError> {
    let kind = component.component_type();
    let names = kind.imports(engine).map(|(name, _)| name.to_owned());
    let names: Vec<String> = names
        .chain(kind.exports(engine).map(|(name, _)| name.to_owned()))
        .collect();
    if names
        .iter()
        .any(|name| name.starts_with("wasi:") && name.contains("@0.3."))
    {
        return Err(CompileError::Unsupported(WASI_0_3));
    }
    match names.into_iter().find(|name| is_of_another_version(name)) {
        Some(name) => Err(CompileError::Interface { name }),
        None => Ok(()),
    }
}

fn is_of_another_version(name: &str) -> bool {
    let Some((_, version)) = name
        .strip_prefix("twitcher:action/")
        .and_then(|rest| rest.split_once('@'))
    else {
        return false;
    };
    // Within a major version the host has everything that older components need; a newer one may need more.
    let numbers = |version: &str| -> Option<(u32, u32)> {
        let mut numbers = version.split('.').map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    match (numbers(version), numbers(INTERFACE)) {
        (Some((major, minor)), Some((ours, newest))) => major != ours || minor > newest,
        _ => true,
    }
}

fn entry(engine: &Engine, component: &Component) -> Result<(EntryPoint, bool), CompileError> {
    let kind = component.component_type();
    let exports: Vec<String> = kind
        .exports(engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)))
        .map(|(name, _)| name.to_owned())
        .collect();
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    if has("twitcher:action/handler@") {
        Ok((EntryPoint::Handler, has("twitcher:action/check@")))
    } else if has("wasi:cli/run@0.2.") {
        Ok((EntryPoint::Command, false))
    } else {
        let found = match exports.is_empty() {
            true => String::new(),
            false => format!(", only {}", exports.join(", ")),
        };
        Err(CompileError::NoEntry { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(wasm: &[u8]) -> String {
        compile(wasm, None).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_an_action_is_refused_in_words() {
        assert!(error(b"").contains("empty"));
        assert!(error(b"#!/bin/sh\n").contains("not WebAssembly"));
        assert!(error(b"\0asm\x02\0\0\0").contains("binary format"));
        assert!(error(b"\0asm\x0d\0\x01\0\xff\xff").contains("does not compile"));
        // A custom section that ends after the file.
        let cut = error(b"\0asm\x01\0\0\0\x00\x42\x04name");
        assert!(cut.contains("does not compile"), "{cut}");
        let empty = error(b"\0asm\x0d\0\x01\0");
        assert!(
            empty.contains("exports neither twitcher:action/handler@1.1.0"),
            "{empty}"
        );
    }

    #[test]
    fn a_version_is_right_when_the_host_has_all_of_it() {
        for right in [
            "twitcher:action/config@1.0.0",
            "twitcher:action/config@1.0.7",
            "twitcher:action/change@1.1.0",
            "wasi:cli/run@0.2.0",
            "x",
        ] {
            assert!(!is_of_another_version(right), "{right}");
        }
        for wrong in [
            "twitcher:action/config@1.2.0",
            "twitcher:action/config@9.0.0",
            "twitcher:action/config@0.1.0",
            "twitcher:action/config@x",
        ] {
            assert!(is_of_another_version(wrong), "{wrong}");
        }
    }
}
