//! `bundle build`: what the flags and the crate say, put together.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use semver::Version;

use super::cargo_metadata::{Crate, newer_source};
use super::{BundleCommandError, open_bundle, secret_key};
use crate::args::{BundleBuildArguments, RequestArguments};
use twitcher_bundle::{self as bundle, Build, Compiler, DirAccess, Manifest, Requests, ZnodeAccess};
use twitcher_components::engine_facts;
use twitcher_interfaces as interfaces;
use twitcher_model::Target;
use twitcher_model::grant_syntax::MemorySize;
use twitcher_sandbox::compile_helper;

pub(super) fn build(program: &Path, arguments: BundleBuildArguments) -> Result<String, BundleCommandError> {
    let said = match (&arguments.manifest_path, &arguments.source) {
        (Some(manifest), _) => Some(Crate::of(manifest)?),
        (None, Some(source)) if source.is_dir() => Some(Crate::of(&source.join("Cargo.toml"))?),
        _ => None,
    };
    let file = match (&arguments.source, &said) {
        (Some(source), _) if !source.is_dir() => source.clone(),
        (_, Some(said)) => said.build()?,
        (_, None) => {
            return Err(BundleCommandError::Missing {
                what: "the component",
                how: "give its file, or the directory of its crate".to_owned(),
            });
        }
    };
    if let Some(changed) = newer_source(&file) {
        return Err(BundleCommandError::Outdated {
            component: file,
            changed,
        });
    }
    let missing = |what: &'static str| BundleCommandError::Missing {
        what,
        how: format!("give --{what}, or the directory of the crate that says it"),
    };
    let said = said.as_ref();
    let mut requests = said.map(|said| said.requests.clone()).unwrap_or_default();
    add(&arguments.requests, &mut requests)?;
    let mut config = said.map(|said| said.config.clone()).unwrap_or_default();
    config.extend(arguments.requests.config_key);
    let targets: BTreeSet<Target> = match (arguments.portable, arguments.target.is_empty()) {
        (true, _) => BTreeSet::new(),
        (false, true) => Target::ALL.into(),
        (false, false) => arguments.target.into_iter().collect(),
    };
    let key = arguments.key.as_deref().map(secret_key).transpose()?;
    let name = arguments.name.or_else(|| said.map(|said| said.name.clone()));
    let version = arguments.version.or_else(|| said.map(|said| said.version.clone()));
    let build = Build {
        file,
        name: name.ok_or_else(|| missing("name"))?,
        version: version.ok_or_else(|| missing("version"))?,
        targets,
        requests,
        config,
    };
    let compiler = Compiler {
        compile: &|wasm, target| Ok(compile_helper::compile(program, wasm, target)?),
        facts: &engine_facts,
    };
    let built = bundle::build(&compiler, &build, key.as_ref(), &arguments.out)?;
    let mut text = format!(
        "{}: {} bytes{}\n",
        built.file.display(),
        built.size,
        natives(&built.manifest)
    );
    match key {
        Some(key) => writeln!(text, "signed with the key {}", key.public()?.id()),
        None if built.manifest.native.is_empty() => writeln!(text, "not signed: see `twitcher bundle sign`"),
        None => writeln!(
            text,
            "not signed: its native code runs nowhere until `twitcher bundle sign`"
        ),
    }
    .unwrap_or_default();
    text.push_str(&forgotten(&build));
    for (file, version) in same_component(&built.manifest, &arguments.out) {
        let _ = writeln!(
            text,
            "note: its component is that of version {version} ({}): was it built after the change?",
            file.display()
        );
    }
    Ok(text)
}

/// Other versions that were written to the same place and hold the same component.
fn same_component(manifest: &Manifest, out: &Path) -> Vec<(PathBuf, Version)> {
    let Ok(entries) = fs::read_dir(out) else {
        return Vec::new();
    };
    let begin = format!("{}-", manifest.name);
    let mut found: Vec<(PathBuf, Version)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "twb"))
        .filter(|file| {
            file.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&begin))
        })
        .filter_map(|file| {
            let reader = open_bundle(&file).ok()?;
            let other = Manifest::parse(reader.manifest_bytes()).ok()?;
            let is_same = other.name == manifest.name && other.component == manifest.component;
            (is_same && other.version != manifest.version).then_some((file, other.version))
        })
        .collect();
    found.sort();
    found
}

fn add(flags: &RequestArguments, requests: &mut Requests) -> Result<(), BundleCommandError> {
    let wrong = |flag, value: &str, why: &str| BundleCommandError::Flag {
        flag,
        value: value.to_owned(),
        why: why.to_owned(),
    };
    for (path, access) in &flags.dir {
        let access = match access.as_str() {
            "ro" => DirAccess::Ro,
            "rw" => DirAccess::Rw,
            other => return Err(wrong("dir", other, "expected PATH=ro or PATH=rw")),
        };
        requests.dirs.insert(path.clone(), access);
    }
    for (pattern, access) in &flags.znode {
        let access = match access.as_str() {
            "r" => ZnodeAccess::R,
            "rw" => ZnodeAccess::Rw,
            other => return Err(wrong("znode", other, "expected PATH=r or PATH=rw")),
        };
        requests.znodes.insert(pattern.clone(), access);
    }
    requests.net.extend(flags.net.iter().cloned());
    requests.http.extend(flags.http.iter().cloned());
    requests.commands.extend(flags.command.iter().cloned());
    requests.env.extend(flags.env.iter().cloned());
    requests.args |= flags.args;
    if let Some(memory) = &flags.memory {
        let size = MemorySize::parse(memory).ok_or_else(|| {
            let why = format!("must be a size from \"1MiB\" to \"4GiB\", not the string {memory:?}");
            wrong("memory", memory, &why)
        })?;
        requests.memory = Some(size.bytes());
    }
    Ok(())
}

/// What the component imports and could not be granted, for nothing of the kind is requested.
fn forgotten(build: &Build) -> String {
    let requests = &build.requests;
    let kinds = [
        ("twitcher:action/commands@", requests.commands.is_empty(), "--command"),
        ("twitcher:action/znodes@", requests.znodes.is_empty(), "--znode"),
        ("wasi:keyvalue/store@", requests.znodes.is_empty(), "--znode"),
        ("wasi:http/outgoing-handler@", requests.http.is_empty(), "--http"),
        ("wasi:sockets/tcp@", requests.net.is_empty(), "--net"),
    ];
    let imports = std::fs::read(&build.file)
        .map(|bytes| interfaces::imports(&bytes))
        .unwrap_or_default();
    let unasked = kinds
        .iter()
        .filter(|(prefix, none, _)| *none && imports.iter().any(|import| import.starts_with(prefix)));
    let note = |(prefix, _, flag): &(&str, bool, &str)| {
        let interface = prefix.trim_end_matches('@');
        format!("note: it imports {interface} and requests nothing of the kind, so it will get none: see {flag}\n")
    };
    let notes: String = unasked.map(note).collect();
    match requests.is_empty() {
        false => notes,
        true => {
            notes
                + "note: it requests nothing, so that no configuration can grant it anything beyond its data, config and znode: no \
                   directory, network, command, variable or argument; see --dir, --net, --http, --command, --znode, --env and --args\n"
        }
    }
}

fn natives(manifest: &Manifest) -> String {
    match manifest.native.is_empty() {
        true => ", without native code".to_owned(),
        false => {
            let names: Vec<&str> = manifest.native.iter().map(|native| native.target.as_str()).collect();
            format!(", with native code for {}", names.join(" and "))
        }
    }
}
