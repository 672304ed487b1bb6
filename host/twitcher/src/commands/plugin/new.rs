//! `twitcher plugin new`: a crate that builds, with a passing test, anywhere.
//!
//! The SDK's source travels inside this program and is written into the new crate, so the two fit each other and nothing but its
//! few public dependencies has to be found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Longest name, in bytes: that of a package on crates.io.
const LONGEST_NAME: usize = 64;

/// Why there is no new plugin.
#[derive(Debug, Error)]
pub enum NewError {
    /// The name cannot be that of a crate.
    #[error(
        "cannot name a plugin {name:?}: {why}; a name is a letter, then letters, digits, - and _, such as my-action"
    )]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is something by that name already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A file or directory could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

macro_rules! embed {
    ($root:literal: $($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!($root, $path)))),*] };
}

/// The SDK, less its own tests.
const SDK: &[(&str, &str)] = embed!("../../../../../sdk/":
    "Cargo.toml",
    "README.md",
    "src/bindings/action.rs",
    "src/bindings/check.rs",
    "src/bindings/mod.rs",
    "src/cancel.rs",
    "src/change.rs",
    "src/commands.rs",
    "src/component.rs",
    "src/config.rs",
    "src/failure.rs",
    "src/files.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/testing.rs",
    "src/tree.rs",
    "src/znodes.rs",
    "wit/action.wit",
);

/// What is new in a new plugin. Its own names have no leading dot and no `Cargo.toml`: they would mean something here.
const TEMPLATE: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("README.md", include_str!("template/README.md")),
    (".gitignore", include_str!("template/gitignore")),
    ("src/lib.rs", include_str!("template/lib.rs")),
];

/// Creates the plugin `name` in a new directory of that name in `parent`, and returns the directory.
///
/// # Errors
/// When the name cannot be that of a crate, when there is such a directory, or when it cannot be written; then it is removed again.
pub fn create(parent: &Path, name: &str) -> Result<PathBuf, NewError> {
    let refuse = |why| NewError::Name {
        name: name.to_owned(),
        why,
    };
    check_name(name).map_err(refuse)?;
    let dir = parent.join(name);
    fs::create_dir(&dir).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => NewError::Exists(dir.clone()),
        _ => NewError::Write {
            path: dir.clone(),
            source,
        },
    })?;
    write_all(&dir, name).inspect_err(|_| {
        // What is left of it then, the error that counts has named.
        let _ = fs::remove_dir_all(&dir);
    })?;
    Ok(dir)
}

fn write_all(dir: &Path, name: &str) -> Result<(), NewError> {
    // The name of the file that `cargo build` makes.
    let component = name.replace('-', "_");
    for (path, text) in TEMPLATE {
        let text = text.replace("{{name}}", name).replace("{{component}}", &component);
        write(&dir.join(path), &text)?;
    }
    SDK.iter()
        .try_for_each(|(path, text)| write(&dir.join("sdk").join(path), text))
}

fn write(path: &Path, text: &str) -> Result<(), NewError> {
    let parents = path.parent().map_or(Ok(()), fs::create_dir_all);
    parents
        .and_then(|()| fs::write(path, text))
        .map_err(|source| NewError::Write {
            path: path.to_owned(),
            source,
        })
}

/// What cargo and the compiler ask of a name, and what says most plainly which part of it is wrong.
fn check_name(name: &str) -> Result<(), &'static str> {
    let Some(first) = name.chars().next() else {
        return Err("it is empty");
    };
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Err("it has another character than letters, digits, - and _");
    }
    if !first.is_ascii_alphabetic() {
        return Err("it does not begin with a letter");
    }
    if name.len() > LONGEST_NAME {
        return Err("it is longer than 64 characters");
    }
    match name.replace('-', "_").as_str() {
        "as" | "async" | "await" | "break" | "const" | "continue" | "crate" | "dyn" | "else" | "enum" | "extern"
        | "false" | "fn" | "for" | "gen" | "if" | "impl" | "in" | "let" | "loop" | "match" | "mod" | "move" | "mut"
        | "pub" | "ref" | "return" | "self" | "Self" | "static" | "struct" | "super" | "trait" | "true" | "type"
        | "unsafe" | "use" | "where" | "while" | "abstract" | "become" | "box" | "do" | "final" | "macro"
        | "override" | "priv" | "try" | "typeof" | "unsized" | "virtual" | "yield" => {
            Err("it is a word of the Rust language")
        }
        "alloc" | "core" | "proc_macro" | "std" | "test" => Err("Rust has a library of this name"),
        "build" | "deps" | "examples" | "incremental" => Err("cargo has a directory of this name"),
        "serde" | "serde_json" | "twitcher_sdk" | "wit_bindgen" => Err("it depends on a crate of this name"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
